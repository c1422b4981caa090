import json

import numpy as np
import pytest

from dtcwsi.encoders import load_encoder
from dtcwsi.errors import SlideError, SpacingError
from dtcwsi.extraction import Extraction, plan_extraction, run_extraction
from dtcwsi.patches import GridParameters
from dtcwsi.slides import find_slides, open_slide
from dtcwsi.store.digest import fingerprint

zarr = pytest.importorskip("zarr")


def test_a_folder_without_arrays_is_no_slide(tmp_path):
    (tmp_path / "a.zarr").mkdir()
    with pytest.raises(SlideError, match="'a.zarr' .*expected a whole OME-Zarr"):
        open_slide(tmp_path / "a.zarr")


AXES = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}


@pytest.fixture
def picture(tissue_picture):
    return tissue_picture(600, [(300, 280, 220)])


@pytest.fixture
def write(tmp_path, picture):
    """Write an OME-Zarr of three levels, in version 0.4 or 0.5, with the axes named."""

    def call(name="a.ome.zarr", *, version="0.5", axes="tczyx", unit="micrometer", scale=0.5, pixels=None, inside=""):
        pixels = picture if pixels is None else pixels
        root = zarr.open_group(tmp_path / name, mode="w", zarr_format=3 if version == "0.5" else 2)
        group = root.create_group(inside) if inside else root
        levels = []
        for number, step in enumerate((1, 2, 4)):
            stored = pixels[::step, ::step].transpose(["yxc".index(axis) for axis in axes if axis in "yxc"])
            stored = stored.reshape([1 if axis in "tz" else size for axis, size in _sizes(axes, stored)])
            chunks = [stored.shape[at] if axis == "c" else 1 if axis in "tz" else 128 for at, axis in enumerate(axes)]
            group.create_array(str(number), data=np.ascontiguousarray(stored), chunks=chunks)
            factors = [scale * step if axis in "yx" else 1.0 for axis in axes]
            moved = [{"type": "scale", "scale": factors}] if unit else []
            levels.append({"path": str(number), "coordinateTransformations": moved})
        named = [
            {"name": axis, "type": AXES[axis]} | ({"unit": unit} if unit and axis in "yx" else {}) for axis in axes
        ]
        record = {"multiscales": [{"axes": named, "datasets": levels}]}
        group.attrs.update({"ome": {"version": version, **record}} if version == "0.5" else record)
        return tmp_path / name

    return call


def _sizes(axes, stored):
    inner = iter(stored.shape)
    return [(axis, 1 if axis in "tz" else next(inner)) for axis in axes]


@pytest.mark.parametrize(
    "settings", [{}, {"version": "0.4"}, {"axes": "cyx"}, {"axes": "yxc"}, {"inside": "0"}], ids=str
)
def test_an_image_is_read_at_every_level(write, picture, settings):
    path = write(**settings)
    slide = open_slide(path)
    info = slide.info
    assert (info.slide_id, info.reader, info.width_px, info.height_px) == ("a.ome", "ome-zarr", 600, 600)
    assert (info.spacing_um, info.level_downsamples) == (0.5, (1.0, 2.0, 4.0))
    np.testing.assert_array_equal(slide.read((300, 100), (200, 150), (200, 150)), picture[100:250, 300:500])
    np.testing.assert_array_equal(slide.read((300, 100), (200, 152), (50, 38)), picture[100:252:4, 300:500:4])
    rim = slide.read((590, -10), (20, 20), (20, 20))
    np.testing.assert_array_equal(rim[10:, :10], picture[:10, 590:])
    assert (rim[:10] == 255).all()
    assert (rim[:, 10:] == 255).all()
    slide.close()


@pytest.mark.parametrize(
    ("unit", "scale", "um"), [("micrometer", 0.25, 0.25), ("nanometer", 250.0, 0.25), ("millimeter", 0.00025, 0.25)]
)
def test_its_unit_is_heeded(write, unit, scale, um):
    assert open_slide(write(unit=unit, scale=scale)).info.spacing_um == pytest.approx(um)


@pytest.mark.parametrize("settings", [{"unit": ""}, {"unit": "parsec"}])
def test_without_a_known_unit_its_resolution_must_be_given(write, settings):
    path = write(**settings)
    with pytest.raises(SpacingError, match="'a.ome.zarr' records no um/px; pass --spacing"):
        open_slide(path)
    assert open_slide(path, spacing_um=0.3).info.spacing_um == 0.3


def test_other_pixels_and_folders_that_are_no_image_are_refused(write, tmp_path):
    deep = write("deep.zarr", pixels=np.zeros((64, 64, 3), np.uint16))
    with pytest.raises(SlideError, match="'deep.zarr' holds uint16 with 3 channels a pixel; expected 8-bit RGB"):
        open_slide(deep)
    fluorescent = write("five.zarr", pixels=np.zeros((64, 64, 5), np.uint8))
    with pytest.raises(SlideError, match="'five.zarr' holds uint8 with 5 channels"):
        open_slide(fluorescent)
    zarr.open_group(tmp_path / "bare.zarr", mode="w")
    with pytest.raises(SlideError, match="'bare.zarr' has no multiscale image"):
        open_slide(tmp_path / "bare.zarr")
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(SlideError, match="'empty.zarr' is no slide"):
        open_slide(tmp_path / "empty.zarr")
    (tmp_path / "damaged.zarr").mkdir()
    (tmp_path / "damaged.zarr/zarr.json").write_text("{")
    with pytest.raises(SlideError, match="'damaged.zarr' is no OME-Zarr image"):
        open_slide(tmp_path / "damaged.zarr")


def test_several_focal_planes_are_refused(write, tmp_path):
    path = write()
    group = zarr.open_group(path, mode="r+")
    del group["0"]
    group.create_array("0", data=np.zeros((1, 3, 2, 600, 600), np.uint8), chunks=(1, 3, 1, 128, 128))
    with pytest.raises(SlideError, match="'a.ome.zarr' has 2 along z; expected one focal plane"):
        open_slide(path)


def test_a_damaged_chunk_is_one_sentence(write):
    path = write()
    chunk = next(file for file in sorted((path / "0").rglob("*")) if file.is_file() and file.name != "zarr.json")
    chunk.write_bytes(b"nonsense")
    with pytest.raises(SlideError, match=r"'a.ome.zarr' cannot be decoded in chunk \(0, 0\) of level 0 [^\n]*copy it"):
        open_slide(path).read((0, 0), (16, 16), (16, 16))


def test_folders_are_slides_of_a_cohort_and_a_change_inside_is_seen(write, tmp_path):
    path = write(scale=4.0)
    (tmp_path / "notes").mkdir()
    assert find_slides([tmp_path]) == find_slides([path]) == {"a.ome": path}
    extraction = Extraction(tmp_path / "out", grid=GridParameters(64, 4.0), encoder=load_encoder("colour-texture"))
    done = run_extraction({"a.ome": path}, extraction)
    assert done.results["a.ome"].n_patches > 0
    assert plan_extraction({"a.ome": path}, extraction).left == frozenset()
    before = fingerprint(path)
    told = json.loads((path / "zarr.json").read_text())
    level = told["attributes"]["ome"]["multiscales"][0]["datasets"][0]
    level["coordinateTransformations"][0]["scale"][-2:] = [5.0, 5.0]
    (path / "zarr.json").write_text(json.dumps(told))
    assert fingerprint(path) != before
    assert plan_extraction({"a.ome": path}, extraction).left == {"a.ome"}


def test_other_pixels_of_the_same_size_are_another_slide(write):
    path = write("one.zarr")
    before = fingerprint(path)
    chunk = max((file for file in path.rglob("*") if file.name != "zarr.json" and file.is_file()), key=_size)
    content = bytearray(chunk.read_bytes())
    content[10] ^= 1
    chunk.write_bytes(bytes(content))
    assert fingerprint(path) != before


def test_levels_of_rounded_width_keep_their_rows(write, tmp_path):
    tall = np.full((6400, 129, 3), 255, np.uint8)
    tall[3200:3264] = 0
    read = open_slide(write(pixels=tall)).read((0, 3200), (128, 64), (64, 32))
    assert (read[1:-1, :60] == 0).all()


def _size(path):
    return path.stat().st_size, str(path)
