"""MHIM-MIL's networks (DearCaat/MHIM-MIL, branch v1)."""

import re
from typing import Any

from dtcwsi.official.clam import attention_options
from dtcwsi.official.published import Published, State, sizes_of
from dtcwsi.official.transmil import transmil_options

__all__ = ["ABMIL", "MHIM_ABMIL", "MHIM_TRANSMIL"]

_MHIM_NAMES = (
    (r"patch_to_emb\.0\.(weight|bias)", r"projection.0.\1"),
    (r"online_encoder\.attention\.attention\.0\.(weight|bias)", r"attention.hidden.\1"),
    (r"online_encoder\.attention\.attention\.2\.(weight|bias)", r"attention.score.\1"),
    (r"online_encoder\.attention\.attention_a\.0\.(weight|bias)", r"attention.hidden.\1"),
    (r"online_encoder\.attention\.attention_b\.0\.(weight|bias)", r"attention.gate.\1"),
    (r"online_encoder\.attention\.attention_c\.(weight|bias)", r"attention.score.\1"),
    (r"predictor\.(weight|bias)", r"head.\1"),
)

_TRANSMIL_NAMES = (
    (r"patch_to_emb\.0\.(weight|bias)", r"projection.0.\1"),
    (r"online_encoder\.cls_token", r"class_token"),
    (r"online_encoder\.pos_embedding\.proj\.(weight|bias)", r"positions.0.\1"),
    (r"online_encoder\.pos_embedding\.proj([12])\.(weight|bias)", r"positions.\1.\2"),
    *(
        (rf"online_encoder\.layer{number}\.{theirs}", rf"{ours}")
        for number, part in ((1, "first"), (2, "second"))
        for theirs, ours in (
            (r"norm\.(weight|bias)", rf"{part}_norm.\1"),
            (r"attn\.to_qkv\.weight", rf"{part}.qkv.weight"),
            (r"attn\.to_out\.0\.(weight|bias)", rf"{part}.out.\1"),
            (r"attn\.res_conv\.weight", rf"{part}.convolution.weight"),
        )
    ),
    (r"online_encoder\.norm\.(weight|bias)", r"norm.\1"),
    (r"predictor\.(weight|bias)", r"head.\1"),
)


_GATED = tuple(f"online_encoder.attention.attention_{layer}.weight" for layer in ("a.0", "b.0", "c"))
_TOGETHER = ((r"online_encoder\.attention\.attention_[abc]\..*", _GATED),)


def _mhim_options(state: State) -> dict[str, Any]:
    classes, _ = sizes_of(state, "aggregator.head.weight")
    biased = any(re.fullmatch(r"aggregator\.attention\..*\.bias", key) for key in state)
    return {**attention_options(state), "n_classes": classes, "attention_bias": biased, "activation": "relu"}


_ON_ABMIL = (r"online_encoder\.attention\..*", _MHIM_NAMES, _mhim_options)
ABMIL = Published("MHIM's ABMIL", *_ON_ABMIL, together=_TOGETHER)
MHIM_ABMIL = Published("MHIM-MIL on ABMIL", *_ON_ABMIL, together=_TOGETHER)
MHIM_TRANSMIL = Published("MHIM-MIL on TransMIL", r"online_encoder\.layer1\..*", _TRANSMIL_NAMES, transmil_options)
