"""One slide's maps put to the test."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from dtcwsi.bags.packing import bag_of
from dtcwsi.classifier import Classifier
from dtcwsi.ensemble import ask
from dtcwsi.errors import FeaturesError, UsageError
from dtcwsi.explain.faithfulness.agreement import spearman, top_overlap
from dtcwsi.explain.faithfulness.curves import Curves, curves_of, mean_curves
from dtcwsi.explain.faithfulness.lesion import LESION_SHARE, LesionScores, TruthMask, lesion_cover, lesion_scores
from dtcwsi.explain.faithfulness.maps import falling_orders, maps_from, maps_of
from dtcwsi.explain.faithfulness.randomised import groups_of, reinitialised
from dtcwsi.nn.order import infer_step
from dtcwsi.types import Bag, Features

__all__ = ["Agreement", "Draws", "MapScores", "SlideScores", "measure_slide"]

Maps = Mapping[str, NDArray[np.float64]]
MapOf = Callable[[Classifier], Maps]


@dataclass(frozen=True)
class Draws:
    """How often chance is asked: random orders for the floor, and weights drawn anew; ``seed`` fixes all draws."""

    orders: int = 5
    weights: int = 3
    seed: int = 0


@dataclass(frozen=True)
class Agreement:
    """How alike maps are, means over pairs: rank correlation, None without any, and overlap of the top tenth."""

    spearman: float | None
    top_overlap: float


@dataclass(frozen=True)
class MapScores:
    """What was found of one map; None and missing groups: not asked, or nothing to compare with."""

    curves: Curves
    lesion: LesionScores | None
    folds: Agreement | None
    seeds: Agreement | None
    randomised: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class SlideScores:
    """A slide's maps by name, and ``random``: the mean curves of random orders.

    ``probability`` is that of the class predicted, as the models asked give it on average.
    """

    slide_id: str
    prediction: str
    probability: float
    n_patches: int
    n_models: int
    maps: Mapping[str, MapScores]
    random: Curves


def measure_slide(
    models: Sequence[Classifier],
    features: Features,
    *,
    folds: Sequence[Classifier] = (),
    seeds: Sequence[Classifier] = (),
    truth: TruthMask | None = None,
    draws: Draws | None = None,
) -> SlideScores:
    """Put the maps of a slide to the test; the same arguments give the same numbers.

    The ``models`` are asked together, as `explain_slide` shows them: maps, probabilities and margins are their means.
    ``folds`` are other models of the run and ``seeds`` of other trainings, whose maps are compared with theirs;
    several models without ``folds`` are compared with each other. The weights of the first model are drawn anew.
    Raises: UsageError if there is no model; FeaturesError if the slide has no patches, has no coordinates though there
    is a mask of the lesion, or as the models do.
    """
    if not models:
        raise UsageError("no model was given to be measured; expected at least one, such as those of a run's folds")
    if not len(features.features):
        raise FeaturesError(f"{features.slide_id!r} has no patches, so that there is no map; leave the slide out")
    bag, draws = _bag(features), draws or Draws()
    answers = ask(models, features)
    probabilities, target = answers.probabilities, int(answers.probabilities.argmax())
    maps = maps_from(answers.predictions, target)
    orders = falling_orders(maps, bag)
    rng = _generator(features.slide_id, draws.seed)
    floor = {f"random {number}": rng.permutation(len(bag)) for number in range(draws.orders)}
    curves = curves_of(models, bag, {**orders, **floor}, target)
    is_lesion = None if truth is None else _lesion(features, bag, truth)

    def map_of(model: Classifier) -> Maps:
        return maps_of([model], bag, target)

    among_folds, among_seeds = _pairs(models, folds, map_of, maps), _pairs((), seeds, map_of, maps)
    redrawn = _redrawn(models[0], map_of, rng.integers(2**31, size=draws.weights).tolist())
    return SlideScores(
        slide_id=features.slide_id,
        prediction=models[0].class_names[target],
        probability=float(probabilities[target]),
        n_patches=len(bag),
        n_models=len(models),
        maps={
            name: MapScores(
                curves[name],
                None if is_lesion is None else lesion_scores(values, orders[name], is_lesion, shares=name != "both"),
                _agreement(among_folds, name, bag),
                _agreement(among_seeds, name, bag),
                _correlations(redrawn, name),
            )
            for name, values in maps.items()
        },
        random=mean_curves([curves[name] for name in floor]),
    )


def _bag(features: Features) -> Bag:
    """Fix the patch size, which parts of a bag could not infer as the whole does."""
    bag = bag_of(features)
    if bag.patch_size_level0 or features.coords is None:
        return bag
    return Bag(bag.features, bag.coords, infer_step(np.asarray(features.coords)), slide_id=bag.slide_id)


def _generator(slide_id: str, seed: int) -> np.random.Generator:
    """Draw by the slide and the seed alone: not by the slides before it, and not alike on all slides."""
    return np.random.default_rng([seed, crc32(slide_id.encode("utf-8", "surrogateescape"))])


def _lesion(features: Features, bag: Bag, truth: TruthMask) -> NDArray[np.bool_]:
    if features.coords is None:
        raise FeaturesError(
            f"the features of {features.slide_id!r} have no coordinates, so that no mask can be laid on them; expected "
            "a dataset 'coords': extract the slide again"
        )
    coords, side = np.asarray(features.coords, np.int64), float(bag.patch_size_level0 or 1)
    return lesion_cover(coords, side, truth.lesion, downsample=truth.downsample) >= LESION_SHARE


def _pairs(
    models: Sequence[Classifier], others: Sequence[Classifier], map_of: MapOf, maps: Maps
) -> list[tuple[Maps, Maps]]:
    if others:
        return [(maps, map_of(other)) for other in others]
    return list(combinations(map(map_of, models), 2)) if len(models) > 1 else []


def _redrawn(model: Classifier, map_of: MapOf, seeds: Sequence[int]) -> dict[str, list[tuple[Maps, Maps]]]:
    """Pair the maps of a model with those of its copies whose weights were drawn anew, group by group."""
    trained = map_of(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that panther's prototypes are random is the point here
        return {
            group: [(trained, map_of(reinitialised(model, group, seed=seed))) for seed in seeds]
            for group in groups_of(model)
        }


def _correlations(redrawn: Mapping[str, list[tuple[Maps, Maps]]], name: str) -> dict[str, float | None]:
    """Correlate a map with its copies, group by group; importance does not see the aggregator."""
    return {
        group: _mean([spearman(one[name], other[name]) for one, other in pairs])
        for group, pairs in redrawn.items()
        if (name, group) != ("importance", "aggregator")
    }


def _agreement(pairs: Sequence[tuple[Maps, Maps]], name: str, bag: Bag) -> Agreement | None:
    if not pairs:
        return None
    values = [(one[name], other[name]) for one, other in pairs]
    orders = [falling_orders({"one": one, "other": other}, bag) for one, other in values]
    overlap = [top_overlap(order["one"], order["other"]) for order in orders]
    return Agreement(_mean([spearman(one, other) for one, other in values]), float(np.mean(overlap)))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
