import pytest
import torch

from dtcwsi.bags.packing import pack
from dtcwsi.compressors import create_compressor
from dtcwsi.nn.fixed_grid import fitted
from dtcwsi.nn.grid import cells_of
from dtcwsi.types import Bag


def tokens_of(*cells):
    bags = [Bag(torch.randn(len(xy), 3), torch.tensor(xy).reshape(-1, 2) * 256, 256.0) for xy in cells]
    return create_compressor("identity", dim=3)(pack(bags))


def test_each_bag_is_made_to_fit_and_no_coarser():
    tokens = tokens_of([(0, 0), (3, 2)], [], [(0, 0), (1, 1), (4, 0), (8, 0)])
    cells = fitted(cells_of(tokens, "model"), tokens.bias, 4, every=False)
    assert cells.offsets.tolist() == [0, 2, 2, 5]
    assert cells.xy.tolist() == [[0, 0], [3, 2], [0, 0], [1, 0], [2, 0]]
    shared = cells.of_token == 2
    assert cells.share[shared].tolist() == [0.5, 0.5]
    assert cells.bias.tolist() == pytest.approx([0, 0, 0.6931472, 0, 0])


def test_every_place_may_be_listed():
    tokens = tokens_of([(0, 0), (3, 2)], [])
    cells = fitted(cells_of(tokens, "model"), tokens.bias, 4, every=True)
    assert cells.offsets.tolist() == [0, 16, 32]
    assert cells.xy[16:].tolist() == [[x, y] for y in range(4) for x in range(4)]
    assert cells.of_token.tolist() == [0, 11]
    assert cells.bias.isinf().sum() == 30
