"""Whose pictures a folder holds: a slide's, by which models, so that none takes the place of another's."""

import json
from collections.abc import Sequence
from pathlib import Path

from dtcwsi.classifier import Classifier
from dtcwsi.encoders.network import state_digest
from dtcwsi.errors import UsageError
from dtcwsi.store.atomic import write_json
from dtcwsi.store.digest import digest

__all__ = ["check_free", "check_models", "models_digest", "write_record"]

_RECORD = "slide.json"


def write_record(folder: Path, slide_id: str, models: Sequence[Classifier], told: str) -> None:
    """Note the slide, the models in words, and a digest of what they are.  Raises: StoreError if the disk is full."""
    write_json(folder / _RECORD, {"slide_id": slide_id, "models": told, "digest": models_digest(models)})


def check_free(folder: Path, slide_id: str, models: Sequence[Classifier]) -> None:
    """Keep pictures of another slide, or by other models, from being mixed with these.

    Raises: UsageError if the folder holds such pictures, or some that say of nothing whose they are.
    """
    if not any((folder / name).exists() for name in (_RECORD, "patches.csv", "attention.png")):
        return
    try:
        known = json.loads((folder / _RECORD).read_text(encoding="utf-8", errors="surrogateescape"))
        slide = known["slide_id"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError(f"{folder} holds pictures and does not say of which slide; name another --out") from None
    if slide != slide_id:
        raise UsageError(f"{folder} holds the explanation of {slide!r}; name another --out for {slide_id!r}")
    if known.get("digest") != models_digest(models):
        whose = f"by other models ({known['models']})" if "models" in known else "and does not say by which models"
        raise UsageError(f"{folder} holds the explanation of {slide!r} {whose}; name another --out for these")


def check_models(record: Path, models: Sequence[Classifier], what: str) -> None:
    """Keep what other models made, by the digest that a record of it notes; none is noted by earlier versions.

    Raises: UsageError if it was other models, or the record cannot be read.
    """
    try:
        known = json.loads(record.read_text(encoding="utf-8", errors="surrogateescape"))
        other = known.get("digest") not in (None, models_digest(models))
    except (OSError, ValueError, AttributeError):
        raise UsageError(f"{record} cannot be read; name another --out") from None
    if other:
        raise UsageError(f"{record.parent} holds {what} of other models (of {known.get('run')}); name another --out")


def models_digest(models: Sequence[Classifier]) -> str:
    """Digest names, options and weights of models; 16 hexadecimal digits."""
    each = [state_digest(model, name=model.name, options=sorted(model.options.items())) for model in models]
    return digest(*each)
