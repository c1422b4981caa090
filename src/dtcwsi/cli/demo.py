"""``dtcwsi demo``: the main job on an embedded cohort."""

from pathlib import Path
from typing import Annotated

import typer

from dtcwsi.cli.console import complain, print_json, print_table, say
from dtcwsi.cli.options import Json

__all__ = ["run"]


def run(
    out: Annotated[Path, typer.Option("--out", help="Folder for everything that is made.")] = Path("dtcwsi-demo"),
    slides: Annotated[int | None, typer.Option("--slides", min=4, help="Slides to draw and train on (60).")] = None,
    difficulty: Annotated[float | None, typer.Option("--difficulty", help="0 easy to 1 hard (0.5).")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Fixes slides, folds and weights.")] = 0,
    smoke: Annotated[bool, typer.Option("--smoke", help="Tiny: every step is real, the figures mean nothing.")] = False,
    as_json: Json = False,
) -> int:
    """Draw slides, extract, cross-validate three models, predict and explain new slides, write a report.

    A second run of the same command goes on where the first one stopped.
    """
    from dataclasses import replace

    from dtcwsi.benchmark.demo import DemoSettings, run_demo

    settings = DemoSettings.smoke(seed) if smoke else DemoSettings(seed=seed)
    settings = replace(
        settings,
        slides=settings.slides if slides is None else slides,
        difficulty=settings.difficulty if difficulty is None else difficulty,
    )
    result = run_demo(out, settings, tell=say)
    for what, reason in result.failed.items():
        complain(f"{what}: {reason}")
    if as_json:
        print_json({name: record.metrics for name, record in result.runs.items()})
    else:
        print_table(*result.table())
    say(f"report: {result.report}")
    return 1 if result.failed else 0
