"""One fold's model: built, prepared on the training slides, fitted."""

from collections.abc import Callable

import torch

from dtcwsi.training.data import SlidesOneByOne
from dtcwsi.training.devices import Place, helped
from dtcwsi.training.fitting import device_of, fit
from dtcwsi.training.module import Epoch, TrainingModule
from dtcwsi.training.plan import TrainingPlan

__all__ = ["fit_fold"]


def fit_fold(
    plan: TrainingPlan,
    fold: int,
    *,
    on_epoch: Callable[[Epoch], None],
    on_pretrained: Callable[[list[float]], None] = lambda _: None,
) -> TrainingModule:
    """Train a plan's model on a fold; the same plan and fold give the same weights on a CPU, whatever came before.

    ``on_epoch`` hears of each epoch as it ends, ``on_pretrained`` of the losses of the self-supervised phase.
    """
    with helped(plan.devices, device_of(plan.device), _fitted, plan, fold) as place:
        return _fitted(plan, fold, place, on_epoch, on_pretrained)


def _fitted(
    plan: TrainingPlan,
    fold: int,
    place: Place,
    on_epoch: Callable[[Epoch], None] | None = None,
    on_pretrained: Callable[[list[float]], None] = lambda _: None,
) -> TrainingModule:
    features, split, seed = plan.features, plan.splits[fold], plan.seed_of(fold)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = plan.model_of(split)
        known = SlidesOneByOne(features, split.train)
        if model.needs_prototypes:
            model.fit_prototypes(known, seed=seed)
        if plan.pretrain_steps:
            on_pretrained(model.to(device_of(plan.device)).pretrain(known, steps=plan.pretrain_steps, seed=seed))
        module = TrainingModule(model, plan.recipe_of(split), features, split.val, on_epoch)
        fit(module, features, split.train, seed=seed, device=plan.device, place=place)
    return module
