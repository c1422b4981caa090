"""Dynamic token compression for whole-slide images.

The public names below are imported when first used, so that ``import dtcwsi`` stays light.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dtcwsi.bags.packing import load_bag, pack
    from dtcwsi.catalog import list_models
    from dtcwsi.compressors import create_compressor
    from dtcwsi.models import create_model, load
    from dtcwsi.official.loading import load_official
    from dtcwsi.types import Bag

__all__ = ["Bag", "create_compressor", "create_model", "list_models", "load", "load_bag", "load_official", "pack"]

_HOMES = {
    "Bag": "dtcwsi.types",
    "create_compressor": "dtcwsi.compressors",
    "create_model": "dtcwsi.models",
    "list_models": "dtcwsi.catalog",
    "load": "dtcwsi.models",
    "load_bag": "dtcwsi.bags.packing",
    "load_official": "dtcwsi.official.loading",
    "pack": "dtcwsi.bags.packing",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'dtcwsi' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
