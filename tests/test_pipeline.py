from dataclasses import replace

import h5py
import numpy as np
import pytest

from dtcwsi.encoders import load_encoder
from dtcwsi.errors import EncoderError, SlideError, SpacingError
from dtcwsi.patches import GridParameters
from dtcwsi.pipeline import SlideJob, extract_slide
from dtcwsi.slides import blocks, open_slide
from dtcwsi.store.features import read_features
from dtcwsi.tissue import TissueParameters

ALL = ("tissue", "patches", "features")


@pytest.fixture
def job(make_slide, tmp_path):
    return SlideJob(
        make_slide("a.tif"),
        tmp_path / "out",
        grid=GridParameters(patch_size_px=64),
        encoder=load_encoder("colour-texture"),
        workers=0,
    )


def _marks(job):
    return {
        path.name: (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in (job.contours_file, job.patches_file, job.features_file)
    }


def test_the_whole_way_of_a_slide(job):
    result = extract_slide(job)
    assert result.done == ALL
    assert result.tissue_um2 == pytest.approx(np.pi * 200**2, rel=0.05)
    assert result.n_patches == pytest.approx(np.pi * 400**2 / 64**2, rel=0.06)
    made = read_features(result.features_file)
    slide = open_slide(job.path)
    patches = np.stack([slide.read((x, y), (64, 64), (64, 64)) for x, y in made.coords.tolist()])
    np.testing.assert_array_equal(made.features, job.encoder.encode(patches))
    overlay = job.contours_file.with_suffix(".jpg").read_bytes()
    assert overlay.startswith(b"\xff\xd8")
    with h5py.File(job.features_file) as file:
        seen = dict(file.attrs)
    expected = {
        "slide_id": "a",
        "slide_spacing_um": 0.5,
        "width_level0": 1024,
        "patch_size_px": 64,
        "encoder": "colour-texture",
    }
    assert {name: seen[name] for name in expected} == expected


def test_patches_that_are_alike_are_encoded_once(job, tmp_path, tissue_picture, write_slide):
    picture = tissue_picture(1024, [(500, 520, 400)])
    picture[256:512, 384:640] = picture[512:768, 384:640]  # the same four by four patches twice
    job = replace(job, path=write_slide(tmp_path / "twice.tif", picture))
    extract_slide(job)
    expected = read_features(job.features_file).features
    genuine, seen = job.encoder.encode, []
    job.encoder.encode = lambda pixels: seen.append(len(pixels)) or genuine(pixels)
    job.features_file.unlink()
    assert extract_slide(job).done == ("features",)
    np.testing.assert_array_equal(read_features(job.features_file).features, expected)
    assert sum(seen) == len(np.unique(expected, axis=0)) < len(expected)


def test_nothing_is_done_twice(job):
    extract_slide(job)
    before = _marks(job)
    again = extract_slide(job)
    assert (again.done, again.seconds, again.n_patches > 100) == ((), {}, True)
    assert _marks(job) == before


@pytest.mark.parametrize(
    ("change", "done"),
    [
        ({"tissue": TissueParameters(saturation_threshold=16)}, ALL),
        ({"grid": GridParameters(patch_size_px=32)}, ALL[1:]),
        ({"grid": GridParameters(patch_size_px=64, min_tissue_fraction=0.9)}, ALL[1:]),
        ({"spacing_um": 0.25}, ()),
        ({"spacing_um": 0.5, "override_spacing": True}, ()),
        ({"spacing_um": 0.4, "override_spacing": True}, ALL),
        ({"workers": 1}, ()),
        ({"tissue": TissueParameters(seg_spacing_um=8)}, ()),
    ],
)
def test_a_change_redoes_the_steps_it_touches_and_no_other(job, change, done):
    extract_slide(job)
    assert extract_slide(replace(job, **change)).done == done
    assert extract_slide(replace(job, **change)).done == ()


def test_features_of_another_encoder_of_the_same_name_are_not_replaced(job):
    extract_slide(job)
    before = job.features_file.read_bytes()
    other = load_encoder("colour-texture")
    other.digest = "colour-texture-next"
    with pytest.raises(EncoderError, match=r"another encoder called 'colour-texture' \(digest colour-texture-2.*--out"):
        extract_slide(replace(job, encoder=other))
    cut = job.patches_file.read_bytes()
    with pytest.raises(EncoderError, match="another encoder"):
        extract_slide(replace(job, encoder=other, grid=GridParameters(patch_size_px=128)))
    assert (job.features_file.read_bytes(), job.patches_file.read_bytes()) == (before, cut)


def test_a_given_spacing_follows_its_slide(write_slide, tissue_picture, job, tmp_path):
    """A slide without um/px is refused, done with the one given, and done anew with another."""
    bare = replace(
        job, path=write_slide(tmp_path / "bare.tif", tissue_picture(1024, [(500, 500, 400)]), spacing_um=None)
    )
    with pytest.raises(SpacingError):
        extract_slide(bare)
    given = replace(bare, spacing_um=0.5)
    assert extract_slide(given).done == ALL
    assert extract_slide(given).done == ()
    assert extract_slide(replace(bare, spacing_um=0.45)).done == ALL
    with pytest.raises(SpacingError):
        extract_slide(bare)


def test_a_replaced_slide_is_noticed_a_copied_one_is_not(job, write_slide, tissue_picture):
    extract_slide(job)
    job.path.write_bytes(job.path.read_bytes())
    assert extract_slide(job).done == ()
    write_slide(job.path, tissue_picture(1024, [(500, 500, 300)]))
    assert extract_slide(job).done == ALL


class _Replacing:
    """Encodes as another encoder does, and meanwhile somebody works on the slide's file."""

    def __init__(self, encoder, happens):
        self._encoder, self._happens = encoder, happens

    def __getattr__(self, name):
        return getattr(self._encoder, name)

    def encode(self, pixels):
        self._happens()
        return self._encoder.encode(pixels)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("how", ["moved over", "written to", "removed"])
def test_a_slide_that_changes_while_it_is_read_fails_and_the_next_run_does_it(
    job, write_slide, tissue_picture, tmp_path, how, workers
):
    other = write_slide(tmp_path / "b.tif", tissue_picture(1024, [(500, 500, 300)]))

    def happens():
        if how == "moved over" and other.exists():
            other.replace(job.path)
        elif how == "written to":
            job.path.write_bytes(other.read_bytes())
        elif how == "removed":
            job.path.unlink(missing_ok=True)

    troubled = replace(job, encoder=_Replacing(job.encoder, happens), workers=workers)
    expected = "restore it" if how == "removed" else "'a.tif' changed while it was read; wait"
    with pytest.raises(SlideError, match=f"{expected}.* run the same command again"):
        extract_slide(troubled)
    assert not job.features_file.exists()
    if how != "removed":
        assert extract_slide(job).done == ALL


@pytest.mark.parametrize(
    "damage", [lambda content: b"", lambda content: content[: len(content) // 2], lambda content: b"\0" * len(content)]
)
@pytest.mark.parametrize("step", ALL)
def test_a_damaged_file_is_made_again_byte_for_byte(job, step, damage):
    extract_slide(job)
    path = {"tissue": job.contours_file, "patches": job.patches_file, "features": job.features_file}[step]
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert step in extract_slide(job).done
    assert path.read_bytes() == whole


def test_any_number_of_workers_gives_the_same_bytes(job):
    made = []
    for workers in (0, 1, 2):
        extract_slide(replace(job, workers=workers, out=job.out / str(workers)))
        made.append(replace(job, out=job.out / str(workers)).features_file.read_bytes())
    assert made[0] == made[1] == made[2]


def test_steps_and_patches_are_told_as_they_come(job):
    steps, patches = [], []
    result = extract_slide(replace(job, on_step=steps.append, on_patches=patches.append))
    assert steps == ["open", *ALL]
    assert sum(patches) == result.n_patches


def test_tissue_alone_then_patches_then_features(job):
    alone = extract_slide(replace(job, grid=None, encoder=None))
    assert (alone.done, alone.n_patches, alone.features_file) == (("tissue",), None, None)
    cut = extract_slide(replace(job, encoder=None))
    assert (cut.done, cut.features_file) == (("patches",), None)
    assert extract_slide(job).done == ("features",)


def test_a_job_as_recorded_takes_the_parameters_on_disk(job):
    made = replace(job, tissue=TissueParameters(saturation_threshold=20), spacing_um=0.4, override_spacing=True)
    with pytest.raises(SlideError, match="'a.tif' has no patches in"):
        job.as_recorded()
    extract_slide(made)
    assert extract_slide(SlideJob(job.path, job.out, encoder=job.encoder).as_recorded()).done == ()


class _Failing:
    name, dim, digest, batch_size = "failing", 4, "0", 8

    def encode(self, pixels):
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB\nmore lines")


def test_an_encoder_that_fails_is_not_blamed_on_the_disk(job):
    with pytest.raises(
        EncoderError, match=r"^encoder 'failing' failed on a batch of 8 patches \(CUDA out of memory[^\n]*$"
    ):
        extract_slide(replace(job, encoder=_Failing()))
    assert [path for path in job.out.rglob("*") if ".part-" in path.name] == []


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_patches(write_slide, tmp_path, monkeypatch):
    """Numbers that numpy holds at the peak, for 256 and for 1,024 patches."""
    import tracemalloc

    monkeypatch.setattr(blocks, "_CACHE_BYTES", 1 << 20)  # of both slides more is decoded
    peaks = []
    for side in (2048, 4096):
        picture = (
            np.random.default_rng(0).integers(100, 200, (side // 8, side // 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
        )
        picture[..., 1] //= 2
        job = SlideJob(
            write_slide(tmp_path / f"{side}.tif", picture),
            tmp_path / "out",
            grid=GridParameters(patch_size_px=128),
            encoder=load_encoder("colour-texture"),
            workers=0,
        )
        extract_slide(replace(job, encoder=None))
        tracemalloc.start()
        assert extract_slide(job).n_patches == (side // 128) ** 2
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0] + 1_000_000
