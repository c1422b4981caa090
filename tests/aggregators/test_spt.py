"""Vectors recorded from MLNeurosurg/fastglioma at f873496, TransformerMIL of width 16 with seeded weights."""

import copy
import math

import pytest
import torch
from torch.profiler import profile

import dtcwsi
from dtcwsi.aggregators import create_aggregator
from dtcwsi.bags.packing import pack
from dtcwsi.compressors import create_compressor
from dtcwsi.errors import FeaturesError, OptionError
from dtcwsi.nn.fused import FusedBlock
from dtcwsi.types import Bag

SMALL = {"width": 16, "heads": 2}
OURS = {
    "cls_token": "prefix",
    "pos_embed.cls_pos_emb": "prefix_positions",
    "pos_embed._ff_embed": "positions.waves",
    "pos_embed._mlp": "positions.mlp",
    "blocks.0": "blocks.0",
    "blocks.1": "last",
    "norm1": "norm",
    "norm2": "mlp_norm",
    "attn.qkv": "qkv",
    "attn.proj": "out",
    "mlp.fc1": "mlp.0",
    "mlp.fc2": "mlp.3",
}
VECTOR = [-0.2527066, 0.1843859, -0.1004657, 0.5207189, 1.5066615, -0.1352500, -0.0054030, 1.2050116]
VECTOR += [-0.0760916, 0.2089422, -0.1721221, 0.2150323, -0.3256875, -0.1519522, 0.0605985, 0.5588965]
ATTENTION = [0.0839007, 0.0759686, 0.0776586, 0.0873730, 0.0837736, 0.0812132]
ATTENTION += [0.0816248, 0.0842307, 0.0873067, 0.0906202, 0.0891457, 0.0771841]


def published_names():
    """The keys of its state dict, in their order there, and the model's own."""
    names = ["cls_token", "norm.weight", "norm.bias", "pos_embed.cls_pos_emb", "pos_embed._ff_embed.weight"]
    parts = [f"pos_embed._mlp.{part}" for part in (0, 1, 3, 4)]
    parts += [f"blocks.{b}.{part}" for b in (0, 1) for part in ("norm1", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")]
    names += [f"{part}.{end}" for part in parts for end in ("weight", "bias")]
    names += [f"blocks.{b}.attn.qkv.weight" for b in (0, 1)]
    return {name: renamed(name) for name in sorted(names)}


def renamed(name):
    for theirs, ours in OURS.items():
        name = name.replace(theirs, ours, 1)
    return name


def published(**options):
    """The model with the weights that the recordings were made with, and nothing in front."""
    model = create_aggregator("spt", in_dim=16, n_classes=3, **SMALL | options).eval()
    state = model.state_dict()
    for number, ours in enumerate(published_names().values()):
        shape, generator = state[ours].shape, torch.Generator().manual_seed(number)
        scale = 0.3 if len(shape) == 1 else shape[-1] ** -0.5
        drawn = shape if "prefix" not in ours else (1, *shape)
        state[ours] = (torch.randn(drawn, generator=generator) * scale).view(shape)
    state["projection.weight"], state["projection.bias"] = torch.eye(16), torch.zeros(16)
    model.load_state_dict(state)
    return model


def recorded_bag():
    places = torch.stack([torch.arange(12) % 5 + 1, torch.arange(12) // 5 + 3], dim=1)  # columns, rows
    return Bag(torch.randn(12, 16, generator=torch.Generator().manual_seed(100)), places * 256, 256.0)


def aggregator(**options):
    torch.manual_seed(0)
    model = create_aggregator("spt", in_dim=5, n_classes=3, **SMALL | options).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def tokens_of(*bags):
    return create_compressor("identity", dim=bags[0].features.shape[1])(pack(list(bags)))


def with_bias(tokens, log_size, gate):
    return type(tokens)(**{**vars(tokens), "log_size": log_size, "gate": gate})


def bag_of(size, seed=0, dim=5):
    generator = torch.Generator().manual_seed(seed)
    places = torch.randperm(2 * size, generator=generator)[:size]
    return Bag(torch.randn(size, dim, generator=generator), torch.stack([places % 9, places // 9], 1) * 256, 256.0)


def test_the_published_encoder_has_its_number_of_parameters():
    model = create_aggregator("spt", in_dim=512, n_classes=2)
    encoder = [p for name, p in model.named_parameters() if not name.startswith(("projection.", "head."))]
    assert sum(parameter.numel() for parameter in encoder) == 6_333_708
    assert sum(parameter.numel() for parameter in model.head.parameters()) == 512 * 2 + 2


def test_every_published_key_has_a_place():
    ours = {name for name in published().state_dict() if not name.startswith(("projection.", "head."))}
    assert set(published_names().values()) == ours


def test_the_published_weights_give_the_published_vector_and_attention():
    model, tokens = published(), tokens_of(recorded_bag())
    torch.testing.assert_close(model.slide_vectors(tokens)[0], torch.tensor(VECTOR), atol=1e-5, rtol=0)
    row_of_patch = tokens.patch_to_token
    torch.testing.assert_close(model(tokens).attention[row_of_patch], torch.tensor(ATTENTION), atol=1e-5, rtol=0)


def brute_block(block, rows, bias):
    """A block, query by query and head by head, in float64."""
    state = {name: tensor.double() for name, tensor in block.state_dict().items()}

    def normed(row, name):
        row = (row - row.mean()) / (row.var(correction=0) + 1e-5).sqrt()
        return row * state[f"{name}.weight"] + state[f"{name}.bias"]

    rows, width = [row.double() for row in rows], len(rows[0])
    part = width // block.heads
    projected = [state["qkv.weight"] @ normed(row, "norm") for row in rows]
    renewed = []
    for number, row in enumerate(rows):
        found = []
        for head in range(block.heads):
            columns = slice(head * part, (head + 1) * part)
            query = projected[number][:width][columns]
            logits = [
                float(query @ other[width : 2 * width][columns]) / math.sqrt(part) + float(lift)
                for other, lift in zip(projected, bias, strict=True)
            ]
            total = sum(math.exp(logit) for logit in logits)
            parts = zip(logits, projected, strict=True)
            found.append(sum(math.exp(logit) / total * other[2 * width :][columns] for logit, other in parts))
        row = row + state["out.weight"] @ torch.cat(found) + state["out.bias"]
        hidden = state["mlp.0.weight"] @ normed(row, "mlp_norm") + state["mlp.0.bias"]
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
        renewed.append(row + state["mlp.3.weight"] @ hidden + state["mlp.3.bias"])
    return torch.stack(renewed)


@pytest.mark.parametrize(("width", "heads"), [(16, 2), (12, 4), (14, 1)])
def test_a_block_is_attention_with_biases_and_an_mlp(width, heads):
    torch.manual_seed(0)
    block = FusedBlock(width, heads=heads)
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    rows, bias = torch.randn(9, width), torch.linspace(-3, 2, 9)
    expected = brute_block(block, rows, bias).float()
    torch.testing.assert_close(block(rows, bias, [9]), expected, atol=1e-4, rtol=1e-4)
    first, logits = block.of_first(rows, bias, [9])
    torch.testing.assert_close(first, expected[:1], atol=1e-4, rtol=1e-4)
    assert logits.shape == (heads, 9)


def test_bags_take_turns_in_a_block():
    torch.manual_seed(0)
    block, rows, bias = FusedBlock(16, heads=2), torch.randn(9, 16), torch.linspace(-3, 2, 9)
    expected = torch.cat([brute_block(block, rows[:2], bias[:2]), brute_block(block, rows[2:], bias[2:])]).float()
    torch.testing.assert_close(block(rows, bias, [2, 7]), expected, atol=1e-5, rtol=1e-5)
    first, logits = block.of_first(rows, bias, [2, 7])
    torch.testing.assert_close(first, expected[[0, 2]], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(logits[:, 2:], block.of_first(rows[2:], bias[2:], [7])[1], atol=1e-5, rtol=1e-5)


def test_gradients_of_the_bias_are_those_of_the_reference():
    torch.manual_seed(0)
    block = FusedBlock(16, heads=2).double()
    rows, bias = torch.randn(7, 16).double(), torch.linspace(-1, 1, 7).double().requires_grad_()
    block(rows, bias, [7])[3].sum().backward()
    shifts = []
    for number in range(7):
        lift = 1e-5 * torch.nn.functional.one_hot(torch.tensor(number), 7)
        up, down = (brute_block(block, rows, bias.detach() + sign * lift)[3].sum() for sign in (1, -1))
        shifts.append(float(up - down) / 2e-5)
    assert bias.grad.tolist() == pytest.approx(shifts, abs=1e-6)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_a_token_of_n_equal_patches_of_one_place_weighs_as_they_do(layers):
    model, bag = aggregator(layers=layers), bag_of(6)
    again = torch.tensor([0, 1, 2, 3, 4, 5, 5, 5])
    repeated = Bag(bag.features[again], bag.coords[again], 256.0)
    apart = model(tokens_of(repeated))
    tokens = tokens_of(bag)
    tripled = (tokens.features == bag.features[5]).all(dim=1)
    together = model(with_bias(tokens, torch.where(tripled, math.log(3), 0.0), torch.zeros(6)))
    torch.testing.assert_close(together.logits, apart.logits, atol=1e-5, rtol=0)
    copies = (tokens_of(repeated).features == bag.features[5]).all(dim=1)
    torch.testing.assert_close(together.attention[tripled].sum(), apart.attention[copies].sum(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("layers", [1, 3])
def test_a_shut_gate_hides_a_token_from_every_block(layers):
    model, bag = aggregator(layers=layers), bag_of(9)
    tokens, without = tokens_of(bag), tokens_of(Bag(bag.features[:8], bag.coords[:8], 256.0))
    shut = torch.where((tokens.features == bag.features[8]).all(dim=1), -60.0, 0.0)
    out = model(with_bias(tokens, torch.zeros(9), shut))
    torch.testing.assert_close(out.logits, model(without).logits, atol=1e-5, rtol=0)
    assert out.attention[shut < 0].max() < 1e-6


def test_the_gate_learns_and_the_teacher_is_without_the_last_blocks():
    model, tokens = aggregator(layers=1), tokens_of(bag_of(8))
    gate = torch.linspace(-2, 0, 8).requires_grad_()
    gated, free = model(with_bias(tokens, torch.zeros(8), gate)), model(tokens)
    torch.testing.assert_close(gated.teacher, free.attention)
    assert not torch.allclose(gated.attention, free.attention, atol=1e-3)
    assert not gated.teacher.requires_grad
    gated.logits.sum().backward()
    assert gate.grad.abs().min() > 0


def test_attention_sums_to_1_even_where_the_prefix_takes_nearly_all():
    model = aggregator()
    with torch.no_grad():
        model.last.qkv.weight.mul_(40)
        model.prefix.mul_(40)
    out = model(tokens_of(bag_of(20), bag_of(5, seed=1)))
    assert [float(part.sum()) for part in out.attention.detach().split([20, 5])] == pytest.approx([1, 1], abs=1e-5)
    assert out.attention.ge(0).all()


def test_places_count_in_cells_from_the_slides_corner():
    model, bag = aggregator(), bag_of(20)

    def logits(coords, size):
        return model(tokens_of(Bag(bag.features, coords, size))).logits

    here = logits(bag.coords, 256.0)
    torch.testing.assert_close(logits(bag.coords * 2, 512.0), here, atol=1e-5, rtol=0)
    assert not torch.allclose(logits(bag.coords + 2560, 256.0), here, atol=1e-3)
    assert not torch.allclose(logits(bag.coords.flip(1), 256.0), here, atol=1e-3)


def test_places_stay_exact_under_autocast():
    model = create_aggregator("spt", in_dim=5, n_classes=3, **SMALL)
    places = torch.tensor([[301.0, 257.0], [302.0, 257.0]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = model.positions(places).float()
    torch.testing.assert_close(rounded, model.positions(places), atol=0.05, rtol=0.05)


def test_places_stay_exact_in_a_16_bit_model():
    places = torch.tensor([[300.0, 401.0], [301.0, 400.0], [20_000.0, 10_000.0]])
    positions = create_aggregator("spt", in_dim=16, n_classes=3, **SMALL).positions.bfloat16()
    exact = copy.deepcopy(positions).float()(places)
    found = positions(places)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), exact, atol=0.03, rtol=0.03)


def test_a_16_bit_model_sees_far_cells():
    torch.manual_seed(0)
    model = dtcwsi.create_model("spt", in_dim=16, n_classes=3, width=32).eval()
    generator = torch.Generator().manual_seed(0)
    grid = torch.cartesian_prod(torch.arange(8), torch.arange(8))
    bag = Bag(torch.randn(64, 16, generator=generator), (grid + 400) * 256, 256.0)
    exact = copy.deepcopy(model.bfloat16()).float()(bag)
    found = model(bag)
    torch.testing.assert_close(found.logits.float(), exact.logits, atol=0.02, rtol=0)


def test_a_batch_is_its_bags_alone():
    model, bags = aggregator(), [bag_of(30), bag_of(1, seed=1), bag_of(9, seed=2)]
    batch = model(tokens_of(*bags))
    for number, bag in enumerate(bags):
        torch.testing.assert_close(model(tokens_of(bag)).logits[0], batch.logits[number], atol=1e-5, rtol=0)


def test_a_batch_is_its_bags_alone_far_from_the_corner():
    torch.manual_seed(0)
    model = dtcwsi.create_model("spt", in_dim=512, n_classes=2).eval()
    generator = torch.Generator().manual_seed(0)
    bags = [
        Bag(torch.randn(n, 512, generator=generator), torch.randint(0, 1800, (n, 2), generator=generator) * 112, 112.0)
        for n in (150, 1, 2, 7)
    ]
    batch = model(pack(bags)).logits
    for number, bag in enumerate(bags):
        torch.testing.assert_close(model(bag).logits[0], batch[number], atol=5e-6, rtol=0)


def allocated(count):
    """Bytes that a training step allocates in all; freed ones count too."""
    model, tokens = aggregator(), tokens_of(bag_of(count))
    gate = torch.zeros(count, requires_grad=True)
    with profile(profile_memory=True) as seen:
        model.train()(with_bias(tokens, torch.zeros(count), gate)).logits.sum().backward()
    return sum(max(0, event.self_cpu_memory_usage) for event in seen.key_averages())


def test_memory_of_a_training_step_is_linear_in_the_patches():
    small, large = allocated(2000), allocated(4000)
    assert large < 2.1 * small
    assert large < 4 * 4000**2  # the logits of one head alone


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"heads": 3}, "got width=16 and heads=3; expected heads that divide the width"),
        ({"layers": 0}, "got layers=0; expected a whole number from 1 on"),
        ({"prefix": 0}, "got prefix=0; expected a whole number from 1 on"),
        ({"frequencies": 0}, "got frequencies=0; expected"),
        ({"position_hidden": -1}, "got position_hidden=-1; expected"),
        ({"dropout": 1.0}, "got dropout=1.0; expected a share"),
    ],
)
def test_options_out_of_range_are_told(options, told):
    with pytest.raises(OptionError, match=told):
        aggregator(**options)


def test_bags_without_coordinates_are_laid_out_in_squares():
    model, rows = aggregator().eval(), torch.randn(7, 5)
    squared = Bag(rows, torch.tensor([[0, 0], [1, 0], [2, 0], [0, 1], [1, 1], [2, 1], [0, 2]]) * 256, 256.0)
    tokens = tokens_of(squared)
    told, placed = model(tokens_of(Bag(rows), Bag(rows[:1]))), model(tokens)
    torch.testing.assert_close(told.logits[:1], placed.logits)
    torch.testing.assert_close(told.attention[:7], placed.attention[tokens.patch_to_token])
    flipped = model(tokens_of(Bag(rows.flip(0))))
    assert (flipped.attention.flip(0) - told.attention[:7]).abs().max() > 1e-4


def test_a_batch_of_which_some_bags_have_coordinates_is_refused():
    placed = Bag(torch.randn(4, 5), torch.arange(8).view(4, 2) * 256, 256.0)
    with pytest.raises(FeaturesError, match="spt got a batch of which some bags have coordinates and others none"):
        aggregator()(tokens_of(placed, Bag(torch.randn(4, 5))))
