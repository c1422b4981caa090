"""Preset ``paper`` against Algorithm 1 read line by line, in plain Python on one slide at a time."""

import math

import pytest
import torch

from dtcwsi.bags.packing import pack
from dtcwsi.compressors import create_compressor
from dtcwsi.types import Bag

DIM = 4


def softmax(scores):
    top = max(scores)
    powers = [math.exp(score - top) for score in scores]
    return [power / sum(powers) for power in powers]


def dot(one, other):
    return sum(a * b for a, b in zip(one, other, strict=True))


def algorithm_1(features, schedule, g, lam, all_pairs=False):
    """Tokens of inference: each its feature and the set of its patches, in list order; a merged token has i's place."""
    tokens = [(row, {number}) for number, row in enumerate(features)]
    share = 1.0
    for ratio in schedule:
        share *= ratio
        target = max(1, math.ceil(len(features) * share - 1e-6))
        alpha = softmax([g(row) for row, _ in tokens])
        pairs = []
        for i in range(0, len(tokens) - 1, 2):
            j = i + 1
            one, other = tokens[i][0], tokens[j][0]
            sim = dot(one, other) / math.sqrt(dot(one, one) * dot(other, other))
            pairs.append((lam * sim - (1 - lam) * abs(alpha[i] - alpha[j]), i, j))
        pairs.sort(key=lambda pair: -pair[0])
        merged, assigned = {}, set()
        for _, i, j in pairs if all_pairs else pairs[: max(0, len(tokens) - target)]:
            total = alpha[i] + alpha[j]
            row = [(alpha[i] * a + alpha[j] * b) / total for a, b in zip(tokens[i][0], tokens[j][0], strict=True)]
            merged[i] = (row, tokens[i][1] | tokens[j][1])
            assigned |= {i, j}
        raw = {k: merged.get(k, token) for k, token in enumerate(tokens) if k in merged or k not in assigned}
        best = sorted(raw, key=lambda k: -alpha[k])[:target]
        tokens = [raw[k] for k in sorted(best)]
    return tokens


def scorer_of(importance):
    first, bias = importance.first.weight.double().tolist(), importance.first.bias.double().tolist()
    last = importance.last.weight.double()[0].tolist()

    def g(row):
        hidden = [dot(weights, row) + shift for weights, shift in zip(first, bias, strict=True)]
        return dot(last, [x * 0.5 * (1 + math.erf(x / math.sqrt(2))) for x in hidden])

    return g


def check(sizes, seed=0, **options):
    torch.manual_seed(seed)
    made = create_compressor("dtc", dim=DIM, preset="paper", scorer_width=3, **options).eval()
    torch.nn.init.normal_(made.importance.last.weight, std=3.0)
    bags = [Bag(torch.randn(size, DIM)) for size in sizes]
    got = made(pack(bags))
    g = scorer_of(made.importance)
    for number, bag in enumerate(bags):
        first, last = int(got.offsets[number]), int(got.offsets[number + 1])
        start, stop = int(got.patch_offsets[number]), int(got.patch_offsets[number + 1])
        schedule = made.settings["schedule"]
        expected = algorithm_1(bag.features.double().tolist(), schedule, g, 0.5, options.get("pairs") == "all")
        token = got.patch_to_token[start:stop]
        sets = [set(torch.nonzero(token == place).flatten().tolist()) for place in range(last - first)]
        assert sets == [patches for _, patches in expected]
        rows = torch.tensor([row for row, _ in expected], dtype=torch.float32)
        torch.testing.assert_close(got.features[first:last], rows, atol=1e-4, rtol=1e-4)


def test_two_thousand_small_bags_as_printed():
    generator = torch.Generator().manual_seed(1)
    check(torch.randint(1, 24, (2000,), generator=generator).tolist())


def test_schedules_where_the_pairs_run_out_and_pruning_acts():
    generator = torch.Generator().manual_seed(2)
    check(torch.randint(1, 24, (1000,), generator=generator).tolist(), seed=1, schedule=(0.4, 0.3))


def test_the_literal_reading_merges_every_pair():
    generator = torch.Generator().manual_seed(3)
    check(torch.randint(1, 24, (500,), generator=generator).tolist(), seed=2, pairs="all")


def test_training_scales_tokens_by_the_gate_and_keeps_those_that_inference_would_prune():
    torch.manual_seed(0)
    made = create_compressor("dtc", dim=DIM, preset="paper", schedule=(0.25,), gamma=20.0, tau=0.05).train()
    torch.nn.init.normal_(made.importance.last.weight, std=3.0)
    features = torch.randn(9, DIM)
    tokens = made(pack([Bag(features)]))
    assert tokens.offsets.tolist() == [0, 5]
    alpha = made.importance(features).softmax(0)
    for token in range(5):
        inside = torch.nonzero(tokens.patch_to_token == token).flatten()
        row = (alpha[inside, None] * features[inside]).sum(0) / alpha[inside].sum()
        scaled = row * torch.sigmoid(20.0 * (alpha[inside[0]] - 0.05))
        torch.testing.assert_close(tokens.features[token], scaled, atol=1e-5, rtol=1e-4)
    assert made.eval()(pack([Bag(features)])).offsets.tolist() == [0, 3]


def test_the_printed_sparsity_is_a_constant():
    made = create_compressor("dtc", dim=DIM, preset="paper", beta=0.02).train()
    losses = [made(pack([Bag(torch.randn(size, DIM))])).losses["sparsity"] for size in (9, 90)]
    assert [loss.item() for loss in losses] == pytest.approx([0.06, 0.06])
    assert not any(loss.requires_grad for loss in losses)
