"""``dtcwsi bench``: the paper's tables on your slides."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from dtcwsi.cli.console import command_line, print_json, say
from dtcwsi.cli.labels import tell_overlooked
from dtcwsi.cli.options import (
    BatchSize,
    ClassWeights,
    Device,
    Epochs,
    Folds,
    Group,
    Json,
    MaxTokens,
    Recipe,
    Search,
    Splits,
    Trials,
    pick_device,
)
from dtcwsi.cli.train_settings import search_of, texts
from dtcwsi.errors import UsageError

__all__ = ["run"]

_DIM = 512
_UNTRAINED = {
    "claims": "claims are held against the tables in --out, and take nothing else",
    "efficiency": "efficiency trains nothing, its slides are random features; it takes --model, --patches and --device",
}


def run(
    table: Annotated[str, typer.Argument(metavar="TABLE", help="table1 to table8, claims, or efficiency.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the table and for runs, which tables share.")],
    cohort: Annotated[
        str | None,
        typer.Option(
            "--cohort", metavar="CSV|NAME", help="Your labels table; or demo, cells, needle, tissue, elephant ..."
        ),
    ] = None,
    source: Annotated[
        Path | None, typer.Option("--from", help="Tiles of tissue; elephant.npz, fox.npz, tiger.npz.")
    ] = None,
    features: Annotated[
        list[Path] | None, typer.Option("--features", help="Its feature files; for table6 of two encoders.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A tiny drawn cohort: every step, no meaning.")] = False,
    beside: Annotated[
        str | None,
        typer.Option(
            "--beside",
            help="Column of the paper: tcga-nsclc, tcga-brca, tcga-rcc or panda (that of your classes, or the first).",
        ),
    ] = None,
    folds: Folds = None,
    splits: Splits = None,
    group: Group = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Times to repeat all folds.")] = 1,
    recipe: Recipe = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    class_weights: ClassWeights = None,
    max_tokens: MaxTokens = None,
    search: Search = None,
    trials: Trials = None,
    patches: Annotated[
        list[int] | None,
        typer.Option("--patches", min=1, help="Size of the slide that is measured (13,900); efficiency takes several."),
    ] = None,
    model: Annotated[list[str] | None, typer.Option("--model", help="A model that efficiency measures.")] = None,
    device: Device = None,
    devices: Annotated[int, typer.Option("--devices", min=1, help="GPUs, or processes on a CPU, a training.")] = 1,
    jobs: Annotated[int, typer.Option("--jobs", min=0, help="Trainings at a time; 0: one a GPU, or else a core.")] = 1,
    as_json: Json = False,
) -> int:
    """Make a table of the paper, its numbers beside yours: CSV, JSON and a page; resumable fold by fold."""
    from dtcwsi.bags.cohort import read_cohort
    from dtcwsi.benchmark.measuring import seconds_a_patch
    from dtcwsi.benchmark.tables.definitions import TABLES
    from dtcwsi.benchmark.tables.jobs import jobs_wanted
    from dtcwsi.benchmark.tables.making import make_table
    from dtcwsi.benchmark.tables.page import write_table_files
    from dtcwsi.benchmark.tables.paper import COHORTS, column_of
    from dtcwsi.benchmark.tables.shelf import Protocol, Shelf
    from dtcwsi.options import one_of
    from dtcwsi.store.atomic import check_writable
    from dtcwsi.training.data import DEFAULT_CACHE_BYTES

    one_of("TABLE", table, (*TABLES, *_UNTRAINED))
    of_training = (
        cohort,
        source,
        features,
        folds,
        splits,
        group,
        recipe,
        epochs,
        batch_size,
        class_weights,
        max_tokens,
        search,
        trials,
    )
    trains = quick or any(one not in (None, []) for one in of_training) or (seeds, devices, jobs) != (1, 1, 1)
    if table in _UNTRAINED:
        if trains or beside or (table == "claims" and (model or patches or device)):
            raise UsageError(_UNTRAINED[table])
        if table == "claims":
            return _claims(out, as_json=as_json)
        return _efficiency(out, model, patches, pick_device(device), as_json=as_json)
    chosen = TABLES[table]
    if model or len(patches or []) > 1:
        raise UsageError(f"{table} takes one --patches and no --model; these are for efficiency")
    if beside is not None:
        one_of("beside", beside, COHORTS)
    given: dict[str, Any] = {
        "folds": folds,
        "epochs": epochs,
        "batch_size": batch_size,
        "class_weights": class_weights,
        "recipe": recipe,
        "group": group,
        "max_tokens": max_tokens,
        "search": search_of(dict(texts("search", search or [])), trials),
    }
    default: dict[str, Any] = {"folds": None if splits else 2, "epochs": 5} if quick else {}
    named = {name: value for name, value in given.items() if value is not None}
    protocol = Protocol(seeds=seeds, splits=tuple(splits or ()), **{**default, **named})
    protocol.check()
    chosen.check_search(protocol.search)
    _check_sources(cohort, source, features, quick=quick)
    kinds = max(chosen.encoders.values(), default=0) + 1
    if features and len(features) > kinds:
        raise UsageError(f"got {len(features)} feature folders; {table} takes {kinds}")
    used = _checked_device(device, devices, jobs)
    check_writable(out, make=False)
    labels = Path(cohort or "")
    name = f"{labels.resolve().parent.name}/{labels.name}"
    if cohort is None or not features:
        labels, made_of, name = _made(cohort, source, out)
        features = [made_of]
    at_once = jobs_wanted(jobs, used)
    on: dict[str, Any] = {"device": device or "auto", "devices": devices, "cache_bytes": DEFAULT_CACHE_BYTES // at_once}
    shelves = []
    for folder in features:
        read = read_cohort(labels, folder)
        encoder = read.made_by.get("encoder")
        took = seconds_a_patch(folder, None if encoder is None else str(encoder))
        shelves.append(Shelf(out / "runs", read, protocol, took, **on))
    tell_overlooked(labels)
    beside = beside or column_of(shelves[0].cohort.class_names)
    for shelf in shelves:
        protocol.choice.of(shelf.cohort, seed=0)  # told once, before any work
    write = partial(write_table_files, folder=out, command=command_line())
    how: dict[str, Any] = {"beside": beside, "cohort": name, "device": used, "jobs": at_once}
    how |= {"patches": patches[0]} if patches else {}
    made = make_table(table, chosen, shelves, tell=say, on_row=write, **how)
    _show(write(made), {"complete": made.complete}, as_json=as_json)
    return 0 if made.complete else 1


def _check_sources(cohort: str | None, source: Path | None, features: list[Path] | None, *, quick: bool) -> None:
    """Check that slides are named in one way.  Raises: UsageError if they are not."""
    if cohort is not None and features and not Path(cohort).is_file():
        raise UsageError(
            f"got --features and --cohort {cohort}, which is no file; expected a CSV of labels (the paper's cohorts' "
            "by `dtcwsi cohort`), or without --features a cohort by name"
        )
    by_name = cohort is not None and not features and not Path(cohort).is_file()
    if quick == (cohort is not None) or (quick or by_name) != (not features) or (source is not None and not by_name):
        raise UsageError(
            "expected --cohort CSV with --features DIR, --cohort NAME, with --from if it is made from something, or "
            "--quick alone"
        )


def _checked_device(device: str | None, devices: int, jobs: int) -> str:
    """Choose the device, and check that there are as many.  Raises: UsageError or OptionError if there are not."""
    import torch

    from dtcwsi.training.devices import check_devices

    used = pick_device(device)
    if devices > 1 and jobs != 1:
        raise UsageError(
            "got --devices and --jobs; expected one: devices share a training, jobs are trainings at a time"
        )
    check_devices(devices, torch.device(used), whole_batches=False)
    return used


def _show(paths: Sequence[Path], told: dict[str, Any], *, as_json: bool) -> None:
    """Print a page, or what a script wants to know, and say where the files are."""
    if as_json:
        print_json({**told, "files": [str(path) for path in paths]})
    else:
        print(paths[-1].read_text(encoding="utf-8"), end="")
    say(f"written: {', '.join(str(path) for path in paths)}")


def _claims(out: Path, *, as_json: bool) -> int:
    """Hold the paper's claims against the tables of a folder."""
    from dtcwsi.benchmark.tables.claims import judge_claims, write_claims

    claims = judge_claims(out)
    paths = write_claims(claims, out, command=command_line())
    _show(paths, {"claims": [asdict(one) for one in claims.judged]}, as_json=as_json)
    return 0


def _efficiency(out: Path, models: list[str] | None, sizes: list[int] | None, device: str, *, as_json: bool) -> int:
    """Measure models over sizes; the files are written anew after every figure."""
    import torch

    from dtcwsi.benchmark.efficiency import MODELS, SIZES, measure_costs, write_costs
    from dtcwsi.catalog import parts_of
    from dtcwsi.store.atomic import check_writable

    for name in models or ():
        parts_of(name)  # told before any work
    check_writable(out, make=False)
    facts = f"{_DIM} features, {device}, {torch.get_num_threads()} threads, float32, default options"
    costs = []
    for cost in measure_costs(models or MODELS, sizes or SIZES, in_dim=_DIM, device=device):
        costs.append(cost)
        say(f"{cost.model}, {cost.patches:,} patches: {cost.failed or f'{cost.mil_ms:.0f} ms'}")
        paths = write_costs(costs, out, facts=facts, command=command_line())
    complete = not any(cost.failed for cost in costs)
    _show(paths, {"complete": complete}, as_json=as_json)
    return 0 if complete else 1


def _made(cohort: str | None, source: Path | None, out: Path) -> tuple[Path, Path, str]:
    """Make the tiny cohort, or one by name.  Returns: labels table, feature folder, what it is."""
    from dtcwsi.benchmark.cohorts.named import NAMED, make_named
    from dtcwsi.benchmark.tables.quick import QUICK, quick_cohort
    from dtcwsi.options import one_of

    if cohort is None:
        say("quick cohort: 24 drawn slides")
        return (*quick_cohort(), QUICK)
    one_of("cohort", cohort, NAMED)
    say(f"cohort {cohort}: {NAMED[cohort].text}")
    made_of = "" if source is None else f", from {source.name}"
    if source is not None and source.suffix == ".npz" and source.stem != cohort:
        say(f"{source.name} is taken for {cohort}; its page will say so")
    return (*make_named(cohort, source, out / "cohorts" / cohort), f"{cohort}: {NAMED[cohort].text}{made_of}")
