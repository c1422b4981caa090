"""Several models asked about one slide."""

import gc
import weakref

import numpy as np
import pytest
import torch

from dtcwsi.ensemble import ask
from dtcwsi.errors import UsageError
from dtcwsi.models import create_model
from dtcwsi.types import Features

ROWS = np.random.default_rng(0).normal(size=(30, 8)).astype(np.float32)
SLIDE = Features("S1", ROWS, np.stack([np.arange(30) % 6, np.arange(30) // 6], 1) * 100, 100.0, None)


def models(name: str) -> list:
    made = []
    for seed in range(3):
        torch.manual_seed(seed)
        made.append(create_model(name, in_dim=8, n_classes=3))
        made[-1].describe_classes(("a", "b", "c"), (0.2, 0.3, 0.5))
    return made


def test_models_are_averaged_in_evaluation_and_left_as_they_were():
    asked = models("abmil")
    answers = ask([model.train() for model in asked], SLIDE)
    assert all(model.training for model in asked)
    alone = [model.eval()(torch.from_numpy(ROWS)) for model in asked]
    np.testing.assert_allclose(answers.each, [out.logits[0].softmax(0).detach().numpy() for out in alone], atol=1e-6)
    np.testing.assert_allclose(answers.probabilities, answers.each.mean(axis=0))
    assert answers.prediction == "abc"[answers.probabilities.argmax()]
    np.testing.assert_allclose(answers.attention(), np.mean([out.attention.detach() for out in alone], 0), atol=1e-6)


def test_maps_by_class_are_those_of_the_class_that_all_predict_together():
    answers = ask(models("clam-mb"), SLIDE)
    column = "abc".index(answers.prediction)
    together = np.mean([out.attention_by_class[:, column] for out in answers.predictions], axis=0)
    np.testing.assert_allclose(answers.attention(), together, atol=1e-6)
    np.testing.assert_allclose(answers.attention(answers.prediction), together, atol=1e-6)
    assert not np.allclose(answers.attention("abc"[column - 1]), together)


@pytest.mark.parametrize("name", ["transmil", "panther", "dtc-panther", "clam-mb"])
def test_one_model_s_tokens_are_held_at_a_time(name, monkeypatch):
    asked, held = models(name), []
    for model in asked:

        def compress(bags, usual=model.compress):
            gc.collect()
            assert all(tokens() is None for tokens in held)
            made = usual(bags)
            held.append(weakref.ref(made))
            return made

        monkeypatch.setattr(model, "compress", compress)
    answers = ask(asked, SLIDE)
    gc.collect()
    assert len(answers.predictions) == len(held) == 3
    assert all(tokens() is None for tokens in held)


def test_requests_that_make_no_sense_are_refused():
    with pytest.raises(UsageError, match="no model was given"):
        ask([], SLIDE)
    with pytest.raises(
        UsageError, match="one attention map for all classes, and none of 'a' alone; .* such as clam-mb"
    ):
        ask(models("abmil"), SLIDE).attention("a")
    with pytest.raises(UsageError, match="there is no class 'd'; expected one of a, b, c"):
        ask(models("clam-mb"), SLIDE).attention("d")
