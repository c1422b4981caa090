"""A tiny cohort of drawn slides for `bench --quick`, made once a machine."""

import os
from pathlib import Path

from dtcwsi.benchmark.cohorts.named import extract_all
from dtcwsi.encoders import load_encoder
from dtcwsi.extraction import Extraction
from dtcwsi.slides.synthetic import write_cohort
from dtcwsi.store.atomic import check_writable

__all__ = ["QUICK", "cache_folder", "quick_cohort"]

QUICK = "24 drawn slides of 1,024 px, colour and texture as features (--quick: figures mean nothing)"
_ENCODER = "colour-texture"


def cache_folder() -> Path:
    """Name the user's folder for what can be made again: DTCWSI_CACHE, else dtcwsi under XDG_CACHE_HOME or ~/.cache."""
    own, shared = os.environ.get("DTCWSI_CACHE"), os.environ.get("XDG_CACHE_HOME")
    if own:
        return Path(own)
    return (Path(shared) if shared else Path.home() / ".cache") / "dtcwsi"


def quick_cohort(folder: Path | None = None, *, slides: int = 24) -> tuple[Path, Path]:
    """Draw slides and extract them, or find it done.  Returns: labels table, feature folder.

    Raises: UsageError if the folder cannot be written; DtcwsiError if a slide fails.
    """
    out = folder or cache_folder() / "quick-1"
    check_writable(out)
    write_cohort(out, slides=slides, side_px=1024, difficulty=0.2, workers=1)
    extract_all(out, Extraction(out=out, encoder=load_encoder(_ENCODER)))
    return out / "labels.csv", out / "features" / _ENCODER
