import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dtcwsi.nn.segment import (
    Segments,
    offsets_of,
    segment_argmax,
    segment_ids,
    segment_log_softmax,
    segment_mean,
    segment_min,
    segment_pool,
    segment_softmax,
    segment_sum,
    top_rows,
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
@given(st.lists(st.tuples(st.integers(0, 9), st.floats(0, 1)), min_size=1, max_size=5), st.integers(0, 99))
def test_top_takes_each_segments_own_largest(bags, seed):
    sizes = np.array([size for size, _ in bags])
    counts = np.array([int(size * share) for size, share in bags])
    keys = torch.randperm(int(sizes.sum()), generator=torch.Generator().manual_seed(seed))
    top = top_rows(keys, Segments.of(sizes, keys.device), Segments.of(counts, keys.device)).tolist()
    expected, start = [], 0
    for size, count in zip(sizes, counts, strict=True):
        best = sorted(range(start, start + size), key=lambda row: -int(keys[row]))[:count]
        expected += sorted(best)
        start += size
    assert top == expected


@settings(deadline=None)
@given(sizes, st.integers(0, 99))
def test_log_softmax_does_not_underflow(sizes, seed):
    values, offsets = ragged(sizes, seed)
    laid = Segments.of(np.array(sizes), values.device)
    assert torch.equal(laid.offsets, offsets)
    assert torch.equal(laid.ids, segment_ids(offsets))
    logs = segment_log_softmax(500 * values, laid)
    expected = [part.log_softmax(0) for part in segments(500 * values, offsets)]
    torch.testing.assert_close(logs, torch.cat(expected), atol=1e-3, rtol=1e-5)


@pytest.mark.gpu
def test_cuda_agrees_with_cpu():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    values, offsets = ragged([5, 0, 9, 1])
    on_gpu = segment_softmax(values.cuda(), offsets.cuda()).cpu()
    torch.testing.assert_close(on_gpu, segment_softmax(values, offsets))
    keys, sizes, counts = torch.randperm(15), np.array([5, 0, 9, 1]), np.array([2, 0, 4, 1])
    top = [top_rows(k, Segments.of(sizes, k.device), Segments.of(counts, k.device)).cpu() for k in (keys, keys.cuda())]
    assert torch.equal(*top)


def test_argmax_names_the_first_of_the_largest_within_its_segment():
    values = torch.tensor([[1.0, 5.0], [3.0, 5.0], [torch.nan, 0.0], [9.0, 9.0]])
    found = segment_argmax(values, torch.tensor([0, 2, 2, 3, 4])).tolist()
    assert (found[0], found[2:]) == ([1, 0], [[2, 2], [3, 3]])
    assert segment_argmax(values[:2], torch.tensor([0, 2])).tolist() == [[1, 0]]


@pytest.mark.parametrize("ends", [[4], [1, 4]])
def test_pooling_takes_weights_of_another_type(ends):
    rows, weights = torch.randn(4, 3, dtype=torch.float64), torch.rand(4, 2)
    pooled = segment_pool(rows, weights, torch.tensor([0, *ends]))
    assert pooled.dtype == torch.float64
    torch.testing.assert_close(pooled.sum(dim=0), weights.double().T @ rows)
