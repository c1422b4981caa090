"""Cohorts that the paper's tables can be made on by name."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dtcwsi.benchmark.cohorts.cells import write_cell_cohort
from dtcwsi.benchmark.cohorts.composed import compose_cohort
from dtcwsi.benchmark.cohorts.feature_cohort import write_feature_cohort
from dtcwsi.benchmark.cohorts.mil_sets import write_mil_set
from dtcwsi.benchmark.cohorts.needles import TASKS, draw_bags
from dtcwsi.encoders import load_encoder
from dtcwsi.errors import DtcwsiError, UsageError
from dtcwsi.extraction import Extraction, run_extraction
from dtcwsi.slides import find_slides
from dtcwsi.slides.synthetic import write_cohort
from dtcwsi.store.atomic import write_json

__all__ = ["NAMED", "Named", "extract_all", "make_named"]

_ENCODER = "efficientnet-lite0"
_NEEDLES = 120


@dataclass(frozen=True)
class Named:
    """A cohort by name: ``text`` says what it is, ``source`` what it is made from, empty if it is drawn.

    ``make`` gets the source and the folder for the cohort, and leaves ``labels.csv`` and ``features`` there.
    """

    text: str
    source: str
    make: Callable[[Path | None, Path], object]


def make_named(name: str, source: Path | None, out: Path) -> tuple[Path, Path]:
    """Make a named cohort in a folder, or find it done.  Returns: labels table, feature folder.

    A killed making goes on where it was.
    Raises: UsageError if it needs a source and has none, or the other way round, or the source is another thing, or the
    folder holds a cohort of another source; DtcwsiError if a slide could not be extracted.
    """
    named = NAMED[name]
    if named.source and source is None:
        raise UsageError(f"the cohort {name} is made from {named.source}; name it with --from")
    if source is not None and not named.source:
        raise UsageError(f"the cohort {name} is drawn and takes no --from")
    if source is not None and not source.exists():
        raise UsageError(f"{source} does not exist; expected {named.source}")
    made_of, note = "" if source is None else str(source.resolve()), out / "source.json"
    known = json.loads(note.read_text(encoding="utf-8")) if note.is_file() else {"source": made_of, "whole": False}
    if known["source"] != made_of:
        raise UsageError(f"{out} was made from {known['source']}; name another --out or delete it")
    if not known["whole"]:
        out.mkdir(parents=True, exist_ok=True)
        write_json(note, {"source": made_of, "whole": False})
        named.make(source, out)
        write_json(note, {"source": made_of, "whole": True})
    return out / "labels.csv", out


def _demo(_: Path | None, out: Path) -> None:
    write_cohort(out, slides=60, side_px=4096, difficulty=0.5, workers=1)
    _extract(out)


def _needles(_: Path | None, out: Path) -> None:
    write_feature_cohort(out, draw_bags(TASKS["placed-64"], _NEEDLES, seed=0, world=0))


def _cells(_: Path | None, out: Path) -> None:
    write_cell_cohort(out, load_encoder(_ENCODER))


def _tissue(tiles: Path | None, out: Path) -> None:
    assert tiles is not None
    compose_cohort(tiles, out, seed=0)
    _extract(out)


def _mil_set(path: Path | None, out: Path) -> None:
    assert path is not None
    write_mil_set(path, out)


def _extract(out: Path) -> None:
    extract_all(out, Extraction(out=out, encoder=load_encoder(_ENCODER), workers=1))


def extract_all(out: Path, extraction: Extraction) -> None:
    """Extract the slides of a cohort that was made.  Raises: DtcwsiError if one of them fails."""
    slides = find_slides([out / "slides"])
    summary = run_extraction(slides, extraction)
    if summary.failed:
        slide_id, step, reason = summary.failed[0]
        raise DtcwsiError(
            f"{len(summary.failed)} of {len(slides)} slides could not be extracted, the first {slide_id} ({step}: "
            f"{reason}); run the same command again"
        )


NAMED: Mapping[str, Named] = {
    "demo": Named("60 drawn slides, the cohort of `dtcwsi demo`", "", _demo),
    "needle": Named("120 drawn bags of 200 to 600 tokens, one to three of which tell the class", "", _needles),
    "cells": Named("60 drawn smears of 200 to 500 single-cell crops, 2 to 5 % of which tell the class", "", _cells),
    "tissue": Named(
        "60 slides composed of real tiles, in five pools that share none",
        "a folder with lung_n, lung_aca and lung_scc, as of LC25000",
        _tissue,
    ),
    **{
        name: Named(f"{name}, 200 bags (Andrews et al. 2002), features standardised", f"{name}.npz", _mil_set)
        for name in ("elephant", "fox", "tiger")
    },
}
