"""HIPT's slide classifier (mahmoodlab/HIPT, HIPT_LGP_FC) with its region transformer, or its slide part alone."""

from typing import Any

from dtcwsi.official.published import Published, State, count_of, sizes_of

__all__ = ["HIPT"]

_VIT = r"local_vit\.(?:module\.)?"
_BLOCK, _LAYER = _VIT + r"blocks\.(\d+)\.", r"global_transformer\.layers\.(\d+)\."
_HIPT_NAMES = (
    (_VIT + r"phi\.0\.(weight|bias)", r"region.embed.\1"),
    (_VIT + r"cls_token", r"region.class_token"),
    (_VIT + r"pos_embed", r"region.positions"),
    (_VIT + r"norm\.(weight|bias)", r"region.norm.\1"),
    (_BLOCK + r"norm1\.(weight|bias)", r"region.blocks.\1.first_norm.\2"),
    (_BLOCK + r"norm2\.(weight|bias)", r"region.blocks.\1.second_norm.\2"),
    (_BLOCK + r"attn\.qkv\.(weight|bias)", r"region.blocks.\1.attention.qkv.\2"),
    (_BLOCK + r"attn\.proj\.(weight|bias)", r"region.blocks.\1.attention.out.\2"),
    (_BLOCK + r"mlp\.fc1\.(weight|bias)", r"region.blocks.\1.mlp.0.\2"),
    (_BLOCK + r"mlp\.fc2\.(weight|bias)", r"region.blocks.\1.mlp.2.\2"),
    (r"global_phi\.0\.(weight|bias)", r"projection.0.\1"),
    (_LAYER + r"norm1\.(weight|bias)", r"layers.\1.first_norm.\2"),
    (_LAYER + r"norm2\.(weight|bias)", r"layers.\1.second_norm.\2"),
    (_LAYER + r"self_attn\.in_proj_(weight|bias)", r"layers.\1.attention.qkv.\2"),
    (_LAYER + r"self_attn\.out_proj\.(weight|bias)", r"layers.\1.attention.out.\2"),
    (_LAYER + r"linear1\.(weight|bias)", r"layers.\1.mlp.0.\2"),
    (_LAYER + r"linear2\.(weight|bias)", r"layers.\1.mlp.3.\2"),
    (r"global_attn_pool\.attention_a\.0\.(weight|bias)", r"attention.hidden.\1"),
    (r"global_attn_pool\.attention_b\.0\.(weight|bias)", r"attention.gate.\1"),
    (r"global_attn_pool\.attention_c\.(weight|bias)", r"attention.score.\1"),
    (r"global_rho\.0\.(weight|bias)", r"summary.0.\1"),
    (r"classifier\.(weight|bias)", r"head.\1"),
)


def _hipt_options(state: State) -> dict[str, Any]:
    """Read sizes; without the region transformer, a model whose tokens are the features of regions."""
    width, of_region = sizes_of(state, "aggregator.projection.0.weight")
    sizes = {
        "n_classes": sizes_of(state, "aggregator.head.weight")[0],
        "width": width,
        "layers": count_of(state, r"aggregator\.layers\.(\d{1,4})\.", "aggregator.layers.0.mlp.0.weight"),
    }
    if not any(key.startswith("aggregator.region.") for key in state):
        return {**sizes, "in_dim": of_region, "regions": "given"}
    depth = count_of(state, r"aggregator\.region\.blocks\.(\d{1,4})\.", "aggregator.region.blocks.0.mlp.0.weight")
    return {**sizes, "in_dim": sizes_of(state, "aggregator.region.embed.weight")[1], "depth": depth}


HIPT = Published("HIPT", r"global_transformer\.layers\.\d+\.linear1\.weight", _HIPT_NAMES, _hipt_options)
