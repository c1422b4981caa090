"""What all folds of a run share, and what follows from it for one fold."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from dtcwsi.bags.cohort import Cohort
from dtcwsi.bags.sampler import check_whole_batches, largest_whole_batch
from dtcwsi.bags.splits import Split
from dtcwsi.catalog import model_recipe
from dtcwsi.classifier import Classifier
from dtcwsi.errors import FeaturesError, OptionError
from dtcwsi.models import create_model
from dtcwsi.options import one_of
from dtcwsi.recipe import COMMON, TrainingRecipe
from dtcwsi.training.data import SlideFeatures
from dtcwsi.training.devices import check_devices
from dtcwsi.training.fitting import device_of
from dtcwsi.training.folds import FoldChoice
from dtcwsi.training.module import Recipe

__all__ = ["RECIPES", "TrainingPlan", "chosen_recipe", "default_batch_size"]

RECIPES = ("common", "published")
_LARGEST_BATCH = 256
_STEPS_WANTED = 8
_ALWAYS_TOLD = ("epochs", "batch_size", "lr", "weight_decay", "patience")


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """A cohort with its folds, a model with its options, and how it is trained.

    ``splits`` has the parts of each fold, as ``choice`` deals them; ``given`` are the model's options that were named,
    ``options`` all of them as they hold; ``search`` tells what is searched before a fold is trained. ``whole_batches``
    says that a batch must not be cut into passes, ``needs_places`` that every slide must tell where its patches lie,
    ``lays_out`` that all must or none.
    """

    cohort: Cohort
    features: SlideFeatures
    splits: tuple[Split, ...]
    choice: FoldChoice
    model: str
    given: dict[str, Any]
    options: dict[str, Any]
    recipe: TrainingRecipe
    max_tokens: int
    pretrain_steps: int
    search: dict[str, Any] | None
    seed: int
    device: str
    devices: int
    whole_batches: bool
    needs_places: bool
    lays_out: bool

    def check_devices(self) -> None:
        """Check that there are as many devices as share a batch.  Raises: OptionError if there are not."""
        check_devices(self.devices, device_of(self.device), whole_batches=self.whole_batches)

    def check(self) -> None:
        """Look at every fold once, before a file is written.

        Raises: OptionError if a batch that must be whole is larger than a pass, or devices cannot share it;
        FeaturesError if slides have no coordinates and training needs them.
        """
        headers = self.cohort.headers
        nowhere = [header.slide_id for header in headers if not header.has_coords]
        some = 0 < len(nowhere) < len(headers) and self.lays_out
        if nowhere and (self.needs_places or some):
            without = "a model that does without, such as abmil"
            placed = ", and position=none" if self.options.get("position", "none") != "none" else ""
            instead = "no self-supervised phase" if self.pretrain_steps else f"{without}{placed}"
            needs = "needs the coordinates of all patches or of none" if some else "needs the coordinates of patches"
            raise FeaturesError(
                f"{self.model} {needs} and {len(nowhere)} of {len(headers)} feature files hold none, the first "
                f"{nowhere[0]}; use features with coords (N, 2) in level-0 pixels, or {instead}"
            )
        for split in self.splits:
            batch_size = self.recipe_of(split).batch_size
            if self.devices > batch_size:
                raise OptionError(
                    f"got devices={self.devices} and batches of {batch_size}; expected a slide a device or more: use "
                    "fewer devices or a larger batch size"
                )
            if self.whole_batches and self.recipe.batch_size is not None:
                check_whole_batches(self._sizes(split), self.recipe.batch_size, self.max_tokens)

    @property
    def tested_in(self) -> dict[int, int]:
        """Name the fold that tests each slide, the first of several; slides that none tests are left out."""
        return {slide: fold for fold in reversed(range(len(self.splits))) for slide in self.splits[fold].test}

    def seed_of(self, fold: int) -> int:
        """Give the seed of a fold's weights and order of slides."""
        return int(np.random.SeedSequence([self.seed, fold]).generate_state(1)[0])

    def recipe_of(self, split: Split) -> Recipe:
        """Fit the recipe to the size of a training part."""
        batch_size = self.recipe.batch_size or default_batch_size(len(split.train))
        if self.recipe.batch_size is None and self.whole_batches:
            batch_size = min(batch_size, largest_whole_batch(self._sizes(split), self.max_tokens))
        steps = -(-len(split.train) // batch_size)
        given = {**asdict(self.recipe), "batch_size": batch_size}
        return Recipe(**given, steps_per_epoch=steps, max_tokens=self.max_tokens, pretrain_steps=self.pretrain_steps)

    def model_of(self, split: Split) -> Classifier:
        """Build the model, its weights drawn anew, with the class shares of a training part."""
        names = self.cohort.class_names
        model = create_model(self.model, in_dim=self.cohort.in_dim, n_classes=len(names), **self.options)
        counts = np.bincount([self.features.labels[index] for index in split.train], minlength=len(names))
        model.describe_classes(names, (counts / counts.sum()).tolist())
        return model

    def settings(self) -> dict[str, Any]:
        """Tell all that the results depend on; what few runs use is told only where it is used."""
        tested_in = self.tested_in
        slides = [
            [slide.slide_id, slide.label, slide.patient_id, tested_in.get(row), seen, *self.choice.seen_of(slide)]
            for row, (slide, seen) in enumerate(zip(self.cohort.slides, self.features.fingerprints, strict=True))
        ]
        made = {
            name: value
            for name, value in asdict(self.recipe).items()
            if name in _ALWAYS_TOLD or (name != "source" and value != getattr(COMMON, name))
        }
        if self.pretrain_steps:
            made["pretrain_steps"] = self.pretrain_steps
        if self.devices > 1:
            made["devices"] = self.devices  # each draws its own dropout
        if self.search is not None:
            made["search"] = self.search
        if self.whole_batches:
            made["max_tokens"] = self.max_tokens  # it bounds the batch
        made |= self.choice.settings(self.splits)
        fixed = {"seed": self.seed, "in_dim": self.cohort.in_dim, "slides": slides}
        return {"model": self.model, "options": self.options, **made, **fixed}

    def _sizes(self, split: Split) -> list[int]:
        """List the patches of a training part's slides; where the largest may come several times, as if all were it."""
        sizes = [self.features.sizes[index] for index in split.train]
        return [max(sizes)] * len(sizes) if self.recipe.class_weights == "sampled" else sizes


def chosen_recipe(name: str, model: str, changes: Mapping[str, Any]) -> TrainingRecipe:
    """Give the common recipe, or the one that the model was published with, with single numbers changed.

    Warming up keeps its share of the epochs, or a short training would do nothing else.
    Raises: OptionError if there is no such recipe or a number is out of range; UnknownNameError for the model.
    """
    one_of("recipe", name, RECIPES)
    replace(COMMON, **changes)  # a trial, so that a wrong number is told before it is reckoned with
    recipe = COMMON if name == "common" else model_recipe(model)
    if recipe is None:
        raise OptionError(f"got recipe='published', but {model} was published with none; use 'common'")
    warm_up = recipe.warm_up_epochs * changes.get("epochs", recipe.epochs) / recipe.epochs
    return replace(recipe, **{**changes, "warm_up_epochs": warm_up})


def default_batch_size(n_train: int) -> int:
    """Choose the slides of an optimiser step: the paper's 256, or an eighth of a training part smaller than 2,048.

    With 256, a cohort of 40 slides would see one step an epoch and not learn in the epochs that others need.
    """
    return max(1, min(_LARGEST_BATCH, n_train // _STEPS_WANTED))
