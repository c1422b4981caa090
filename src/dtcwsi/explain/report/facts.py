"""What was run, in words, and what has no result."""

from collections.abc import Mapping, Sequence

import numpy as np

from dtcwsi.errors import UsageError
from dtcwsi.explain.report.runs import RunSummary
from dtcwsi.metrics import METRICS, Difference, difference

__all__ = ["check_one_task", "differences", "gone_folds", "left_out", "other_slides", "run_facts"]


def run_facts(runs: Mapping[str, RunSummary]) -> dict[str, object]:
    """Tell the cohort and the training; the first run speaks for all, but for the options."""
    if not runs:
        return {}
    first = next(iter(runs.values()))
    counts = np.bincount(first.labels, minlength=len(first.classes)).tolist()
    told: dict[str, object] = {
        "Cohort": f"{first.n_slides} slides of {first.n_patients} patients",
        "Classes": ", ".join(f"{name} ({count})" for name, count in zip(first.classes, counts, strict=True)),
        "Folds": f"{len(first.folds)}, {first.folds_by}",
        "Seed": "not recorded" if first.seed is None else first.seed,
    }
    mixed = _patients_of_several_classes(first)
    if mixed:
        told["Patients with slides of several classes"] = ", ".join(mixed)
    if first.recipe:
        told["Training"] = ", ".join(f"{name} {value}" for name, value in first.recipe.items())
    for name, run in runs.items():
        if run.options:
            told[f"Options of {name}, defaults aside"] = ", ".join(
                f"{option} {value}" for option, value in run.options.items()
            )
    if first.versions:
        told["Versions"] = ", ".join(f"{name} {value}" for name, value in first.versions.items())
    return told


def differences(runs: Mapping[str, RunSummary]) -> dict[str, Difference]:
    """Each later run's AUC minus the first's, on the slides and patients of both."""
    if len(runs) < 2:
        return {}
    first = next(iter(runs.values()))
    place = {test: index for index, test in enumerate(_tests(first))}
    found = {}
    for name, run in list(runs.items())[1:]:
        tests = _tests(run)
        mine = [index for index, test in enumerate(tests) if test in place]
        theirs = [place[tests[index]] for index in mine]
        if not mine or (run.labels[mine] != first.labels[theirs]).any():
            continue
        patients = [run.patients[index] for index in mine]
        pair = run.probabilities[mine], first.probabilities[theirs]
        found[name] = difference(METRICS["auc"], run.labels[mine], *pair, patients)
    return {name: one for name, one in found.items() if one is not None}


def left_out(
    failed: Sequence[Mapping[str, str]], empty: Sequence[Mapping[str, str]], runs: Mapping[str, RunSummary]
) -> list[tuple[str, str]]:
    """Slides without a result and why, each reason once."""
    rows = [(row.get("slide", "?"), f"failed at {row.get('step', '?')}: {row.get('reason', '')}") for row in failed]
    rows += [(row.get("slide_id", "?"), "no tissue") for row in empty]
    rows += [pair for run in runs.values() for pair in run.left_out]
    rows += [
        (f"fold {fold} of {name}", f"failed: {reason}")
        for name, run in runs.items()
        for fold, reason in run.failed_folds.items()
    ]
    return list(dict.fromkeys(rows))


def check_one_task(runs: Mapping[str, RunSummary]) -> None:
    """Make sure that runs tell the same classes apart: no table or curve could hold both.  Raises: UsageError."""
    first = next(iter(runs.values()), None)
    for run in runs.values():
        if first is not None and run.classes != first.classes:
            raise UsageError(
                f"{run.folder} has the classes {', '.join(run.classes)}, but {first.folder} has "
                f"{', '.join(first.classes)}; expected runs of one task: write a report of each"
            )


def other_slides(runs: Mapping[str, RunSummary]) -> list[str]:
    """Say which runs were tested on other slides than the first."""
    first = next(iter(runs.values()), None)
    own = set() if first is None else set(first.slide_ids)
    return [
        f"{name} was tested on {len(own & set(run.slide_ids))} of the {len(own)} slides of {next(iter(runs))}, and on "
        f"{len(set(run.slide_ids) - own)} others: compare their numbers with care."
        for name, run in runs.items()
        if set(run.slide_ids) != own
    ]


def gone_folds(runs: Mapping[str, RunSummary]) -> list[str]:
    """Say which folds still count in a run's numbers, though their models are gone."""
    return [
        f"The folder of fold {fold.number} of {name} is gone: its numbers are in the tables, its model judges no slide."
        for name, run in runs.items()
        for fold in run.folds
        if fold.gone
    ]


def _patients_of_several_classes(run: RunSummary) -> list[str]:
    labels: dict[str, set[int]] = {}
    for patient, label in zip(run.patients, run.labels.tolist(), strict=True):
        labels.setdefault(patient, set()).add(label)
    return sorted(patient for patient, own in labels.items() if len(own) > 1)


def _tests(run: RunSummary) -> list[tuple[str, int]]:
    """Tell a slide's first test from its second, which partitions of split files may have."""
    seen: dict[str, int] = {}
    tests = []
    for slide in run.slide_ids:
        seen[slide] = seen.get(slide, 0) + 1
        tests.append((slide, seen[slide]))
    return tests
