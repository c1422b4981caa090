"""Provenance of a prediction, read as what became of each patch."""

import numpy as np
import pytest
import torch

from dtcwsi.bags.packing import pack
from dtcwsi.explain.fates import KEPT, MERGED, PRUNED, FateCounts, attention_percentile, fates_of, told_share
from dtcwsi.types import Bag, Prediction


def prediction(by_stage: list[list[int]], attention: list[float], stage: list[int]) -> Prediction:
    stages = torch.tensor(by_stage)
    return Prediction(
        logits=torch.zeros(1, 2),
        attention=torch.tensor(attention),
        tokens_in=torch.tensor([stages.shape[1]]),
        tokens_out=torch.tensor([int(stages[-1].max()) + 1]),
        patch_to_token=stages[-1],
        tokens_by_stage=stages,
        patch_stage=torch.tensor(stage),
        offsets=torch.tensor([0, stages.shape[1]]),
    )


def test_every_way_a_patch_can_go():
    # kept; merged at 1 (pair); pruned alone at 1; merged at 1 and pruned together at 2 (pair)
    fates = fates_of(
        prediction([[0, 1, 1, -1, 2, 2], [0, 1, 1, -1, -1, -1]], [0.4, 0.3, 0.3, 0, 0, 0], [0, 1, 1, 1, 1, 1])
    )
    assert fates.fate.tolist() == [KEPT, MERGED, MERGED, PRUNED, PRUNED, PRUNED]
    assert fates.stage.tolist() == [0, 1, 1, 1, 2, 2]
    assert fates.token.tolist() == [0, 1, 1, -1, -1, -1]
    assert fates.group_size.tolist() == [1, 2, 2, 1, 2, 2]
    assert fates.group[1] == fates.group[2]
    assert fates.group[4] == fates.group[5]
    assert len(set(fates.group.tolist())) == 4
    assert fates.counts == FateCounts(tokens_in=6, tokens_out=2, kept=1, merged=2, merged_tokens=1, pruned=3)


def test_a_plain_model_keeps_everything(sample, make_model):
    model = make_model("abmil")
    fates = fates_of(model(torch.from_numpy(sample.features.features)))
    assert fates.counts == FateCounts(tokens_in=60, tokens_out=60, kept=60, merged=0, merged_tokens=0, pruned=0)
    assert not fates.stage.any()


@pytest.mark.parametrize("bag", [0, 1, 2])
@pytest.mark.parametrize("options", [{}, {"schedule": (0.74, 0.74, 0.74)}, {"retention": 0.2, "merge_share": 1.0}])
def test_fates_are_a_partition_of_the_bag(make_model, bag, options):
    torch.manual_seed(3)
    bags = [
        Bag(torch.randn(n, 8), torch.stack([torch.arange(n) % 7, torch.arange(n) // 7], 1) * 100) for n in (40, 1, 93)
    ]
    out = make_model("dtc-abmil", **options)(pack(bags))
    fates = fates_of(out, bag)
    counts = fates.counts
    assert counts.kept + counts.merged + counts.pruned == counts.tokens_in == len(fates) == int(out.tokens_in[bag])
    assert counts.kept + counts.merged_tokens == counts.tokens_out == int(out.tokens_out[bag])
    assert ((fates.token < 0) == (fates.fate == PRUNED)).all()
    assert ((fates.stage == 0) == (fates.fate == KEPT)).all()
    assert fates.attention.sum() == pytest.approx(1, abs=1e-5)
    assert not fates.attention[fates.fate == PRUNED].any()


def test_importance_and_mass_are_those_of_the_bag(make_model):
    model = make_model("dtc-abmil")
    torch.nn.init.normal_(model.compressor.importance.last.weight)
    out = model(pack([Bag(torch.randn(n, 8)) for n in (40, 93)]))
    fates = fates_of(out, 1)
    assert fates.importance.sum() == pytest.approx(1, abs=1e-5)
    assert len(set(fates.importance.round(9))) > 40
    for token in range(fates.counts.tokens_out):
        inside = fates.token == token
        np.testing.assert_allclose(fates.mass[inside], fates.importance[inside].sum(), rtol=1e-4)
    assert not fates.mass[fates.fate == PRUNED].any()


@pytest.mark.parametrize("name", ["abmil", "tome-abmil", "random-abmil"])
def test_models_that_do_not_score_patches_have_no_importance(make_model, name):
    fates = fates_of(make_model(name)(torch.randn(30, 8)))
    assert fates.importance is fates.mass is None


def test_percentile_counts_ties_half_and_nothing_as_zero():
    assert attention_percentile(np.array([0.1, 0.4, 0.1, 0.0, 0.4])).tolist() == [37.5, 87.5, 37.5, 0.0, 87.5]
    assert attention_percentile(np.array([1.0])).tolist() == [100.0]
    assert attention_percentile(np.full(4, 0.25)).tolist() == [50.0] * 4
    assert len(attention_percentile(np.zeros(0))) == 0


@pytest.mark.parametrize(
    ("share", "told"),
    [
        (0.0, "0%"),
        (0.0004, "under 0.1%"),
        (0.003, "0.3%"),
        (0.514, "51%"),
        (0.9951, "99.5%"),
        (0.99981, "over 99.9%"),
        (1 - 6e-8, "100%"),
        (1.0, "100%"),
    ],
)
def test_nearly_all_is_not_told_as_all_and_little_not_as_nothing(share, told):
    assert told_share(share) == told
