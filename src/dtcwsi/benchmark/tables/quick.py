"""A tiny cohort of drawn slides for `bench --quick`, made once a machine."""

import os
from pathlib import Path

from dtcwsi.encoders import load_encoder
from dtcwsi.extraction import Extraction, run_extraction
from dtcwsi.slides import find_slides
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


def quick_cohort(folder: Path | None = None) -> tuple[Path, Path]:
    """Draw 24 slides of 16 patients and extract them, or find it done.  Returns: labels table, feature folder.

    Raises: UsageError if the folder cannot be written.
    """
    out = folder or cache_folder() / "quick-1"
    check_writable(out)
    write_cohort(out, slides=24, side_px=1024, difficulty=0.2, workers=1)
    run_extraction(find_slides([out / "slides"]), Extraction(out=out, encoder=load_encoder(_ENCODER), workers=0))
    return out / "labels.csv", out / "features" / _ENCODER
