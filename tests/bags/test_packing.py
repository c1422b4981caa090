import inspect
import math

import h5py
import numpy as np
import pytest
import torch

from dtcwsi.bags.packing import join, load_bag, pack
from dtcwsi.errors import FeaturesError
from dtcwsi.types import Bag


def grid_bag(count, seed=0, **fields):
    generator = torch.Generator().manual_seed(seed)
    side = int(np.ceil(np.sqrt(count)))
    coords = torch.cartesian_prod(torch.arange(side), torch.arange(side))[:count] * 256
    shuffled = torch.randperm(count, generator=generator)
    return Bag(torch.randn(count, 4, generator=generator), coords[shuffled], **fields)


def test_rows_stay_in_the_order_given():
    bags = [grid_bag(5, 1), grid_bag(0), grid_bag(3, 2)]
    packed = pack(bags)
    assert packed.offsets.tolist() == [0, 5, 5, 8]
    assert torch.equal(packed.features, torch.cat([bag.features for bag in bags]))
    assert torch.equal(packed.coords, torch.cat([bag.coords for bag in bags]))


def test_order_is_the_same_sequence_of_patches_after_a_permutation():
    bag = grid_bag(37)
    mixed = torch.randperm(37, generator=torch.Generator().manual_seed(5))
    permuted = Bag(bag.features[mixed], bag.coords[mixed])
    first, second = pack([bag]), pack([permuted])
    assert torch.equal(first.features[first.order], second.features[second.order])


def test_order_walks_to_neighbouring_cells():
    packed = pack([grid_bag(64)])
    steps = packed.coords[packed.order].diff(dim=0).abs().sum(dim=1)
    assert steps.tolist() == [256] * 63


def test_order_stays_within_its_bag():
    packed = pack([grid_bag(9, 1), grid_bag(6, 2)])
    assert sorted(packed.order[:9].tolist()) == list(range(9))
    assert sorted(packed.order[9:].tolist()) == list(range(9, 15))


def test_a_bag_without_coords_keeps_its_order_and_leaves_its_neighbours_theirs():
    with_coords, without = grid_bag(9, 1), Bag(torch.randn(4, 4))
    packed = pack([without, with_coords])
    assert packed.coords is None
    assert packed.order[:4].tolist() == [0, 1, 2, 3]
    assert torch.equal(packed.order[4:] - 4, pack([with_coords]).order)


def test_patches_in_order_need_no_order():
    bag = grid_bag(16)
    order = pack([bag]).order
    assert pack([Bag(bag.features[order], bag.coords[order])]).order is None


def test_joining_packs_equals_packing_the_bags():
    bags = [grid_bag(7, 3, label=1, slide_id="a"), grid_bag(4, 4, patch_size_level0=256.0), grid_bag(0)]
    once, twice = pack(bags), join([pack(bags[:1]), pack(bags[1:])])
    for name in ("features", "offsets", "coords", "labels", "order"):
        assert torch.equal(getattr(once, name), getattr(twice, name)), name
    assert once.slide_ids == twice.slide_ids == ("a", None, None)
    assert once.labels.tolist() == [1, -1, -1]


def test_widths_that_differ_are_named():
    half = Bag(torch.zeros(2, 3, dtype=torch.float16), slide_id="h")
    with pytest.raises(FeaturesError, match=r"differ in type: torch.float32 \(a\); torch.float16 \(h\); convert"):
        pack([Bag(torch.zeros(2, 3), slide_id="a"), half])
    with pytest.raises(FeaturesError, match=r"differ in width: 3 \(a\); 4 \(b\); use features of one encoder"):
        pack([Bag(torch.zeros(1, 3), slide_id="a"), Bag(torch.zeros(1, 4), slide_id="b")])


def test_no_bag_is_refused():
    with pytest.raises(FeaturesError, match="holds no bag"):
        pack([])


def test_nan_is_refused_and_large_sums_are_not():
    with pytest.raises(FeaturesError, match="'a' has NaN or infinite features in 1 of 2 patches"):
        Bag(torch.tensor([[1.0], [float("nan")]]), slide_id="a")
    assert len(Bag(torch.full((4, 2), 6e4, dtype=torch.float16))) == 4
    assert len(Bag(torch.full((4, 2), 1e17))) == 4


def test_load_bag_reads_a_feature_file(tmp_path):
    with h5py.File(tmp_path / "s1.h5", "w") as file:
        file["features"] = np.arange(6, dtype=np.float32).reshape(3, 2)
        file["coords"] = np.array([[0, 0], [256, 0], [0, 256]])
    bag = load_bag(tmp_path / "s1.h5", label=1)
    assert bag.slide_id == "s1"
    assert bag.label == 1
    assert bag.features.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert bag.coords.tolist() == [[0, 0], [256, 0], [0, 256]]


@pytest.mark.parametrize(
    ("features", "coords", "message"),
    [
        (np.zeros((3, 4)), None, "a bag has features of type ndarray; expected a tensor, such as torch.from_numpy"),
        (
            torch.zeros(3, 4, dtype=torch.int64),
            None,
            "a bag has features of torch.int64, torch.strided; expected dense floating",
        ),
        (None, None, "a bag has features of type NoneType; expected a tensor"),
        (torch.zeros(3, 4), np.zeros((3, 2)), "a bag has coords of type ndarray; expected a tensor"),
        (torch.zeros(3, 4), torch.full((3, 2), torch.nan), "a bag has NaN or infinite coords"),
        (torch.zeros(3, 4), torch.full((3, 2), -(1 << 40)), "a bag has coords of 1.1e.12; expected level-0 pixels, at"),
        (torch.zeros(3, 4), torch.zeros(3, 2, dtype=torch.bool), "a bag has coords of torch.bool; expected level-0"),
        (torch.zeros(3, 4).to_sparse(), None, "features of torch.float32, torch.sparse_coo; expected dense floating"),
        (torch.zeros(3, 4).to(torch.float8_e5m2), None, "features of torch.float8_e5m2, torch.strided; expected dense"),
        (torch.full((3, 4), 1e19), None, "a bag has features beyond 1e.17 in 3 of 3 patches; extract the slide again"),
    ],
)
def test_a_bag_of_the_wrong_kind_is_told(features, coords, message):
    with pytest.raises(FeaturesError, match=message):
        unchecked(features=features, coords=coords)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"patch_size_level0": "256"}, "a bag has patch_size_level0 '256'; expected level-0 pixels"),
        ({"label": "tumour"}, "a bag has label 'tumour'; expected a class number, or None where unknown"),
        ({"label": 1.5}, "a bag has label 1.5; expected a class number"),
    ],
)
def test_what_else_a_bag_holds_is_checked(given, message):
    with pytest.raises(FeaturesError, match=message):
        unchecked(features=torch.zeros(3, 4), **given)


def unchecked(**given):
    """Make a bag without the checks of types that tests add, which would speak first."""
    bag = object.__new__(Bag)
    for name in ("features", "coords", "patch_size_level0", "label", "slide_id"):
        object.__setattr__(bag, name, given.get(name))
    bag.__post_init__()
    return bag


@pytest.mark.parametrize("bags", [None, iter([]), Bag(torch.zeros(2, 3)), [torch.zeros(2, 3)]])
def test_only_lists_of_bags_are_packed(bags):
    with pytest.raises(FeaturesError, match="expected a list of bags"):
        inspect.unwrap(pack)(bags)


def test_steps_too_small_to_count_cells_by_are_made_larger():
    far = torch.tensor([[0, 0], [99_000_000, 99_000_000], [0, 1]])
    tokens = pack([Bag(torch.zeros(3, 2), far, 1e-3)])
    assert tokens.order is not None
    assert tokens.order.tolist() == [0, 2, 1]


def test_bags_without_names_are_counted():
    with pytest.raises(FeaturesError, match=r"differ in width: 3 \(bag 0\); 4 \(bag 1\)"):
        pack([Bag(torch.zeros(2, 3)), Bag(torch.zeros(2, 4))])


@pytest.mark.parametrize("size", [-224.0, math.nan, math.inf])
def test_patch_sizes_that_are_none_are_told(size):
    with pytest.raises(FeaturesError, match=f"'s1' has patch_size_level0 {size}; expected level-0 pixels, more than 0"):
        Bag(torch.zeros(2, 4), torch.zeros(2, 2), patch_size_level0=size, slide_id="s1")
