import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dtcwsi.nn.segment import (
    offsets_of,
    rank_in_segment,
    segment_ids,
    segment_mean,
    segment_min,
    segment_softmax,
    segment_sum,
    top_of_segment,
)

sizes = st.lists(st.integers(0, 7), min_size=1, max_size=6)


def ragged(sizes, seed=0):
    offsets = offsets_of(torch.tensor(sizes))
    return torch.randn(sum(sizes), generator=torch.Generator().manual_seed(seed)), offsets


def segments(values, offsets):
    return [values[start:end] for start, end in zip(offsets[:-1], offsets[1:], strict=True)]


@settings(deadline=None)
@given(sizes)
def test_ids_name_each_row(sizes):
    _, offsets = ragged(sizes)
    assert segment_ids(offsets).tolist() == np.repeat(np.arange(len(sizes)), sizes).tolist()


@settings(deadline=None)
@given(sizes, st.integers(0, 99))
def test_each_operation_equals_its_loop(sizes, seed):
    values, offsets = ragged(sizes, seed)
    parts = segments(values, offsets)
    torch.testing.assert_close(segment_sum(values, offsets), torch.stack([part.sum() for part in parts]))
    expected = torch.stack([part.mean() if len(part) else torch.tensor(0.0) for part in parts])
    torch.testing.assert_close(segment_mean(values, offsets), expected)
    expected = torch.stack([part.min() if len(part) else torch.tensor(torch.inf) for part in parts])
    torch.testing.assert_close(segment_min(values, offsets), expected)
    torch.testing.assert_close(segment_softmax(values, offsets), torch.cat([part.softmax(0) for part in parts]))


def test_sum_of_rows_with_several_columns():
    rows = torch.arange(12.0).reshape(4, 3)
    assert segment_sum(rows, torch.tensor([0, 1, 1, 4])).tolist() == [[0, 1, 2], [0, 0, 0], [18, 21, 24]]


def test_softmax_is_finite_for_large_logits_and_empty_segments():
    weights = segment_softmax(torch.tensor([1e4, -1e4, 3e38]), torch.tensor([0, 0, 2, 3]))
    assert weights.tolist() == [1.0, 0.0, 1.0]


def test_log_size_bias_equals_repeated_rows():
    alone = segment_softmax(torch.tensor([0.3, -1.0, -1.0, -1.0]), torch.tensor([0, 4]))
    bias = torch.log(torch.tensor([1.0, 3.0]))
    together = segment_softmax(torch.tensor([0.3, -1.0]), torch.tensor([0, 2]), bias)
    torch.testing.assert_close(together, torch.stack([alone[0], alone[1:].sum()]))


def test_softmax_has_the_gradient_of_a_softmax():
    logits = torch.randn(6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: segment_softmax(x, torch.tensor([0, 2, 2, 6])), logits)


@settings(deadline=None)
@given(st.lists(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=6), min_size=1, max_size=4))
def test_ranks_equal_a_stable_lexical_sort(bags):
    offsets = offsets_of(torch.tensor([len(bag) for bag in bags]))
    first = torch.tensor([row[0] for bag in bags for row in bag], dtype=torch.long)
    second = torch.tensor([row[1] for bag in bags for row in bag], dtype=torch.long)
    expected = []
    for bag in bags:
        order = sorted(range(len(bag)), key=lambda i, bag=bag: (-bag[i][0], -bag[i][1], i))
        expected += [order.index(i) for i in range(len(bag))]
    assert rank_in_segment([first, second], offsets).tolist() == expected


def test_top_takes_each_segments_own_count():
    keys = torch.tensor([5.0, 1.0, 3.0, 2.0, 2.0])
    top = top_of_segment([keys], torch.tensor([0, 3, 3, 5]), torch.tensor([2, 4, 1]))
    assert top.tolist() == [True, False, True, True, False]


@pytest.mark.gpu
def test_cuda_agrees_with_cpu():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    values, offsets = ragged([5, 0, 9, 1])
    on_gpu = segment_softmax(values.cuda(), offsets.cuda()).cpu()
    torch.testing.assert_close(on_gpu, segment_softmax(values, offsets))
    ranks = rank_in_segment([values.cuda()], offsets.cuda()).cpu()
    assert torch.equal(ranks, rank_in_segment([values], offsets))
