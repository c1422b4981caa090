"""``dtcwsi evaluate``: a run's figures, or those of the run on another cohort."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from dtcwsi.cli.console import complain, count, print_json, print_table, say, some
from dtcwsi.cli.judges import judges_of
from dtcwsi.cli.labels import tell_overlooked
from dtcwsi.cli.options import Json
from dtcwsi.cli.train import metrics_table
from dtcwsi.errors import CohortError, DtcwsiError, UsageError

if TYPE_CHECKING:
    from dtcwsi.bags.cohort import Cohort
    from dtcwsi.inference import Run, SlidePrediction

__all__ = ["run"]

_WARNINGS_SHOWN = 5


def run(
    run: Annotated[Path, typer.Argument(help="Run folder of `train`, or one fold of it.", show_default=False)],
    features: Annotated[Path | None, typer.Option("--features", help="Features of another cohort.")] = None,
    labels: Annotated[Path | None, typer.Option("--labels", help="Labels of another cohort.")] = None,
    as_json: Json = False,
) -> int:
    """Print a run's out-of-fold figures, or score its folds' mean, at its thresholds too, on an external cohort."""
    if (features is None) != (labels is None):
        raise UsageError("--features and --labels go together; give both for another cohort, none for the run's own")
    if features is None or labels is None:
        return _own(run, as_json=as_json)
    return _external(run, features, labels, as_json=as_json)


def _own(run: Path, *, as_json: bool) -> int:
    one_fold = (run / "fold.json").is_file()
    name = "fold.json" if one_fold else "metrics.json"
    try:
        metrics = json.loads((run / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{run} holds no readable {name}; expected a run folder of `dtcwsi train`") from error
    if one_fold:
        metrics = {"metrics": _pooled_alone(metrics["metrics"]), "n_slides": metrics["slides"]["test"]}
    _print(metrics, as_json=as_json)
    return 1 if metrics.get("failed_folds") else 0


def _pooled_alone(values: dict[str, float | None]) -> dict[str, Any]:
    """Metrics of one set of predictions, in the layout of a run's."""
    return {
        name: {"mean": None, "std": None, "pooled": value, "interval_95": [None, None]}
        for name, value in values.items()
        if name != "loss"
    }


def _external(run: Path, features: Path, labels: Path, *, as_json: bool) -> int:
    from dtcwsi.bags.cohort import read_cohort
    from dtcwsi.inference import load_run, predict_file

    trained, cohort = load_run(run), read_cohort(labels, features)
    tell_overlooked(labels)
    strangers = sorted(set(cohort.labels) - set(trained.class_names))
    if strangers:
        known = ", ".join(trained.class_names)
        raise CohortError(f"{labels} has the label {strangers[0]!r}, which {run} was not trained on; expected {known}")
    _tell_of_training(trained, cohort, labels)
    found: dict[str, SlidePrediction] = {}
    failed: dict[str, str] = dict(cohort.refused)
    for header in cohort.headers:
        try:
            found[header.slide_id] = predict_file(judges_of(trained, header)[0], header.path)
        except DtcwsiError as error:
            failed[header.slide_id] = str(error)
    _tell_failed(failed)
    left_out = {"without_features": cohort.without_features, "no_tissue": cohort.no_tissue}
    for why, slides in left_out.items():
        if slides:
            say(f"warning: {count(len(slides), 'slide')} not scored ({why}): {some(slides)}")
    _tell_warnings([one.warning for one in found.values() if one.warning])
    if not found:
        raise DtcwsiError(f"none of {count(len(cohort.headers), 'slide')} could be scored; the reasons are above")
    warnings = {slide_id: one.warning for slide_id, one in found.items() if one.warning}
    told = {"n_slides": len(found), "failed": failed, "warnings": warnings, **left_out}
    thresholds = _thresholds(run)
    if not thresholds and len(trained.class_names) == 2:
        say(f"{run} is of a version that chose no thresholds; train it anew for decisions at thresholds")
    _print({**_scored(trained, cohort, found, thresholds), **told}, as_json=as_json)
    return 1 if failed else 0


def _tell_failed(failed: dict[str, str]) -> None:
    """Say every reason once."""
    slides_of: dict[str, list[str]] = {}
    for slide_id, reason in failed.items():
        slides_of.setdefault(reason, []).append(slide_id)
    for reason, slides in slides_of.items():
        complain(f"{slides[0] if len(slides) == 1 else f'{len(slides):,} slides ({some(slides)})'}: {reason}")


def _tell_warnings(warnings: list[str]) -> None:
    """Say the first of those that differ; names of other slides, which were told, come last."""
    different = sorted(dict.fromkeys(warnings), key=lambda warning: "holds features of" in warning)
    for warning in different[:_WARNINGS_SHOWN]:
        say(f"warning: {warning}")
    if len(different) > _WARNINGS_SHOWN:
        say(f"warning: {len(different) - _WARNINGS_SHOWN} more, which --json lists slide by slide")


def _thresholds(run: Path) -> dict[str, float]:
    """Give the thresholds that the whole run's out-of-fold predictions chose; a fold of it keeps them."""
    from dtcwsi.thresholds import THRESHOLDS

    whole = run.resolve().parent if (run / "fold.json").is_file() else run
    try:
        found: dict[str, float] = json.loads((whole / "metrics.json").read_text(encoding="utf-8"))["thresholds"]
    except (OSError, ValueError, KeyError):  # of several classes, or of an earlier version
        return {}
    return {name: found[name] for name in THRESHOLDS if name in found}


def _tell_of_training(trained: "Run", cohort: "Cohort", labels: Path) -> None:
    """Say which slides the models know, and which patients they may know."""
    seen = trained.trained_on
    slides = [header.slide_id for header in cohort.headers if trained.another_slide(header) is None]
    held_out = [slide_id for slide_id in slides if slide_id in seen and trained.not_trained_on(slide_id)]
    if held_out:
        say(
            f"warning: {count(len(held_out), 'slide')} of {labels} were in this run's training ({some(held_out)}); "
            "each is scored by the model of the fold that held it out, not by all"
            + ("; the thresholds were chosen on these scores" if len(trained.class_names) == 2 else "")
        )
    known = [slide_id for slide_id in slides if not trained.not_trained_on(slide_id)]
    if known:
        say(
            f"warning: {count(len(known), 'slide')} of {labels} were in the training of every model here "
            f"({some(known)}); these figures are too good: take the slides out, or evaluate the whole run"
        )
    _tell_renamed(trained, cohort, labels)
    known_by_name = set(slides) & set(trained.labels)
    pairs = [(slide, trained.labels[slide.slide_id]) for slide in cohort.slides if slide.slide_id in known_by_name]
    other = [f"{slide.slide_id} is {slide.label!r}, there {known!r}" for slide, known in pairs if slide.label != known]
    if other:
        say(
            f"warning: {len(other)} of {count(len(pairs), 'slide')} that {trained.folder} knows "
            f"{'has' if len(other) == 1 else 'have'} another label in {labels} than there ({some(other, 2)})"
        )
    patients = {trained.patients[slide_id] for slide_id in seen - set(slides) if slide_id in trained.patients}
    shared = sorted(patients & set(cohort.patients))
    if shared:
        say(
            f"warning: {trained.folder} was trained on other slides of {count(len(shared), 'patient')} of {labels} "
            f"({some(shared)}); if they are the same people, these figures are too good"
        )


def _tell_renamed(trained: "Run", cohort: "Cohort", labels: Path) -> None:
    """Say which files hold features of slides that the models know by another name."""
    renamed = {
        header.slide_id: header.recorded_id
        for header in cohort.headers
        if header.recorded_id not in (None, header.slide_id)
        and header.recorded_id in trained.trained_on
        and trained.another_slide(header) is None
    }
    if renamed:
        pairs = some(f"{name} is {recorded}" for name, recorded in renamed.items())
        say(
            f"warning: {count(len(renamed), 'slide')} of {labels} were in this run's training under other names "
            f"({pairs}); they are scored by models that know them, and these figures are too good: take them out"
        )


def _scored(
    trained: "Run", cohort: "Cohort", found: "dict[str, SlidePrediction]", thresholds: dict[str, float]
) -> dict[str, Any]:
    from dtcwsi.metrics import FEW_PATIENTS, interval, metrics_for
    from dtcwsi.thresholds import decisions

    slides = [slide for slide in cohort.slides if slide.slide_id in found]
    truth = np.array([trained.class_names.index(slide.label) for slide in slides], np.int64)
    probabilities = np.stack([found[slide.slide_id].probabilities for slide in slides])
    patients = [slide.patient_id for slide in slides]
    of_class = {
        name: len({slide.patient_id for slide in slides if slide.label == name}) for name in trained.class_names
    }
    absent = [name for name, number in of_class.items() if not number]
    if absent:
        alone = len(absent) == len(of_class) - 1
        told = "the AUC is n/a, and kappa, F1, PPV and NPV tell nothing" if alone else "means over classes leave it out"
        say(f"no slide of class {some(absent)} was scored: {told}")
    few = {name: number for name, number in of_class.items() if 0 < number < FEW_PATIENTS}
    if few:
        told = ", ".join(f"{number} of class {name}" for name, number in few.items())
        say(f"few patients ({told}): intervals of metrics, which draw them, are too narrow")
    metrics = {
        name: {
            "mean": None,
            "std": None,
            "pooled": metric(truth, probabilities),
            "interval_95": list(interval(metric, truth, probabilities, patients)),
        }
        for name, metric in metrics_for(trained.class_names).items()
    }
    scored = {"metrics": metrics, "patients": of_class}
    if not thresholds:
        return scored
    decided = decisions(thresholds, truth, probabilities, patients)
    return {**scored, "positive": trained.class_names[1], "decisions": decided}


def _print(metrics: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(metrics)
        return
    print_table(*metrics_table(metrics))
    if "decisions" in metrics:
        print()
        print_table(*_decisions_table(metrics["decisions"]))
        say(
            f"{metrics['positive']} is predicted from a threshold on, as the run's out-of-fold predictions chose it; "
            "those are of one fold's model each, and where the mean of all decides, sensitivity may be another"
        )
    say(count(metrics["n_slides"], "slide"))


def _decisions_table(decided: dict[str, dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    shares = [name for name in next(iter(decided.values())) if name != "threshold"]
    rows = [
        [name, f"{told['threshold']:.3f}", *(_with_interval(told[share]) for share in shares)]
        for name, told in decided.items()
    ]
    return ["threshold", "at", *shares], rows


def _with_interval(told: dict[str, Any]) -> str:
    low, high = told["interval_95"]
    if told["value"] is None or low is None:
        return "n/a" if told["value"] is None else f"{told['value']:.3f}"
    return f"{told['value']:.3f} ({low:.3f} to {high:.3f})"
