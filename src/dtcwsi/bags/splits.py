"""Who is trained on, who chooses the checkpoint, who is tested: grouped by patient."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from dtcwsi.bags.split_files import PARTS, Partition
from dtcwsi.bags.validation import with_validation, with_validation_sites
from dtcwsi.errors import CohortError

__all__ = ["DEFAULT_FOLDS", "Split", "assign_folds", "given_splits", "make_split"]

DEFAULT_FOLDS = 5


@dataclass(frozen=True)
class Split:
    """One fold's parts, as indices of slides; no patient is in two of them."""

    train: tuple[int, ...]
    val: tuple[int, ...]
    test: tuple[int, ...]

    def part_of(self) -> dict[int, str]:
        """Name each slide's part: train, val or test."""
        parts = {"train": self.train, "val": self.val, "test": self.test}
        return {slide: name for name, slides in parts.items() for slide in slides}


def assign_folds(
    labels: Sequence[str],
    patients: Sequence[str],
    *,
    folds: int | None = None,
    seed: int = 0,
    fixed: Sequence[int] | None = None,
    sites: Sequence[str] | None = None,
) -> tuple[int, ...]:
    """Assign each slide the fold that tests it: stratified by label, a patient's slides together.

    ``fixed`` are the folds of the cohort table, used as they are; else ``folds`` (5) are drawn under ``seed``. With
    ``sites`` a whole site's slides stay together, so that every model is tested on sites that it has not seen
    (Howard et al. 2021).
    Raises: CohortError if there is one class only, a class has fewer patients (or sites) than folds, a fixed fold
    splits a patient or leaves a class out of training, a patient is of two sites, or ``folds`` contradicts ``fixed``.
    """
    _check_two_classes(labels)
    if fixed is not None:
        return _checked_fixed(labels, patients, fixed, folds)
    count = DEFAULT_FOLDS if folds is None else folds
    if count < 2:
        raise CohortError(f"got {count} folds; expected 2 or more")
    groups = patients
    if sites is not None:
        _check_one_site(patients, sites)
        groups = sites
    _check_enough_groups(labels, groups, count, "patient" if sites is None else "site")
    splitter = StratifiedGroupKFold(n_splits=count, shuffle=True, random_state=seed)
    fold = np.full(len(labels), -1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        for number, (_, test) in enumerate(splitter.split(np.zeros(len(labels)), labels, groups)):
            fold[test] = number
    assigned = tuple(int(number) for number in fold)
    _check_classes_in_training(labels, assigned, range(count))
    return assigned


def make_split(
    labels: Sequence[str],
    patients: Sequence[str],
    folds: Sequence[int],
    fold: int,
    *,
    seed: int = 0,
    sites: Sequence[str] | None = None,
) -> Split:
    """Split for one fold: its slides are the test part, a fifth of the other patients the validation part.

    The fifth is drawn class by class (a patient's class is that of most of its slides): at least one patient of each
    class that has two. A patient without whom a class would leave training is passed over. With ``sites`` whole sites
    are drawn instead, or patients after all where no site can be spared, see `with_validation_sites`.
    Raises: CohortError if a class is only in the fold's own slides, or no patient is left to validate on.
    """
    _check_classes_in_training(labels, folds, [fold])
    test = tuple(i for i, number in enumerate(folds) if number == fold)
    rest = [i for i, number in enumerate(folds) if number != fold]
    generator = np.random.default_rng([seed, fold])
    parts = None if sites is None else with_validation_sites(labels, sites, rest, generator)
    train, val = parts or with_validation(labels, patients, rest, generator)
    if not val:
        raise CohortError(_nobody_validates(fold, len(set(folds))))
    return Split(train, val, test)


def given_splits(
    partitions: Sequence[Partition], slides: Sequence[str], labels: Sequence[str], patients: Sequence[str], *, seed: int
) -> tuple[Split, ...]:
    """Take over the partitions of split files, fold 0, 1, ... in their order.

    Slides of theirs that the cohort lacks are passed over, slides of the cohort that they do not name take no part, and
    one that a part lists twice counts once.
    Where a partition names no validation part, a fifth of its training patients is drawn, as `make_split` does.
    Raises: CohortError if there is one class only, a slide or a patient is in two parts, a part is left without slides,
    the training lacks a class of the test, or no partition trains on one of the cohort's classes.
    """
    _check_two_classes(labels)
    row_of = {slide: row for row, slide in enumerate(slides)}
    splits = []
    for fold, one in enumerate(partitions):
        rows = {
            part: tuple(row_of[slide] for slide in dict.fromkeys(named) if slide in row_of)
            for part, named in one.parts.items()
        }
        _check_apart(one.name, rows, slides, patients)
        train, val, test = (rows[part] for part in PARTS)
        if not val:
            train, val = with_validation(labels, patients, train, np.random.default_rng([seed, fold]))
        split = Split(train, val, test)
        _check_filled(one, split, slides, labels)
        splits.append(split)
    untold = set(labels) - {labels[i] for split in splits for i in split.train}
    if untold:
        raise CohortError(
            f"no partition trains on class {min(untold)!r} of the cohort; take its slides out of the labels, or use "
            "split files that name them"
        )
    return tuple(splits)


def _check_apart(name: str, rows: Mapping[str, Sequence[int]], slides: Sequence[str], patients: Sequence[str]) -> None:
    for first, second in combinations(PARTS, 2):
        both = sorted({patients[i] for i in rows[first]} & {patients[i] for i in rows[second]})
        if both:
            example = next(slides[i] for i in rows[second] if patients[i] == both[0])
            raise CohortError(
                f"{name} has {len(both)} patient{'s' * (len(both) != 1)} in both {first} and {second}, such as "
                f"{both[0]!r} (slide {example!r}); run `dtcwsi audit-splits` and mend the file"
            )


def _check_filled(one: Partition, split: Split, slides: Sequence[str], labels: Sequence[str]) -> None:
    name = one.name
    for part, rows in zip(PARTS, (split.train, split.val, split.test), strict=True):
        if not rows:
            named = next((slide for slides in one.parts.values() for slide in slides), "none")
            raise CohortError(
                f"{name} leaves no slide of the cohort in {part}; it names slides such as {named!r}, the cohort such "
                f"as {slides[0]!r}; expected the same names, one or more in each part"
            )
    missing = {labels[i] for i in split.test} - {labels[i] for i in split.train}
    if missing:
        raise CohortError(f"{name} tests class {min(missing)!r}, of which its training has no slide; add slides")


def _nobody_validates(fold: int, folds: int) -> str:
    needed = 2 + -(-2 // max(1, folds - 1))  # of these, an even share is tested and two are left
    return (
        f"fold {fold} leaves no patient to validate on, as training needs one of each class and no class has a second; "
        f"{folds} folds take {needed} patients of a class or more; add patients or use more folds"
    )


def _check_two_classes(labels: Sequence[str]) -> None:
    if len(set(labels)) < 2:
        raise CohortError(f"all {len(labels)} slides have the label {_first(labels)!r}; expected two classes or more")


def _check_enough_groups(labels: Sequence[str], groups: Sequence[str], folds: int, what: str) -> None:
    for label in sorted(set(labels)):
        count = len({group for group, own in zip(groups, labels, strict=True) if own == label})
        if count < folds:
            raise CohortError(
                f"class {label!r} has {count} {what}{'s' * (count != 1)}; expected at least {folds}, one for each "
                f"fold; {'use fewer folds, ' * (count > 1)}{'group by patient, ' * (what == 'site')}add slides of "
                f"other {what}s, or take the class out"
            )


def _check_one_site(patients: Sequence[str], sites: Sequence[str]) -> None:
    home: dict[str, str] = {}
    for patient, site in zip(patients, sites, strict=True):
        if home.setdefault(patient, site) != site:
            raise CohortError(
                f"patient {patient!r} is of the sites {home[patient]!r} and {site!r}; expected one; correct the table"
            )


def _checked_fixed(
    labels: Sequence[str], patients: Sequence[str], fixed: Sequence[int], folds: int | None
) -> tuple[int, ...]:
    numbers = sorted(set(fixed))
    if numbers != list(range(len(numbers))) or len(numbers) < 2:
        raise CohortError(f"the column 'fold' holds {numbers}; expected 0, 1, ... without gaps, two or more")
    if folds is not None and folds != len(numbers):
        raise CohortError(f"got {folds} folds, but the column 'fold' holds {len(numbers)}; leave one of the two out")
    home: dict[str, int] = {}
    for patient, fold in zip(patients, fixed, strict=True):
        if home.setdefault(patient, fold) != fold:
            raise CohortError(
                f"patient {patient!r} is in folds {home[patient]} and {fold}; put all slides of a patient in one fold"
            )
    _check_classes_in_training(labels, fixed, numbers)
    return tuple(fixed)


def _check_classes_in_training(labels: Sequence[str], folds: Sequence[int], tested: Sequence[int]) -> None:
    classes = set(labels)
    for fold in tested:
        missing = classes - {label for label, number in zip(labels, folds, strict=True) if number != fold}
        if missing:
            raise CohortError(
                f"fold {fold} tests every slide of class {min(missing)!r}, so none is left to train on; "
                "use other folds or add slides"
            )


def _first(labels: NDArray[np.str_] | Sequence[str]) -> str | None:
    return labels[0] if len(labels) else None
