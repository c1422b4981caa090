import pytest
import torch

from dtcwsi.nn.views import crop, keep_some, split, two_views

SEEDS = range(200)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def square(side):
    return torch.cartesian_prod(torch.arange(side), torch.arange(side)).double()


@pytest.mark.parametrize(("count", "first"), [(2, 1), (3, 2), (10, 7), (1001, 700)])
def test_a_split_deals_out_every_row_once(count, first):
    one, two = split(count, seeded(0))
    assert len(one) == first
    assert sorted([*one.tolist(), *two.tolist()]) == list(range(count))


@pytest.mark.parametrize("area", [(100, 200), (50, 150)])
def test_a_crop_is_a_full_rectangle_of_the_area_and_aspect(area):
    places, seen = square(60), []
    for seed in SEEDS:
        inside = places[crop(places, area, seeded(seed))]
        low, high = inside.amin(dim=0), inside.amax(dim=0)
        height, width = (high - low + 1).tolist()
        assert len(inside) == height * width
        if low.min() > 0 and high.max() < 59:
            seen.append((height, width))
    # a rectangle of 2 h - 1 by 2 w - 1 cells, where 2 h and 2 w are its sides rounded to even numbers
    assert all(height % 2 == width % 2 == 1 for height, width in seen)
    areas = [(height + 1) * (width + 1) for height, width in seen]
    assert area[0] * 0.7 < min(areas) < area[0] * 1.3
    assert area[1] * 0.7 < max(areas) < area[1] * 1.3
    aspects = [(width + 1) / (height + 1) for height, width in seen]
    assert 0.4 <= min(aspects) < 0.7
    assert 1.7 < max(aspects) <= 2.5


def test_a_crop_holds_its_centre_and_what_is_near():
    places = torch.tensor([[0.0, 0.0], [500.0, 500.0], [501.5, 499.0]], dtype=torch.float64)
    found = {tuple(crop(places, (100, 200), seeded(seed)).tolist()) for seed in SEEDS}
    assert found == {(0,), (1, 2)}


def test_ten_to_eighty_percent_are_kept():
    sizes = [len(keep_some(100, seeded(seed)).unique()) for seed in SEEDS]
    assert 10 <= min(sizes) < 15
    assert 75 < max(sizes) <= 80
    assert {len(keep_some(1, seeded(seed))) for seed in SEEDS} == {1}


@pytest.mark.parametrize("side", [2, 5, 40])
def test_views_share_no_patch_and_lie_close(side):
    places, larger = square(side), []
    for seed in SEEDS:
        views = two_views(places, seeded(seed))
        one, two = (set(view.tolist()) for view in views)
        assert not one & two
        assert min(len(one), len(two)) >= 1
        assert [len(one), len(two)] == [len(view) for view in views]
        assert max(len(one), len(two)) <= 160
        for view in views:
            reach = places[view].amax(dim=0) - places[view].amin(dim=0)
            assert (reach + 1).prod() <= 200 * 1.3
        larger.append(len(one) > len(two))
    assert side < 40 or 0.3 < sum(larger) / len(larger) < 0.7  # which part is first, is drawn


def test_views_repeat_under_a_seed_and_differ_otherwise():
    places = square(20)
    first, again, other = (two_views(places, seeded(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))
