"""Packed bags to fewer tokens: one file a compressor, one line here."""

from typing import Any

from dtcwsi.compressors.base import Compressor
from dtcwsi.options import check_options, options_of, plain
from dtcwsi.registry import Registry

__all__ = ["COMPRESSORS", "PLAIN", "Compressor", "create_compressor"]

PLAIN = "identity"

COMPRESSORS = Registry(
    "compressor",
    {
        "dtc": "dtcwsi.compressors.dtc:DtcCompressor",
        "merge-only": "dtcwsi.compressors.dtc:MergeOnly",
        "prune-only": "dtcwsi.compressors.dtc:PruneOnly",
        "tome": "dtcwsi.compressors.tome:Tome",
        "random": "dtcwsi.compressors.random:RandomSampling",
        "random-prune": "dtcwsi.compressors.random:RandomSampling",
        "random-merge": "dtcwsi.compressors.random:RandomMerging",
        PLAIN: "dtcwsi.compressors.identity:Identity",
    },
)


def create_compressor(name: str, *, dim: int, **options: Any) -> Compressor:
    """Build a compressor by name for features of width ``dim``.

    Raises: UnknownNameError if no compressor has the name; OptionError if it does not take an option.
    """
    part, options = COMPRESSORS.get(name), plain(options)
    check_options(f"compressor {name!r}", options, options_of(part))
    compressor: Compressor = part(dim, **options)
    return compressor
