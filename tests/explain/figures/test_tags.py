"""Numbers beside frames."""

from itertools import combinations

import numpy as np
import pytest

from dtcwsi.explain.figures.page import Page
from dtcwsi.explain.figures.tags import Marked, draw_marks

_COLOUR = (0, 158, 115)


def boxes(page: Page, face: bool) -> list:
    return [box for box in page._boxes if (box.face is not None) == face]


def shared(one, other) -> bool:
    apart = (
        one.left + one.width <= other.left
        or other.left + other.width <= one.left
        or one.top + one.height <= other.top
        or other.top + other.height <= one.top
    )
    return not apart


@pytest.mark.parametrize("seed", range(5))
def test_numbers_cover_no_frame_where_there_is_room_and_never_each_other(seed):
    rng = np.random.default_rng(seed)
    page = Page(2000)
    cells = rng.choice(100, 12, replace=False)
    marks = [
        Marked(100.0 + 180 * (cell % 10), 100.0 + 180 * (cell // 10), 30.0, _COLOUR, str(number))
        for number, cell in enumerate(cells.tolist(), start=1)
    ]
    draw_marks(page, marks, (0, 0, 2000, 2000), 5)
    frames, tags = boxes(page, face=False), boxes(page, face=True)
    assert (len(frames), len(tags)) == (12, 12)
    assert not any(shared(one, other) for one, other in combinations(tags, 2))
    assert not any(shared(tag, frame) for tag in tags for frame in frames)


def test_numbers_stay_on_the_picture_and_without_room_are_left_out():
    page = Page(2000)
    marks = [Marked(0.0, 0.0, 20.0, _COLOUR, str(number)) for number in range(50)]
    draw_marks(page, marks, (0, 0, 100, 100), 5)
    tags = boxes(page, face=True)
    assert 1 <= len(tags) < 50
    assert not any(shared(one, other) for one, other in combinations(tags, 2))
    assert all(tag.left >= 0 and tag.left + tag.width <= 100 and 0 <= tag.top <= 100 - tag.height for tag in tags)


def test_a_large_frame_has_its_number_in_its_corner():
    page = Page(2000)
    draw_marks(page, [Marked(10.0, 20.0, 200.0, _COLOUR, "7")], (0, 0, 400, 400), 9)
    (tag,) = boxes(page, face=True)
    assert (tag.left, tag.top) == (10.0, 20.0)
