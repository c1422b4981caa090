import h5py
import numpy as np
import pytest

from dtcwsi.training import data
from dtcwsi.training.crossval import cross_validate
from dtcwsi.training.data import SlideFeatures
from dtcwsi.training.search import Range, Search
from dtcwsi.training.slides import CohortSlides

QUICK = {"model": "mean", "folds": 2, "epochs": 1}


@pytest.fixture
def calls(monkeypatch):
    """What is done to files: slides read whole, files fingerprinted."""
    found = {"read": [], "fingerprinted": []}
    load, fingerprint = data.load_bag, data.fingerprint
    monkeypatch.setattr(data, "load_bag", lambda path, *rest: found["read"].append(path) or load(path, *rest))
    monkeypatch.setattr(data, "fingerprint", lambda path: found["fingerprinted"].append(path) or fingerprint(path))
    return found


def test_trainings_that_share_slides_read_them_once(needle_cohort, tmp_path, calls):
    slides = CohortSlides(needle_cohort(slides=12))
    for model in ("mean", "max"):
        assert cross_validate(slides, out=tmp_path / model, **{**QUICK, "model": model}).complete
    assert len(calls["read"]) == len(calls["fingerprinted"]) == 12


def test_a_finished_run_is_found_without_reading_a_slide(needle_cohort, tmp_path, calls):
    cohort = needle_cohort(slides=12)
    first = cross_validate(cohort, out=tmp_path / "run", **QUICK)
    calls["read"].clear()
    again = cross_validate(cohort, out=tmp_path / "run", **QUICK)
    assert calls["read"] == []
    assert again.metrics["metrics"] == first.metrics["metrics"]


def test_a_search_fingerprints_features_once_for_all_folds(needle_cohort, tmp_path, calls):
    search = Search({"lr": Range(1e-4, 1e-2, log=True)}, 1)
    cross_validate(needle_cohort(slides=12), out=tmp_path / "run", search=search, **QUICK)
    assert len(calls["fingerprinted"]) == 12


def test_slides_that_cannot_be_used_are_left_out_for_all(needle_cohort, tmp_path):
    cohort = needle_cohort(slides=12)
    with h5py.File(cohort.headers[4].path, "r+") as file:
        file["features"][0, 0] = np.nan
    slides = CohortSlides(cohort)
    runs = [cross_validate(slides, out=tmp_path / model, **{**QUICK, "model": model}) for model in ("mean", "max")]
    for run in runs:
        assert list(run.metrics["left_out"]["refused"]) == [cohort.slides[4].slide_id]
        assert not run.complete
    assert cross_validate(slides, out=tmp_path / "mean", **QUICK).metrics == runs[0].metrics


def test_memory_that_is_given_back_is_filled_anew(needle_cohort):
    cohort = needle_cohort(slides=3)
    slides = CohortSlides(cohort)
    assert slides.usable is slides
    slides.release()
    slides.features.slide(0)
    slides.features.slide(0)
    assert slides.features.reads == 4
    small = SlideFeatures(slides.features.files, slides.features.labels, slides.features.sizes, cache_bytes=1)
    small.release()
    small.slide(0)
    small.slide(0)
    assert small.reads == 2
