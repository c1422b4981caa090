"""PANTHER's prior and head (mahmoodlab/PANTHER): two state dicts there, joined into one here."""

from typing import Any

import torch

from dtcwsi.errors import UsageError
from dtcwsi.official.published import Published, State, sizes_of

__all__ = ["PANTHER"]

_NAMES = (
    (r"panther\.priors\.m", r"prototypes"),
    (r"panther\.priors\.V_", r"raw_variance"),
    (r"classifier\.weight", r"head.linear.weight"),
    (r"indiv_mlps\.(\d+)\.0\.(weight|bias)", r"head.each.\1.0.\2"),
)


def _options(state: State) -> dict[str, Any]:
    prototypes, in_dim = sizes_of(state, "aggregator.prototypes")
    n_classes, numbers = sizes_of(state, "aggregator.head.linear.weight")
    sizes = {"in_dim": in_dim, "n_classes": n_classes, "prototypes": prototypes}
    if any(key.startswith("aggregator.head.each.") for key in state):
        hidden, _ = sizes_of(state, "aggregator.head.each.0.0.weight")
        return {**sizes, "head": "per-prototype", "hidden": hidden}
    expected = prototypes * (1 + 2 * in_dim)
    if numbers != expected:
        raise UsageError(
            f"the state dict of PANTHER has a head over {numbers:,} numbers a slide; expected {expected:,}, which are "
            f"out_type='allcat' of {prototypes} prototypes of width {in_dim:,}, or indiv_mlps beside it"
        )
    return sizes


def _fitted(state: State) -> State:  # noqa: ARG001
    """Say that the prototypes are no random ones; on how many patches they were fitted is not told."""
    return {"aggregator.fitted_on": torch.tensor(1)}


_FOREIGN = (
    (r"(shared|postcat)_mlp\..*", "networks for all prototypes (shared_mlp, postcat_mlp)"),
    (r"indiv_mlps\.\d+\.[1-9].*", "networks of several layers (n_fc_layers)"),
)
_JOINED = "the prior's and the head's weights in one: join their two state dicts, {**prior, **head}"
PANTHER = Published("PANTHER", r"panther\.priors\.m", _NAMES, _options, added=_fitted, foreign=_FOREIGN, whole=_JOINED)
