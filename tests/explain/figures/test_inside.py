"""One model's way with a slide, against what is known of it by other ways."""

import numpy as np
import pytest
import torch

from dtcwsi.bags.packing import bag_of, pack
from dtcwsi.ensemble import ask
from dtcwsi.explain.figures.inside import look_inside
from dtcwsi.models import create_model


def test_attention_without_pruning_is_the_plain_models_where_nothing_is_merged(sample, make_model):
    model = make_model("prune-only-abmil")
    plain = create_model("abmil", in_dim=8, n_classes=2).eval()
    plain.load_state_dict({name: tensor for name, tensor in model.state_dict().items() if "compressor" not in name})
    inside = look_inside(model, sample.features)
    assert (inside.prediction.attention == 0).any()
    np.testing.assert_allclose(inside.unpruned, ask([plain], sample.features).predictions[0].attention, atol=1e-7)


@pytest.mark.parametrize("name", ["merge-only-abmil", "tome-abmil", "merge-only-transmil"])
def test_attention_without_pruning_is_the_models_own_where_nothing_is_pruned(sample, make_model, name):
    inside = look_inside(make_model(name), sample.features)
    np.testing.assert_allclose(inside.unpruned, inside.prediction.attention, atol=1e-6)


def test_tokens_without_pruning_are_those_last_seen(sample, make_model):
    model = make_model(merge_share=0.5)
    inside = look_inside(model, sample.features)
    fates = inside.fates
    assert fates.counts.pruned
    assert inside.unpruned.sum() == pytest.approx(1, abs=1e-6)
    values = torch.from_numpy(sample.features.features)
    bias = fates.group_size[np.unique(fates.group, return_index=True)[1]]
    rows = torch.stack([(values * torch.from_numpy(inside.part)[:, None].float())[fates.group == group].sum(0)
                        for group in range(len(bias))])  # fmt: skip
    left = np.isin(np.arange(len(bias)), fates.group[fates.token >= 0])
    tokens = model.compress(pack([bag_of(sample.features)]))
    expected = {tuple(row.tolist()) for row in tokens.features.detach().numpy().round(5)}
    made = {tuple(row.tolist()) for row in rows.numpy().round(5)[left]}
    assert made == expected


def test_importance_is_the_softmax_of_the_scores(sample, make_model):
    model = make_model(flat_start=False)
    inside = look_inside(model, sample.features)
    score = model.compressor.importance(torch.from_numpy(sample.features.features)).double()
    np.testing.assert_allclose(inside.importance, score.softmax(dim=0).detach(), atol=1e-7)
    for name in ("abmil", "tome-abmil", "random-abmil"):
        assert look_inside(make_model(name), sample.features).importance is None


def test_stages_end_with_the_fates(sample, make_model):
    inside = look_inside(make_model(), sample.features)
    assert [stage.counts.tokens_out for stage in inside.stages] == [45, 33, 24]
    assert inside.stages[-1].counts == inside.fates.counts


def test_a_model_is_left_in_the_mode_it_was_in(sample, make_model):
    model = make_model().train()
    in_training = look_inside(model, sample.features)
    assert model.training
    assert (in_training.unpruned == look_inside(model.eval(), sample.features).unpruned).all()
