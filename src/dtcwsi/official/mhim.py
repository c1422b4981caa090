"""MHIM-MIL's networks (DearCaat/MHIM-MIL, branch v1): what it predicts with is a plain model."""

from typing import Any

from dtcwsi.official.clam import abmil_options
from dtcwsi.official.published import Published, State

__all__ = ["ABMIL", "MHIM_ABMIL"]

_MHIM_NAMES = (
    (r"patch_to_emb\.0\.(weight|bias)", r"projection.0.\1"),
    (r"online_encoder\.attention\.attention\.0\.weight", r"attention.hidden.weight"),
    (r"online_encoder\.attention\.attention\.2\.weight", r"attention.score.weight"),
    (r"online_encoder\.attention\.attention_a\.0\.weight", r"attention.hidden.weight"),
    (r"online_encoder\.attention\.attention_b\.0\.weight", r"attention.gate.weight"),
    (r"online_encoder\.attention\.attention_c\.weight", r"attention.score.weight"),
    (r"predictor\.(weight|bias)", r"head.\1"),
)


def _mhim_options(state: State) -> dict[str, Any]:
    return {**abmil_options(state), "activation": "relu"}


ABMIL = Published("MHIM's ABMIL", r"online_encoder\.attention\..*", _MHIM_NAMES, _mhim_options)
MHIM_ABMIL = Published("MHIM-MIL on ABMIL", r"online_encoder\.attention\..*", _MHIM_NAMES, _mhim_options)
