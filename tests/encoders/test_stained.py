from dataclasses import replace

import h5py
import numpy as np
import pytest

from dtcwsi.encoders import StainedEncoder, load_encoder
from dtcwsi.patches import GridParameters
from dtcwsi.pipeline import SlideJob, extract_slide
from dtcwsi.slides import open_slide
from dtcwsi.stain import stain_like
from dtcwsi.store.features import read_features, read_header


@pytest.fixture
def job(make_slide, tmp_path):
    encoder = StainedEncoder(load_encoder("colour-texture"), stain_like("reinhard"))
    return SlideJob(
        make_slide("a.tif"), tmp_path / "out", grid=GridParameters(patch_size_px=64), encoder=encoder, workers=0
    )


def test_features_are_those_of_normalised_patches(job):
    made = read_features(extract_slide(job).features_file)
    slide = open_slide(job.path)
    patches = np.stack([slide.read((x, y), (64, 64), (64, 64)) for x, y in made.coords.tolist()])
    expected = load_encoder("colour-texture").encode(stain_like("reinhard")(patches))
    np.testing.assert_array_equal(made.features, expected)
    np.testing.assert_array_equal(made.features, job.encoder.encode(patches))


def test_features_of_two_stains_have_two_folders_and_say_which(job):
    plain = replace(job, encoder=load_encoder("colour-texture"))
    extract_slide(plain)
    assert extract_slide(job).done == ("features",)
    assert extract_slide(job).done == extract_slide(plain).done == ()
    assert job.features_file.parent.name == "colour-texture+reinhard"
    header = read_header(job.features_file)
    assert (header.made_by["encoder"], header.made_by["stain"]) == (
        "colour-texture+reinhard",
        stain_like("reinhard").facts,
    )
    assert "stain" not in read_header(plain.features_file).made_by
    other = StainedEncoder(load_encoder("colour-texture"), stain_like("macenko"))
    assert len({job.encoder.digest, plain.encoder.digest, other.digest}) == 3


def test_patches_left_in_their_own_stain_are_counted_whatever_reads_them(job, write_slide):
    rng = np.random.default_rng(0)
    picture = np.full((512, 512, 3), (150, 80, 120), np.uint8)
    picture[:, 256:] = rng.integers(60, 200, (512, 256, 3), np.uint8) // [1, 2, 1]
    job = replace(job, path=write_slide(job.path, picture.astype(np.uint8), levels=1))
    files = []
    for workers in (0, 2):
        one = replace(job, workers=workers, out=job.out / str(workers))
        extract_slide(one)
        with h5py.File(one.features_file) as file:
            assert file.attrs["n_own_stain"] == len(file["coords"]) // 2 == 32
        files.append(one.features_file.read_bytes())
    assert files[0] == files[1]


class _Networked:
    """Has ``prepare`` and ``encode_prepared``, as encoders of networks do."""

    name, dim, digest, batch_size, spacing_um, input_px = "n", 3, "0", 4, (0.5,), 16

    def prepare(self, pixels):
        return pixels[:, ::4, ::4]

    def encode(self, pixels):
        return self._rows(self.prepare(pixels))

    def encode_prepared(self, batches):
        yield from map(self._rows, batches)

    def _rows(self, pixels):
        assert pixels.shape[1:] == (16, 16, 3)
        return pixels.mean(axis=(1, 2)).astype(np.float32)


def test_the_encoders_own_preparation_comes_after_the_stain(job):
    encoder = StainedEncoder(_Networked(), stain_like("reinhard"))
    made = read_features(extract_slide(replace(job, encoder=encoder)).features_file)
    slide = open_slide(job.path)
    patches = np.stack([slide.read((x, y), (64, 64), (64, 64)) for x, y in made.coords.tolist()])
    np.testing.assert_allclose(made.features, encoder.encode(patches), rtol=1e-6)
    assert (encoder.spacing_um, encoder.input_px, encoder.batch_size) == ((0.5,), 16, 4)
    encoder.batch_size = 2
    assert encoder.batch_size == 2
