import pytest
import torch
from torch.nn.functional import conv2d

from dtcwsi.nn import chunks, sparse, squares
from dtcwsi.nn.grid import occupied
from dtcwsi.nn.sparse import convolved, levels_of
from dtcwsi.nn.squares import convolved_whole, is_full

SIDE = 13


def drawn(*counts, seed=0):
    """Places of bags on a grid of 13 x 13, in order, and the offsets."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.cat([torch.randperm(SIDE * SIDE, generator=generator)[:count] for count in counts])
    bag = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    xy, offsets, _ = occupied(torch.stack([chosen % SIDE, chosen // SIDE], dim=1), bag, len(counts))
    return xy, offsets


def dense(rows, xy, bag, bags):
    image = rows.new_zeros(bags, rows.shape[1], SIDE, SIDE)
    image[bag, :, xy[:, 1], xy[:, 0]] = rows
    return image


@pytest.mark.parametrize(("chunk", "band"), [(5, 3 * 8 * SIDE), (4096, 1 << 19)])
@pytest.mark.parametrize("stride", [1, 2])
def test_places_have_what_a_convolution_of_the_whole_grid_gives_them(monkeypatch, stride, chunk, band):
    monkeypatch.setattr(sparse, "_CHUNK", chunk)
    monkeypatch.setattr(chunks, "_CACHED", band)
    xy, offsets = drawn(40, 0, 1, 100, 169)
    bag = torch.arange(5).repeat_interleave(offsets.diff())
    rows = torch.randn(len(xy), 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(4, dtype=torch.float64, requires_grad=True)
    level = levels_of(xy, offsets, (stride,)).steps[0]
    kept = {(b, x // stride, y // stride) for b, (x, y) in zip(bag.tolist(), xy.tolist(), strict=True)}
    made = torch.tensor(sorted(kept, key=lambda place: (place[0], place[2], place[1])))
    assert level.offsets.diff().tolist() == made[:, 0].bincount(minlength=5).tolist()
    whole = conv2d(dense(rows, xy, bag, 5), weight, bias, stride=stride, padding=1)
    wanted = whole[made[:, 0], :, made[:, 2], made[:, 1]]
    found = convolved(rows, level.neighbours, weight, bias)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(convolved_whole(rows, level, weight, bias, torch.tanh), wanted.tanh())
    slopes = torch.randn_like(found)
    ours, theirs = (torch.autograd.grad(each, (rows, weight, bias), slopes) for each in (found, wanted))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("side", "bands"), [(SIDE, 1), (70, 3)])
def test_a_whole_grid_is_made_some_lines_at_a_time(monkeypatch, stride, side, bands):
    monkeypatch.setattr(chunks, "_CACHED", 28 * side * 2)
    shapes = []
    monkeypatch.setattr(
        squares, "conv2d", lambda *given, **more: shapes.append(given[0].shape) or conv2d(*given, **more)
    )
    xy = torch.cartesian_prod(torch.arange(side), torch.arange(side)).flip(1)
    level = levels_of(xy, torch.tensor([0, side * side]), (stride,)).steps[0]
    rows, weight = torch.randn(len(xy), 2), torch.randn(2, 2, 3, 3)
    made = convolved_whole(rows, level, weight, torch.ones(2), torch.relu)
    whole = conv2d(rows.view(1, side, side, 2).permute(0, 3, 1, 2), weight, torch.ones(2), stride, padding=1)
    torch.testing.assert_close(made, whole[0].relu().flatten(1).T)
    assert len(shapes) == bands
    assert max(shape[2] for shape in shapes) == (side if bands == 1 else 28 + 2 // stride)


def test_a_slope_is_made_for_what_wants_one_only():
    xy, offsets = drawn(20)
    level = levels_of(xy, offsets, (1,)).steps[0]
    rows, weight, bias = torch.randn(20, 2), torch.randn(2, 2, 3, 3, requires_grad=True), torch.zeros(2)
    convolved(rows, level.neighbours, weight, bias).sum().backward()
    assert weight.grad.abs().sum() > 0


def test_levels_follow_each_cell_to_the_place_of_its_eight_by_eight():
    xy, offsets = drawn(60, 0, 30)
    levels = levels_of(xy, offsets, (1, 2, 2, 2))
    wanted, first, of_row = occupied(xy // 8, torch.tensor([0, 2]).repeat_interleave(torch.tensor([60, 30])), 3)
    assert torch.equal(levels.of_cell, of_row)
    assert torch.equal(levels.steps[-1].offsets, first)
    assert len(levels.steps[-1].neighbours) == len(wanted)


def test_far_pieces_take_no_room_between_them():
    xy = torch.tensor([[0, 0], [1, 0], [9_000_000, 0], [0, 9_000_000], [9_000_000, 9_000_000]])
    levels = levels_of(xy, torch.tensor([0, 5]), (1, 2))
    assert [len(level.neighbours) for level in levels.steps] == [5, 4]
    rows, weight = torch.randn(5, 2), torch.randn(2, 2, 3, 3)
    made = convolved(rows, levels.steps[0].neighbours, weight, torch.zeros(2))
    torch.testing.assert_close(made[1], weight[:, :, 1, 1] @ rows[1] + weight[:, :, 1, 0] @ rows[0])
    torch.testing.assert_close(made[2:], rows[2:] @ weight[:, :, 1, 1].T)


def test_nothing_makes_nothing():
    levels = levels_of(torch.zeros(0, 2, dtype=torch.int64), torch.tensor([0, 0]), (1, 2))
    weight, bias = torch.zeros(3, 2, 3, 3), torch.zeros(3)
    assert convolved(torch.zeros(0, 2), levels.steps[0].neighbours, weight, bias).shape == (0, 3)
    assert convolved_whole(torch.zeros(0, 2), levels.steps[0], weight, bias, torch.relu).shape == (0, 3)
    assert not is_full(levels.steps[0])


@pytest.mark.parametrize(
    ("counts", "full"), [((169,), True), ((110,), False), ((169, 0, 100), True), ((169, 20), False)]
)
def test_grids_are_full_that_have_places_nearly_everywhere(counts, full):
    xy, offsets = drawn(*counts)
    assert is_full(levels_of(xy, offsets, (1,)).steps[0]) == full


def test_slopes_under_autocast_are_added_up_in_32_bits():
    """Of 20,000 places each adds 1 to a slope, of which 16 bits would lose most: 256 + 1 = 256."""
    count = 20_000
    neighbours = torch.full((count, 9), count)
    neighbours[:, 4] = 0
    rows, bias = torch.ones(count, 1, requires_grad=True), torch.zeros(1)
    weight = torch.ones(1, 1, 3, 3, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        convolved(rows, neighbours, weight, bias).sum().backward()
    assert rows.grad[0] == pytest.approx(count, rel=0.005)
    assert weight.grad[0, 0, 1, 1] == pytest.approx(count, rel=0.005)
