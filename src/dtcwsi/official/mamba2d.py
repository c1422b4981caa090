"""2DMambaMIL's network (AtlasAnalyticsLab/2DMamba, trainable or zero pad token, no position embedding)."""

from typing import Any

from dtcwsi.official.published import Published, State, count_of, sizes_of

__all__ = ["MAMBA2D"]

_BLOCK, _OURS = r"layers\.layers\.(\d+)\.", r"blocks.\1."
_MAMBA2D_NAMES = (
    (r"_fc1\.0\.(weight|bias)", r"projection.0.\1"),
    (r"layers\.pad_token", r"pad_token"),
    (_BLOCK + r"norm\.weight", _OURS + r"norm.weight"),
    (_BLOCK + r"mixer\.in_proj\.weight", _OURS + r"project_in.weight"),
    (_BLOCK + r"mixer\.conv1d\.(weight|bias)", _OURS + r"convolution.\2"),
    (_BLOCK + r"mixer\.x_proj\.weight", _OURS + r"select.weight"),
    (_BLOCK + r"mixer\.dt_proj\.(weight|bias)", _OURS + r"steps.\2"),
    (_BLOCK + r"mixer\.A_log", _OURS + r"log_rates"),
    (_BLOCK + r"mixer\.D", _OURS + r"skip"),
    (_BLOCK + r"mixer\.out_proj\.weight", _OURS + r"project_out.weight"),
    (r"norm\.(weight|bias)", r"norm.\1"),
    (r"attention\.([02])\.(weight|bias)", r"attention.\1.\2"),
    (r"classifier\.(weight|bias)", r"head.\1"),
)


def _mamba2d_options(state: State) -> dict[str, Any]:
    width, in_dim = sizes_of(state, "aggregator.projection.0.weight")
    return {
        "in_dim": in_dim,
        "n_classes": sizes_of(state, "aggregator.head.weight")[0],
        "width": width,
        "layers": count_of(state, r"aggregator\.blocks\.(\d{1,4})\.", "aggregator.blocks.0.log_rates"),
        "states": sizes_of(state, "aggregator.blocks.0.log_rates")[1],
        "hidden": sizes_of(state, "aggregator.attention.0.weight")[0],
    }


MAMBA2D = Published("2DMambaMIL", r"layers\.pad_token", _MAMBA2D_NAMES, _mamba2d_options)
