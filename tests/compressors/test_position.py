import numpy as np
import pytest
import torch

from dtcwsi.bags.packing import pack
from dtcwsi.compressors import create_compressor
from dtcwsi.compressors.ordering import order_of
from dtcwsi.compressors.position import POSITION_WIDTH, positions
from dtcwsi.errors import FeaturesError
from dtcwsi.nn.segment import Segments
from dtcwsi.types import Bag

GRID = torch.tensor([[256, 0], [0, 0], [0, 512], [256, 512]])


def packed(*coords):
    return pack([Bag(torch.randn(len(grid), 3), grid) for grid in coords])


def laid(bags):
    return Segments.of(bags.offsets.diff().numpy(), torch.device("cpu"))


def test_raster_goes_by_row_then_column_bag_after_bag():
    bags = packed(GRID, GRID.flip(0))
    assert order_of("raster", bags, laid(bags)).tolist() == [1, 0, 2, 3, 6, 7, 5, 4]
    assert order_of("given", bags, laid(bags)).tolist() == list(range(8))


def test_the_papers_position_is_the_place_in_the_order_over_n():
    bags = packed(GRID)
    order = order_of("raster", bags, laid(bags))
    assert positions("paper", bags, laid(bags), order).flatten().tolist() == [0.25, 0.0, 0.5, 0.75]


def test_xy_runs_from_0_to_1_along_the_longer_side_wherever_the_bag_lies():
    bags = packed(GRID, GRID + torch.tensor([9000, 70]))
    xy = positions("xy", bags, laid(bags), torch.arange(8))
    assert xy[:4].tolist() == xy[4:].tolist() == [[0.5, 0.0], [0.0, 0.0], [0.0, 1.0], [0.5, 1.0]]


@pytest.mark.parametrize("name", POSITION_WIDTH)
def test_every_position_has_its_width_and_moves_the_scores(name):
    bags = packed(GRID)
    torch.manual_seed(0)
    made = create_compressor("dtc", dim=3, position=name, flat_start=False, retention=0.5).eval()
    tokens = made(bags)
    assert tokens.features.shape == (2, 3)
    assert made.importance.first.in_features == 3 + POSITION_WIDTH[name]
    if name != "none":
        same = pack([Bag(torch.ones(4, 3), GRID)])
        assert len(np.unique(made(same).score.detach())) == 2


def test_sixteen_bits_of_features_leave_positions_their_digits():
    places = torch.arange(5000)
    bags = pack([Bag(torch.randn(5000, 3).half(), torch.stack([places, places * 0], dim=1))])
    made = create_compressor("dtc", dim=3, position="xy", retention=1.0)
    wide = made.patch_features(bags, laid(bags), places)
    assert len(wide[:, 3].unique()) == 5000
    assert made(bags).features.dtype == torch.float16


@pytest.mark.parametrize("name", ["xy", "sinusoidal"])
def test_without_coordinates_there_is_no_position(name):
    made = create_compressor("dtc", dim=3, position=name)
    with pytest.raises(FeaturesError, match=f"position='{name}' needs coordinates and a bag of the batch has none"):
        made(pack([Bag(torch.randn(4, 3))]))
