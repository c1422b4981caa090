"""From a method's name and a reference picture, or from what a features file says, to a normaliser."""

import json
from pathlib import Path

import cv2
import numpy as np

from dtcwsi.errors import OptionError, UsageError
from dtcwsi.registry import Registry
from dtcwsi.stain.normaliser import StainNormaliser

__all__ = ["METHODS", "stain_as_recorded", "stain_like"]

METHODS = Registry(
    "stain method",
    {"macenko": "dtcwsi.stain.macenko:Macenko", "reinhard": "dtcwsi.stain.reinhard:Reinhard"},
)


def stain_like(method: str, target: Path | None = None) -> StainNormaliser:
    """Make a normaliser to the stain of a picture, or to the method's published constants.

    Raises: UnknownNameError if there is no such method; UsageError if the picture cannot be read or fitted.
    """
    kind = METHODS.get(method)
    if target is None:
        return StainNormaliser(kind())
    try:
        picture = cv2.imdecode(np.fromfile(target, np.uint8), cv2.IMREAD_COLOR)
    except (OSError, cv2.error) as error:
        what = getattr(error, "strerror", None) or "no picture"
        raise UsageError(
            f"the stain target {target} cannot be read ({what}); expected a picture of H&E tissue"
        ) from error
    if picture is None:
        raise UsageError(f"the stain target {target} is no picture that can be decoded; expected a PNG, JPEG or TIFF")
    try:
        return StainNormaliser(kind.fitted(np.asarray(picture[..., ::-1], np.uint8)))
    except OptionError as error:
        raise UsageError(f"{target}: {error}") from error


def stain_as_recorded(facts: str) -> StainNormaliser:
    """Make the normaliser again that a features file tells of.  Raises: UnknownNameError if its method is gone."""
    said = json.loads(facts)
    target = {
        name: tuple(tuple(value) if isinstance(value, list) else value for value in values)
        for name, values in said["target"].items()
    }
    return StainNormaliser(METHODS.get(said["method"])(**target))
