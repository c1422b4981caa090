import csv
import os
import subprocess
import sys
import time

import pytest

from dtcwsi.patches import GridParameters
from dtcwsi.store.features import read_features

GRID = GridParameters(patch_size_px=64)


def _marks(out):
    files = (
        path for folder in ("tissue", "patches", "features") for path in (out / folder).rglob("*") if path.is_file()
    )
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


def _table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_second_run_redoes_nothing_and_touches_no_file(extract, make_slide, tmp_path):
    slides = [make_slide(f"{name}.tif") for name in "abc"]
    assert extract(*slides, grid=GRID).redone == ["a", "b", "c"]
    before = _marks(tmp_path / "out")
    assert extract(*slides, grid=GRID).redone == []
    assert _marks(tmp_path / "out") == before
    assert len(before) == 12


def test_a_slide_without_tissue_is_finished_and_listed(extract, make_slide, write_slide, tissue_picture, tmp_path):
    glass = write_slide(tmp_path / "glass.tif", tissue_picture(1024, []))
    summary = extract(glass, make_slide("a.tif"), grid=GRID)
    assert (summary.empty, summary.failed) == ({"glass": "no tissue was found"}, [])
    features = read_features(summary.results["glass"].features_file)
    assert features.features.shape == (0, 48)
    assert _table(tmp_path / "out" / "empty.csv") == [
        {"slide_id": "glass", "path": str(glass), "reason": "no tissue was found"}
    ]
    write_slide(glass, tissue_picture(1024, [(500, 500, 400)]))
    assert extract(glass, grid=GRID).redone == ["glass"]
    assert _table(tmp_path / "out" / "empty.csv") == []


def test_a_failure_leaves_the_table_when_the_slide_succeeds(extract, write_slide, tissue_picture, tmp_path):
    bare = write_slide(tmp_path / "bare.tif", tissue_picture(1024, [(500, 500, 400)]), spacing_um=None)
    first = extract(bare, grid=GRID)
    assert first.failed[0][:2] == ("bare", "open")
    reason = "'bare.tif' records no um/px; pass --spacing or add a spacing_um column to the cohort table"
    assert _table(tmp_path / "out" / "failed.csv") == [{"slide": "bare", "step": "open", "reason": reason}]
    assert extract(bare, grid=GRID, spacing_um=0.5).failed == []
    assert _table(tmp_path / "out" / "failed.csv") == []


def test_a_spacing_named_later_for_one_slide_leaves_the_others_alone(
    extract, make_slide, write_slide, tissue_picture, tmp_path
):
    bare = write_slide(tmp_path / "bare.tif", tissue_picture(1024, [(500, 500, 400)]), spacing_um=None)
    extract(make_slide("a.tif"), bare, grid=GRID)
    assert extract(make_slide("a.tif"), bare, grid=GRID, spacing_um=0.25, workers=0).redone == ["bare"]


def test_spacing_by_slide_replaces_what_the_slide_records(extract, make_slide):
    summary = extract(make_slide("a.tif"), make_slide("b.tif"), grid=GRID, spacing_by_slide={"a": 0.4}, spacing_um=9.0)
    assert [summary.results[name].spacing_um for name in "ab"] == [0.4, 0.5]


def test_a_fault_that_nobody_foresaw_ends_one_slide_and_not_the_run(extract, make_slide, monkeypatch):
    from dtcwsi.slides.openslide import OpenSlideReader

    genuine = OpenSlideReader.read

    def read(self, *box):
        if self.info.slide_id == "b":
            raise ZeroDivisionError("first line\nsecond line")
        return genuine(self, *box)

    monkeypatch.setattr(OpenSlideReader, "read", read)
    summary = extract(*(make_slide(f"{name}.tif") for name in "abc"), grid=GRID)
    assert list(summary.results) == ["a", "c"]
    sentence = "'b' met an unexpected ZeroDivisionError (first line second line); leave the slide out and report this"
    assert summary.failed == [("b", "tissue", sentence)]


def test_a_full_disk_is_told_once_a_slide_and_nothing_half_written_stays(extract, make_slide, tmp_path, shared_mount):
    slides = [make_slide("a.tif"), make_slide("b.tif")]
    summary = extract(*slides, grid=GRID, out=shared_mount)
    assert [failure[0] for failure in summary.failed] == ["a", "b"]
    for _, _, reason in summary.failed:
        assert "the disk is full: " in reason
        assert "\n" not in reason
    assert [path for path in shared_mount.rglob("*") if ".part-" in path.name] == []


@pytest.fixture
def shared_mount(tmp_path):
    """A disk with room for some of a slide's files and not all of them."""
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48k", "tmpfs", disk], check=False, capture_output=True)
    if os.geteuid() != 0 or done.returncode:
        pytest.skip("mounting is not allowed here")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_features_that_cannot_fit_are_refused_before_they_are_computed(extract, make_slide, monkeypatch):
    import shutil

    usage = type(shutil.disk_usage("/"))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 1000))
    (failure,) = extract(make_slide("a.tif"), grid=GRID).failed
    assert failure[1] == "features"
    assert failure[2].startswith("the disk is full: a.h5 needs 25 kB and 1 kB are free; free space and run")


CODE = """
import sys
from pathlib import Path
from dtcwsi.encoders import load_encoder
from dtcwsi.extraction import Extraction, run_extraction
from dtcwsi.patches import GridParameters
from dtcwsi.slides import find_slides

if __name__ == "__main__":
    grid = GridParameters(patch_size_px=32)
    plan = Extraction(Path(sys.argv[2]), grid=grid, encoder=load_encoder("colour-texture"), workers=0)
    summary = run_extraction(find_slides([Path(sys.argv[1])]), plan)
    print(*summary.redone)
    sys.exit(len(summary.failed))
"""


@pytest.mark.slow
def test_two_processes_share_a_folder_and_do_each_slide_once(make_slide, tmp_path):
    slides = [make_slide(f"{number}.tif") for number in range(8)]
    command = [sys.executable, "-c", CODE, slides[0].parent, tmp_path / "out"]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    told = [run.communicate(timeout=120) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], told
    done = [out.split() for out, _ in told]
    assert sorted(done[0] + done[1]) == [str(number) for number in range(8)]
    assert len(_table(tmp_path / "out" / "slides.csv")) == 8
    assert len(list((tmp_path / "out" / "features").rglob("*.h5"))) == 8


@pytest.mark.slow
def test_a_finished_cohort_is_passed_over_quickly(extract, make_slide, tmp_path):
    """300 finished slides in at most 10 ms each on a busy machine; measured 3 ms."""
    slides = [make_slide(f"{number:04d}.tif") for number in range(300)]
    extract(slides[0], grid=GridParameters())
    out = tmp_path / "out"
    for slide in slides[1:]:
        for made in [*out.glob("tissue/0000.*"), *out.glob("patches/0000.*"), *out.glob("features/*/0000.*")]:
            os.link(made, made.with_stem(slide.stem))
    extract(*slides)
    start = time.process_time()
    assert extract(*slides).redone == []
    assert time.process_time() - start < 3
