"""Tokens to slide logits and attention: one file an aggregator, one line here."""

from typing import Any

from torch import nn

from dtcwsi.options import check_options, options_of
from dtcwsi.registry import Registry

__all__ = ["AGGREGATORS", "create_aggregator"]

AGGREGATORS = Registry(
    "aggregator",
    {
        "abmil": "dtcwsi.aggregators.abmil:Abmil",
        "clam-mb": "dtcwsi.aggregators.clam:ClamMb",
        "clam-sb": "dtcwsi.aggregators.clam:ClamSb",
        "dsmil": "dtcwsi.aggregators.dsmil:Dsmil",
        "hipt": "dtcwsi.aggregators.hipt:Hipt",
        "longformer": "dtcwsi.aggregators.longformer:Longformer",
        "mamba2d": "dtcwsi.aggregators.mamba2d:Mamba2d",
        "max": "dtcwsi.aggregators.max:MaxPooling",
        "mean": "dtcwsi.aggregators.mean:MeanPooling",
        "mhim-abmil": "dtcwsi.aggregators.mhim:MhimAbmil",
        "mhim-transmil": "dtcwsi.aggregators.mhim:MhimTransMil",
        "panther": "dtcwsi.aggregators.panther:Panther",
        "patchgd": "dtcwsi.aggregators.patchgd:PatchGd",
        "spt": "dtcwsi.aggregators.spt:Spt",
        "transmil": "dtcwsi.aggregators.transmil:TransMil",
    },
)


def create_aggregator(name: str, *, in_dim: int, n_classes: int, **options: Any) -> nn.Module:
    """Build an aggregator, its head included, by name.

    Raises: UnknownNameError if no aggregator has the name; OptionError if it does not take an option.
    """
    part = AGGREGATORS.get(name)
    check_options(f"model {name!r}", options, options_of(part))
    aggregator: nn.Module = part(in_dim, n_classes, **options)
    return aggregator
