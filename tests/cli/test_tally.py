from types import SimpleNamespace

import pytest

from dtcwsi.cli.tally import Tally
from dtcwsi.pipeline import SlideResult


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def _result(slide_id, n_patches=10, done=("features",)):
    return SlideResult(slide_id, 0.5, 1e6, n_patches, None, done, {})


def _plan(left, seconds=None):
    return SimpleNamespace(left=frozenset(left), estimate=SimpleNamespace(seconds=seconds))


def test_slides_and_patches_are_counted():
    clock = Clock()
    tally = Tally(6, clock=clock)
    assert (tally.patches_a_second, tally.time_left_s) == (None, None)
    tally.add_patches(30)
    clock.now += 10
    for outcome in (_result("a"), _result("b", 0), _result("c", 0, ()), ("d", "open", "reason")):
        tally.add(outcome)
    counts = (tally.done, tally.kept, tally.failed, tally.empty, tally.seen, tally.left, tally.patches)
    assert counts == (2, 1, 1, 2, 4, 2, 30)
    assert tally.patches_a_second == pytest.approx(3)
    assert tally.time_left_s == pytest.approx(2 * 10 / 2)


def test_only_slides_with_work_left_take_time():
    clock = Clock()
    tally = Tally(1000, _plan(["new1", "new2", "new3"], seconds=60), clock=clock)
    assert tally.time_left_s == 60
    clock.now += 20
    tally.add(_result("kept", done=()))
    assert tally.time_left_s == 40
    tally.add(_result("new1"))
    assert tally.time_left_s == pytest.approx(2 * 20)
    tally.add(_result("new2", done=()))  # another process has done it meanwhile
    assert tally.time_left_s == pytest.approx(20)
    tally.add(("new3", "open", "reason"))
    assert tally.time_left_s == 0


def test_without_an_encoder_patches_are_those_cut():
    clock = Clock()
    tally = Tally(3, encodes=False, clock=clock)
    clock.now += 2
    tally.add(_result("a", 8))
    tally.add(_result("b", 5, ()))
    tally.add(_result("c", None))
    assert (tally.patches, tally.patches_a_second) == (8, pytest.approx(4))
