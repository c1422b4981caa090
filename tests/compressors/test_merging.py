import pytest
import torch

from dtcwsi.compressors.matching import Edges
from dtcwsi.compressors.merging import merge, sums


def edges_of(source, target):
    return Edges(torch.tensor(source), torch.tensor(target), torch.zeros(len(source)))


def merged_rows(rows, weight, edges, distinct):
    at = edges.source, edges.target
    return merge(edges, rows[at[0]], rows[at[1]], weight[at[0]], weight[at[1]], distinct=distinct)


@pytest.mark.parametrize("distinct", [True, False])
def test_a_pair_is_weighed_by_its_softmax(distinct):
    rows, scores = torch.tensor([[1.0, 2.0], [5.0, 2.0]]), torch.tensor([0.3, -1.1])
    merged = merged_rows(rows, scores, edges_of([1], [0]), distinct)
    alpha = scores.softmax(0)
    torch.testing.assert_close(merged.features, (alpha @ rows)[None])
    torch.testing.assert_close(torch.cat([merged.target_part, merged.source_part]), alpha)
    assert merged.heaviest.tolist() == [0]


@pytest.mark.parametrize("distinct", [True, False])
def test_extreme_weights_are_finite_and_equal_tokens_merge_into_themselves(distinct):
    row = torch.randn(1, 64)
    merged = merged_rows(row.repeat(2, 1), torch.tensor([-2e4, -1e4]), edges_of([1], [0]), distinct)
    assert torch.equal(merged.features, row)
    assert merged.source_part.tolist() == [1.0]
    assert merged.heaviest.tolist() == [1]


def test_several_sources_of_one_target_are_one_softmax():
    torch.manual_seed(0)
    rows, weight = torch.randn(7, 3, dtype=torch.float64), torch.randn(7, dtype=torch.float64)
    merged = merged_rows(rows, weight, edges_of([0, 2, 4], [3, 3, 5]), False)
    assert merged.target.tolist() == [3, 5]
    for group, members in enumerate(([3, 0, 2], [5, 4])):
        share = weight[members].softmax(0)
        torch.testing.assert_close(merged.features[group], share @ rows[members])
        torch.testing.assert_close(merged.target_part[group], share[0])
        torch.testing.assert_close(merged.source_part[merged.group == group], share[1:])
        assert merged.heaviest[group] == members[int(share.argmax())]


def test_many_to_one_has_the_gradient_of_its_softmax():
    rows, weight = torch.randn(4, 2, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    edges = edges_of([0, 2], [1, 1])
    inputs = rows.requires_grad_(), weight.requires_grad_()
    assert torch.autograd.gradcheck(lambda r, w: merged_rows(r, w, edges, False).features, inputs)


def test_equal_shares_go_to_the_target():
    merged = merged_rows(torch.randn(3, 2), torch.zeros(3), edges_of([0, 2], [1, 1]), False)
    assert merged.heaviest.tolist() == [1]


def test_sums_add_what_the_tokens_have():
    assert sums(torch.tensor([1.0, 2.0, 3.0, 4.0]), edges_of([0, 2], [1, 1])).tolist() == [1.0, 6.0, 3.0, 4.0]


@pytest.mark.parametrize("apart", [1e-12, -1e-12])
def test_float_error_does_not_decide_who_is_heaviest(apart):
    rows, none = torch.randn(4, 3), torch.zeros(2, dtype=torch.float64)
    edges = Edges(torch.tensor([0, 2]), torch.tensor([1, 1]), none)
    weights = torch.tensor([1 + apart, 1.0], dtype=torch.float64)
    merged = merge(edges, rows[[0, 2]], rows[[1, 1]], weights, none, distinct=False)
    assert merged.heaviest.tolist() == [2]
    merged = merge(edges, rows[[0, 2]], rows[[1, 1]], weights, weights.new_ones(2), distinct=False)
    assert merged.heaviest.tolist() == [1]
    edges = Edges(torch.tensor([0, 2]), torch.tensor([1, 3]), none)
    merged = merge(edges, rows[[0, 2]], rows[[1, 3]], weights, weights.new_ones(2), distinct=True)
    assert merged.heaviest.tolist() == [1, 3]
