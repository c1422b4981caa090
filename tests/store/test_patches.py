from contextlib import suppress

import h5py
import numpy as np
import pytest

from dtcwsi.errors import FeaturesError
from dtcwsi.store.hdf5 import read_attributes
from dtcwsi.store.patches import count_patches, read_patches, write_patches
from dtcwsi.types import PatchGrid

GRID = PatchGrid(
    np.arange(20, dtype=np.int64).reshape(10, 2) * 128, np.linspace(0.5, 1, 10, dtype=np.float32), 256, 513, 0.5
)


def test_a_grid_reopens_without_guessing(tmp_path):
    path = tmp_path / "a.h5"
    write_patches(path, GRID, {"digest": "d", "slide_spacing_um": 0.2495})
    back = read_patches(path)
    np.testing.assert_array_equal(back.coords, GRID.coords)
    np.testing.assert_array_equal(back.tissue_fraction, GRID.tissue_fraction)
    assert (back.patch_size_px, back.patch_size_level0, back.spacing_um) == (256, 513, 0.5)
    assert count_patches(path) == 10
    seen = read_attributes(path)
    assert (seen["format"], seen["digest"], seen["slide_spacing_um"]) == ("dtcwsi-patches-1", "d", 0.2495)


def test_the_same_grid_is_the_same_bytes(tmp_path):
    for name in ("a.h5", "b.h5"):
        write_patches(tmp_path / name, GRID, {"digest": "d"})
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_a_file_cut_anywhere_has_no_digest(tmp_path):
    path = tmp_path / "a.h5"
    write_patches(path, GRID, {"digest": "d"})
    whole = path.read_bytes()
    for length in range(0, len(whole), 23):
        path.write_bytes(whole[:length])
        assert read_attributes(path) == {}


def test_blocks_that_a_disk_lost_are_noticed_or_harmless(tmp_path):
    path = tmp_path / "a.h5"
    write_patches(path, GRID, {"digest": "d"})
    whole = path.read_bytes()
    for start in range(0, len(whole), 512):
        path.write_bytes(whole[:start] + bytes(len(whole[start : start + 512])) + whole[start + 512 :])
        assert read_attributes(path).get("digest") in (None, "d")
        with suppress(FeaturesError):
            assert len(read_patches(path)) == 10


def test_a_file_without_patches_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["digest"] = "d"
    with pytest.raises(FeaturesError, match="a.h5 is damaged"):
        read_patches(tmp_path / "a.h5")
    with pytest.raises(FeaturesError, match="has no dataset 'coords'"):
        count_patches(tmp_path / "a.h5")
