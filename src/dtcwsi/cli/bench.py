"""``dtcwsi bench``: the paper's tables on your slides."""

from pathlib import Path
from typing import Annotated

import typer

from dtcwsi.cli.console import command_line, print_json, say
from dtcwsi.cli.options import Device, Json, pick_device
from dtcwsi.errors import UsageError

__all__ = ["run"]


def run(
    table: Annotated[str, typer.Argument(metavar="TABLE", help="table1 to table8.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the table and for runs, which tables share.")],
    cohort: Annotated[Path | None, typer.Option("--cohort", metavar="CSV", help="Labels table of your cohort.")] = None,
    features: Annotated[
        list[Path] | None, typer.Option("--features", help="Its feature files; for table6 of two encoders.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A tiny drawn cohort: every step, no meaning.")] = False,
    beside: Annotated[
        str, typer.Option("--beside", help="Column of the paper: tcga-nsclc, tcga-brca, tcga-rcc or panda.")
    ] = "tcga-nsclc",
    folds: Annotated[int | None, typer.Option("--folds", help="How many folds (5, or the CSV's fold column).")] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Times to repeat all folds.")] = 1,
    recipe: Annotated[str, typer.Option("--recipe", help="common, or published: each model's own.")] = "common",
    epochs: Annotated[int | None, typer.Option("--epochs", help="Most epochs a fold.")] = None,
    patches: Annotated[int, typer.Option("--patches", min=1, help="Size of the slide that is measured.")] = 13_900,
    device: Device = None,
    as_json: Json = False,
) -> int:
    """Make a table of the paper, its numbers beside yours: CSV, JSON and a page; resumable fold by fold."""
    from dtcwsi.bags.cohort import read_cohort
    from dtcwsi.benchmark.measuring import seconds_a_patch
    from dtcwsi.benchmark.tables.definitions import TABLES
    from dtcwsi.benchmark.tables.making import make_table
    from dtcwsi.benchmark.tables.page import write_table_files
    from dtcwsi.benchmark.tables.paper import COHORTS
    from dtcwsi.benchmark.tables.quick import QUICK, quick_cohort
    from dtcwsi.benchmark.tables.shelf import Protocol, Shelf
    from dtcwsi.options import check_whole_number, one_of
    from dtcwsi.store.atomic import check_writable
    from dtcwsi.training.folds import FoldChoice
    from dtcwsi.training.plan import RECIPES

    chosen = TABLES[one_of("TABLE", table, TABLES)]
    one_of("beside", beside, COHORTS)
    one_of("recipe", recipe, RECIPES)
    FoldChoice(folds, "patient", ())
    if epochs is not None:
        check_whole_number("epochs", epochs)
    if quick == (cohort is not None) or (cohort is None) != (not features):
        raise UsageError("expected --cohort CSV with --features DIR, or --quick alone")
    kinds = max(chosen.encoders.values(), default=0) + 1
    if features and len(features) > kinds:
        raise UsageError(f"got {len(features)} feature folders; {table} takes {kinds}")
    check_writable(out)
    protocol = Protocol(folds or (2 if quick else None), seeds, recipe, epochs or (5 if quick else None))
    if cohort is None or not features:
        say("quick cohort: 24 drawn slides")
        cohort, made_of = quick_cohort()
        features = [made_of]
    name = QUICK if quick else cohort.stem
    shelves = [
        Shelf(out / "runs", read_cohort(cohort, folder), protocol, seconds_a_patch(folder)) for folder in features
    ]
    for shelf in shelves:
        FoldChoice(protocol.folds, "patient", ()).of(shelf.cohort, seed=0)  # told once, before any work
    on = pick_device(device)
    made = make_table(table, chosen, shelves, beside=beside, cohort=name, patches=patches, device=on, tell=say)
    paths = write_table_files(made, out, command=command_line())
    if as_json:
        print_json({"complete": made.complete, "files": [str(path) for path in paths]})
    else:
        print(paths[-1].read_text(encoding="utf-8"), end="")
    say(f"written: {', '.join(str(path) for path in paths)}")
    return 0 if made.complete else 1
