import numpy as np
import pytest

from dtcwsi.bags.near_duplicates import near_duplicates, sketch_of


def slide(seed, patches=300, dim=64):
    generator = np.random.default_rng(seed)
    return generator.standard_normal((patches, dim)) + 5 * generator.standard_normal(dim)


def pairs_of(**slides):
    return [(p.one, p.other, round(p.share, 1)) for p in near_duplicates((n, sketch_of(x)) for n, x in slides.items())]


def test_a_copy_is_found_in_any_order_of_patches_and_in_16_bits():
    rows = slide(0)
    mixed = rows[np.random.default_rng(1).permutation(len(rows))].astype(np.float16)
    assert [pair[:2] for pair in pairs_of(a=rows, b=slide(2), c=mixed)] == [("a", "c")]


def test_most_of_a_slide_is_found_in_the_whole():
    rows = slide(0, patches=1200)
    found = pairs_of(whole=rows, most=rows[:900], other=slide(3, patches=1200))
    assert [pair[:2] for pair in found] == [("whole", "most")]


@pytest.mark.parametrize("patches", [1, 20, 5000])
def test_different_slides_are_no_pair(patches):
    assert pairs_of(**{str(seed): slide(seed, patches) for seed in range(2, 6)}) == []


def test_what_many_slides_share_tells_nothing():
    glass = slide(0)
    assert pairs_of(**{str(number): glass for number in range(60)}) == []


def test_empty_slides_and_none_are_no_pair():
    assert pairs_of(a=np.zeros((0, 4)), b=np.zeros((0, 4)), c=slide(1, dim=4)) == []
    assert list(near_duplicates([])) == []


def test_a_small_part_is_found_in_a_slide_that_is_many_times_as_large():
    rows = slide(0, patches=9000)
    assert pairs_of(whole=rows, part=rows[:900], other=slide(1, patches=900)) == [("whole", "part", 1.0)]


@pytest.mark.parametrize("scale", [1.0, 1.15, 1.3, 1.45, 1.6, 1.75, 1.9])
def test_a_region_of_other_tissue_than_the_rest_is_found(scale):
    """Neither the mean nor the spread of a region's patches is that of its slide, whatever the unit of features."""
    for seed in range(3):
        tissues = np.random.default_rng(seed + 100).standard_normal((2, 64))
        rows = scale * (slide(seed, patches=4000) + np.repeat(tissues, [1500, 2500], axis=0))
        assert pairs_of(whole=rows, region=rows[:1500])


def test_copies_of_one_patch_are_told_from_copies_of_another():
    one, other = (np.repeat(slide(seed, patches=1), 40, axis=0) for seed in (0, 1))
    assert [pair[:2] for pair in pairs_of(a=one, b=other, c=one[:30])] == [("a", "c")]
