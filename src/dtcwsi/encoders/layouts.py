"""Published layouts of weights: their names for tensors, brought to those of `dtcwsi.encoders.building`.

A layout is a function from a table of tensors to one. What a network does not use (text towers, heads, tokens of masks)
is left out; what no rule knows keeps its name, so that weights of another model are told by it.
"""

import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from dtcwsi.encoders.positions import resampled

__all__ = ["LAYOUTS", "State"]

State = Mapping[str, Tensor]

_Rules = tuple[tuple[str, str], ...]

_UNUSED = re.compile(r"(.*\.)?(mask_token|logit_scale)$|(head|pooler|dino_head|ibot_head|vision_head|language_head)\.")

_TRANSFORMERS: _Rules = (  # ViTModel and Dinov2Model, with or without registers
    (r"^(vit|dinov2)\.", ""),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.", ""),
    (r"^encoder\.layer\.", "blocks."),
    (r"^layernorm\.", "norm."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.layer_scale(\d)\.lambda1$", r".ls\1.gamma"),
    (r"\.attention\.attention\.(query|key|value)\.", r".attn.\1."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.intermediate\.dense\.|\.mlp\.weights_in\.", ".mlp.fc1."),
    (r"\.output\.dense\.|\.mlp\.weights_out\.", ".mlp.fc2."),
)
_DINOV2: _Rules = (  # the authors' own; blocks may be numbered in chunks
    (r"^backbone\.", ""),
    (r"^blocks\.\d+\.(\d+)\.", r"blocks.\1."),
    (r"\.mlp\.w12\.", ".mlp.fc1."),
    (r"\.mlp\.w3\.", ".mlp.fc2."),
)
_BEIT3: _Rules = (  # torchscale; A is the branch of images, B that of text
    (r"^beit3\.", ""),
    (r"^vision_embed\.cls_token$", "cls_token"),
    (r"^vision_embed\.", "patch_embed."),
    (r"\.A\.", "."),
    (r"^encoder\.embed_positions\.weight$", "pos_embed"),
    (r"^encoder\.layer_norm\.", "norm."),
    (r"^encoder\.layers\.", "blocks."),
    (r"\.self_attn_layer_norm\.", ".norm1."),
    (r"\.final_layer_norm\.", ".norm2."),
    (r"\.ffn\.ffn_layernorm\.", ".mlp.norm."),
    (r"\.ffn\.", ".mlp."),
    (r"\.self_attn\.inner_attn_ln\.", ".attn.norm."),
    (r"\.self_attn\.out_proj\.", ".attn.proj."),
    (r"\.self_attn\.q_proj\.", ".attn.query."),
    (r"\.self_attn\.k_proj\.", ".attn.key."),
    (r"\.self_attn\.v_proj\.", ".attn.value."),
)
_CONCH: _Rules = (
    (r"^visual\.", ""),
    (r"^ln_contrast\.", "norm."),
    (r"^attn_pool_contrast\.query$", "query"),
    (r"^attn_pool_contrast\.ln_q\.", "query_norm."),
    (r"^attn_pool_contrast\.ln_k\.", "token_norm."),
    (r"^attn_pool_contrast\.(attn\.out_proj|to_out)\.", "out."),
    (r"^attn_pool_contrast\.attn\.(\w+)_proj_weight$", r"\1_weight"),
    (r"^attn_pool_contrast\.attn\.in_proj_bias$", "biases"),
    (r"^attn_pool_contrast\.to_q\.", "to_query."),
    (r"^attn_pool_contrast\.to_kv\.weight$", "key_value"),
)
_CONCH_UNUSED = re.compile(
    r"text\.|text_decoder\.|logit_scale$|visual\.(proj_contrast|attn_pool_caption\.|ln_caption\.)"
)


def _renamed(state: State, rules: _Rules) -> dict[str, Tensor]:
    renamed = {}
    for name, tensor in state.items():
        for pattern, to in rules:
            name = re.sub(pattern, to, name)
        renamed[name] = tensor
    return renamed


def _vit(state: State) -> dict[str, Tensor]:
    """A vision transformer in the layout of timm, transformers, DINOv2 or BEiT-3, whichever it is in."""
    if any(name.startswith("beit3.") for name in state):
        state = _renamed({n: t for n, t in state.items() if ".B." not in n and "text_embed" not in n}, _BEIT3)
        state = {n: t[None, 2:] if n == "pos_embed" and t.ndim == 2 else t for n, t in state.items()}
    elif any("embeddings.cls_token" in name for name in state):
        state = _renamed(state, _TRANSFORMERS)
    state = _renamed(state, _DINOV2)
    state = _with_registers(_fused(state))
    return {f"trunk.{name}": tensor for name, tensor in state.items() if not _UNUSED.match(name)}


def _fused(state: State) -> dict[str, Tensor]:
    """Stack queries, keys and values, which timm has in one."""
    fused = {name: tensor for name, tensor in state.items() if not re.search(r"\.attn\.(query|key|value)\.", name)}
    for name in state:
        parts = [name.replace(".attn.query.", f".attn.{part}.") for part in ("query", "key", "value")]
        if ".attn.query." in name and all(part in state for part in parts):
            fused[name.replace(".attn.query.", ".attn.qkv.")] = torch.cat([state[part] for part in parts])
    return fused


def _with_registers(state: State) -> dict[str, Tensor]:
    """DINOv2's registers have no position; timm then adds that of the class token to the token itself."""
    kept = dict(state)
    if {"register_tokens", "cls_token", "pos_embed"} <= kept.keys():
        positions = kept["pos_embed"]
        kept["reg_token"] = kept.pop("register_tokens")
        kept |= {"cls_token": kept["cls_token"] + positions[:, :1], "pos_embed": positions[:, 1:]}
    return kept


def _conch(state: State) -> dict[str, Tensor]:
    """CoCa of open_clip: the image tower's trunk, attention pooling and norm."""
    kept = _renamed({name: tensor for name, tensor in state.items() if not _CONCH_UNUSED.match(name)}, _CONCH)
    biases = kept.pop("biases").chunk(3) if "biases" in kept else ()
    for part, bias in zip(("query", "key", "value"), biases, strict=False):
        kept[f"to_{part}.bias"] = bias
    for short, part in (("q", "query"), ("k", "key"), ("v", "value")):
        if f"{short}_weight" in kept:
            kept[f"to_{part}.weight"] = kept.pop(f"{short}_weight")
    return kept


def _conch_v15(state: State) -> dict[str, Tensor]:
    """The vision file of v1.5; its positions are those of 224 px, taken to 448 px as its code does in each forward."""
    kept = _conch(state)
    if "key_value" in kept:
        kept["to_key.weight"], kept["to_value.weight"] = kept.pop("key_value").chunk(2)
    if "trunk.pos_embed" in kept:
        small = resampled(kept["trunk.pos_embed"], side=14, prefix=1, how="bilinear")
        kept["trunk.pos_embed"] = resampled(small, side=28, prefix=1, how="bicubic", scale=28.1 / 14)
    return kept


def _swin(state: State) -> dict[str, Tensor]:
    """Swin of timm 0.5.4, where a stage ends, and does not begin, by halving the map; its tables are computed."""
    kept = {}
    for name, tensor in state.items():
        if not re.search(r"relative_position_index$|attn_mask$|^head\.", name):
            shifted = re.sub(r"^layers\.(\d)\.downsample", lambda stage: f"layers.{int(stage[1]) + 1}.downsample", name)
            kept[f"trunk.{shifted}"] = tensor
    return kept


def _resnet(state: State) -> dict[str, Tensor]:
    """ResNet of torchvision without the fourth stage and the classifier."""
    return {f"trunk.{name}": tensor for name, tensor in state.items() if not name.startswith(("layer4.", "fc."))}


LAYOUTS: dict[str, Callable[[State], dict[str, Tensor]]] = {
    "vit": _vit,
    "conch": _conch,
    "conch-v1.5": _conch_v15,
    "swin": _swin,
    "resnet": _resnet,
}
