"""CLAM's networks (mahmoodlab/CLAM): single branch, multi branch, and its plain ABMIL."""

import re
from typing import Any

from dtcwsi.official.published import Published, State

__all__ = ["ABMIL", "CLAM_MB", "CLAM_SB", "abmil_options"]

_CLAM_NAMES = (
    (r"attention_net\.0\.(weight|bias)", r"projection.0.\1"),
    (r"attention_net\.[32]\.attention_a\.0\.(weight|bias)", r"attention.hidden.\1"),
    (r"attention_net\.[32]\.attention_b\.0\.(weight|bias)", r"attention.gate.\1"),
    (r"attention_net\.[32]\.attention_c\.(weight|bias)", r"attention.score.\1"),
    (r"attention_net\.[32]\.module\.0\.(weight|bias)", r"attention.hidden.\1"),
    (r"attention_net\.[32]\.module\.[32]\.(weight|bias)", r"attention.score.\1"),
    (r"classifiers\.(\d+)\.(weight|bias)", r"heads.\1.\2"),
    (r"classifiers\.(weight|bias)", r"head.\1"),
    (r"instance_classifiers\.(\d+)\.(weight|bias)", r"instance_heads.\1.\2"),
)


def _clam_options(state: State) -> dict[str, Any]:
    width, in_dim = state["aggregator.projection.0.weight"].shape
    return {
        "in_dim": in_dim,
        "n_classes": _classes_of_clam(state),
        "projection": width,
        "hidden": state["aggregator.attention.hidden.weight"].shape[0],
        "gated": "aggregator.attention.gate.weight" in state,
    }


def _classes_of_clam(state: State) -> int:
    if "aggregator.head.weight" in state:
        return state["aggregator.head.weight"].shape[0]
    return sum(bool(re.fullmatch(r"aggregator\.heads\.\d+\.weight", key)) for key in state)


def abmil_options(state: State) -> dict[str, Any]:
    """Read the sizes of an ABMIL off our keys."""
    return {**_clam_options(state), "attention_bias": "aggregator.attention.hidden.bias" in state}


_LOSS, _INSTANCES = r"instance_loss_fn\..*", r"instance_(classifiers|loss_fn)\..*"
CLAM_SB = Published("CLAM-SB", r"classifiers\.weight", _CLAM_NAMES, _clam_options, _LOSS)
CLAM_MB = Published("CLAM-MB", r"classifiers\.\d+\.weight", _CLAM_NAMES, _clam_options, _LOSS)
ABMIL = Published("CLAM's ABMIL", r"classifiers\.weight", _CLAM_NAMES, abmil_options, _INSTANCES)
