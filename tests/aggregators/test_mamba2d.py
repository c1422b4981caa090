import pytest
import torch
from torch.nn.functional import gelu

import dtcwsi
from dtcwsi.aggregators import create_aggregator
from dtcwsi.aggregators import mamba2d as module
from dtcwsi.bags.packing import pack
from dtcwsi.compressors import create_compressor
from dtcwsi.errors import FeaturesError, OptionError
from dtcwsi.types import Bag

DIM = 5


def mamba2d(**options):
    torch.manual_seed(0)
    return create_aggregator("mamba2d", in_dim=DIM, n_classes=3, **{"width": 16, "states": 4} | options).eval()


def tokens_of(*bags, **fields):
    tokens = create_compressor("identity", dim=DIM)(pack(list(bags)))
    return type(tokens)(**{**vars(tokens), **fields})


@pytest.fixture
def bag():
    """Ten patches on a grid of 4 columns and 6 rows."""
    generator = torch.Generator().manual_seed(3)
    place = torch.cat([torch.tensor([0, 23]), 1 + torch.randperm(22, generator=generator)[:8]])
    return Bag(
        torch.randn(10, DIM, generator=generator), torch.stack([place % 4, place // 4], dim=1) * 256 + 777, 256.0
    )


@pytest.mark.parametrize(("layers", "count"), [(1, 265_091), (2, 381_699)])
def test_published_sizes_have_the_published_number_of_parameters(layers, count):
    model = create_aggregator("mamba2d", in_dim=1024, n_classes=2, layers=layers)
    assert sum(parameter.numel() for parameter in model.parameters()) == count


def test_weights_start_as_published():
    model = create_aggregator("mamba2d", in_dim=1024, n_classes=2)
    block = model.blocks[0]
    assert block.steps.bias.abs().max() == 0
    assert model.projection[0].bias.abs().max() == 0
    assert float(block.project_in.weight.detach().std()) == pytest.approx((2 / (128 + 512)) ** 0.5, rel=0.02)
    torch.testing.assert_close(block.log_rates[7].exp(), torch.arange(1.0, 17))
    assert 0 <= float(model.pad_token.detach().min()) < float(model.pad_token.detach().max()) <= 1


@pytest.mark.parametrize("layers", [1, 2])
def test_absent_cells_are_the_pad_token_and_are_attended_to(layers, bag):
    model = mamba2d(layers=layers)
    place = ((bag.coords - 777) // 256) @ torch.tensor([1, 4])
    grid = model.pad_token.repeat(24, 1)
    grid[place] = gelu(bag.features @ model.projection[0].weight.T)
    for block in model.blocks:
        grid = block(grid, torch.ones(24), 4)
    grid = model.norm(grid)
    scores = model.attention(grid)[:, 0]
    logits = model.head(scores.softmax(dim=0) @ grid)
    mixed = torch.randperm(10)
    for order in (torch.arange(10), mixed):
        tokens = tokens_of(Bag(bag.features[order], bag.coords[order], 256.0))
        out = model(tokens)
        torch.testing.assert_close(out.logits[0], logits)
        order = (tokens.coords[:, None] == bag.coords).all(dim=2).long().argmax(dim=1)
        torch.testing.assert_close(out.attention, scores[place][order].softmax(dim=0))
        torch.testing.assert_close(out.teacher, out.attention.detach())


def test_every_weight_learns(bag):
    model = mamba2d(layers=2).train()
    model(tokens_of(bag)).logits[0, 0].backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())


def test_bags_do_not_see_each_other_wherever_they_lie(bag):
    model = mamba2d()
    other = Bag(torch.randn(4, DIM), torch.tensor([[0, 0], [256, 0], [9000, 256], [0, 4000]]), 256.0)
    none, one = (
        Bag(torch.zeros(0, DIM), torch.zeros(0, 2, dtype=torch.int64)),
        Bag(torch.ones(1, DIM), torch.ones(1, 2)),
    )
    batch = model(tokens_of(other, none, bag, one))
    for number, alone in enumerate((other, none, bag, one)):
        torch.testing.assert_close(model(tokens_of(alone)).logits[0], batch.logits[number], atol=1e-5, rtol=0)
    sums = [float(part.sum().detach()) for part in batch.attention.split([4, 0, 10, 1])]
    assert sums == pytest.approx([1, 0, 1, 1])


def test_a_bag_without_patches_is_one_absent_cell():
    model = mamba2d()
    rows = model.norm(model.blocks[0](model.pad_token[None], torch.ones(1), 1))
    out = model(tokens_of(Bag(torch.zeros(0, DIM), torch.zeros(0, 2, dtype=torch.int64))))
    torch.testing.assert_close(out.logits, model.head(rows))


def test_size_and_gate_weigh_in_the_attention_and_the_gate_scales_what_the_scan_sees(bag):
    model = mamba2d()
    sizes, plain = torch.linspace(0, 2, 10), model(tokens_of(bag))
    sized = model(tokens_of(bag, log_size=sizes))
    torch.testing.assert_close(sized.attention, (plain.attention.log() + sizes).softmax(dim=0))
    gate = torch.zeros(10)
    gate[4] = -40
    gate.requires_grad_()
    tokens = tokens_of(bag, gate=gate)
    hidden = model(tokens)
    assert float(hidden.attention[4].detach()) < 1e-12
    assert float(hidden.teacher[4]) > 1e-3
    assert torch.autograd.grad(hidden.logits[0, 0], gate)[0][:4].abs().min() > 0
    changed = tokens.features.clone()
    changed[4] += 3
    same = model(type(tokens)(**{**vars(tokens), "features": changed}))
    torch.testing.assert_close(same.logits, hidden.logits, atol=1e-6, rtol=0)
    assert not torch.allclose(hidden.logits, plain.logits, atol=1e-4)


def test_larger_cells_average_their_patches():
    model = mamba2d(cell_size=512)
    features = torch.randn(4, DIM)
    bag = Bag(features, torch.tensor([[0, 0], [256, 0], [0, 256], [1024, 512]]), 256.0)
    tokens = tokens_of(bag)
    first = tokens.coords.amax(dim=1) < 512
    rows = model.projection(tokens.features)
    grid = model.pad_token.repeat(6, 1)
    grid[0], grid[5] = rows[first].mean(dim=0), rows[~first][0]
    grid = model.norm(model.blocks[0](grid, torch.ones(6), 3))
    scores = model.attention(grid)[:, 0]
    # the cell of three patches weighs as three
    weights = (scores + torch.tensor([3.0, 1, 1, 1, 1, 1]).log()).softmax(dim=0)
    out = model(tokens)
    torch.testing.assert_close(out.logits[0], model.head(weights @ grid))
    assert float(out.attention.detach()[first].std()) == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "got width=0; expected a whole number from 1 on"),
        ({"layers": 0}, "got layers=0; expected a whole number from 1 on"),
        ({"states": 0}, "got states=0; expected a whole number from 1 on"),
        ({"hidden": 0}, "got hidden=0; expected a whole number from 1 on"),
        ({"cell_size": 0}, "got cell_size=0; expected a whole number from 1 on"),
        ({"dropout": 1.0}, "got dropout=1.0; expected a share from 0 to below 1"),
    ],
)
def test_options_out_of_range_are_told(options, message):
    with pytest.raises(OptionError, match=message):
        mamba2d(**options)


def test_a_box_of_too_many_cells_and_missing_coordinates_are_told(bag, monkeypatch):
    with pytest.raises(FeaturesError, match="mamba2d needs the coordinates of patches"):
        mamba2d()(tokens_of(Bag(bag.features)))
    monkeypatch.setattr(module, "_MOST_CELLS", 23)
    with pytest.raises(
        FeaturesError, match="lays a bag out on 4 x 6 cells; expected 23 cells at most; choose a larger"
    ):
        mamba2d()(tokens_of(bag))
    assert torch.isfinite(mamba2d(cell_size=512)(tokens_of(bag)).logits).all()


def test_a_fixed_grid_is_counted_from_level_0_pixel_0():
    torch.manual_seed(0)
    options = {"width": 16, "states": 4, "dropout": 0.0}
    fixed = dtcwsi.create_model("mamba2d", in_dim=5, n_classes=2, grid=(3, 4), **options).eval()
    boxed = dtcwsi.create_model("mamba2d", in_dim=5, n_classes=2, **options).eval()
    boxed.load_state_dict(fixed.state_dict())
    rows, corners = torch.randn(3, 5), torch.tensor([[0, 0], [768, 0], [0, 512]])
    filling = dtcwsi.Bag(rows, corners, 256.0)
    torch.testing.assert_close(fixed(filling).logits, boxed(filling).logits)
    inner = dtcwsi.Bag(rows, torch.tensor([[256, 256], [512, 256], [256, 512]]), 256.0)
    assert not torch.allclose(fixed(inner).logits, boxed(inner).logits)
    outer = dtcwsi.Bag(rows, corners + 256, 256.0)
    with pytest.raises(FeaturesError, match=r"reaches row 4 and column 5; expected at most grid=\(3, 4\)"):
        fixed(outer)
    with pytest.raises(FeaturesError, match="mamba2d got coordinates below 0"):
        fixed(dtcwsi.Bag(rows, corners - 300, 256.0))


@pytest.mark.parametrize("grid", [(3,), (3, 0)])
def test_a_bad_grid_is_told(grid):
    with pytest.raises(OptionError, match="got grid"):
        dtcwsi.create_model("mamba2d", in_dim=5, n_classes=2, grid=grid)
