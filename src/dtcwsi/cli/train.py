"""``dtcwsi train``: k-fold cross-validation, grouped by patient, into a run folder."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dtcwsi.cli.console import command_line, complain, print_json, print_table, say
from dtcwsi.cli.labels import tell_overlooked
from dtcwsi.cli.options import (
    BatchSize,
    ClassWeights,
    Epochs,
    Folds,
    Group,
    Json,
    MaxTokens,
    Recipe,
    Search,
    Splits,
    Trials,
)
from dtcwsi.cli.train_settings import KNOWN, assignments, read_config, required, search_of, texts, trackers_of

if TYPE_CHECKING:
    from dtcwsi.training.crossval import RunRecord, TrainingEvent

__all__ = ["metrics_table", "narrate", "run"]

_UNKNOWN = "n/a"
_DEFAULTS: dict[str, Any] = {"model": "dtc-abmil"}


def run(
    features: Annotated[Path | None, typer.Option("--features", help="Folder of feature files, or of extract.")] = None,
    labels: Annotated[Path | None, typer.Option("--labels", help="CSV: slide_id,label and optional columns.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="A name of `dtcwsi models` (dtc-abmil).")] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="RUN", help="Run folder to write.")] = None,
    folds: Folds = None,
    splits: Splits = None,
    group: Group = None,
    recipe: Recipe = None,
    epochs: Epochs = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Fixes folds and weights (0).")] = None,
    batch_size: BatchSize = None,
    retention: Annotated[float | None, typer.Option("--retention", help="Final share of tokens (0.4).")] = None,
    lr: Annotated[float | None, typer.Option("--lr", help="Adam's learning rate (0.001).")] = None,
    weight_decay: Annotated[float | None, typer.Option("--weight-decay", help="Adam's weight decay (0).")] = None,
    patience: Annotated[int | None, typer.Option("--patience", help="Epochs without a better validation loss.")] = None,
    class_weights: ClassWeights = None,
    max_tokens: MaxTokens = None,
    pretrain_steps: Annotated[
        int | None, typer.Option("--pretrain-steps", help="Self-supervised steps before labels: spt (0).")
    ] = None,
    device: Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda or mps.")] = None,
    devices: Annotated[int | None, typer.Option("--devices", help="GPUs, or processes on a CPU, together (1).")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="OPTION=VALUE", help="An option of the model.")
    ] = None,
    search: Search = None,
    trials: Trials = None,
    track: Annotated[
        list[str] | None, typer.Option("--track", help="tensorboard (default), wandb or mlflow; none for no curves.")
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", help="YAML with any of these options.")] = None,
    as_json: Json = False,
) -> int:
    """Train and test a model on every fold; a killed run goes on where it stopped."""
    from dtcwsi.bags.cohort import read_cohort
    from dtcwsi.explain.report import write_report
    from dtcwsi.store.features import extraction_of
    from dtcwsi.training.crossval import cross_validate
    from dtcwsi.training.tracking import Tracking

    given = locals()
    flags = {name: given[name] for name in KNOWN if name not in ("set", "search") and given[name] is not None}
    from_file = read_config(config) if config else {}
    settings = {**_DEFAULTS, **from_file, **flags}
    for name in ("set", "search"):
        settings.pop(name, None)
    trackers = trackers_of(settings.pop("track", None))
    where = {name: Path(required(settings, name)) for name in ("features", "labels", "out")}
    options = {**from_file.get("set", {}), **assignments("set", set_ or [])}
    space = {**from_file.get("search", {}), **texts("search", search or [])}
    wanted = search_of(space, settings.pop("trials", None))
    cohort = read_cohort(where["labels"], where["features"])
    tell_overlooked(where["labels"])
    tracking = Tracking(trackers, where["out"], complain)

    def hear(event: "TrainingEvent") -> None:
        narrate(event)
        tracking.hear(event)

    rest = {name: value for name, value in settings.items() if name not in where}
    record = cross_validate(cohort, out=where["out"], options=options, search=wanted, on_event=hear, **rest)
    title = f"{settings['model']} on {where['labels'].name}"
    if record.metrics["metrics"]:
        write_report(
            where["out"] / "report.html",
            title=title,
            runs=[where["out"]],
            extraction=extraction_of(where["features"]),
            slide_files={slide.slide_id: slide.path for slide in cohort.slides if slide.path is not None},
            facts={"Command": command_line()},
        )
    _conclude(record, as_json=as_json)
    return 0 if record.complete else 1


def narrate(event: "TrainingEvent") -> None:
    """Say what training does; of epochs only every tenth."""
    if event.kind == "fold_failed":
        complain(event.message)
    elif event.kind != "epoch" or (event.epoch is not None and event.epoch.epoch % 10 == 0):
        say(event.message)


def metrics_table(metrics: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Lay out a run's metrics: a header, and rows of mean and deviation over folds, pooled value and 95 % interval.

    A column that nothing is known of is left out: one fold and another cohort have no folds to compare.
    """
    from dtcwsi.metrics import METRICS

    header, rows = ["metric", "folds", "pooled", "95 % interval (patients)"], []
    for name in [name for name in METRICS if name in metrics["metrics"]]:
        told = metrics["metrics"][name]
        folds = _unless_unknown(told["mean"], f"{_figure(told['mean'])} ± {_figure(told['std'])}")
        low, high = told["interval_95"]
        interval = _unless_unknown(low, f"{_figure(low)} to {_figure(high)}")
        rows.append([name, folds, _figure(told["pooled"]), interval])
    known = [column for column in range(len(header)) if not rows or any(row[column] != _UNKNOWN for row in rows)]
    return [header[column] for column in known], [[row[column] for column in known] for row in rows]


def _conclude(record: "RunRecord", *, as_json: bool) -> None:
    if as_json:
        print_json(record.metrics)
        return
    print_table(*metrics_table(record.metrics))
    tokens = record.metrics["tokens"]
    if tokens:
        told = f"{tokens['in']:,.0f} in, {tokens['out']:,.0f} out ({tokens['kept_share']:.3f} kept)"
        if "merged" in tokens and tokens["out"] < tokens["in"]:
            told += f"; {tokens['merged']:,.0f} patches merged, {tokens['pruned']:,.0f} pruned"
        say(f"tokens a slide: {told}")
    for fold, trained in record.metrics["folds"].items():
        if "search" in trained:
            say(f"fold {fold}: {_searched(trained['search'])}")
    if record.metrics["metrics"]:
        say(f"report: {record.folder / 'report.html'}")


def _searched(found: dict[str, Any]) -> str:
    from dtcwsi.training.search import shown

    space = "; ".join(f"{name} {values}" for name, values in found["space"].items())
    return f"{shown(found['best'])} (of {space}; {found['trials']} trials by validation loss)"


def _figure(value: float | None) -> str:
    return _UNKNOWN if value is None or value != value else f"{value:.3f}"


def _unless_unknown(value: float | None, text: str) -> str:
    return _UNKNOWN if _figure(value) == _UNKNOWN else text
