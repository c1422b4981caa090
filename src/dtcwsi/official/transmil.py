"""TransMIL's network (szc19990412/TransMIL with lucidrains' nystrom-attention)."""

from typing import Any

from dtcwsi.official.published import Published, State, sizes_of

__all__ = ["TRANSMIL", "transmil_options"]

_TRANSMIL_NAMES = (
    (r"_fc1\.0\.(weight|bias)", r"projection.0.\1"),
    (r"cls_token", r"class_token"),
    (r"pos_layer\.proj\.(weight|bias)", r"positions.0.\1"),
    (r"pos_layer\.proj([12])\.(weight|bias)", r"positions.\1.\2"),
    (r"layer1\.norm\.(weight|bias)", r"first_norm.\1"),
    (r"layer2\.norm\.(weight|bias)", r"second_norm.\1"),
    (r"layer1\.attn\.to_qkv\.weight", r"first.qkv.weight"),
    (r"layer2\.attn\.to_qkv\.weight", r"second.qkv.weight"),
    (r"layer1\.attn\.to_out\.0\.(weight|bias)", r"first.out.\1"),
    (r"layer2\.attn\.to_out\.0\.(weight|bias)", r"second.out.\1"),
    (r"layer1\.attn\.res_conv\.weight", r"first.convolution.weight"),
    (r"layer2\.attn\.res_conv\.weight", r"second.convolution.weight"),
    (r"norm\.(weight|bias)", r"norm.\1"),
    (r"_fc2\.(weight|bias)", r"head.\1"),
)


def transmil_options(state: State) -> dict[str, Any]:
    """Read the sizes of a TransMIL off our keys."""
    width, in_dim = sizes_of(state, "aggregator.projection.0.weight")
    return {
        "in_dim": in_dim,
        "n_classes": sizes_of(state, "aggregator.head.weight")[0],
        "width": width,
        "heads": sizes_of(state, "aggregator.first.convolution.weight", 4)[0],
    }


TRANSMIL = Published("TransMIL", r"pos_layer\.proj2\.weight", _TRANSMIL_NAMES, transmil_options)
