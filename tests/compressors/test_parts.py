"""The steps of a stage, each alone."""

import pytest
import torch

from dtcwsi.compressors.importance import Importance, rounded, rows_of_chunk
from dtcwsi.compressors.matching import aligned, merge_utility
from dtcwsi.compressors.merging import merge
from dtcwsi.compressors.provenance import patch_stages
from dtcwsi.compressors.pruning import evenly, gate, keep_best


def trained_importance(dim=8):
    torch.manual_seed(0)
    importance = Importance(dim)
    torch.nn.init.normal_(importance.layers[-1].weight)
    return importance


def test_an_untrained_scorer_prefers_nothing():
    assert torch.equal(Importance(8).values(torch.randn(5, 8)), torch.zeros(5, dtype=torch.float64))


def test_values_are_the_scores_in_float64_and_have_their_gradient():
    importance, tokens = trained_importance(), torch.randn(50, 8)
    values = importance.values(tokens)
    expected = importance.double()(tokens.double())
    torch.testing.assert_close(values, expected.detach(), atol=1e-7, rtol=0)
    importance.float()
    taught = importance.taught(tokens, values)
    assert torch.equal(taught, values)
    weight = importance.layers[-1].weight
    torch.testing.assert_close(
        torch.autograd.grad(taught.sum(), weight)[0], torch.autograd.grad(importance(tokens).sum(), weight)[0]
    )


def test_values_do_not_depend_on_the_rows_beside_them():
    importance, tokens = trained_importance(256), torch.randn(4001, 256)
    together = importance.values(tokens)
    alone = torch.cat([importance.values(tokens[i : i + 1]) for i in range(0, 4001, 500)])
    assert torch.equal(together[::500], alone)


def test_rounding_joins_float_errors_and_keeps_differences():
    values = rounded(torch.tensor([0.1, 0.1 + 1e-12, 0.1001], dtype=torch.float64))
    assert values[0] == values[1] != values[2]


def test_chunks_hold_all_rows():
    rows = torch.arange(30).reshape(10, 3)
    chunks = list(rows_of_chunk(rows, row_numbers=1 << 19))
    assert [len(chunk) for chunk in chunks] == [2] * 5
    assert torch.equal(torch.cat(chunks), rows)
    assert list(rows_of_chunk(rows[:0])) == []


def test_aligned_pairs_leave_the_odd_token_single():
    pairs = aligned(torch.tensor([0, 5, 5, 6, 8]))
    assert pairs.left.tolist() == [0, 2, 6]
    assert pairs.right.tolist() == [1, 3, 7]
    assert pairs.offsets.tolist() == [0, 2, 2, 2, 3]


def test_utility_is_likeness_less_disagreement():
    rows = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0], [0.0, 0.0]])
    left, right = torch.tensor([0, 0, 3]), torch.tensor([1, 2, 0])
    gap = torch.tensor([0.5, 0.0, 0.25], dtype=torch.float64)
    assert merge_utility(rows, left, right, gap, 0.75).tolist() == pytest.approx([0.625, 0.0, -0.0625])


def test_merging_weighs_by_softmax_of_the_pair():
    left, right = torch.tensor([[1.0, 2.0]]), torch.tensor([[5.0, 2.0]])
    scores = torch.tensor([0.3, -1.1])
    merged = merge(left, right, scores[:1], scores[1:])
    alpha = scores.softmax(0)
    torch.testing.assert_close(merged.features, alpha[0] * left + alpha[1] * right)
    torch.testing.assert_close(merged.left_part, alpha[:1])


def test_merging_is_finite_for_extreme_scores_and_exact_for_equal_tokens():
    token = torch.randn(1, 64)
    merged = merge(token, token.clone(), torch.tensor([-1e4]), torch.tensor([-2e4]))
    assert torch.equal(merged.features, token)
    assert merged.left_part.tolist() == [1.0]


def test_ties_are_thinned_evenly():
    kept = keep_best(torch.zeros(64), torch.arange(64), torch.tensor([0, 64]), torch.tensor([16]))
    assert kept.reshape(16, 4).sum(dim=1).tolist() == [1] * 16
    assert evenly(torch.tensor([0, 1, 2, 3])).tolist() == [0.0, 0.5, 0.25, 0.75]


def test_the_best_scores_stay():
    score = torch.tensor([0.1, 0.9, 0.5, 0.2, 0.3])
    kept = keep_best(score, torch.arange(5), torch.tensor([0, 3, 5]), torch.tensor([2, 1]))
    assert kept.tolist() == [False, True, True, False, True]


def test_the_gate_halves_the_lowest_and_spares_bags_without_pruning():
    score = torch.tensor([-2.0, 1.0, 1.0, 2.0], requires_grad=True)
    prior = gate(score, torch.tensor([0, 2, 4]), torch.tensor([True, False]))
    assert prior.exp().tolist() == pytest.approx([0.5, torch.sigmoid(torch.tensor(3.0)).item(), 1.0, 1.0])
    slopes = torch.autograd.grad(prior.sum(), score)[0]
    assert (slopes[:2] > 0).all()
    assert slopes[2:].tolist() == [0.0, 0.0]


def test_patch_stage_is_where_a_patch_stopped_being_alone():
    stages = torch.tensor(
        [
            [0, 1, 1, 2, -1, 0, 1],
            [0, 0, 0, -1, -1, 0, 1],
        ]
    )
    assert patch_stages(stages, torch.tensor([0, 5, 7])).tolist() == [2, 1, 1, 2, 1, 0, 0]
