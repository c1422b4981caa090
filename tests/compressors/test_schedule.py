import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dtcwsi.compressors.schedule import cumulative_shares, merges, token_counts
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
    assert token_counts(torch.tensor([size]), share, 1.0).tolist() == [expected]


def test_float_error_of_the_product_adds_no_token():
    assert token_counts(torch.tensor([10, 1000]), cumulative_shares(0.4, None, 3)[-1], 1.0).tolist() == [4, 400]


def test_a_loose_budget_keeps_all():
    assert token_counts(torch.tensor([7, 0]), 0.1, 0.0).tolist() == [7, 0]


def test_merges_round_halves_up_and_stop_at_the_pairs():
    removed, pairs = torch.tensor([5, 5, 0, 9]), torch.tensor([5, 2, 3, 9])
    assert merges(removed, pairs, 0.5).tolist() == [3, 2, 0, 5]
    assert merges(removed, pairs, 1.0).tolist() == [5, 2, 0, 9]
    assert merges(removed, pairs, 0.0).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.4, (0.5,), None), r"got retention=0.4 and schedule=\(0.5,\); give one of them"),
        ((None, (0.5, 0.5), 3), "got stages=3 and a schedule of 2"),
        ((None, (), None), r"got schedule=\(\); expected one share a stage"),
        ((None, 0.5, None), "got schedule=0.5; expected one share a stage"),
        ((0.0, None, None), "got retention=0.0; expected a share above 0 and at most 1"),
        ((1.5, None, None), "got retention=1.5"),
        (("half", None, None), "got retention='half'"),
        ((None, (0.5, -1.0), None), "got schedule=-1.0"),
        ((0.4, None, 0), "got stages=0; expected a whole number from 1 on"),
        ((0.4, None, 1.5), "got stages=1.5"),
    ],
)
def test_what_is_out_of_range_is_told(arguments, message):
    with pytest.raises(OptionError, match=message):
        cumulative_shares(*arguments)
