import h5py
import numpy as np
import pytest

from dtcwsi.errors import FeaturesError
from dtcwsi.store.hdf5 import read_attributes
from dtcwsi.store.patches import count_patches, read_patches, write_patches
from dtcwsi.types import PatchGrid

GRID = PatchGrid(np.arange(20, dtype=np.int64).reshape(10, 2) * 128, np.linspace(0.5, 1, 10, dtype=np.float32), 256, 513, 0.5)


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


def test_damage_anywhere_is_noticed_or_harmless_never_another_error(tmp_path):
    """One byte flipped or the file cut, at every place of the header and beyond."""
    path = tmp_path / "a.h5"
    write_patches(path, GRID, {"digest": "d"})
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        flipped = bytearray(whole)
        flipped[place] ^= 0xFF
        for content in (bytes(flipped), whole[:place]):
            path.write_bytes(content)
            seen = read_attributes(path)
            assert isinstance(seen, dict)
            if len(content) < len(whole):
                assert seen == {}
            if seen.get("digest") == "d":
                try:
                    assert len(read_patches(path)) == 10
                except FeaturesError as error:
                    assert "\n" not in str(error)


def test_a_file_without_patches_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["digest"] = "d"
    with pytest.raises(FeaturesError, match="a.h5 is damaged"):
        read_patches(tmp_path / "a.h5")
    with pytest.raises(FeaturesError, match="has no dataset 'coords'"):
        count_patches(tmp_path / "a.h5")
