import pytest
import torch

from dtcwsi.bags.packing import pack
from dtcwsi.compressors import create_compressor
from dtcwsi.errors import FeaturesError
from dtcwsi.nn.grid import cells_of
from dtcwsi.types import Bag


def tokens_of(*coords, patch_size=None):
    bags = [Bag(torch.randn(len(xy), 3), torch.tensor(xy).reshape(-1, 2), patch_size) for xy in coords]
    return create_compressor("identity", dim=3)(pack(bags))


def test_cells_go_row_by_row_bag_by_bag_from_each_bags_corner():
    tokens = tokens_of([[512, 256], [256, 512], [256, 256]], [], [[-1000, 7]])
    cells = cells_of(tokens, "model")
    assert cells.xy.tolist() == [[0, 0], [1, 0], [0, 1], [0, 0]]
    assert cells.offsets.tolist() == [0, 3, 3, 4]
    assert cells.share.tolist() == [1, 1, 1, 1]
    assert cells.bias.tolist() == [0, 0, 0, 0]
    assert torch.equal(cells.gather(tokens.features)[cells.of_token], tokens.features)


def test_tokens_of_one_cell_are_averaged_by_weight_and_share_its_attention():
    tokens = tokens_of([[0, 0], [10, 0], [256, 0]], patch_size=256.0)
    log_size = torch.tensor([1.0, 3.0, 5.0]).log()[torch.argsort(tokens.coords[:, 0])]
    tokens = type(tokens)(**{**vars(tokens), "log_size": log_size})
    cells = cells_of(tokens, "model")
    assert cells.bias.exp().tolist() == pytest.approx([4, 5])
    weights = log_size.exp()
    first = cells.of_token == 0
    expected = (weights[first] @ tokens.features[first]) / 4
    torch.testing.assert_close(cells.gather(tokens.features)[0], expected)
    dealt = cells.spread(torch.tensor([0.4, 0.6]))
    torch.testing.assert_close(dealt, torch.where(first, 0.1 * weights, 0.6))


def test_size_overrides_the_patch_size_and_overlapping_patches_share():
    tokens = tokens_of([[0, 0], [128, 0], [512, 0]], patch_size=256.0)
    assert cells_of(tokens, "model").xy.tolist() == [[0, 0], [2, 0]]
    assert cells_of(tokens, "model", size=128).xy.tolist() == [[0, 0], [1, 0], [4, 0]]


def test_the_step_of_the_grid_survives_compression():
    x = torch.arange(40)
    bag = Bag(torch.randn(40, 3), torch.stack([x % 8, x // 8], dim=1) * 224)
    tokens = create_compressor("random", dim=3, retention=0.1).eval()(pack([bag]))
    cells = cells_of(tokens, "model")
    expected = (tokens.coords - tokens.coords.amin(dim=0)) // 224
    assert torch.equal(cells.xy[cells.of_token], expected)


def test_missing_coordinates_are_told_by_the_model_that_needs_them():
    tokens = create_compressor("identity", dim=3)(pack([Bag(torch.randn(4, 3))]))
    with pytest.raises(FeaturesError, match="longformer needs the coordinates of patches and a bag of the batch"):
        cells_of(tokens, "longformer")


def test_a_bag_without_patches_has_nothing_to_place():
    bags = [Bag(torch.zeros(0, 3)), Bag(torch.randn(2, 3), torch.tensor([[0, 0], [256, 0]]))]
    tokens = create_compressor("identity", dim=3)(pack(bags))
    assert cells_of(tokens, "model").offsets.tolist() == [0, 0, 2]
    assert cells_of(create_compressor("identity", dim=3)(pack(bags[:1])), "model").offsets.tolist() == [0, 0]


def test_a_grid_for_all_bags_needs_the_patch_size():
    tokens = tokens_of([[1024, 1024]])
    with pytest.raises(FeaturesError, match="model needs the patch size in level-0 pixels for a grid"):
        cells_of(tokens, "model", from_corner=False)
    assert cells_of(tokens, "model", size=256, from_corner=False).xy.tolist() == [[4, 4]]
    assert cells_of(tokens_of([[1024, 1024]], patch_size=512.0), "model", from_corner=False).xy.tolist() == [[2, 2]]


def test_grids_of_too_many_cells_are_told():
    bag = Bag(torch.zeros(2, 3), torch.tensor([[0, 0], [99_000_000, 0]]), 1.0)
    with pytest.raises(FeaturesError, match=r"hipt got a grid of 99,000,001 cells a side; expected at most 16,777,216"):
        cells_of(create_compressor("identity", dim=3)(pack([bag])), "hipt")
