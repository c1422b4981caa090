"""The maps of a run put to the test from the command line."""

import csv
import json
import shutil

import cv2
import h5py
import numpy as np
import pytest

from .conftest import write_bag


@pytest.fixture(scope="module")
def some_slides(cohort, tmp_path_factory):
    """Features of three slides of the run's cohort with masks of two, one slide of glass and one that is broken."""
    folder = tmp_path_factory.mktemp("faithfulness")
    (folder / "features").mkdir()
    (folder / "truth").mkdir()
    for name in ("s00", "s01", "s16"):
        shutil.copy(cohort / "features" / f"{name}.h5", folder / "features")
    mask = np.zeros((64, 128), np.uint8)
    mask[:16, :32] = 255
    for name in ("s00", "s01"):
        cv2.imwrite(str(folder / "truth" / f"{name}.png"), mask)
    write_bag(folder / "features" / "glass.h5", np.zeros((0, 8)))
    write_bag(folder / "features" / "wide.h5", np.zeros((3, 9)))
    return folder


def test_table_curves_and_page_of_a_run_one_bad_slide_noted(run, some_slides, trained, tmp_path):
    out, again = tmp_path / "out", tmp_path / "again"
    shutil.copytree(trained, again)
    done = run(
        "faithfulness",
        trained,
        "--features",
        some_slides / "features",
        "--truth",
        some_slides / "truth",
        "--other-run",
        again,
        "--out",
        out,
    )
    assert done.status == 1
    assert "wide: features have width 9" in done.err
    assert "1 slide without a mask in the truth folder (s16)" in done.err
    rows = list(csv.DictReader((out / "slides.csv").open()))
    assert [(row["slide_id"], row["map"]) for row in rows] == [
        (name, each) for name in ("s00", "s01", "s16") for each in ("attention", "importance", "both", "random")
    ]
    assert {row["models"] for row in rows} == {"1"}, "each slide is asked of the fold that tests it"
    by_slide = {row["slide_id"]: row for row in rows if row["map"] == "attention"}
    assert by_slide["s00"]["lesion_auroc"]
    assert not by_slide["s16"]["lesion_auroc"]
    assert by_slide["s00"]["patient_id"] == by_slide["s16"]["patient_id"] == "p00"
    assert float(by_slide["s00"]["seeds_spearman"]) == pytest.approx(1), "the other run is the same"
    told = json.loads((out / "faithfulness.json").read_text())
    assert told["n_slides"] == 3
    assert told["n_patients"] == 2
    assert told["no_tissue"] == ["glass"]
    assert told["means"]["attention"]["lesion_auroc"]["slides"] == 2
    assert "![deletion and insertion curves](curves.svg)" in (out / "faithfulness.md").read_text()
    assert (out / "curves.png").stat().st_size > 10_000
    assert done.out.splitlines()[0].split() == [
        "map",
        "deletion_gain",
        "insertion_gain",
        "lesion_auroc",
        "folds_spearman",
        "redrawn_both",
    ]


def test_labels_choose_the_slides_and_json_is_for_scripts(run, some_slides, trained, tmp_path):
    (tmp_path / "labels.csv").write_text("slide_id,label,patient_id\ns01,b,someone\ngone,b,someone\n")
    arguments = ["faithfulness", trained / "fold0", "--features", some_slides / "features", "--out", tmp_path / "out"]
    done = run(*arguments, "--labels", tmp_path / "labels.csv", "--json")
    assert done.status == 0
    told = json.loads(done.out)
    assert (told["n_slides"], told["n_patients"]) == (1, 1)
    assert told["means"]["attention"]["deletion"]["low"] is None
    assert told["without_features"] == ["gone"]
    assert "1 slide of the labels without features, not measured (gone)" in done.err
    before = (tmp_path / "out" / "slides.csv").read_bytes()
    done = run("faithfulness", trained / "fold1", *arguments[2:])
    assert done.status == 2
    assert f"holds what was measured of other models (of {trained / 'fold0'}); name another --out" in done.err
    assert (tmp_path / "out" / "slides.csv").read_bytes() == before


def test_what_cannot_be_begun_is_refused_in_one_sentence(run, some_slides, trained, tmp_path):
    arguments = ["faithfulness", trained, "--features", some_slides / "features", "--out", tmp_path / "out"]
    done = run(*arguments, "--truth", tmp_path / "none")
    assert done.status == 2
    assert "none is no folder; expected masks named after the slides, such as glass.png" in done.err
    (tmp_path / "labels.csv").write_text("slide_id,label\nother,a\n")
    done = run(*arguments, "--labels", tmp_path / "labels.csv")
    assert done.status == 2
    assert "has a feature file in" in done.err
    done = run(*arguments, "--other-run", trained)
    assert done.status == 2
    assert "is the run itself; expected another training of its model" in done.err
    assert not (tmp_path / "out" / "slides.csv").exists()


@pytest.mark.parametrize(("downsample", "fits"), [("16", True), ("8", False)])
def test_a_mask_of_another_size_than_the_slide_is_refused(run, some_slides, trained, tmp_path, downsample, fits):
    with h5py.File(shutil.copy(some_slides / "features" / "s01.h5", tmp_path), "r+") as file:
        file.attrs.update(width_level0=2040, height_level0=1024)
    arguments = ["--features", tmp_path, "--truth", some_slides / "truth", "--truth-downsample", downsample]
    done = run("faithfulness", trained / "fold0", *arguments, "--out", tmp_path / "out")
    assert (done.status == 0) == fits
    told = "s01.png of 128 x 64 pixels covers 1024 x 512 level-0 pixels at 8 a pixel, and its slide has 2040 x 1024"
    assert (told in done.err) != fits
