import math

import pytest
import torch

from dtcwsi.aggregators import create_aggregator, hipt
from dtcwsi.bags.packing import pack
from dtcwsi.compressors import create_compressor
from dtcwsi.errors import FeaturesError, OptionError
from dtcwsi.models import create_model
from dtcwsi.types import Bag

DIM = 5
SMALL = {"width": 12, "heads": 2, "slide_heads": 3, "depth": 2, "layers": 1}


def build(**options):
    torch.manual_seed(0)
    model = create_aggregator("hipt", in_dim=DIM, n_classes=3, **{**SMALL, **options}).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.4)
    return model


def bag_of(*cells, seed=0):
    rows = torch.randn(len(cells), DIM, generator=torch.Generator().manual_seed(seed))
    return Bag(rows, torch.tensor(cells).reshape(-1, 2) * 256, 256.0)


def scattered(count, side, seed=0):
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(side * side, generator=generator)[:count]
    return bag_of(*torch.stack([chosen % side, chosen // side], dim=1).tolist(), seed=seed)


def tokens_of(*bags, **changed):
    tokens = create_compressor("identity", dim=DIM)(pack(list(bags)))
    return type(tokens)(**{**vars(tokens), **changed})


def attend(layer, heads, rows, bias):
    """Attend from each row to each, head by head; also what the first row gives to each, a mean over heads."""
    queries, keys, values = (rows @ layer.qkv.weight.T + layer.qkv.bias).chunk(3, dim=1)
    part, found, shares = rows.shape[1] // heads, [], 0
    for head in range(heads):
        at = slice(head * part, (head + 1) * part)
        weights = (queries[:, at] @ keys[:, at].T / math.sqrt(part) + bias).softmax(dim=1)
        found.append(weights @ values[:, at])
        shares = shares + weights[0] / heads
    return torch.cat(found, dim=1) @ layer.out.weight.T + layer.out.bias, shares


def by_loops(model, features, cells, weights):
    """Logits and attention of one bag, region by region, from the definition; tokens of a cell averaged first."""
    vit, at = model.region, {}
    for number, (x, y) in enumerate(cells):
        at.setdefault((x // 16, y // 16), {}).setdefault((x % 16, y % 16), []).append(number)
    grid = vit.positions[0, 1:].view(14, 14, -1).permute(2, 0, 1)[None]
    grid = torch.nn.functional.interpolate(grid, scale_factor=(16.1 / 14, 16.1 / 14), mode="bicubic")[0]
    vectors, sizes, within = [], [], torch.zeros(len(cells), dtype=torch.float64)
    for region in at.values():
        rows, bias = [vit.class_token[0, 0] + vit.positions[0, 0]], [0.0]
        for (x, y), tokens in region.items():
            mean = sum(weights[i] * features[i] for i in tokens) / sum(weights[i] for i in tokens)
            rows.append(torch.nn.functional.gelu(vit.embed(mean)) + grid[:, y, x])
            bias.append(math.log(sum(weights[i] for i in tokens)))
        rows, bias = torch.stack(rows), torch.tensor(bias, dtype=torch.float64)
        for block in vit.blocks:
            found, shares = attend(block.attention, 2, block.first_norm(rows), bias)
            rows = rows + found
            rows = rows + block.mlp(block.second_norm(rows))
        vectors.append(vit.norm(rows[0]))
        sizes.append(sum(weights[i] for tokens in region.values() for i in tokens))
        for share, tokens in zip(shares[1:] / shares[1:].sum(), region.values(), strict=True):
            for i in tokens:
                within[i] = share * weights[i] / sum(weights[j] for j in tokens)
    bias = torch.tensor(sizes, dtype=torch.float64).log()
    rows = torch.relu(model.projection[0](torch.stack(vectors)))
    for layer in model.layers:
        rows = layer.first_norm(rows + attend(layer.attention, 3, rows, bias)[0])
        rows = layer.second_norm(rows + layer.mlp(rows))
    over = (model.attention(rows)[:, 0] + bias).softmax(dim=0)
    logits = model.head(torch.relu(model.summary[0](over @ rows)))
    region_of = {i: number for number, region in enumerate(at.values()) for tokens in region.values() for i in tokens}
    return logits, torch.stack([over[region_of[i]] * within[i] for i in range(len(cells))])


def test_a_bag_gets_the_logits_and_attention_of_plain_loops():
    """Regions of 1 to many cells, two tokens in one cell, sizes and gates."""
    cells = [(0, 0), (0, 0), (15, 15), (3, 9), (16, 2), (40, 33), (41, 47), (32, 32), (7, 20), (5, 1)]
    whole, generator = tokens_of(bag_of(*cells)), torch.Generator().manual_seed(3)
    log_size = torch.randint(1, 9, (len(cells),), generator=generator).double().log()
    gate = -torch.rand(len(cells), generator=generator).double()
    tokens = type(whole)(**{**vars(whole), "log_size": log_size, "gate": gate, "features": whole.features.double()})
    model, cells = build().double(), (tokens.coords // 256).tolist()  # tokens stand in an order of their own
    out = model(tokens)
    logits, attention = by_loops(model, tokens.features, cells, (log_size + gate).exp().tolist())
    torch.testing.assert_close(out.logits[0], logits, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(out.attention, attention, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize(("dim", "count"), [(384, 3_376_515), (1024, 3_499_395)])
def test_the_published_number_of_parameters(dim, count):
    model = create_aggregator("hipt", in_dim=dim, n_classes=2)
    assert sum(weight.numel() for weight in model.parameters()) == count


def test_the_slide_part_has_the_published_number_of_parameters():
    model = create_aggregator("hipt", in_dim=192, n_classes=2, regions="given")
    assert sum(weight.numel() for weight in model.parameters()) == 595_011


def test_bags_do_not_see_each_other_whatever_the_slices(monkeypatch):
    model = build()
    bags = [scattered(300, 50, seed=1), bag_of(), bag_of((3, 4)), scattered(256, 16), bag_of((0, 0), (90, 90))]
    batch = model(tokens_of(*bags))
    assert torch.isfinite(batch.logits).all()
    parts = batch.attention.split([len(bag) for bag in bags])
    assert [float(part.sum()) for part in parts] == pytest.approx([1, 0, 1, 1, 1])
    monkeypatch.setattr(hipt, "_ROWS", 40)
    for bag, logits, attention in zip(bags, batch.logits, parts, strict=True):
        alone = model(tokens_of(bag))
        torch.testing.assert_close(alone.logits[0], logits, atol=1e-5, rtol=0)
        torch.testing.assert_close(alone.attention, attention, atol=1e-6, rtol=0)


def test_the_order_of_patches_changes_nothing_and_their_places_do():
    model, bag = build(), scattered(60, 16)
    mixed = torch.randperm(60, generator=torch.Generator().manual_seed(5))
    one = model(tokens_of(bag))
    other = model(tokens_of(Bag(bag.features[mixed], bag.coords[mixed], 256.0)))
    torch.testing.assert_close(one.logits, other.logits, atol=1e-5, rtol=0)
    moved = model(tokens_of(Bag(bag.features[mixed], bag.coords, 256.0)))
    assert (one.logits - moved.logits).abs().max() > 1e-3


def test_slices_computed_again_have_the_gradient_of_one_slice(monkeypatch):
    model, bag = build(dropout=0.0).train(), scattered(200, 50)
    count = []
    run = hipt.RegionVit._of
    monkeypatch.setattr(hipt.RegionVit, "_of", lambda *given: count.append(1) or run(*given))

    def gradient(rows, kept):
        monkeypatch.setattr(hipt, "_ROWS", rows)
        monkeypatch.setattr(hipt, "_KEPT", kept)
        count.clear()
        model.zero_grad()
        gate = torch.zeros(200, requires_grad=True)
        torch.nn.functional.cross_entropy(model(tokens_of(bag, gate=gate)).logits, torch.tensor([1])).backward()
        return [gate.grad, *(weight.grad for weight in model.parameters())], len(count)

    whole, once = gradient(10_000, 10_000)
    sliced, few = gradient(60, 10_000)
    parts, often = gradient(60, 199)
    assert once == 1
    assert few > 4
    assert often == 2 * few
    torch.testing.assert_close(sliced, whole, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=1e-4)
    assert whole[0].abs().gt(0).all()


def test_an_absent_cell_is_no_patch_of_zeros():
    model = build()
    alone = model(tokens_of(bag_of((0, 0), (1, 0))))
    bag = bag_of((0, 0), (1, 0), (2, 0))
    filled = model(tokens_of(Bag(bag.features * torch.tensor([[1.0], [1.0], [0.0]]), bag.coords, 256.0)))
    assert (alone.logits - filled.logits).abs().max() > 1e-3


def test_a_gate_that_closes_a_token_leaves_the_bag_without_it():
    model, bag = build(), bag_of((0, 0), (3, 7), (20, 1))
    without = model(tokens_of(Bag(bag.features[[0, 2]], bag.coords[[0, 2]], 256.0)))
    closes = (tokens_of(bag).coords == 256 * torch.tensor([3, 7])).all(dim=1)
    closed = model(tokens_of(bag, gate=-200.0 * closes))
    torch.testing.assert_close(closed.logits, without.logits, atol=1e-5, rtol=0)
    assert float(closed.attention @ closes.float()) < 1e-12


def test_a_given_region_of_n_patches_weighs_as_n_regions_and_needs_no_coordinates():
    model, rows = build(regions="given"), torch.randn(2, DIM)
    apart = model(tokens_of(Bag(rows[[0, 1, 1, 1]])))
    together = model(tokens_of(Bag(rows), log_size=torch.tensor([0.0, math.log(3)])))
    torch.testing.assert_close(together.logits, apart.logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(together.attention[1], apart.attention[1:].sum())
    batch = model(tokens_of(Bag(rows), Bag(rows[:0]), Bag(rows[:1])))
    torch.testing.assert_close(batch.logits[2], model(tokens_of(Bag(rows[:1]))).logits[0], atol=1e-5, rtol=0)
    assert torch.isfinite(batch.logits).all()


def test_coordinates_are_needed_for_the_grid_alone():
    needs = [
        create_model("hipt", in_dim=DIM, n_classes=2, regions=regions).needs_places for regions in ("grid", "given")
    ]
    assert needs == [True, False]


def test_attention_drowned_by_the_class_token_still_sums_to_one():
    out = build()(tokens_of(bag_of((0, 0), (1, 0)), gate=torch.tensor([-1e4, -1e4])))
    assert float(out.attention.sum()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"regions": "found"}, "got regions='found'; expected one of: "),
        ({"width": 0}, "got width=0; expected a whole number from 1 on"),
        ({"heads": 5}, "got width=12 and heads=5; expected heads that divide the width"),
        ({"slide_heads": 7}, "got width=12 and slide_heads=7; expected heads that divide the width"),
        ({"heads": 0}, "got heads=0; expected a whole number"),
        ({"depth": 0}, "got depth=0; expected a whole number"),
        ({"layers": 0}, "got layers=0; expected a whole number"),
        ({"dropout": 1.0}, "got dropout=1.0; expected a share"),
    ],
)
def test_options_out_of_range_are_told(options, message):
    with pytest.raises(OptionError, match=message):
        build(**options)


def test_missing_coordinates_are_told():
    with pytest.raises(FeaturesError, match="hipt needs the coordinates of patches"):
        build()(tokens_of(Bag(torch.randn(3, DIM))))
