"""PANTHER's prior and head (mahmoodlab/PANTHER): two state dicts there, joined into one here."""

from typing import Any

import torch

from dtcwsi.official.published import Published, State

__all__ = ["PANTHER"]

_NAMES = (
    (r"panther\.priors\.m", r"prototypes"),
    (r"panther\.priors\.V_", r"raw_variance"),
    (r"classifier\.weight", r"head.linear.weight"),
    (r"indiv_mlps\.(\d+)\.0\.(weight|bias)", r"head.each.\1.0.\2"),
)


def _options(state: State) -> dict[str, Any]:
    prototypes, in_dim = state["aggregator.prototypes"].shape
    sizes = {"in_dim": in_dim, "n_classes": len(state["aggregator.head.linear.weight"]), "prototypes": prototypes}
    first = state.get("aggregator.head.each.0.0.weight")
    return sizes if first is None else {**sizes, "head": "per-prototype", "hidden": len(first)}


def _fitted(state: State) -> State:  # noqa: ARG001
    """Say that the prototypes are no random ones; on how many patches they were fitted is not told."""
    return {"aggregator.fitted_on": torch.tensor(1)}


PANTHER = Published("PANTHER", r"panther\.priors\.m", _NAMES, _options, added=_fitted)
