"""HIPT's published weights: logits recorded from mahmoodlab/HIPT at 780fafa, HIPT_LGP_FC.

Weights are 0.1 times normal numbers drawn in the order of the sorted keys, plus 1 for weights of norms; features
normal numbers from seed 1.
"""

import re

import pytest
import torch

import dtcwsi
from dtcwsi.errors import FeaturesError, OptionError, UsageError

from .conftest import check_that_each_missing_key_is_named


def slide_shapes():
    shapes = {"classifier": (2, 192), "global_attn_pool.attention_c": (1, 192)}
    square = ["global_phi.0", "global_rho.0", "global_attn_pool.attention_a.0", "global_attn_pool.attention_b.0"]
    for layer in ("global_transformer.layers.0", "global_transformer.layers.1"):
        square += [f"{layer}.self_attn.out_proj", f"{layer}.linear1", f"{layer}.linear2"]
        shapes |= {f"{layer}.norm1": (192,), f"{layer}.norm2": (192,)}
    shapes = with_biases(shapes | dict.fromkeys(square, (192, 192)))
    for layer in ("global_transformer.layers.0", "global_transformer.layers.1"):
        shapes |= {f"{layer}.self_attn.in_proj_weight": (576, 192), f"{layer}.self_attn.in_proj_bias": (576,)}
    return shapes


def region_shapes():
    shapes = {"phi.0": (192, 384), "norm": (192,)}
    for number in range(6):
        block = f"blocks.{number}"
        shapes |= {f"{block}.attn.qkv": (576, 192), f"{block}.attn.proj": (192, 192)}
        shapes |= {f"{block}.mlp.fc1": (768, 192), f"{block}.mlp.fc2": (192, 768)}
        shapes |= {f"{block}.norm1": (192,), f"{block}.norm2": (192,)}
    shapes = with_biases(shapes) | {"cls_token": (1, 1, 192), "pos_embed": (1, 197, 192)}
    return {f"local_vit.{key}": shape for key, shape in shapes.items()}


def with_biases(weights):
    return {
        f"{name}.{end}": shape
        for name, sizes in weights.items()
        for end, shape in (("weight", sizes), ("bias", sizes[:1]))
    }


def drawn(shapes):
    generator = torch.Generator().manual_seed(0)
    return {
        key: 0.1 * torch.randn(shapes[key], generator=generator) + bool(re.search(r"norm\d?\.weight$", key))
        for key in sorted(shapes)
    }


def features(rows, dim):
    return torch.randn(rows, dim, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def whole():
    return drawn(slide_shapes() | region_shapes())


@pytest.mark.parametrize(
    ("regions", "logits", "attention"),
    [
        (1, [2.190525, -1.893502], [0.00256523, 0.00127178, 0.00222522, 0.00148214]),
        (2, [1.856672, -2.705047], [0.00127312, 0.000631187, 0.00110438, 0.000840672]),
        (3, [1.319438, -2.177609], [0.000856292, 0.000424531, 0.000742793, 0.00224993]),
    ],
)
def test_full_regions_get_the_published_logits_and_attention(regions, logits, attention, whole):
    """Attention was recorded as the pooling's times the last block's of the class token, scaled to sum to 1."""
    model = dtcwsi.load_official("hipt", whole)
    number = torch.arange(256 * regions)
    cells = torch.stack([number % 16 + 16 * (number // 256), number % 256 // 16], dim=1)
    mixed = torch.randperm(len(number), generator=torch.Generator().manual_seed(2))
    out = model(features(len(number), 384)[mixed], coords=256 * cells[mixed])
    torch.testing.assert_close(out.logits[0], torch.tensor(logits), atol=2e-5, rtol=0)
    found = torch.zeros(len(number)).index_copy(0, mixed, out.attention)[[0, 1, 17, -1]]
    torch.testing.assert_close(found, torch.tensor(attention), atol=1e-7, rtol=1e-4)


@pytest.mark.parametrize(
    ("regions", "logits", "attention"),
    [
        (1, [1.54073, -2.419542], [1.0]),
        (2, [1.873579, -1.121502], [0.508139, 0.491861]),
        (7, [1.94872, -1.524332], [0.117125, 0.130086, 0.143425]),
        (60, [2.634174, -1.691192], [0.0144972, 0.00972651, 0.0169707]),
    ],
)
def test_the_slide_part_alone_takes_features_of_regions(regions, logits, attention):
    model = dtcwsi.load_official("hipt", drawn(slide_shapes()))
    assert model.in_dim == 192
    assert sum(parameter.numel() for parameter in model.parameters()) == 595_011
    out = model(features(regions, 192))
    torch.testing.assert_close(out.logits[0], torch.tensor(logits), atol=2e-5, rtol=0)
    torch.testing.assert_close(out.attention[:3], torch.tensor(attention), atol=1e-6, rtol=0)


def test_weights_of_parallel_training_are_read(whole):
    parallel = {key.replace("local_vit.", "local_vit.module."): tensor for key, tensor in whole.items()}
    one, other = (dtcwsi.load_official("hipt", state).state_dict() for state in (whole, parallel))
    assert all(torch.equal(tensor, other[key]) for key, tensor in one.items())


def test_what_is_missing_or_of_another_network_is_told(whole):
    state = {key: tensor for key, tensor in whole.items() if key != "local_vit.norm.bias"}
    with pytest.raises(UsageError, match="missing local_vit.norm.bias; unexpected nothing"):
        dtcwsi.load_official("hipt", state)
    check_that_each_missing_key_is_named("hipt", whole)
    check_that_each_missing_key_is_named("hipt", drawn(slide_shapes()))
    del state["global_phi.0.weight"]
    with pytest.raises(UsageError, match=r"of HIPT lacks global_phi.0.weight; expected the whole of a trained model"):
        dtcwsi.load_official("hipt", state)
    pooling = {key: tensor for key, tensor in whole.items() if not key.startswith("global_transformer")}
    with pytest.raises(UsageError, match=r"of HIPT lacks global_transformer.layers.0.linear1.weight; expected"):
        dtcwsi.load_official("hipt", pooling)


def test_vectors_of_regions_have_the_logits_of_the_slides_part():
    model = dtcwsi.load_official("hipt", drawn(slide_shapes()))
    vectors = torch.randn(7, 192, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(model.aggregate_regions(vectors), model(vectors).logits)
    with pytest.raises(FeaturesError, match="got vectors of width 191; expected 192, a region's"):
        model.aggregate_regions(vectors[:, 1:])
    with pytest.raises(
        FeaturesError, match=r"got vectors of shape \(0, 192\); expected \(regions, width\), one at least"
    ):
        model.aggregate_regions(vectors[:0])
    torch.testing.assert_close(model.aggregate_regions(vectors.double()), model(vectors).logits)
    with pytest.raises(OptionError, match="abmil has no vectors of regions; hipt has"):
        dtcwsi.create_model("abmil", in_dim=4, n_classes=2).aggregate_regions(vectors)
