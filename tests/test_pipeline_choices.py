"""Tissue and regions from outside through the pipeline: what they change, and that nothing else changes."""

import json
from dataclasses import replace

import cv2
import h5py
import numpy as np
import pytest

from dtcwsi.encoders import load_encoder
from dtcwsi.errors import SlideError
from dtcwsi.patches import GridParameters, QualityParameters, RegionChoice
from dtcwsi.pipeline import SlideJob, extract_slide
from dtcwsi.store.contours import read_provenance
from dtcwsi.store.features import read_header
from dtcwsi.store.patches import read_patches
from dtcwsi.tissue import TissueParameters

ALL = ("tissue", "patches", "features")


def _box(*corners):
    x0, y0, x1, y1 = corners
    return {"type": "Polygon", "coordinates": [[[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]]}


@pytest.fixture
def job(make_slide, tmp_path):
    (tmp_path / "given").mkdir()
    return SlideJob(
        make_slide("a.tif"),
        tmp_path / "out",
        grid=GridParameters(patch_size_px=64),
        encoder=load_encoder("colour-texture"),
        workers=0,
    )


@pytest.fixture
def outline(tmp_path):
    path = tmp_path / "given" / "a.geojson"
    path.write_text(json.dumps(_box(256, 256, 512, 768)))
    return path


def test_given_tissue_takes_the_place_of_the_segmentation(job, outline):
    job = replace(job, tissue_from=outline.parent)
    result = extract_slide(job)
    assert result.done == ALL
    assert result.tissue_um2 == 128 * 256
    assert result.n_patches == 4 * 8
    assert read_patches(job.patches_file).coords.min(axis=0).tolist() == [256, 256]
    assert read_provenance(job.contours_file)["tissue_from"]["path"] == str(outline)
    for path in (job.patches_file, job.features_file):
        with h5py.File(path) as file:
            assert json.loads(file.attrs["tissue_from"])["file"]["path"] == str(outline)
    assert read_header(job.features_file).made_by["tissue_source"] == "outlines"
    assert job.contours_file.with_suffix(".jpg").is_file()


def test_a_changed_outline_redoes_the_slide_and_nothing_else_does(job, outline, tmp_path):
    job = replace(job, tissue_from=outline.parent)
    extract_slide(job)
    assert extract_slide(job).done == ()
    assert extract_slide(replace(job, tissue=TissueParameters(saturation_threshold=99))).done == ()
    outline.write_text(json.dumps(_box(256, 256, 512, 512)))
    assert extract_slide(job).n_patches == 4 * 4
    moved = tmp_path / "moved"
    outline.parent.rename(moved)
    assert extract_slide(replace(job, tissue_from=moved)).done == ()
    assert extract_slide(replace(job, tissue_from=None)).done == ALL


def test_a_mask_at_any_scale_gives_the_patches_of_its_pixels(job, tmp_path):
    mask = np.zeros((16, 16), np.uint8)
    mask[4:12, 4:8] = 1
    cv2.imwrite(str(tmp_path / "given" / "a.png"), mask)
    assert extract_slide(replace(job, tissue_from=tmp_path / "given")).n_patches == 4 * 8


def test_a_slide_without_its_file_fails_and_keeps_what_was_finished(job, outline):
    extract_slide(job)
    before = job.features_file.read_bytes()
    outline.unlink()
    for change in ({"tissue_from": outline.parent}, {"regions": RegionChoice(outline.parent)}):
        with pytest.raises(SlideError, match=r"^'a' has no file in .*given; expected a with the suffix .geojson or"):
            extract_slide(replace(job, **change))
    assert job.features_file.read_bytes() == before


def test_regions_redo_the_patches_by_their_content_and_classes(job, outline):
    whole = extract_slide(job).n_patches
    feature = {"type": "Feature", "geometry": _box(256, 256, 512, 512), "properties": {"classification": "Tumor"}}
    outline.write_text(json.dumps([feature]))
    chosen = replace(job, regions=RegionChoice(outline.parent, ("Tumor",)))
    assert (extract_slide(chosen).n_patches, extract_slide(chosen).done) == (16, ())
    assert extract_slide(replace(job, regions=RegionChoice(outline.parent, ("tumor",)))).done == ()
    none = extract_slide(replace(job, regions=RegionChoice(outline.parent, ("Stroma",))))
    assert (none.n_patches, none.no_patches) == (0, "no outline of the class Stroma; the slide's file has Tumor")
    without = extract_slide(replace(job, regions=RegionChoice(outline.parent, (), ("Tumor",))))
    assert (without.n_patches, without.done) == (whole - 16, ALL[1:])
    outline.write_text(json.dumps(_box(256, 256, 320, 320)))
    assert extract_slide(replace(job, regions=RegionChoice(outline.parent))).n_patches == 1
    assert extract_slide(job).n_patches == whole


def test_a_slide_smaller_than_a_patch_says_so(job):
    small = extract_slide(replace(job, grid=GridParameters(patch_size_px=2048)))
    assert (small.n_patches, small.no_patches) == (0, "1024 x 1024 px are less than a patch of 2048 level-0 px a side")


def _penned(path, write_slide, tissue_picture):
    picture = tissue_picture(1024, [(500, 520, 400)])
    picture[:, 448:512] = picture[:, 448:512] * np.array([0.2, 0.62, 0.36])
    picture[576:640] = cv2.GaussianBlur(picture[576:640], (0, 0), 8)
    return write_slide(path, picture)


def test_quality_sifts_patches_and_keeps_their_scores(job, write_slide, tissue_picture):
    job = replace(job, path=_penned(job.path, write_slide, tissue_picture), encoder=None)
    extract_slide(job)
    plain = read_patches(job.patches_file)
    measured = replace(job, quality=QualityParameters())
    assert extract_slide(measured).done == ("patches",)
    with h5py.File(job.patches_file) as file:
        coords, pen, sharpness = (file[name][()] for name in ("coords", "pen", "sharpness"))
        assert (file.attrs["n_pen"], file.attrs["n_blurred"]) == (0, 0)
    np.testing.assert_array_equal(coords, plain.coords)
    inked, blurred = coords[:, 0] == 448, coords[:, 1] == 576
    assert pen[inked].min() > 0.5
    assert pen[~inked].max() < 0.1
    assert np.median(sharpness[blurred]) < 1 < sharpness[~blurred & ~inked].min()
    least, fine = 1.0, (sharpness >= 1.0) & (pen <= 0.2)
    assert 0 < fine.sum() < len(fine) - inked.sum()
    sifted = replace(job, quality=QualityParameters(min_sharpness=least, max_pen=0.2))
    result = extract_slide(sifted)
    assert result.n_patches == fine.sum()
    with h5py.File(job.patches_file) as file:
        assert file.attrs["n_pen"] == inked.sum()
        assert file.attrs["n_blurred"] == (sharpness < 1.0).sum()
        np.testing.assert_array_equal(file["coords"][()], coords[fine])
        assert json.loads(file.attrs["quality"]) == {"max_pen": 0.2, "min_sharpness": least, "spacing_um": 1.0}
        assert len(file["pen"]) == len(file["coords"]) == len(file["tissue_fraction"]) == result.n_patches
    assert extract_slide(sifted).done == ()
    assert extract_slide(replace(sifted, workers=1)).done == ()
    none = extract_slide(replace(job, quality=QualityParameters(min_sharpness=1e6)))
    assert none.no_patches == f"--min-sharpness left out {len(plain):,} patches and --max-pen 0, which were all"
    assert extract_slide(sifted).n_patches == fine.sum()
    assert extract_slide(SlideJob(job.path, job.out).as_recorded()).done == ()
    assert extract_slide(job).n_patches == len(plain)


def test_a_slide_without_patches_has_no_scores(job, write_slide, tissue_picture):
    job = replace(job, path=write_slide(job.path, tissue_picture(1024, [])), quality=QualityParameters(), encoder=None)
    assert extract_slide(job).n_patches == 0
    with h5py.File(job.patches_file) as file:
        assert file["pen"].shape == file["sharpness"].shape == (0,)


def test_a_job_as_recorded_needs_no_outlines_any_more(job, outline):
    made = replace(job, tissue_from=outline.parent, regions=RegionChoice(outline.parent, (), ("Tumor",)))
    extract_slide(made)
    outline.unlink()
    again = SlideJob(job.path, job.out, encoder=job.encoder).as_recorded()
    assert extract_slide(again).done == ()
    job.features_file.unlink()
    assert extract_slide(again).done == ("features",)


def test_files_made_without_choices_do_not_mention_them(job):
    extract_slide(job)
    assert "tissue_from" not in read_provenance(job.contours_file)
    for path in (job.patches_file, job.features_file):
        with h5py.File(path) as file:
            assert not {"tissue_source", "tissue_from", "region_classes", "regions_from", "quality"} & set(file.attrs)
    assert "tissue_source" not in read_header(job.features_file).made_by
