import pytest
import torch

from dtcwsi.bags.packing import pack
from dtcwsi.compressors import create_compressor
from dtcwsi.nn.grid import cells_of
from dtcwsi.nn.regions import regions_of
from dtcwsi.types import Bag


def cells_at(*cells, log_size=None):
    bags = [Bag(torch.randn(len(xy), 3), torch.tensor(xy).reshape(-1, 2) * 10, 10.0) for xy in cells]
    tokens = create_compressor("identity", dim=3)(pack(bags))
    if log_size is not None:
        tokens = type(tokens)(**{**vars(tokens), "log_size": torch.tensor(log_size)})
    return cells_of(tokens, "model")


def test_regions_go_row_by_row_bag_by_bag_and_know_each_cells_place():
    cells = cells_at([(4, 0), (0, 0), (3, 5), (2, 1)], [], [(0, 0)])
    regions = regions_of(cells, 4)
    assert cells.xy.tolist() == [[0, 0], [4, 0], [2, 1], [3, 5], [0, 0]]
    assert regions.offsets.tolist() == [0, 3, 3, 4]
    assert regions.of_cell.tolist() == [0, 1, 0, 2, 3]
    assert regions.place.tolist() == [0, 0, 6, 7, 0]
    assert regions.bias.exp().tolist() == pytest.approx([2, 1, 1, 1])


def test_a_regions_bias_is_the_log_of_all_that_its_tokens_weigh():
    cells = cells_at([(0, 0), (0, 0), (1, 0), (9, 0)], log_size=[0.0, 1.0, 2.0, -60.0])
    expected = torch.tensor([0.0, 1.0, 2.0]).logsumexp(0)
    torch.testing.assert_close(regions_of(cells, 4).bias, torch.stack([expected, torch.tensor(-60.0)]))


@pytest.mark.parametrize("rows", [1, 7, 20, 10_000])
def test_slices_hold_every_region_once_with_all_its_cells_and_no_more_rows_than_allowed(rows):
    places = torch.randint(0, 40, (200, 2), generator=torch.Generator().manual_seed(0)).tolist()
    regions = regions_of(cells_at(places, places[:30]), 8)
    seen = torch.full_like(regions.of_cell, -1)
    taken = []
    for part in regions.slices(rows):
        assert part.there.sum(dim=1).gt(0).all()
        assert len(part.regions) == 1 or part.there.numel() + len(part.regions) <= rows
        seen[part.cells[part.there]] = part.regions.repeat_interleave(part.there.sum(dim=1))
        taken += part.regions.tolist()
    assert sorted(taken) == list(range(len(regions.bias)))
    assert torch.equal(seen, regions.of_cell)


def test_regions_of_like_size_share_a_slice():
    row = [(x, 0) for x in range(8)]
    lone = [(8 * x, 9) for x in range(20)]
    parts = list(regions_of(cells_at([*row, *lone]), 8).slices(18))
    assert [part.there.shape[1] for part in parts][:2] == [8, 1]
    assert sum(part.there.numel() - int(part.there.sum()) for part in parts) <= 7


def test_no_cell_no_region():
    regions = regions_of(cells_at([], []), 4)
    assert regions.offsets.tolist() == [0, 0, 0]
    assert list(regions.slices(10)) == []
