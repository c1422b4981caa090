"""Logits recorded from the blocks of microsoft/vision-longformer at c9ce386 behind Linear + ReLU, as in test_window."""

import pytest
import torch

import dtcwsi
from dtcwsi.aggregators import create_aggregator
from dtcwsi.bags.packing import pack
from dtcwsi.compressors import create_compressor
from dtcwsi.errors import FeaturesError, OptionError
from dtcwsi.types import Bag

SMALL = {"width": 16, "heads": 2, "attention_window": 5}


def aggregator(**options):
    torch.manual_seed(0)
    model = create_aggregator("longformer", in_dim=5, n_classes=3, **SMALL | options).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model


def tokens_of(*bags):
    return create_compressor("identity", dim=bags[0].features.shape[1])(pack(list(bags)))


def with_bias(tokens, log_size, gate):
    return type(tokens)(**{**vars(tokens), "log_size": log_size, "gate": gate})


def bag_of(size, seed=0, dim=5):
    generator = torch.Generator().manual_seed(seed)
    places = torch.randperm(2 * size, generator=generator)[:size]
    return Bag(torch.randn(size, dim, generator=generator), torch.stack([places % 9, places // 9], 1) * 256, 256.0)


def names(tied, relative):
    """Published names and the model's own of two layers."""
    pairs = {"front": "projection.0", "norm": "norm", "head": "head"}
    for layer in (0, 1):
        block, own = f"blocks.{2 * layer}", ("layers.0", "last")[layer]
        pairs |= {f"{block}.norm": f"{own}.norm", f"blocks.{2 * layer + 1}.norm": f"{own}.mlp_norm"}
        pairs |= {f"blocks.{2 * layer + 1}.mlp.fc1": f"{own}.mlp.0", f"blocks.{2 * layer + 1}.mlp.fc2": f"{own}.mlp.3"}
        for number, (name, ours) in enumerate([("query", "query"), ("kv", "keys_values"), ("proj", "out")]):
            pairs[f"{block}.attn.{name}"] = f"{own}.attention.{ours}"
            if not tied:
                pairs[f"{block}.attn.{name}_global"] = f"{own}.attention.of_token.{number}"
    both = {f"{a}.{end}": f"{b}.{end}" for a, b in pairs.items() for end in ("weight", "bias")} | {
        "cls": "global_token"
    }
    if relative:
        for layer in (0, 1):
            block, own = f"blocks.{2 * layer}.attn", ("layers.0.attention", "last.attention")[layer]
            both[f"{block}.local_relative_position_bias_table"] = f"{own}.offset_bias"
            both[f"{block}.g2l_relative_position_bias"] = f"{own}.token_bias"
            both[f"{block}.g2g_relative_position_bias"] = f"{own}.own_bias"
    return both


@pytest.mark.parametrize(
    ("tied", "relative", "logits"),
    [
        (True, True, [0.545812, 0.834541, -0.073282]),
        (True, False, [0.266463, -0.045358, -0.453243]),
        (False, True, [0.334762, 0.091462, 0.190834]),
        (False, False, [-0.707881, 0.115976, -0.069636]),
    ],
)
def test_two_layers_give_the_published_logits(tied, relative, logits):
    model = create_aggregator("longformer", in_dim=6, n_classes=3, width=32, heads=4, tied=tied, relative=relative)
    own, generator, pairs = model.state_dict(), torch.Generator().manual_seed(0), names(tied, relative)
    for _, name in sorted(pairs.items()):
        own[name] = 0.2 * torch.randn(own[name].shape, generator=generator)
    assert set(own) == set(pairs.values())
    model.load_state_dict(own)
    number = torch.arange(340)
    features = torch.randn(340, 6, generator=torch.Generator().manual_seed(1))
    out = model(tokens_of(Bag(features, torch.stack([number % 20, number // 20], dim=1) * 512)))
    torch.testing.assert_close(out.logits[0], torch.tensor(logits), atol=1e-4, rtol=0)


def test_a_model_has_the_parameters_of_its_parts():
    model = create_aggregator("longformer", in_dim=1024, n_classes=2)
    layer = 1_056_480 + 2 * 2 * 512 + 512 * 2048 + 2048 + 2048 * 512 + 512
    assert sum(p.numel() for p in model.parameters()) == 1025 * 512 + 512 + 2 * layer + 2 * 512 + 2 * 513


def test_a_start_is_drawn_as_published():
    model = create_aggregator("longformer", in_dim=64, n_classes=2, width=64)
    for name, parameter in model.named_parameters():
        if "projection" in name:
            continue
        if name.endswith(".bias"):
            assert parameter.eq(0).all(), name
        elif "norm" in name:
            assert parameter.eq(1).all(), name
        elif parameter.numel() > 500:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.1), name


def test_attention_is_the_share_of_the_global_token_in_the_last_layer():
    model, bag = aggregator(), bag_of(30)
    tokens = tokens_of(bag)
    seen = {}
    last = model.last.attention
    last.register_forward_hook(lambda *_: pytest.fail("the last layer computes the global token alone"))
    model.last.norm.register_forward_hook(lambda _, given, made: seen.update(rows=made))
    out = model(tokens)
    rows = seen["rows"]
    keys = last.keys_values(rows)[:, :16].view(31, 2, 8)
    query = last.query(rows[0]).view(2, 8)
    logits = torch.einsum("hd,rhd->rh", query, keys) / 8**0.5 + last.token_bias[0]
    logits = torch.cat([logits[:1] + last.own_bias - last.token_bias[0], logits[1:]])
    shares = logits.softmax(dim=0).mean(dim=1)[1:]
    expected = shares / shares.sum()
    torch.testing.assert_close(out.attention.sort().values, expected.sort().values)
    torch.testing.assert_close(out.teacher, out.attention.detach())


def test_a_token_of_n_patches_weighs_as_n_patches_of_its_cell():
    model, bag = aggregator(), bag_of(12)
    copies = [0, *range(12), 0]
    tokens, apart = tokens_of(bag), tokens_of(Bag(bag.features[copies], bag.coords[copies], 256.0))
    first, firsts = ((one.features == bag.features[0]).all(dim=1) for one in (tokens, apart))
    assert firsts.sum() == 3
    together, apart = model(with_bias(tokens, first * torch.tensor(3.0).log(), torch.zeros(12))), model(apart)
    torch.testing.assert_close(together.logits, apart.logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(together.attention[first].sum(), apart.attention[firsts].sum())
    torch.testing.assert_close(together.teacher[first].sum(), apart.teacher[firsts].sum())


def test_the_gate_lowers_a_keys_weight_and_learns():
    model, bag = aggregator(), bag_of(20)
    tokens = tokens_of(bag)
    closed = torch.zeros(20).index_fill(0, torch.tensor([7]), -30.0)
    out = model(with_bias(tokens, torch.zeros(20), closed))
    assert out.attention[7] < 1e-6
    assert out.teacher[7] > 1e-6
    assert not out.teacher.requires_grad
    others = torch.arange(20) != 7
    pruned = model(tokens_of(Bag(tokens.features[others], tokens.coords[others], 256.0)))
    torch.testing.assert_close(out.logits, pruned.logits, atol=1e-4, rtol=0)
    gate = torch.full((20,), -0.1, requires_grad=True)
    model(with_bias(tokens, torch.zeros(20), gate)).logits[0, 0].backward()
    assert gate.grad.abs().gt(0).all()


def test_attention_drowned_by_the_global_token_goes_by_the_bias():
    gate = torch.full((20,), -1e4).index_fill(0, torch.tensor([3]), -1e4 + 1)
    out = aggregator()(with_bias(tokens_of(bag_of(20)), torch.zeros(20), gate))
    torch.testing.assert_close(out.attention, gate.softmax(dim=0))


def test_order_changes_nothing_but_places_do():
    model, bag = aggregator(), bag_of(40)
    mixed = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    first = model(tokens_of(bag)).logits
    torch.testing.assert_close(
        model(tokens_of(Bag(bag.features[mixed], bag.coords[mixed], 256.0))).logits, first, atol=1e-5, rtol=0
    )
    assert not torch.allclose(model(tokens_of(Bag(bag.features[mixed], bag.coords, 256.0))).logits, first, atol=1e-3)


@pytest.mark.parametrize("options", [{}, {"tied": False}, {"relative": False}, {"layers": 3}])
def test_bags_of_a_batch_are_as_alone(options):
    model = aggregator(**options)
    bags = [bag_of(size, size) for size in (60, 0, 1, 2, 25)]
    batch = model(tokens_of(*bags))
    places = [0, 60, 60, 61, 63, 88]
    for number, bag in enumerate(bags):
        alone = model(tokens_of(bag))
        torch.testing.assert_close(alone.logits[0], batch.logits[number], atol=1e-5, rtol=0)
        part = batch.attention[places[number] : places[number + 1]]
        torch.testing.assert_close(alone.attention, part, atol=1e-6, rtol=0)


def test_slides_without_coordinates_are_refused():
    model = dtcwsi.create_model("longformer", in_dim=5, n_classes=3, **SMALL)
    with pytest.raises(FeaturesError, match="longformer needs the coordinates of patches"):
        model(torch.randn(4, 5))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attention_window": 4}, "got attention_window=4; expected an odd number of cells"),
        ({"attention_window": 1}, "got attention_window=1; expected a whole number from 3 on"),
        ({"layers": 1}, "got layers=1; expected a whole number from 2 on"),
        ({"heads": 3}, "got width=16 and heads=3; expected heads that divide the width"),
        ({"heads": 0}, "got heads=0; expected a whole number"),
        ({"dropout": 1.0}, "got dropout=1.0; expected a share"),
    ],
)
def test_options_out_of_range_are_told(options, message):
    with pytest.raises(OptionError, match=message):
        aggregator(**options)


def test_double_precision_runs():
    model = (
        create_aggregator("longformer", in_dim=5, n_classes=2, width=16, heads=2, attention_window=5).double().eval()
    )
    coords = torch.arange(6)[:, None] * torch.tensor([256, 0])
    tokens = create_compressor("identity", dim=5)(pack([Bag(torch.randn(6, 5).double(), coords)]))
    assert model(tokens).logits.dtype == torch.float64
