"""Whatever the model, its heatmap carries the prediction of `predict` and `evaluate`, to the last digit."""

import warnings

import numpy as np
import pytest
import torch

from dtcwsi.aggregators import AGGREGATORS
from dtcwsi.compressors import COMPRESSORS, PLAIN
from dtcwsi.ensemble import ask
from dtcwsi.explain.heatmap import heat_of, scale_over
from dtcwsi.explain.slide import view_slide
from dtcwsi.inference import predict_slide
from dtcwsi.models import create_model
from dtcwsi.types import Features

CELLS = np.stack([np.arange(40) % 8, np.arange(40) // 8], axis=1)
SLIDE = Features("S1", np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32), CELLS * 96, 100.0, None)
NAMES = [*AGGREGATORS, *(f"{name}-abmil" for name in COMPRESSORS if name != PLAIN), "dtc-transmil", "dtc-clam-mb"]


@pytest.mark.parametrize("name", NAMES)
def test_heat_and_prediction_come_from_one_answer(name):
    models = []
    for seed in range(2):
        torch.manual_seed(seed)
        models.append(create_model(name, in_dim=8, n_classes=2).eval())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # panther's prototypes are random here
        predicted, viewed = predict_slide(models, SLIDE), view_slide(models, SLIDE)
        heat = heat_of(SLIDE, ask(models, SLIDE), "two models")
    for view in (viewed, heat.view):
        assert view.probabilities.tolist() == predicted.probabilities.tolist()
        assert view.prediction == predicted.prediction
    assert heat.shares.shape == (40,)
    assert heat.view.fates.attention.sum() == pytest.approx(1, abs=1e-4)
    layer = heat.layer(scale_over("percentile", [heat.shares]))
    assert np.isfinite(layer.heat).sum() == (heat.shares > 0).sum() > 0
