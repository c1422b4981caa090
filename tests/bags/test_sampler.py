import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtcwsi.bags.sampler import PassSampler, cut_passes, dealt, largest_whole_batch
from dtcwsi.errors import OptionError


@given(st.lists(st.integers(1, 50), max_size=20), st.integers(1, 60))
def test_passes_hold_all_slides_in_order_within_the_limit(sizes, limit):
    passes = cut_passes(range(len(sizes)), sizes, limit)
    assert [slide for part in passes for slide in part] == list(range(len(sizes)))
    for part in passes:
        assert len(part) == 1 or sum(sizes[slide] for slide in part) <= limit


@given(st.lists(st.integers(1, 50), max_size=20), st.integers(1, 5))
def test_parts_hold_every_slide_once_and_differ_by_no_more_than_the_largest(sizes, parts):
    held = dealt(range(len(sizes)), sizes, parts)
    assert len(held) == parts
    assert sorted(slide for part in held for slide in part) == list(range(len(sizes)))
    assert all(part == sorted(part) for part in held)
    filled = [sum(sizes[slide] for slide in part) for part in held]
    assert max(filled) - min(filled) <= max(sizes, default=0)


@given(st.integers(1, 20), st.integers(1, 6), st.integers(1, 60), st.integers(2, 4))
def test_processes_take_each_batch_together_and_end_it_together(count, batch_size, limit, processes):
    sizes = [7 * (slide % 5) + 1 for slide in range(count)]
    how = {"batch_size": batch_size, "max_tokens": limit, "seed": 1}
    whole = list(PassSampler(range(count), sizes, **how))
    parts = [list(PassSampler(range(count), sizes, **how, part=(rank, processes))) for rank in range(processes)]
    assert len({len(own) for own in parts}) == 1
    assert all(len({one.ends_batch for one in turn}) == 1 for turn in zip(*parts, strict=True))
    ends = sum(one.ends_batch for one in whole)
    assert [sum(one.ends_batch for one in own) for own in parts] == [ends] * processes
    taken = [slide for own in parts for one in own if one.share for slide in one.slides]
    assert sorted(taken) == list(range(count))
    assert sum(one.share for own in parts for one in own) == pytest.approx(sum(one.share for one in whole))


@given(st.integers(1, 20), st.integers(1, 6), st.integers(1, 60))
def test_shares_sum_to_one_in_each_batch(count, batch_size, limit):
    sizes = [7 * (slide % 5) + 1 for slide in range(count)]
    sampler = PassSampler(range(count), sizes, batch_size=batch_size, max_tokens=limit, seed=1)
    steps, share, slides = 0, 0.0, []
    for part in sampler:
        share += part.share
        slides += part.slides
        if part.ends_batch:
            assert share == pytest.approx(1)
            steps, share = steps + 1, 0.0
    assert steps == sampler.steps_per_epoch
    assert share == 0
    assert sorted(slides) == list(range(count))


def test_epochs_differ_and_the_seed_repeats_them():
    def epochs(seed):
        sampler = PassSampler(range(30), [1] * 30, batch_size=30, max_tokens=99, seed=seed)
        return [next(iter(sampler)).slides for _ in range(3)]

    assert epochs(3) == epochs(3)
    assert len({*epochs(3), *epochs(4)}) == 6


def test_drawn_slides_come_as_their_weights_say():
    weights = [1 / 90] * 90 + [1 / 10] * 10

    def drawn(**how):
        given = {"batch_size": 7, "max_tokens": 99, "seed": 5, "weights": weights}
        sampler = PassSampler(range(100), [1] * 100, **given | how)
        return [[slide for part in sampler for slide in part.slides] for _ in range(20)]

    epochs = drawn()
    assert all(len(epoch) == 100 for epoch in epochs)
    rare = np.mean([slide >= 90 for epoch in epochs for slide in epoch])
    assert rare == pytest.approx(0.5, abs=0.04)
    assert epochs == drawn()
    assert len({tuple(epoch) for epoch in epochs}) == 20
    halves = [drawn(part=(rank, 2)) for rank in (0, 1)]
    assert sorted(halves[0][0] + halves[1][0]) == sorted(epochs[0])


def test_a_whole_batch_may_hold_the_largest_slide_several_times():
    given = {"max_tokens": 11, "weights": [1.0, 1.0, 1.0], "seed": 0, "whole_batches": True}
    PassSampler([0, 1, 2], [5, 4, 1], batch_size=2, **given)
    with pytest.raises(OptionError, match="lower the batch size to 2"):
        PassSampler([0, 1, 2], [5, 4, 1], batch_size=3, **given)


def test_only_the_given_slides_are_sampled():
    sampler = PassSampler([4, 2], [1] * 5, batch_size=8, max_tokens=9)
    assert [part.slides for part in sampler] == [(4, 2)]


def test_sizes_must_be_positive():
    with pytest.raises(OptionError, match="got batch_size=0 and max_tokens=5"):
        PassSampler([0], [1], batch_size=0, max_tokens=5)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=20), st.integers(1, 25), st.integers(1, 200))
def test_whole_batches_always_fit_into_a_pass_or_are_refused(sizes, batch_size, limit):
    fits = largest_whole_batch(sizes, limit)
    settings = {"max_tokens": limit, "seed": 1, "whole_batches": True}
    if min(batch_size, len(sizes)) <= fits:
        assert all(part.share == 1 for part in PassSampler(range(len(sizes)), sizes, batch_size=batch_size, **settings))
    else:
        advice = f"raise max_tokens to [0-9]+ or lower the batch size to {fits}"
        with pytest.raises(OptionError, match=advice):
            PassSampler(range(len(sizes)), sizes, batch_size=batch_size, **settings)


def test_what_whole_batches_need_is_told():
    told = "got batches of 3 slides, which may have 12 patches, and max_tokens=11; .* raise max_tokens to 12 or lower"
    with pytest.raises(OptionError, match=told):
        PassSampler([0, 1, 2, 3], [5, 4, 3, 1, 99], batch_size=3, max_tokens=11, whole_batches=True)
    PassSampler([0, 1, 2, 3], [5, 4, 3, 1, 99], batch_size=3, max_tokens=12, whole_batches=True)
