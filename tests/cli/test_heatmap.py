"""``dtcwsi heatmap``, from features to files."""

import csv
import json
import runpy
import shutil
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from dtcwsi.slides.pyramid import write_pyramid
from dtcwsi.store.contours import write_contours
from dtcwsi.store.digest import fingerprint
from dtcwsi.store.hdf5 import read_hdf5, write_hdf5
from dtcwsi.types import TissueMask

_EXAMPLE = Path(__file__).parents[2] / "examples" / "read_patches.py"


def rows_of(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="") as file:
        return {row["slide_id"]: row for row in csv.DictReader(file)}


def with_slide(features: Path, folder: Path, colour: int = 200) -> Path:
    """Copy features into an extraction that knows a slide.  Returns: the copy."""
    slide = folder / "slides" / f"{features.stem}.tif"
    write_pyramid(slide, np.full((2048, 2048, 3), colour, np.uint8), spacing_um=0.5)
    place = folder / "features" / "test" / features.name
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(features, place)
    provenance = {"slide": str(slide), "fingerprint": fingerprint(slide)}
    write_contours(folder / "tissue" / f"{features.stem}.geojson", TissueMask((), 0.0), provenance)
    return place


def test_one_bad_slide_ends_nothing_and_predictions_are_those_of_predict(run, cohort, trained, tmp_path, capsys):
    new = with_slide(cohort / "features/s00.h5", tmp_path).rename(tmp_path / "features/test/new.h5")
    (tmp_path / "tissue/s00.geojson").rename(tmp_path / "tissue/new.geojson")
    bare, broken = tmp_path / "bare.h5", tmp_path / "broken.h5"
    with read_hdf5(new) as file, write_hdf5(bare, {}) as copy:
        copy["features"] = file["features"][()]
    broken.write_bytes(b"no features")
    out = tmp_path / "heatmaps"
    done = run("heatmap", trained, bare, broken, new, "--out", out, "--json")
    assert done.status == 1
    assert "bare: the features of 'bare' have no coordinates, so nothing can be drawn" in done.err
    assert "1 heatmap in" in done.err
    rows = rows_of(out / "predictions.csv")
    assert rows["broken"]["warning"].startswith("failed: ")
    assert [row["slide_id"] for row in json.loads(done.out)] == ["bare", "broken", "new"]
    expected = list(csv.DictReader(run("predict", trained, new).out.splitlines()))
    assert rows["new"] == expected[0]
    files = ["new.csv", "new.geojson", "new.outlines.geojson", "new.overlay.tif", "new.png"]
    assert sorted(path.name for path in out.iterdir()) == ["heatmaps.json", *files, "predictions.csv"]
    capsys.readouterr()
    sys_argv, sys.argv = sys.argv, [str(_EXAMPLE), str(out / "new.geojson"), str(out / "new.outlines.geojson")]
    try:
        runpy.run_path(str(_EXAMPLE), run_name="__main__")
    finally:
        sys.argv = sys_argv
    said = capsys.readouterr().out
    assert said.startswith("30 patches: ")
    assert " merge groups are outlined, the largest of " in said


def test_slides_of_the_cohort_are_judged_on_one_scale_by_the_models_that_never_saw_them(run, cohort, trained, tmp_path):
    files = [cohort / f"features/{name}.h5" for name in ("s04", "s05")]
    few = ("--no-overlay", "--no-qupath", "--table", "parquet", "--scale", "share", "--together")
    done = run("heatmap", trained, *files, "--out", tmp_path, *few)
    assert done.status == 0
    rows, own = rows_of(tmp_path / "predictions.csv"), rows_of(trained / "predictions.csv")
    for name in ("s04", "s05"):
        assert rows[name]["warning"] == "no_slide_file"
        assert float(rows[name]["prob_a"]) == pytest.approx(float(own[name]["prob_a"]), abs=1e-5)
    names = ["heatmaps.json", "predictions.csv", "s04.parquet", "s04.png", "s05.parquet", "s05.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_requests_that_make_no_sense_are_refused_before_any_work(run, cohort, trained, tmp_path):
    file = cohort / "features/s00.h5"
    for arguments, sentence in (
        (("--scale", "log"), "got --scale 'log'; expected one of percentile, rank, share"),
        (("--class", "z"), "got --class 'z'; expected one of a, b"),
        (("--class", "a"), "the model has one attention map for all classes, and none of 'a' alone"),
        (("--table", "xlsx"), "got the table format 'xlsx'; expected one of csv, parquet"),
    ):
        done = run("heatmap", trained, file, "--out", tmp_path / "out", *arguments)
        assert (done.status, sentence in done.err) == (2, True)
    gone = run("heatmap", trained, file, tmp_path / "absent.svs", "--out", tmp_path / "out")
    assert (gone.status, "absent.svs does not exist" in gone.err) == (2, True)
    gone = run("heatmap", trained, file, "--out", tmp_path / "out", "--slides", tmp_path / "nowhere")
    assert (gone.status, "nowhere does not exist; expected the folder that holds the slides" in gone.err) == (2, True)
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize("fold", [".", "fold0"])
@pytest.mark.parametrize("command", ["heatmap", "explain", "evaluate", "predict", "faithfulness"])
def test_another_slide_of_a_name_in_the_cohort_is_not_taken_for_it(run, cohort, trained, tmp_path, command, fold):
    known, features = tmp_path / "run", tmp_path / "features"
    shutil.copytree(trained, known)
    features.mkdir()
    for name in ("s00", "s01"):
        shutil.copy(cohort / f"features/{name}.h5", features)
        with h5py.File(features / f"{name}.h5", "r+") as file:
            file.attrs["slide_fingerprint"] = name * 2
    (known / "checksums.csv").write_text("slide_id,slide_fingerprint\ns00,other\ns01,s01s01\n")
    files = [features / "s00.h5"] if command == "explain" else [features]
    out = () if command in ("predict", "evaluate") else ("--out", tmp_path / "out")
    if command in ("evaluate", "faithfulness"):
        files = ["--features", features, "--labels", cohort / "labels.csv"]
    done = run(command, known / fold, *files, *out)
    told = "'s00' is another file than the slide of that name in the cohort of"
    assert told in (done.out if command == "predict" else done.err)
    assert done.status == (0 if command == "predict" else 1)
    assert "'s01' is another" not in done.out + done.err
    assert "(s00" not in done.err, "a slide of the training"


def test_a_folder_of_other_files_is_left_alone(run, cohort, trained, tmp_path):
    (tmp_path / "s00.png").write_bytes(b"a scan")
    done = run("heatmap", trained, cohort / "features/s00.h5", "--out", tmp_path)
    assert (done.status, (tmp_path / "s00.png").read_bytes()) == (2, b"a scan")
    assert f"{tmp_path} holds other files, which heatmaps might be written over; name another --out" in done.err


def test_tissue_that_someone_edited_and_a_strange_name_end_nothing(run, cohort, trained, tmp_path):
    edited = with_slide(cohort / "features/s00.h5", tmp_path)
    outlines = tmp_path / "tissue/s00.geojson"
    outlines.write_text(outlines.read_text().replace("area_um2", "area"))
    strange = edited.with_name("predictions.h5")
    shutil.copy(edited, strange)
    done = run("heatmap", trained, strange, edited, "--out", tmp_path / "out", "--no-overlay")
    assert done.status == 1
    rows = rows_of(tmp_path / "out/predictions.csv")
    assert "would take the place of that of all slides; rename the file" in rows["predictions"]["warning"]
    assert rows["s00"]["prediction"] in ("a", "b")


@pytest.mark.parametrize("command", ["heatmap", "explain"])
def test_a_slide_that_moved_or_was_replaced_is_told(run, cohort, trained, tmp_path, command):
    features = with_slide(cohort / "features/s00.h5", tmp_path)
    few = ("--no-overlay", "--no-qupath") if command == "heatmap" else ("--figure", "attention")
    call = (command, trained, features, "--out", tmp_path / "out", *few)
    (tmp_path / "slides").rename(tmp_path / "moved")
    done = run(*call)
    assert done.status == 0
    if command == "heatmap":
        assert rows_of(tmp_path / "out/predictions.csv")["s00"]["warning"] == "no_slide_file"
    assert "the slide of 's00' is not at" in done.err
    assert "name the folder that holds it with --slides; drawn without the slide" in done.err
    with_slide(cohort / "features/s00.h5", tmp_path / "others", colour=90)
    done = run(*call, "--slides", tmp_path / "others/slides")
    assert done.status == 1
    assert "s00.tif is another slide than the features of 's00' were made from" in done.err
    done = run(*call, "--slides", tmp_path / "moved")
    assert (done.status, "warning" in done.err) == (0, False)


def test_a_run_of_another_version_is_told(run, cohort, trained, tmp_path):
    old = tmp_path / "run"
    shutil.copytree(trained, old)
    for card in old.glob("fold*/card.json"):
        told = json.loads(card.read_text())
        card.write_text(json.dumps({**told, "versions": {**told["versions"], "dtcwsi": "0.0.1"}}))
    done = run("predict", old, cohort / "features/s00.h5")
    assert "was trained with dtcwsi 0.0.1, and this is " in done.err
    assert "its predictions may differ; compare them with the run's predictions.csv, or install" in done.err
    assert "was trained with dtcwsi" not in run("predict", trained, cohort / "features/s00.h5").err


def test_heatmaps_of_other_models_are_kept_and_predictions_of_earlier_slides_too(run, cohort, trained, tmp_path):
    first, second = (cohort / f"features/{name}.h5" for name in ("s00", "s01"))
    few = ("--no-overlay", "--no-qupath", "--out", tmp_path)
    assert run("heatmap", trained, first, *few).status == 0
    assert run("heatmap", trained, second, *few).status == 0
    rows = rows_of(tmp_path / "predictions.csv")
    assert list(rows) == ["s00", "s01"]
    before = (tmp_path / "s00.png").read_bytes()
    done = run("heatmap", trained / "fold0", first, *few)
    assert done.status == 2
    assert f"{tmp_path} holds heatmaps of other models (of {trained}); name another --out" in done.err
    assert (tmp_path / "s00.png").read_bytes() == before
    (tmp_path / "heatmaps.json").write_text("[")
    assert "cannot be read; name another --out" in run("heatmap", trained, first, *few).err


def test_maps_by_another_scale_do_not_stand_beside_these(run, cohort, trained, tmp_path):
    asked = ["heatmap", trained, cohort / "features/s00.h5", "--out", tmp_path / "maps"]
    assert run(*asked, "--no-overlay").status == 0
    before = (tmp_path / "maps/heatmaps.json").read_bytes()
    done = run(*asked, "--scale", "rank")
    assert done.status == 2
    assert "holds heatmaps by scale percentile; name another --out for these" in done.err
    assert (tmp_path / "maps/heatmaps.json").read_bytes() == before
    for name, member in (("s00", "attention_of"), ("s00.outlines", "merge_groups")):
        told = json.loads((tmp_path / f"maps/{name}.geojson").read_text())["dtcwsi"]
        assert member in told
        assert "dtc-abmil" in told["attention_of"]
        assert told["fates_of"] == "the first of these models"


def test_a_device_that_cannot_be_had_is_refused_though_features_are_there(run, cohort, trained, tmp_path):
    features = cohort / "features/s00.h5"
    for command in (["predict"], ["heatmap", "--out", tmp_path / "maps"], ["explain", "--out", tmp_path / "seen"]):
        done = run(command[0], trained, features, *command[1:], "--device", "banana")
        assert done.status == 2
        assert done.err.count("\n") == 1
        assert "the device 'banana' cannot be had here; expected cpu" in done.err


def test_a_slide_that_its_folder_lacks_is_taken_from_where_it_was(run, cohort, trained, tmp_path):
    features = with_slide(cohort / "features/s00.h5", tmp_path)
    (tmp_path / "elsewhere").mkdir()
    done = run("heatmap", trained, features, "--slides", tmp_path / "elsewhere", "--out", tmp_path / "out")
    assert (done.status, (tmp_path / "out/s00.overlay.tif").is_file()) == (0, True)
