import os
import shutil
import subprocess

import h5py
import numpy as np
import pytest

from dtcwsi.errors import FeaturesError, StoreError, UsageError
from dtcwsi.store.features import feature_files, features_writer, read_features, read_header
from dtcwsi.types import PatchGrid

GRID = PatchGrid(np.arange(20, dtype=np.int64).reshape(10, 2) * 128, np.ones(10, np.float32), 256, 513, 0.5)
MADE = {"digest": "d", "encoder": "e", "encoder_digest": "0" * 16}


def _write(path, rows, grid=GRID):
    with features_writer(path, grid, rows.shape[1], MADE) as writer:
        for start in range(0, len(rows), 4):
            writer.append(rows[start : start + 4])


@pytest.fixture
def rows():
    return np.random.default_rng(0).standard_normal((10, 5)).astype(np.float32)


def test_features_come_back_with_all_that_made_them(tmp_path, rows):
    path = tmp_path / "s.h5"
    _write(path, rows)
    back = read_features(path)
    np.testing.assert_array_equal(back.features, rows)
    np.testing.assert_array_equal(back.coords, GRID.coords)
    assert (back.slide_id, back.encoder, back.patch_size_level0, back.spacing_um) == ("s", "e", 513.0, 0.5)
    header = read_header(path)
    assert (header.n_patches, header.dim, header.encoder, header.patch_size_px) == (10, 5, "e", 256)
    assert os.listdir(tmp_path) == ["s.h5"]


def test_the_rows_lie_in_one_piece(tmp_path, rows):
    _write(tmp_path / "s.h5", rows)
    with h5py.File(tmp_path / "s.h5") as file:
        assert file["features"].chunks is None
        assert file["features"].id.get_offset() is not None


@pytest.mark.parametrize("name", ["features", "coords"])
def test_a_flipped_byte_is_noticed(tmp_path, rows, name):
    path = tmp_path / "s.h5"
    _write(path, rows)
    with h5py.File(path) as file:
        place = file[name].id.get_offset() + 9
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(FeaturesError, match=f"s.h5 holds other {name} than were written, .*delete it and extract"):
        read_features(path)


@pytest.mark.parametrize("shape", [(), (4,), (2, 3, 4)])
def test_features_of_another_shape_are_told(tmp_path, shape):
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["features"] = np.zeros(shape, np.float32)
    for read in (read_features, read_header):
        with pytest.raises(FeaturesError, match="expected .patches, dim."):
            read(tmp_path / "s.h5")


def test_a_leading_axis_of_one_is_read(tmp_path, rows):
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["features"], file["coords"] = rows[None], GRID.coords[None]
    back = read_features(tmp_path / "s.h5")
    np.testing.assert_array_equal(back.features, rows)
    np.testing.assert_array_equal(back.coords, GRID.coords)
    header = read_header(tmp_path / "s.h5")
    assert (header.n_patches, header.dim) == rows.shape


def test_files_without_a_checksum_are_read(tmp_path, rows):
    _write(tmp_path / "s.h5", rows)
    with h5py.File(tmp_path / "s.h5", "r+") as file:
        for name in ("features", "coords"):
            del file[name].attrs["crc32"]
    np.testing.assert_array_equal(read_features(tmp_path / "s.h5").features, rows)


def test_no_patches_are_features_too(tmp_path):
    none = PatchGrid(GRID.coords[:0], GRID.tissue_fraction[:0], 256, 513, 0.5)
    _write(tmp_path / "s.h5", np.zeros((0, 5), np.float32), none)
    back = read_features(tmp_path / "s.h5")
    assert (back.features.shape, back.coords.shape) == ((0, 5), (0, 2))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_features_that_are_not_finite_are_never_written(tmp_path, rows, bad):
    rows[7, 2] = bad
    with pytest.raises(FeaturesError, match="the encoder gave NaN or infinite features for s; nothing was written"):
        _write(tmp_path / "s.h5", rows)
    assert os.listdir(tmp_path) == []


def test_missing_rows_leave_no_file(tmp_path, rows):
    with pytest.raises(FeaturesError, match="s has 8 rows of features; expected 10, one a patch"):
        _write(tmp_path / "s.h5", rows[:8])
    assert os.listdir(tmp_path) == []


def test_an_error_of_the_block_keeps_its_kind(tmp_path):
    """A fault of the encoder must not read as a fault of the disk."""
    with pytest.raises(RuntimeError, match="out of memory"), features_writer(tmp_path / "s.h5", GRID, 5, MADE):
        raise RuntimeError("CUDA out of memory")
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="only root can mount a tiny disk")
def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path):
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", tmp_path], check=False)
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        large = np.zeros((10, 20_000), np.float32)
        with pytest.raises(StoreError, match=r"^the disk is full: .*s.h5 was not written; free space") as caught:
            _write(tmp_path / "s.h5", large)
        assert "\n" not in str(caught.value)
        assert os.listdir(tmp_path) == []
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_files_of_other_tools_and_of_half_precision(tmp_path, rows):
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["features"] = rows.astype(np.float16)
        file["coords"] = GRID.coords.astype(np.float64)
        file["coords"].attrs["patch_size_level0"] = 512
    back = read_features(tmp_path / "s.h5")
    assert (back.features.dtype, back.coords.dtype, back.patch_size_level0) == (np.float32, np.int64, 512.0)
    assert read_header(tmp_path / "s.h5").encoder is None


def _nan(path, rows):
    rows[3] = np.nan
    with h5py.File(path, "w") as file:
        file["features"] = rows
    return "NaN or infinite features in 1 of 10 patches; delete it and extract it again"


def _flat(path, rows):
    with h5py.File(path, "w") as file:
        file["features"] = rows[0]
    return r"features of shape \(5,\); expected \(patches, dim\)"


def _short_coords(path, rows):
    with h5py.File(path, "w") as file:
        file["features"], file["coords"] = rows, GRID.coords[:4]
    return r"coords of shape \(4, 2\); expected \(10, 2\), one row a patch"


def _other(path, rows):
    with h5py.File(path, "w") as file:
        file["feats"] = rows
    return r"no dataset 'features'; got \['feats'\]"


def _text(path, rows):
    path.write_text("not HDF5")
    return "is not a whole HDF5 file; expected an .h5 written by extract"


def _cut(path, rows):
    _write(path, rows)
    path.write_bytes(path.read_bytes()[:-50])
    return "is not a whole HDF5 file"


def _absent(path, rows):
    return "does not exist; expected an .h5 written by extract"


@pytest.mark.parametrize("spoil", [_nan, _flat, _short_coords, _other, _text, _cut, _absent])
def test_bad_feature_files_are_one_sentence(tmp_path, rows, spoil):
    message = spoil(tmp_path / "s.h5", rows)
    with pytest.raises(FeaturesError, match=message):
        read_features(tmp_path / "s.h5")


def test_folders_without_features_are_told_what_to_name(tmp_path, rows):
    for out in (tmp_path / "work", tmp_path / "features"):
        _write(out / "patches" / "a.h5", rows)
        with pytest.raises(UsageError, match="holds no .h5 feature files; run extract first"):
            feature_files(out)
    (tmp_path / "pt_files").mkdir()
    (tmp_path / "pt_files" / "a.pt").touch()
    with pytest.raises(UsageError, match="name the .h5 files that were made with its .pt, which have no coordinates"):
        feature_files(tmp_path / "pt_files")


def test_an_output_folder_may_be_called_features(tmp_path, rows):
    _write(tmp_path / "features" / "patches" / "a.h5", rows)
    _write(tmp_path / "features" / "features" / "one" / "a.h5", rows)
    assert feature_files(tmp_path / "features") == {"a": tmp_path / "features" / "features" / "one" / "a.h5"}


def test_feature_files_of_a_folder_or_an_output_folder(tmp_path, rows):
    with pytest.raises(UsageError, match="does not exist"):
        feature_files(tmp_path / "none")
    with pytest.raises(UsageError, match="holds no .h5 feature files"):
        feature_files(tmp_path)
    (tmp_path / "labels.csv").write_text("slide_id,label")
    with pytest.raises(UsageError, match="labels.csv is a file; expected a folder of .h5 files"):
        feature_files(tmp_path / "labels.csv")
    _write(tmp_path / "clam" / "h5_files" / "c.h5", rows)
    with pytest.raises(UsageError, match="clam holds no .h5 feature files; name .*clam/h5_files"):
        feature_files(tmp_path / "clam")
    for name in ("b", "a"):
        _write(tmp_path / "features" / "one" / f"{name}.h5", rows)
    (tmp_path / "features" / "one" / "._a.h5").write_text("a stray of another system")
    for folder in (tmp_path, tmp_path / "features", tmp_path / "features" / "one"):
        assert list(feature_files(folder)) == ["a", "b"]
    _write(tmp_path / "features" / "two" / "a.h5", rows)
    with pytest.raises(UsageError, match=r"several encoders \(one, two\); name one: "):
        feature_files(tmp_path)
    with pytest.raises(UsageError, match=r"several encoders \(one, two\); name one: "):
        feature_files(tmp_path / "features")


def _coords_as_group(file):
    del file["coords"]
    file.create_group("coords")


def _features_as_text(file):
    del file["features"]
    file["features"] = np.array([["a", "b"]], dtype="S1")


def _coords_not_finite(file):
    del file["coords"]
    file["coords"] = np.full((3, 2), np.nan)


@pytest.mark.parametrize("damage", [_coords_as_group, _features_as_text, _coords_not_finite])
def test_damage_inside_a_file_is_one_sentence(tmp_path, damage):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["features"] = np.zeros((3, 2), np.float32)
        file["coords"] = np.zeros((3, 2), np.int64)
        damage(file)
    with pytest.raises(FeaturesError, match=r"extract (it|the slide) again|expected \(") as told:
        read_features(path)
    assert "\n" not in str(told.value)
