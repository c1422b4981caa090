"""Figures worked out by hand."""

from types import SimpleNamespace

import pytest

from dtcwsi.extraction.estimate import estimate_left
from dtcwsi.extraction.looks import Look
from dtcwsi.extraction.standing import Standing
from dtcwsi.patches import GridParameters

ALL = ("tissue", "patches", "features")
GRID = GridParameters(patch_size_px=200, patch_spacing_um=0.5)  # 100 um: 100 patches a mm2
ENCODER = SimpleNamespace(name="e", dim=96)  # 400 bytes a patch in the feature file, 20 in the patch file


def _row(patches="", mm2="", tissue="", cut="", read="", encode="", encoder="e"):
    cells = {"patches": patches, "tissue_mm2": mm2, "seconds_tissue": tissue, "seconds_patches": cut}
    cells |= {"seconds_read": read, "seconds_encode": encode, "encoder": encoder}
    return {name: str(cell) for name, cell in cells.items()}


def test_counted_areas_and_means_add_up():
    standing = {
        "done1": Standing(()),
        "done2": Standing(()),
        "cut": Standing(("features",), n_patches=300),
        "outlined": Standing(("patches", "features")),
        "new": Standing(ALL),
    }
    rows = {
        "done1": _row(400, 2, tissue=1, cut=0.5, read=1, encode=3),
        "done2": _row(200, 1, tissue=3, cut=0.1, read=1, encode=1),
        "outlined": _row(mm2=1.5, tissue=2),
    }
    made = estimate_left(standing, rows, GRID, ENCODER)
    # 200 patches a mm2 as in the finished slides: 300 of the outlined one; the mean of 400, 200, 300 and 300 is 300
    assert (made.patches, made.counted, made.by_area, made.by_mean, made.like) == (900, 1, 1, 1, 4)
    # their standard deviation is 81.65, of the mean of four 40.8, and one slide has it
    assert made.give_or_take == 41
    # tissue once in 2 s, patches cut twice in 0.3 s, and 6 s for 600 patches
    assert made.seconds == pytest.approx(2 + 2 * 0.3 + 900 * 6 / 600)
    assert made.written_bytes == 600 * 20 + 900 * 400
    assert made.timed == 2


def test_outlined_tissue_alone_is_tiled_without_a_rest():
    made = estimate_left({"a": Standing(("patches",))}, {"a": _row(mm2=1.5, tissue=2)}, GRID, None)
    assert (made.patches, made.seconds, made.written_bytes) == (150, None, 150 * 20)


def test_the_seconds_of_another_encoder_do_not_count():
    standing = {"a": Standing(()), "b": Standing(("features",), n_patches=10)}
    rows = {"a": _row(400, 2, tissue=1, read=1, encode=3, encoder="other")}
    made = estimate_left(standing, rows, GRID, ENCODER)
    assert (made.patches, made.seconds, made.timed) == (10, None, 0)


def test_slides_tried_out_count_where_no_slide_was_timed():
    looks = [Look(100, 2.0, 0.1, 0.5), Look(300, 4.0, 0.3)]
    made = estimate_left({"a": Standing(ALL), "b": Standing(ALL)}, {}, GRID, ENCODER, looks)
    assert (made.patches, made.like, made.looked_at, made.timed) == (400, 2, 2, 1)
    assert made.seconds == pytest.approx(2 * 3 + 2 * 0.2 + 400 * 0.5)
    timed = {"c": _row(100, tissue=1, cut=2, read=5, encode=5)}
    made = estimate_left({"a": Standing(ALL), "b": Standing(ALL)}, timed, GRID, ENCODER, looks)
    assert made.seconds == pytest.approx(2 * 1 + 2 * 2 + 400 * 0.1)


def test_tissue_alone_has_no_patches():
    made = estimate_left({"a": Standing(("tissue",)), "b": Standing(())}, {"b": _row(tissue=3)}, None, None)
    assert (made.patches, made.seconds, made.written_bytes, made.timed) == (None, 3, None, 1)


def test_slides_that_cannot_begin_and_cells_that_are_no_number_are_left_out():
    standing = {"a": Standing(("features",), refusal="no patches"), "b": Standing(("features",), n_patches=7)}
    rows = {"c": _row("many", "nan", tissue="-1", read="x", encode=1), "b": _row(7, 1, 1, 1, read=1, encode=6)}
    made = estimate_left(standing, rows, GRID, ENCODER)
    assert (made.patches, made.seconds) == (7, 7)


def test_slides_without_tissue_leave_the_speed_alone():
    rows = {
        "empty": _row(0, 0, tissue=1, cut=0, read=0, encode=0),
        "full": _row(100, 1, tissue=1, cut=0, read=5, encode=5),
    }
    standing = {"empty": Standing(()), "full": Standing(()), "new": Standing(ALL)}
    made = estimate_left(standing, rows, GRID, ENCODER)
    assert (made.patches, made.seconds) == (50, pytest.approx(1 + 50 * 0.1))
