import numpy as np
import pytest
import torch

from dtcwsi.bags.packing import load_bag
from dtcwsi.bags.sampler import Pass
from dtcwsi.training.data import SlideFeatures


def files_of(cohort):
    return [header.path for header in cohort.headers], [header.n_patches for header in cohort.headers]


def test_a_pass_is_its_slides_in_spatial_order_with_labels(needle_cohort):
    files, sizes = files_of(needle_cohort(slides=4))
    source = SlideFeatures(files, [0, 1, 0, 1], sizes)
    batch = source[Pass((3, 0), 0.5, ends_batch=True)]
    assert batch.bags.labels.tolist() == [1, 0]
    assert batch.bags.slide_ids == ("s03", "s00")
    assert batch.bags.offsets.tolist() == [0, sizes[3], sizes[3] + sizes[0]]
    assert batch.bags.order is None
    rows = {tuple(row.tolist()) for row in load_bag(files[3]).features}
    assert {tuple(row.tolist()) for row in batch.bags.features[: sizes[3]]} == rows


def test_slides_are_read_once_until_memory_is_full(needle_cohort):
    files, sizes = files_of(needle_cohort(slides=3))
    first = load_bag(files[0]).features.nbytes
    source = SlideFeatures(files, [0, 1, 0], sizes, cache_bytes=first)
    for _ in range(3):
        source.slide(0)
        source.slide(1)
    assert source.reads == 1 + 3


def test_slides_that_cannot_be_used_are_named(needle_cohort):
    files, sizes = files_of(needle_cohort(slides=3))
    import h5py

    with h5py.File(files[1], "r+") as file:
        file["features"][2, 0] = np.nan
    source = SlideFeatures(files, [0, 1, 0], sizes)
    assert list(source.unusable()) == [1]
    assert "NaN" in source.unusable()[1]


def test_a_file_gone_is_told_not_raised(needle_cohort):
    files, sizes = files_of(needle_cohort(slides=2))
    files[0].unlink()
    assert list(SlideFeatures(files, [0, 1], sizes).unusable()) == [0]


@pytest.mark.parametrize("slide", [0, 1])
def test_cached_and_fresh_slides_are_equal(needle_cohort, slide):
    files, sizes = files_of(needle_cohort(slides=2))
    kept, fresh = SlideFeatures(files, [0, 1], sizes), SlideFeatures(files, [0, 1], sizes, cache_bytes=0)
    kept.slide(slide)
    assert torch.equal(kept.slide(slide).features, fresh.slide(slide).features)
