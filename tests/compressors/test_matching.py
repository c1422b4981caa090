import itertools
import math

import numpy as np
import pytest
import torch

from dtcwsi.compressors.matching import Likeness, aligned, full, matching_of, window
from dtcwsi.nn.segment import Segments

CPU = torch.device("cpu")


def laid(sizes):
    return Segments.of(np.array(sizes), CPU)


def likeness_of(rows, worth=None, lam=1.0):
    worth = torch.zeros(len(rows)) if worth is None else worth
    return Likeness(
        rows.__getitem__, lambda a, b: (rows[a] * rows[b]).sum(dim=1), rows.norm(dim=1), worth, lam, torch.float64
    )


def utility(likeness, rows, i, j):
    cosine = float(rows[i] @ rows[j] / (rows[i].norm() * rows[j].norm()))
    return likeness.lam * cosine - (1 - likeness.lam) * abs(float(likeness.worth[i] - likeness.worth[j]))


def test_utility_is_likeness_less_disagreement():
    rows = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0], [0.0, 0.0]])
    likeness = likeness_of(rows, torch.tensor([0.5, 0.0, 0.5, 0.75]), lam=0.75)
    pairs = torch.tensor([0, 0, 3]), torch.tensor([1, 2, 0])
    expected = [0.75 - 0.25 * 0.5, 0.0, -0.25 * 0.25]
    assert likeness.of_pairs(*pairs).tolist() == pytest.approx(expected)
    assert likeness.of_block(*pairs).diagonal().tolist() == pytest.approx(expected)


def test_aligned_pairs_leave_the_odd_token_single():
    sizes = np.array([5, 0, 1, 2])
    edges = aligned(laid(sizes), laid(matching_of("aligned").count(sizes)), likeness_of(torch.randn(8, 3)))
    assert edges.target.tolist() == [0, 2, 6]
    assert edges.source.tolist() == [1, 3, 7]


@pytest.mark.parametrize("name", ["window", "full"])
def test_every_a_takes_its_best_b(name):
    torch.manual_seed(0)
    sizes = np.array([9, 0, 1, 2, 14, 3])
    rows, tokens = torch.randn(sizes.sum(), 4), laid(sizes)
    likeness = likeness_of(rows, torch.rand(len(rows)), lam=0.6)
    matching = matching_of(name, 3)
    edges = matching.edges(tokens, laid(matching.count(sizes)), likeness)
    found = dict(zip(edges.source.tolist(), edges.target.tolist(), strict=True))
    for start, stop in itertools.pairwise(tokens.offsets.tolist()):
        for a in range(start, stop, 2) if stop - start > 1 else []:
            others = [b for b in range(start + 1, stop, 2) if name == "full" or -1 <= b - a <= 3]
            assert found.pop(a) == max(others, key=lambda b, a=a: utility(likeness, rows, a, b))
    assert not found


def test_a_window_over_the_whole_bag_is_full():
    sizes = np.array([31, 8])
    likeness, tokens = likeness_of(torch.randn(39, 5)), laid(sizes)
    candidates = laid(matching_of("full").count(sizes))
    near, far = window(tokens, candidates, likeness, width=62), full(tokens, candidates, likeness)
    assert torch.equal(near.target, far.target)


def test_full_crosses_the_borders_of_its_blocks():
    torch.manual_seed(1)
    sizes = np.array([1300, 5000, 7])
    rows = torch.randn(int(sizes.sum()), 8)
    tokens, candidates = laid(sizes), laid(matching_of("full").count(sizes))
    edges = full(tokens, candidates, likeness_of(rows))
    unit = torch.nn.functional.normalize(rows.double(), dim=1)
    for bag, (start, stop) in enumerate(itertools.pairwise(tokens.offsets.tolist())):
        best = (unit[start:stop:2] @ unit[start + 1 : stop : 2].T).max(dim=1)
        mine = candidates.ids == bag
        torch.testing.assert_close(edges.utility[mine], best.values, atol=1e-6, rtol=0)
        assert (edges.target[mine] == start + 1 + 2 * best.indices).float().mean() > 0.999


def test_ties_go_to_the_nearer_then_the_earlier():
    likeness, tokens = likeness_of(torch.ones(6, 2)), laid([6])
    assert window(tokens, laid([3]), likeness, width=4).target.tolist() == [1, 3, 5]
    assert full(tokens, laid([3]), likeness).target.tolist() == [1, 1, 1]


@pytest.mark.parametrize("name", ["aligned", "window", "full"])
def test_there_is_an_edge_for_every_token_a_stage_of_half_removes(name):
    sizes = np.arange(200)
    count = matching_of(name).count(sizes)
    assert all(count[size] >= size - math.ceil(size / 2) for size in sizes)
