import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtcwsi.compressors.schedule import cumulative_shares, merging_shares, plan, token_counts
from dtcwsi.errors import OptionError


def test_retention_is_split_evenly():
    assert cumulative_shares(None, None, None) == pytest.approx((0.4 ** (1 / 3), 0.4 ** (2 / 3), 0.4))
    assert cumulative_shares(0.25, None, 2) == pytest.approx((0.5, 0.25))


@pytest.mark.parametrize(
    ("schedule", "share"),
    [
        ((0.74, 0.74, 0.74), 0.405),
        ((0.70, 0.70, 0.82), 0.402),
        ((0.55, 0.80, 0.91), 0.400),
        ((0.85, 0.70, 0.67), 0.399),
        ((0.63, 0.63), 0.397),
    ],
)
def test_the_schedules_of_table_5_multiply_out(schedule, share):
    assert cumulative_shares(None, schedule, None)[-1] == pytest.approx(share, abs=5e-4)


@given(st.integers(0, 3000), st.floats(0.001, 1.0))
def test_counts_are_rounded_up_once_from_n(size, share):
    expected = 0 if size == 0 else max(1, math.ceil(size * share - 1e-6))
    assert token_counts(np.array([size]), share, 1.0).tolist() == [expected]


def test_float_error_of_the_product_adds_no_token():
    assert token_counts(np.array([10, 1000]), cumulative_shares(0.4, None, 3)[-1], 1.0).tolist() == [4, 400]


def test_a_loose_budget_keeps_all():
    assert token_counts(np.array([7, 0]), 0.1, 0.0).tolist() == [7, 0]


def steps(sizes, budgets, **options):
    given = {"edges_of": lambda sizes: sizes // 2, "merge_share": 0.5, **options}
    return list(plan(np.array(sizes), [np.array(budget) for budget in budgets], **given))


def test_merges_round_halves_up_and_stop_at_the_edges():
    (step,) = steps([10, 5, 3, 18], [[5, 1, 3, 9]])
    assert step.merges.tolist() == [3, 2, 0, 5]
    assert step.pruned.tolist() == [2, 2, 0, 4]
    (step,) = steps([10, 5, 3, 18], [[5, 1, 3, 9]], merge_share=1.0)
    assert step.merges.tolist() == [5, 2, 0, 9]
    (step,) = steps([10, 5], [[5, 1]], merge_share=0.0)
    assert (step.merges.tolist(), step.pruned.tolist()) == ([0, 0], [5, 4])


def test_all_pairs_merge_whatever_the_budget_and_without_pruning_tokens_pile_up():
    first, second = steps([9, 2], [[8, 2], [7, 2]], merge_all=True)
    assert (first.merges.tolist(), first.left.tolist()) == ([4, 1], [5, 1])
    assert second.left.tolist() == [3, 1]
    first, second = steps([8], [[4], [2]], prunes=False)
    assert (first.left.tolist(), second.left.tolist()) == ([6], [4])


@given(st.integers(0, 5000), st.floats(0.002, 1.0), st.integers(1, 5))
def test_merging_alone_always_meets_its_budget(size, retention, stages):
    shares = merging_shares(retention, None, stages)
    assert len(shares) >= max(stages, math.ceil(math.log2(1 / retention) - 1e-9))
    budgets = [token_counts(np.array([size]), share) for share in shares]
    for step in plan(np.array([size]), budgets, edges_of=lambda sizes: sizes // 2, merge_share=1.0):
        assert step.pruned.tolist() == [0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.4, (0.5,), None), r"got retention=0.4 and schedule=\(0.5,\); give one of them"),
        ((None, (0.5, 0.5), 3), "got stages=3 and a schedule of 2 shares"),
        ((None, (), None), r"got schedule=\(\); expected a list, one share a stage"),
        ((None, 0.5, None), "got schedule=0.5; expected a list, one share a stage"),
        ((0.0, None, None), "got retention=0.0; expected a number above 0 and at most 1"),
        ((1.5, None, None), "got retention=1.5"),
        (("half", None, None), "got retention='half'"),
        ((None, (0.5, -1.0), None), r"got schedule\[1\]=-1.0"),
        ((0.4, None, 0), "got stages=0; expected a whole number from 1 to 2048"),
        ((0.4, None, 1.5), "got stages=1.5"),
    ],
)
def test_what_is_out_of_range_is_told(arguments, message):
    with pytest.raises(OptionError, match=message):
        cumulative_shares(*arguments)


def test_a_share_that_floats_overshoot_keeps_the_whole_number_meant():
    assert 100 * 0.07 > 7  # in floating point
    assert token_counts(np.array([100, 1000]), 0.07).tolist() == [7, 70]
