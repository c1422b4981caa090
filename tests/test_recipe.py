"""Learning rates over time, optimisers, and what is refused."""

import sys

import numpy as np
import pytest
import torch

from dtcwsi.aggregators import AGGREGATORS
from dtcwsi.errors import OptionError
from dtcwsi.recipe import COMMON, TrainingRecipe, balanced_weights


def test_the_common_recipe_is_adam_at_one_rate():
    assert {COMMON.rate_at(progress) for progress in (0.0, 0.3, 1.0)} == {1e-3}
    assert type(COMMON.optimizer_of([torch.nn.Parameter(torch.zeros(2))])) is torch.optim.Adam


def test_cosine_is_that_of_torch():
    recipe = TrainingRecipe(epochs=50, lr=1e-4, schedule="cosine", lr_end=5e-6)
    optimizer = recipe.optimizer_of([torch.nn.Parameter(torch.zeros(2))])
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 50, 5e-6)
    for epoch in range(51):
        assert recipe.rate_at(epoch / 50) == pytest.approx(scheduler.get_last_lr()[0], rel=1e-9)
        optimizer.step()
        scheduler.step()


def test_linear_rises_and_falls():
    recipe = TrainingRecipe(epochs=10, lr=1.0, schedule="linear", warm_up_epochs=2)
    rates = [recipe.rate_at(tenth / 10) for tenth in (0, 1, 2, 6, 10)]
    assert rates == pytest.approx([0, 0.5, 1, 0.5, 0])


@pytest.mark.parametrize("name", AGGREGATORS.names())
def test_every_published_recipe_builds_its_optimiser(name):
    recipe = AGGREGATORS.get(name).recipe
    assert recipe.source.startswith("none of its own") == (name in {"mean", "max"})
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = recipe.optimizer_of([parameter])
    (parameter**2).sum().backward()
    optimizer.step()
    assert (parameter < 1).all()
    assert optimizer.param_groups[0]["weight_decay"] == recipe.weight_decay


def test_vectors_need_not_decay():
    matrix, vector = torch.nn.Parameter(torch.ones(2, 2)), torch.nn.Parameter(torch.ones(2))
    recipe = TrainingRecipe(optimizer="adamw", lr=0.1, weight_decay=0.5, decay_vectors=False)
    optimizer = recipe.optimizer_of(iter([vector, matrix]))
    matrix.grad, vector.grad = torch.zeros(2, 2), torch.zeros(2)
    optimizer.step()
    assert (matrix < 1).all()
    assert (vector == 1).all()


PUBLISHED = {  # slides a step, rate, weight decay, epochs; from the files that each recipe names
    "abmil": (1, 5e-4, 1e-4, 20),
    "clam-sb": (1, 2e-4, 1e-5, 200),
    "clam-mb": (1, 2e-4, 1e-5, 200),
    "dsmil": (1, 1e-4, 1e-3, 50),
    "hipt": (1, 2e-4, 32 * 1e-5, 20),
    "longformer": (None, 5e-4, 0.05, 300),
    "mhim-abmil": (1, 2e-4, 1e-5, 200),
    "mhim-transmil": (1, 2e-4, 1e-5, 200),
    "panther": (64, 1e-4, 1e-5, 50),
    "transmil": (2, 2e-4, 1e-5, 200),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_recipes_are_those_that_were_published(name):
    recipe = AGGREGATORS.get(name).recipe
    found = (recipe.batch_size, recipe.lr, recipe.weight_decay, recipe.epochs)
    assert found == pytest.approx(PUBLISHED[name])
    assert (recipe.class_weights == "sampled") == (name in {"clam-sb", "clam-mb", "hipt"})
    assert recipe.decay_vectors == (name != "transmil")
    assert recipe.warm_up_epochs == {"panther": 1, "longformer": 5}.get(name, 0)
    assert recipe.patience == {"mhim-abmil": 30, "mhim-transmil": 30}.get(name, recipe.patience)


def test_lookahead_needs_timm(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm.optim", None)
    recipe = TrainingRecipe(optimizer="lookahead-radam")
    with pytest.raises(OptionError, match=r"lookahead-radam comes from timm, .* pip install 'dtcwsi\[encoders\]'"):
        recipe.optimizer_of([torch.nn.Parameter(torch.zeros(1))])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"optimizer": "sdg"}, "got optimizer='sdg'; expected one of"),
        ({"schedule": "step"}, "got schedule='step'; expected one of"),
        ({"lr": 0}, "got lr=0; expected a number above 0"),
        ({"epochs": 0}, "got epochs=0"),
        ({"weight_decay": -1}, "got weight_decay=-1; expected a number from 0 on"),
        ({"betas": (0.9, 1.0)}, "got betas=1.0; expected a share from 0 to below 1"),
        ({"lr_end": -1}, "got lr_end=-1; expected a number from 0 on"),
        ({"warm_up_epochs": -2}, "got warm_up_epochs=-2; expected a number from 0 on"),
        ({"patience": 1.5}, "got patience=1.5"),
    ],
)
def test_numbers_out_of_range_are_told(change, told):
    with pytest.raises(OptionError, match=told):
        TrainingRecipe(**change)


def test_balanced_weights_are_those_of_scikit_learn():
    from sklearn.utils.class_weight import compute_class_weight

    wanted = compute_class_weight("balanced", classes=np.arange(2), y=[0] * 82 + [1] * 18)
    assert balanced_weights([0.82, 0.18]) == pytest.approx(wanted)
    assert balanced_weights([0.5, 0.0, 0.5]) == [1, 0, 1]
    with pytest.raises(OptionError, match="got class_weights='inverse'; expected one of: balanced, none, sampled"):
        TrainingRecipe(class_weights="inverse")
