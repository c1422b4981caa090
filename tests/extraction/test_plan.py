import csv
import os
import shutil

import pytest

from dtcwsi.encoders import load_encoder
from dtcwsi.errors import EncoderError
from dtcwsi.extraction import Extraction, plan_extraction
from dtcwsi.patches import GridParameters
from dtcwsi.tissue import TissueParameters

GRID = GridParameters(patch_size_px=64)


@pytest.fixture
def plan(tmp_path):
    """Plan an extraction as the fixture `extract` would do it."""

    def call(*slides, looks=0, **options):
        options = {"out": tmp_path / "out", "encoder": load_encoder("colour-texture"), "workers": 0, **options}
        return plan_extraction({path.stem: path for path in slides}, Extraction(**options), looks=looks)

    return call


@pytest.fixture
def slides(make_slide):
    return [make_slide(f"{name}.tif") for name in "abc"]


def _edit(path, slide_id, **values):
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    next(row for row in rows if row["slide_id"] == slide_id).update(values)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def test_before_anything_is_done_all_is_left_and_nothing_is_guessed_or_written(plan, slides, tmp_path):
    made = plan(*slides, grid=GRID)
    assert (made.left, made.n_done, made.failed_before) == ({"a", "b", "c"}, 0, 0)
    assert made.standing["a"].todo == ("tissue", "patches", "features")
    estimate = made.estimate
    assert (estimate.patches, estimate.seconds, estimate.written_bytes) == (None, None, None)
    assert not (tmp_path / "out").exists()


def test_finished_slides_are_known_without_opening_one(plan, extract, slides, monkeypatch):
    extract(*slides, grid=GRID)
    for module in ("dtcwsi.pipeline.fingerprint", "dtcwsi.pipeline.open_slide", "dtcwsi.pipeline.check_file"):
        monkeypatch.setattr(module, lambda *_, **__: pytest.fail("a slide was read"))
    made = plan(*slides, grid=GRID, looks=3)
    assert (made.n_done, made.n_slides_read) == (3, 0)
    assert (made.estimate.patches, made.estimate.seconds, made.estimate.written_bytes) == (0, 0, 0)


def test_what_other_options_replace_is_counted_before(plan, extract, slides):
    assert plan(*slides, grid=GRID).n_replaced == 0
    extract(*slides[:2], grid=GRID)
    assert plan(*slides, grid=GRID).n_replaced == 0
    made = plan(*slides, grid=GridParameters(patch_size_px=128))
    assert (made.n_replaced, len(made.left)) == (2, 3)
    assert plan(*slides, grid=GridParameters(patch_size_px=128), encoder=None).n_replaced == 2


def test_features_of_another_encoder_of_the_same_name_are_refused_before(plan, extract, slides):
    extract(slides[0], grid=GRID)
    other = load_encoder("colour-texture")
    other.digest = "of other weights"
    made = plan(*slides, grid=GRID, encoder=other)
    assert list(made.refusals) == ["a"]
    assert "holds features of another encoder called 'colour-texture'" in made.refusals["a"]
    with pytest.raises(EncoderError, match=r"a.h5 holds features of another encoder called 'colour-texture'"):
        extract(slides[1], grid=GRID, encoder=other)


def _touched(slides, out):
    os.utime(slides[0])


def _replaced_by_an_older_file(slides, out):
    before = slides[0].stat()
    slides[0].write_bytes(slides[0].read_bytes() + b"0")
    os.utime(slides[0], ns=(before.st_atime_ns, before.st_mtime_ns - 10**12))


def _link_turned_to_an_older_file(slides, out):
    other = slides[0].with_name("other")
    other.write_bytes(slides[1].read_bytes() + b"0")
    os.utime(other, (0, 0))
    slides[0].unlink()
    slides[0].symlink_to(other)


def _slide_gone(slides, out):
    slides[0].unlink()


def _without(*pattern):
    def remove(slides, out):
        for path in out.glob("/".join(pattern)):
            path.unlink()

    remove.__name__ = "without_" + "_".join(pattern)
    return remove


def _features_cut_off(slides, out):
    path = out / "features/colour-texture/b.h5"
    path.write_bytes(path.read_bytes()[:500])


def _tissue_damaged(slides, out):
    (out / "tissue/b.geojson").write_text("{")


def _row_edited(slides, out):
    _edit(out / "slides.csv", "b", saturation_threshold="20")


def _row_spoiled(slides, out):
    _edit(out / "slides.csv", "b", saturation_threshold="x")


def _table_lost(slides, out):
    (out / "slides.csv").unlink()


def _tissue_file_of_an_earlier_version(slides, out):
    """It noted no fingerprint."""
    path = out / "tissue/b.geojson"
    path.write_text(path.read_text().replace('"fingerprint"', '"noted"'))


@pytest.mark.parametrize(
    "change",
    [
        _touched,
        _replaced_by_an_older_file,
        _link_turned_to_an_older_file,
        _slide_gone,
        _without("features", "*", "b.h5"),
        _without("tissue", "b.*"),
        _without("tissue", "*"),
        _features_cut_off,
        _tissue_damaged,
        _row_edited,
        _row_spoiled,
        _table_lost,
        _tissue_file_of_an_earlier_version,
    ],
    ids=lambda change: change.__name__.strip("_"),
)
def test_the_run_does_what_the_plan_said(plan, extract, slides, tmp_path, change):
    extract(*slides, grid=GRID)
    change(slides, tmp_path / "out")
    made = plan(*slides, grid=GRID)
    summary = extract(*slides, grid=GRID)
    assert made.left == {*summary.redone, *(slide_id for slide_id, _, _ in summary.failed)}
    for slide_id in summary.redone:  # a slide without its tissue file is taken to have all steps to go
        assert set(summary.results[slide_id].done) <= set(made.standing[slide_id].todo)


def test_a_slide_that_was_only_touched_is_compared_and_found_finished(plan, extract, slides):
    extract(*slides, grid=GRID)
    _touched(slides, None)
    made = plan(*slides, grid=GRID)
    assert (made.n_done, made.n_slides_read) == (3, 1)


@pytest.mark.parametrize(
    "options",
    [
        {"grid": GridParameters(patch_size_px=128)},
        {"tissue": TissueParameters(saturation_threshold=20)},
        {"spacing_um": 0.25},
        {"spacing_by_slide": {"b": 0.4}},
        {"encoder": None},
        {"encoder": None, "grid": None},
        {"as_recorded": True, "grid": GridParameters()},
    ],
    ids=str,
)
def test_the_run_does_what_the_plan_said_with_other_options(plan, extract, slides, options):
    extract(*slides, grid=GRID)
    options = {"grid": GRID, **options}
    left = plan(*slides, **options).left
    assert left == set(extract(*slides, **options).redone)


def test_slides_that_failed_before_and_slides_without_patches_are_counted(plan, extract, slides):
    bad = slides[0].with_name("bad.svs")
    bad.write_text("no slide")
    extract(bad, slides[0], grid=GRID)
    made = plan(bad, *slides, grid=GRID)
    assert (made.n_done, len(made.left), made.failed_before) == (1, 3, 1)
    made = plan(bad, *slides, as_recorded=True)
    assert (made.n_done, list(made.refusals)) == (1, ["bad", "b", "c"])
    assert made.refusals["b"].startswith("'b.tif' has no patches")


def test_a_plan_says_which_outlines_are_missing(plan, extract, slides, tmp_path):
    extract(*slides, grid=GRID)
    (tmp_path / "outlines").mkdir()
    made = plan(*slides, grid=GRID, tissue_from=tmp_path / "outlines")
    assert made.refusals["b"].startswith("'b' has no file in ")


def test_patches_are_told_apart_from_features_made_of_them(plan, extract, slides, tmp_path):
    extract(*slides, grid=GRID)
    (tmp_path / "out/patches/b.h5").write_bytes(b"damaged")
    assert plan(*slides, grid=GRID).standing["b"].todo == ("patches",)


def test_a_tissue_file_that_says_nonsense_ends_neither_plan_nor_run(plan, extract, slides, tmp_path):
    extract(*slides, grid=GRID)
    tissue = tmp_path / "out/tissue/b.geojson"
    tissue.write_text(tissue.read_text().replace('"closing_um"', '"closed_um"'))
    assert plan(*slides, as_recorded=True).left == {"b"}
    assert [slide_id for slide_id, _, _ in extract(*slides, as_recorded=True).failed] == ["b"]


def test_a_slide_that_breaks_when_tried_out_is_passed_over(plan, slides, monkeypatch):
    from dtcwsi.extraction import looks

    genuine = looks.extract_slide

    def broken(job):
        if job.slide_id == "a":
            raise ZeroDivisionError
        return genuine(job)

    monkeypatch.setattr(looks, "extract_slide", broken)
    made = plan(*slides, grid=GRID, encoder=None, looks=3)
    assert made.estimate.looked_at == 2
    assert list(made.failed_looks) == ["a"]
    assert "unexpected ZeroDivisionError" in made.failed_looks["a"]


def test_slides_without_um_px_are_told_by_the_plan_that_tried_them_out(plan, slides, write_slide, tissue_picture):
    for bare in slides[1:]:
        write_slide(bare, tissue_picture(1024, [(500, 520, 400)]), spacing_um=None)
    made = plan(*slides, grid=GRID, encoder=None, looks=3)
    assert sorted(made.failed_looks) == ["b", "c"]
    assert "um/px" in made.failed_looks["b"]
    assert plan(*slides, grid=GRID, encoder=None, spacing_um=0.5, looks=3).failed_looks == {}


def test_patches_that_are_cut_are_counted_and_speed_is_that_of_this_encoder(plan, extract, slides):
    cut = extract(*slides, grid=GRID, encoder=None).results
    made = plan(*slides, grid=GRID).estimate
    n_patches = sum(result.n_patches for result in cut.values())
    assert (made.patches, made.counted, made.seconds, made.written_bytes) == (n_patches, 3, None, n_patches * 208)
    extract(slides[0], grid=GRID)
    made = plan(*slides, grid=GRID).estimate
    assert (made.patches, made.counted, made.timed) == (n_patches - cut["a"].n_patches, 2, 1)
    assert made.seconds > 0


def test_slides_tried_out_tell_patches_and_seconds_and_leave_nothing(plan, slides, tmp_path):
    bad = [slides[0].with_name(f"bad{number}.svs") for number in range(2)]
    for path in bad:
        path.write_text("no slide")
    made = plan(*slides, *bad, grid=GRID, looks=2)
    estimate = made.estimate
    assert (len(made.left), estimate.looked_at, estimate.timed, estimate.by_mean) == (5, 2, 1, 5)
    assert estimate.patches == pytest.approx(5 * 123, abs=40)  # the disc of 400 px holds about 123 patches of 64 px
    assert estimate.seconds > 0
    assert not (tmp_path / "out").exists()


def test_slides_of_another_step_are_tried_out_too(plan, extract, slides, tmp_path):
    extract(*slides, grid=GRID, encoder=None)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    made = plan(*slides, as_recorded=True, looks=1).estimate
    assert (made.looked_at, made.counted, made.timed) == (1, 3, 1)
    assert made.seconds > 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before


@pytest.mark.slow
def test_ten_thousand_slides_are_planned_in_seconds(plan, extract, make_slide, tmp_path):
    """A tenth of them finished; at most 10 s of processor time on a busy machine, measured 1 s."""
    import time

    first = make_slide("00000.tif")
    slides = [first.with_name(f"{number:05d}.tif") for number in range(10_000)]
    for path in slides[1:]:
        os.link(first, path)
    extract(first, grid=GRID)
    out = tmp_path / "out"
    for path in slides[1:1_000]:
        for made in [*out.glob("tissue/00000.*"), *out.glob("patches/00000.*"), *out.glob("features/*/00000.*")]:
            shutil.copyfile(made, made.with_stem(path.stem))
    began = time.process_time()
    made = plan(*slides, grid=GRID)
    assert time.process_time() - began < 10
    assert (made.n_done, len(made.left)) == (1_000, 9_000)
