"""Weights in published layouts against what the published code computes from them, written here from its sources."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import conv2d, gelu, interpolate, layer_norm, linear, silu

from dtcwsi.encoders import cards
from dtcwsi.errors import EncoderError

pytest.importorskip("timm")
from dtcwsi.encoders.building import fill  # noqa: E402

# names of tensors: {n} is a block
TIMM = {
    **{key: key for key in ("cls_token", "pos_embed", "reg_token", "norm")},
    "patch": "patch_embed.proj",
    "block": "blocks.{n}.",
    **{key: key for key in ("norm1", "norm2")},
    **{"qkv": "attn.qkv", "proj": "attn.proj", "fc1": "mlp.fc1", "fc2": "mlp.fc2"},
    **{"ls1": "ls1.gamma", "ls2": "ls2.gamma"},
}
DINOV2 = {**TIMM, "reg_token": "register_tokens", "fc1": "mlp.w12", "fc2": "mlp.w3"}
GPFM = {
    **{key: f"backbone.{name}" for key, name in TIMM.items() if key in ("cls_token", "pos_embed", "norm", "patch")},
    **{key: name for key, name in TIMM.items() if key not in ("cls_token", "pos_embed", "norm", "patch")},
    "block": "backbone.blocks.0.{n}.",  # blocks come in chunks
}
TRANSFORMERS = {
    "cls_token": "embeddings.cls_token",
    "pos_embed": "embeddings.position_embeddings",
    "reg_token": "embeddings.register_tokens",
    "patch": "embeddings.patch_embeddings.projection",
    "norm": "layernorm",
    "block": "encoder.layer.{n}.",
    **{"norm1": "norm1", "norm2": "norm2", "ls1": "layer_scale1.lambda1", "ls2": "layer_scale2.lambda1"},
    **{part: f"attention.attention.{part}" for part in ("query", "key", "value")},
    **{"proj": "attention.output.dense", "fc1": "mlp.fc1", "fc2": "mlp.fc2"},
}
SWIGLU = {**TRANSFORMERS, "fc1": "mlp.weights_in", "fc2": "mlp.weights_out"}
VIT_MODEL = {
    **TRANSFORMERS,
    **{"norm1": "layernorm_before", "norm2": "layernorm_after", "fc1": "intermediate.dense", "fc2": "output.dense"},
}
BEIT3 = {
    "cls_token": "beit3.vision_embed.cls_token",
    "pos_embed": "beit3.encoder.embed_positions.A.weight",
    "patch": "beit3.vision_embed.proj",
    "norm": "beit3.encoder.layer_norm.A",
    "block": "beit3.encoder.layers.{n}.",
    **{"norm1": "self_attn_layer_norm.A", "norm2": "final_layer_norm.A"},
    **{"query": "self_attn.q_proj.A", "key": "self_attn.k_proj.A", "value": "self_attn.v_proj.A"},
    **{"proj": "self_attn.out_proj.A", "fc1": "ffn.A.fc1", "fc2": "ffn.A.fc2"},
    **{"attn_norm": "self_attn.inner_attn_ln.A", "mlp_norm": "ffn.A.ffn_layernorm"},
}

# card: layout, width, depth, heads, rows of fc1, columns of fc2, patch px, rows of positions, registers, layer scale
SHAPES = {
    "virchow": (TIMM, 1280, 32, 16, 6832, 3416, 14, 257, 0, True),
    "virchow2": (TIMM, 1280, 32, 16, 6832, 3416, 14, 261, 4, True),
    "uni": (TIMM, 1024, 24, 16, 4096, 4096, 16, 197, 0, True),
    "uni2-h": (TIMM, 1536, 24, 24, 8192, 4096, 14, 256, 8, True),
    "prov-gigapath": (TIMM, 1536, 40, 24, 8192, 4096, 16, 197, 0, True),
    "h-optimus-0": (TIMM, 1536, 40, 24, 8192, 4096, 14, 256, 4, True),
    "h-optimus-1": (TIMM, 1536, 40, 24, 8192, 4096, 14, 256, 4, True),
    "h0-mini": (TIMM, 768, 12, 12, 4096, 2048, 14, 256, 4, True),
    "phikon": (VIT_MODEL, 768, 12, 12, 3072, 3072, 16, 197, 0, False),
    "phikon-v2": (TRANSFORMERS, 1024, 24, 16, 4096, 4096, 16, 197, 0, True),
    "hibou-b": (SWIGLU, 768, 12, 12, 4096, 2048, 14, 257, 4, True),
    "hibou-l": (SWIGLU, 1024, 24, 16, 5472, 2736, 14, 257, 4, True),
    "lunit-dino": (TIMM, 384, 12, 6, 1536, 1536, 8, 785, 0, False),
    "lunit-dino-s16": (TIMM, 384, 12, 6, 1536, 1536, 16, 197, 0, False),
    "kaiko": (TIMM, 768, 12, 12, 3072, 3072, 8, 785, 0, False),
    "kaiko-b16": (TIMM, 768, 12, 12, 3072, 3072, 16, 197, 0, False),
    "kaiko-s8": (TIMM, 384, 12, 6, 1536, 1536, 8, 785, 0, False),
    "kaiko-s16": (TIMM, 384, 12, 6, 1536, 1536, 16, 197, 0, False),
    "kaiko-l14": (TIMM, 1024, 24, 16, 4096, 4096, 14, 1369, 4, True),
    "midnight": (SWIGLU, 1536, 40, 24, 8192, 4096, 14, 1370, 0, True),
    "gpfm": (GPFM, 1024, 24, 16, 4096, 4096, 14, 257, 0, True),
    "musk": (BEIT3, 1024, 24, 16, 4096, 4096, 16, 579, 0, False),
}
DISTINCT = {
    (cards()[name].timm, str(cards()[name].options), str(row[0]["block"])): name for name, row in SHAPES.items()
}
"""One card for each architecture and layout."""
PUBLISHED_TENSORS = {"virchow2": 455, "uni2-h": 343, "h-optimus-0": 567, "phikon-v2": 439, "midnight": 727}
"""As counted in the released files by the Spectra adapters' manifest."""


def _made(name, depth=None, positions=None, device="meta", layout=None):
    """A state dict of the published names and shapes."""
    own, width, full, _, fc1, fc2, px, rows, registers, scaled = SHAPES[name]
    layout = layout or own
    block = layout["block"]
    flat = layout is BEIT3
    positions = positions or rows
    sizes = {layout["cls_token"]: (1, 1, width), layout["patch"] + ".weight": (width, 3, px, px)}
    sizes |= {
        layout["patch"] + ".bias": (width,),
        layout["pos_embed"]: (positions, width) if flat else (1, positions, width),
    }
    sizes |= {layout["norm"] + ".weight": (width,), layout["norm"] + ".bias": (width,)}
    if registers:
        sizes[layout["reg_token"]] = (1, registers, width)
    if layout in (TRANSFORMERS, SWIGLU):
        sizes["embeddings.mask_token"] = (1, width)
    lines = {"qkv": (3 * width, width)} if "qkv" in layout else dict.fromkeys(("query", "key", "value"), (width, width))
    lines |= {"proj": (width, width), "fc1": (fc1, width), "fc2": (width, fc2)}
    norms = {"norm1": width, "norm2": width} | ({"attn_norm": width, "mlp_norm": fc2} if flat else {})
    for n in range(depth or full):
        start = block.format(n=n)
        for part, size in lines.items():
            sizes |= {f"{start}{layout[part]}.weight": size, f"{start}{layout[part]}.bias": size[:1]}
        for part, size in norms.items():
            sizes |= {f"{start}{layout[part]}.weight": (size,), f"{start}{layout[part]}.bias": (size,)}
        if scaled:
            sizes |= {f"{start}{layout[part]}": (width,) for part in ("ls1", "ls2")}
    return _random(sizes, device)


def _random(sizes, device="cpu"):
    torch.manual_seed(0)
    state = {name: torch.randn(size, device=device) / math.sqrt(size[-1]) for name, size in sizes.items()}
    return {name: tensor * 8 + 1 if tensor.ndim == 1 else tensor for name, tensor in state.items()}


def _tokens(images, state, name, layout, *, eps=1e-6, depth=2, glu=False):
    """A vision transformer's normalised tokens, from the published tensors."""
    heads, px, registers, scaled = SHAPES[name][3], SHAPES[name][6], SHAPES[name][8], SHAPES[name][9]
    patches = conv2d(images, state[layout["patch"] + ".weight"], state[layout["patch"] + ".bias"], stride=px)
    patches = patches.flatten(2).transpose(1, 2)
    cls, positions = state[layout["cls_token"]].expand(len(images), -1, -1), state[layout["pos_embed"]]
    extra = state[layout["reg_token"]].expand(len(images), -1, -1) if registers else patches[:, :0]
    positions = positions[None, 2:] if layout is BEIT3 else positions
    if positions.shape[1] == patches.shape[1]:  # neither class token nor registers have one
        tokens = torch.cat([cls, extra, patches + positions], dim=1)
    elif positions.shape[1] == patches.shape[1] + 1:
        tokens = torch.cat([cls, patches], dim=1) + positions
        tokens = torch.cat([tokens[:, :1], extra, tokens[:, 1:]], dim=1)
    else:
        tokens = torch.cat([cls, extra, patches], dim=1) + positions

    def line(rows, part):
        return linear(rows, state[part + ".weight"], state[part + ".bias"])

    def norm(rows, part):
        return layer_norm(rows, rows.shape[-1:], state[part + ".weight"], state[part + ".bias"], eps)

    for n in range(depth):
        at = {part: layout["block"].format(n=n) + rest for part, rest in layout.items()}
        rows = norm(tokens, at["norm1"])
        parts = (
            line(rows, at["qkv"]).chunk(3, -1)
            if "qkv" in at
            else [line(rows, at[p]) for p in ("query", "key", "value")]
        )
        query, key, value = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in parts)
        weights = (query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])).softmax(-1)
        rows = (weights @ value).transpose(1, 2).flatten(2)
        rows = norm(rows, at["attn_norm"]) if "attn_norm" in at else rows
        tokens = tokens + line(rows, at["proj"]) * (state[at["ls1"]] if scaled else 1)
        rows = line(norm(tokens, at["norm2"]), at["fc1"])
        rows = silu(rows.chunk(2, -1)[0]) * rows.chunk(2, -1)[1] if glu else gelu(rows)
        rows = norm(rows, at["mlp_norm"]) if "mlp_norm" in at else rows
        tokens = tokens + line(rows, at["fc2"]) * (state[at["ls2"]] if scaled else 1)
    return norm(tokens, layout["norm"])


@pytest.mark.parametrize("name", sorted({*DISTINCT.values(), *PUBLISHED_TENSORS}))
def test_every_published_name_and_shape_is_taken(name):
    state = _made(name)
    network = fill(cards()[name], state, "made")
    assert all(tensor.is_meta for tensor in network.state_dict().values())
    if name in PUBLISHED_TENSORS:
        assert len(state) == PUBLISHED_TENSORS[name]


@pytest.mark.parametrize("name", DISTINCT.values())
@torch.inference_mode()
def test_features_are_those_of_the_published_code(name):
    layout, width, *_, px, rows, registers, _ = SHAPES[name]
    card = replace(cards()[name], input_px=4 * px)
    prefix = 3 if layout is BEIT3 else rows - math.isqrt(rows) ** 2  # torchscale counts from 2
    state = _made(name, depth=2, positions=16 + prefix, device="cpu")
    images = torch.randn(2, 3, 4 * px, 4 * px)
    glu = SHAPES[name][4] == 2 * SHAPES[name][5]
    tokens = _tokens(images, state, name, layout, eps=1e-5 if layout is BEIT3 else 1e-6, glu=glu)
    expected = tokens[:, 0]
    if card.pooling == "class+mean":
        expected = torch.cat([expected, tokens[:, 1 + registers :].mean(1)], dim=1)
    assert expected.shape == (2, card.dim)
    torch.testing.assert_close(fill(card, state, "made", depth=2)(images), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("name", "layout"), [("hibou-b", DINOV2), ("hibou-b", TIMM), ("gpfm", TIMM), ("phikon", TIMM)])
def test_another_layout_of_the_same_network_is_known_by_its_names(name, layout):
    registers = SHAPES[name][8] and layout is TIMM
    fill(cards()[name], _made(name, layout=layout, positions=256 if registers else None), "made")


@torch.inference_mode()
def test_positions_of_another_input_size_are_resampled_as_the_published_code_does():
    card = replace(cards()["midnight"], input_px=56)
    state = _made("midnight", depth=1, positions=1 + 36, device="cpu")
    grid = state["embeddings.position_embeddings"][:, 1:].unflatten(1, (6, 6)).permute(0, 3, 1, 2)
    grid = interpolate(grid, size=(4, 4), mode="bicubic", align_corners=False).flatten(2).transpose(1, 2)
    fitted = torch.cat([state["embeddings.position_embeddings"][:, :1], grid], dim=1)
    torch.testing.assert_close(fill(card, state, "made", depth=1).trunk.pos_embed, fitted)


def _pooler(dim, width, bias, queries=1):
    start = "attn_pool_contrast."
    names = {f"{start}query": (queries, dim), f"{start}ln_q": dim, f"{start}ln_k": width, "ln_contrast": dim}
    if bias:
        names |= {f"{start}attn.q_proj_weight": (dim, dim), f"{start}attn.k_proj_weight": (dim, width)}
        names |= {f"{start}attn.v_proj_weight": (dim, width), f"{start}attn.in_proj_bias": (3 * dim,)}
        names |= {f"{start}attn.out_proj.weight": (dim, dim), f"{start}attn.out_proj.bias": (dim,)}
    else:
        names |= {f"{start}to_q.weight": (dim, dim), f"{start}to_kv.weight": (2 * dim, width)}
        names |= {f"{start}to_out.weight": (dim, dim)}
    sizes = {}
    for name, size in names.items():
        sizes |= {f"{name}.{kind}": (size,) for kind in ("weight", "bias")} if isinstance(size, int) else {name: size}
    return sizes


@torch.inference_mode()
def test_conch_is_its_tower_without_head_and_normalisation():
    SHAPES["conch"] = (TIMM, 768, 12, 12, 3072, 3072, 16, 785, 0, False)
    card = replace(cards()["conch"], input_px=64)
    trunk, pooler = _made("conch", depth=2, positions=17, device="cpu"), _random(_pooler(512, 768, bias=True))
    published = {f"visual.trunk.{name}": tensor for name, tensor in trunk.items()}
    published |= {f"visual.{name}": tensor for name, tensor in pooler.items()}
    published |= {"text.token_embedding.weight": torch.zeros(3, 4), "logit_scale": torch.zeros(())}
    published |= {
        "visual.proj_contrast": torch.zeros(512, 512),
        "visual.attn_pool_caption.query": torch.zeros(256, 768),
    }
    images = torch.randn(2, 3, 64, 64)
    attention = torch.nn.MultiheadAttention(512, 8, kdim=768, vdim=768)
    attention.load_state_dict({n.split("attn.")[1]: t for n, t in pooler.items() if "contrast.attn." in n})

    def norm(rows, name):
        return layer_norm(rows, rows.shape[-1:], pooler[f"{name}.weight"], pooler[f"{name}.bias"])

    tokens = norm(_tokens(images, trunk, "conch", TIMM), "attn_pool_contrast.ln_k").transpose(0, 1)
    query = norm(pooler["attn_pool_contrast.query"], "attn_pool_contrast.ln_q")[:, None].repeat(1, 2, 1)
    expected = norm(attention(query, tokens, tokens, need_weights=False)[0][0], "ln_contrast")
    torch.testing.assert_close(fill(card, published, "made", depth=2)(images), expected, rtol=1e-3, atol=1e-3)
    full = {f"visual.trunk.{name}": tensor for name, tensor in _made("conch").items()}
    full |= {f"visual.{name}": tensor.to("meta") for name, tensor in pooler.items()}
    assert len(fill(cards()["conch"], full, "made").state_dict()) == 150 + 15


@torch.inference_mode()
def test_conch_v15_takes_positions_of_224_px_to_448_px_as_its_code_does():
    SHAPES["conch-v1.5"] = (TIMM, 1024, 24, 16, 4096, 4096, 16, 197, 0, True)
    card = cards()["conch-v1.5"]
    trunk, pooler = _made("conch-v1.5", depth=1, device="cpu"), _random(_pooler(768, 1024, bias=False))
    published = {f"trunk.{name}": tensor for name, tensor in trunk.items()} | pooler
    network = fill(card, published, "made", depth=1)
    images = torch.randn(1, 3, 448, 448)
    grid = trunk["pos_embed"][:, 1:].reshape(1, 14, 14, 1024).permute(0, 3, 1, 2)
    grid = interpolate(grid, scale_factor=((28 + 0.1) / 14, (28 + 0.1) / 14), mode="bicubic")
    trunk["pos_embed"] = torch.cat([trunk["pos_embed"][:, :1], grid.permute(0, 2, 3, 1).reshape(1, -1, 1024)], dim=1)
    torch.testing.assert_close(network.trunk.pos_embed, trunk["pos_embed"], rtol=1e-5, atol=1e-6)
    tokens = _tokens(images, trunk, "conch-v1.5", TIMM, depth=1)

    def norm(rows, name):
        return layer_norm(rows, rows.shape[-1:], pooler[f"{name}.weight"], pooler[f"{name}.bias"])

    tokens = norm(tokens, "attn_pool_contrast.ln_k")
    query = (
        norm(pooler["attn_pool_contrast.query"], "attn_pool_contrast.ln_q") @ pooler["attn_pool_contrast.to_q.weight"].T
    )
    key, value = (tokens @ pooler["attn_pool_contrast.to_kv.weight"].T).chunk(2, -1)
    query, key, value = (part.unflatten(-1, (8, 96)).transpose(-2, -3) for part in (query, key, value))
    found = ((query * 96**-0.5) @ key.transpose(-1, -2)).softmax(-1) @ value
    found = found.transpose(-2, -3).flatten(-2)[:, 0] @ pooler["attn_pool_contrast.to_out.weight"].T
    torch.testing.assert_close(network(images), norm(found, "ln_contrast"), rtol=1e-3, atol=1e-3)


def _swin_sizes():
    """CTransPath's file: Swin-T as timm 0.5.4 named it, its stem, and the tables that it saved too."""
    sizes = {"patch_embed.proj.0.weight": (12, 3, 3, 3), "patch_embed.proj.3.weight": (24, 12, 3, 3)}
    sizes |= {"patch_embed.proj.6.weight": (96, 24, 1, 1), "patch_embed.proj.6.bias": (96,)}
    for at, width in (("patch_embed.proj.1", 12), ("patch_embed.proj.4", 24)):
        sizes |= {f"{at}.{kind}": (width,) for kind in ("weight", "bias", "running_mean", "running_var")}
    norms = {"patch_embed.norm": 96, "norm": 768}
    lines = {}
    for stage, (depth, heads) in enumerate(zip((2, 2, 6, 2), (3, 6, 12, 24), strict=True)):
        width = 96 * 2**stage
        for n in range(depth):
            at = f"layers.{stage}.blocks.{n}"
            norms |= {f"{at}.norm1": width, f"{at}.norm2": width}
            lines |= {f"{at}.attn.qkv": (3 * width, width), f"{at}.attn.proj": (width, width)}
            lines |= {f"{at}.mlp.fc1": (4 * width, width), f"{at}.mlp.fc2": (width, 4 * width)}
            sizes[f"{at}.attn.relative_position_bias_table"] = (169, heads)
            sizes[f"{at}.attn.relative_position_index"] = (49, 49)
        if stage < 3:
            norms[f"layers.{stage}.downsample.norm"] = 4 * width
            sizes[f"layers.{stage}.downsample.reduction.weight"] = (2 * width, 4 * width)
    for name, (rows, columns) in lines.items():
        sizes |= {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}
    return sizes | {f"{name}.{kind}": (width,) for name, width in norms.items() for kind in ("weight", "bias")}


def _stem(images, state):
    """Two strided convolutions, one of size 1, and a norm."""
    maps = images
    for conv, batch in (("0", "1"), ("3", "4")):
        maps = conv2d(maps, state[f"patch_embed.proj.{conv}.weight"], stride=2, padding=1)
        parts = [
            state[f"patch_embed.proj.{batch}.{kind}"] for kind in ("running_mean", "running_var", "weight", "bias")
        ]
        maps = torch.nn.functional.batch_norm(maps, *parts).relu()
    maps = conv2d(maps, state["patch_embed.proj.6.weight"], state["patch_embed.proj.6.bias"]).permute(0, 2, 3, 1)
    return layer_norm(maps, (96,), state["patch_embed.norm.weight"], state["patch_embed.norm.bias"])


def _swin(images, state):
    """Swin-T with windows of 7 and the stem of CTransPath, stage by stage as timm 0.5.4 orders it."""

    def norm(rows, name):
        return layer_norm(rows, rows.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"])

    def line(rows, name):
        return linear(rows, state[f"{name}.weight"], state[f"{name}.bias"])

    maps = _stem(images, state)
    places = torch.cartesian_prod(torch.arange(7), torch.arange(7))
    offsets = places[:, None] - places[None] + 6
    for stage, (depth, heads) in enumerate(zip((2, 2, 6, 2), (3, 6, 12, 24), strict=True)):
        for n in range(depth):
            at, side = f"layers.{stage}.blocks.{n}", maps.shape[1]
            shift = 3 if n % 2 and side > 7 else 0
            rows = norm(maps, f"{at}.norm1").roll((-shift, -shift), (1, 2))
            rows = rows.unflatten(2, (-1, 7)).unflatten(1, (-1, 7)).transpose(2, 3).flatten(3, 4).flatten(1, 2)
            query, key, value = line(rows, f"{at}.attn.qkv").unflatten(-1, (3, heads, -1)).permute(3, 0, 1, 4, 2, 5)
            table = state[f"{at}.attn.relative_position_bias_table"][offsets[..., 0] * 13 + offsets[..., 1]]
            logits = query @ key.transpose(-1, -2) / math.sqrt(32) + table.permute(2, 0, 1)
            region = torch.arange(side)
            region = (region >= side - 7).int() + (region >= side - shift).int() if shift else region * 0
            region = (region[:, None] * 3 + region).unflatten(1, (-1, 7)).unflatten(0, (-1, 7)).transpose(1, 2)
            region = region.flatten(2).flatten(0, 1)
            logits = logits - 100.0 * (region[:, :, None] != region[:, None])[None, :, None]
            found = (logits.softmax(-1) @ value).transpose(2, 3).flatten(3)
            found = line(found, f"{at}.attn.proj").unflatten(2, (7, 7)).unflatten(1, (side // 7, -1)).transpose(2, 3)
            maps = maps + found.flatten(3, 4).flatten(1, 2).roll((shift, shift), (1, 2))
            maps = maps + line(gelu(line(norm(maps, f"{at}.norm2"), f"{at}.mlp.fc1")), f"{at}.mlp.fc2")
        if stage < 3:
            quarters = [maps[:, row::2, column::2] for row, column in ((0, 0), (1, 0), (0, 1), (1, 1))]
            maps = norm(torch.cat(quarters, -1), f"layers.{stage}.downsample.norm")
            maps = maps @ state[f"layers.{stage}.downsample.reduction.weight"].T
    return norm(maps, "norm").flatten(1, 2).mean(1)


@torch.inference_mode()
def test_ctranspath_is_a_swin_of_timm_054_behind_convolutions():
    state = {name: tensor.abs() if "running_var" in name else tensor for name, tensor in _random(_swin_sizes()).items()}
    network = fill(cards()["ctranspath"], state, "made").double()
    images = torch.randn(1, 3, 224, 224).double()
    exact = {name: tensor.double() for name, tensor in state.items()}  # features of noise differ by little
    torch.testing.assert_close(network.trunk.patch_embed(images), _stem(images, exact), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(network(images), _swin(images, exact), rtol=1e-9, atol=1e-9)


@torch.inference_mode()
def test_resnet50_ends_with_its_third_stage():
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    whole = torchvision.models.resnet50(weights=None).eval()
    images = torch.randn(2, 3, 96, 96)
    maps = whole.maxpool(whole.relu(whole.bn1(whole.conv1(images))))
    expected = whole.layer3(whole.layer2(whole.layer1(maps))).mean((2, 3))
    network = fill(cards()["resnet50-clam"], whole.state_dict(), "made")
    torch.testing.assert_close(network(images), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "other", "told"),
    [
        (
            "uni",
            "kaiko-b16",
            r"than uni: of 342 tensors 192 missing \(first: .+shape \(first: trunk.cls_token, got \(1, 1, 768",
        ),
        ("h-optimus-0", "uni2-h", r"224 missing .+ of another shape"),
        ("virchow2", "virchow", r"1 missing \(first: trunk.reg_token\)"),
        ("musk", "uni", r"missing .+unknown .+get those of musk at https://huggingface.co/xiangjx/musk"),
    ],
)
def test_weights_of_another_model_are_one_sentence(name, other, told):
    with pytest.raises(EncoderError, match=rf"w.bin holds weights of another model .*{told}") as caught:
        fill(cards()[name], _made(other), "w.bin")
    assert "\n" not in str(caught.value)
