import csv
import io
import json
import shutil

import h5py
import numpy as np
import pytest
import torch

from dtcwsi.bags.packing import load_bag
from dtcwsi.metrics import metrics_for
from dtcwsi.models import load
from dtcwsi.store.features import read_features, read_header

from .conftest import write_bag

BRIEF = ("--figure", "figure4")  # tests that look at no other figure draw none


def table(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_one_row_a_slide_in_the_order_named_and_probabilities_are_the_folds_mean(run, cohort, trained):
    named = [cohort / "features" / f"{name}.h5" for name in ("s05", "s00")]
    done = run("predict", trained, *named)
    assert done.status == 0
    rows = table(done.out)
    assert [row["slide_id"] for row in rows] == ["s05", "s00"]
    bag = load_bag(named[0])
    with torch.inference_mode():
        each = [load(trained / fold)(bag).logits.softmax(dim=1)[0, 1].item() for fold in ("fold0", "fold1")]
    assert float(rows[0]["prob_b"]) == pytest.approx(np.mean(each), abs=1e-5)
    assert float(rows[0]["prob_a"]) + float(rows[0]["prob_b"]) == pytest.approx(1, abs=1e-5)


def test_a_failing_input_keeps_its_row_and_the_rest_is_predicted(run, cohort, trained, tmp_path):
    wide = tmp_path / "wide.h5"
    write_bag(wide, np.zeros((3, 9)))
    broken = tmp_path / "nan.h5"
    broken.write_bytes(b"")
    out = tmp_path / "p.csv"
    done = run("predict", trained, wide, cohort / "features/s01.h5", broken, "--out", out)
    assert done.status == 1
    rows = {row["slide_id"]: row for row in table(out.read_text())}
    assert f"3 slides, 2 failed: {out}" in done.err
    assert rows["s01"]["prediction"]
    assert "features have width 9" in rows["wide"]["warning"]
    assert "is not a whole HDF5 file" in rows["nan"]["warning"]
    assert "Traceback" not in done.err


def test_a_slide_without_tissue_gets_the_class_shares_and_a_warning(run, trained, tmp_path):
    write_bag(tmp_path / "bare.h5", np.zeros((0, 8)))
    done = run("predict", trained / "fold0", tmp_path / "bare.h5", "--json")
    row = json.loads(done.out)[0]
    shares = json.loads((trained / "fold0/card.json").read_text())["class_shares"]
    assert done.status == 0
    assert row["warning"] == "no_tissue"
    assert float(row["prob_a"]) == pytest.approx(shares[0], abs=1e-5)


def test_other_features_than_the_run_was_trained_on_are_named(run, trained, tmp_path):
    write_bag(tmp_path / "x.h5", np.zeros((3, 8)), encoder="another")
    done = run("predict", trained, tmp_path / "x.h5")
    assert "encoder is another, trained with test" in table(done.out)[0]["warning"]


def test_features_of_given_tissue_are_named_where_the_run_had_none(run, trained, tmp_path):
    write_bag(tmp_path / "x.h5", np.zeros((3, 8)))
    with h5py.File(tmp_path / "x.h5", "r+") as file:
        file.attrs["tissue_source"] = "outlines"
    done = run("predict", trained, tmp_path / "x.h5")
    assert "tissue_source is outlines, trained with None" in table(done.out)[0]["warning"]


def test_no_run_and_repeated_slides_are_refused(run, cohort, trained, tmp_path):
    file = cohort / "features/s01.h5"
    assert "holds no trained model" in run("predict", tmp_path, file).err
    done = run("predict", trained, file, cohort / "features")
    assert done.status == 2
    assert "'s01' was named more than once" in done.err


def another_cohort(cohort, folder, patient="q"):
    """The features and labels of the run's cohort as those of other slides, and options to name them."""
    (folder / "other").mkdir()
    rows = ["slide_id,label,patient_id"]
    for number in range(20):
        (folder / "other" / f"x{number:02d}.h5").symlink_to(cohort / "features" / f"s{number:02d}.h5")
        rows.append(f"x{number:02d},{'b' if number % 2 else 'a'},{patient}{number:02d}")
    (folder / "other.csv").write_text("\n".join(rows) + "\n")
    return "--features", folder / "other", "--labels", folder / "other.csv"


def scored_elsewhere(run, cohort, trained, folder, *rows):
    """Evaluate a run on other slides, of labels that have these rows alone."""
    features, labels = another_cohort(cohort, folder)[:2], folder / "labels.csv"
    labels.write_text("\n".join(["slide_id,label", *rows]) + "\n")
    return run("evaluate", trained, *features, "--labels", labels)


def test_evaluate_scores_slides_of_the_runs_training_by_the_fold_that_held_them_out(run, cohort, trained):
    own = ("--features", cohort / "features", "--labels", cohort / "labels.csv")
    done = run("evaluate", trained, *own, "--json")
    assert done.status == 0
    assert "20 slides" in done.err
    assert "(s00, s01, s02, s03, s04 ...); each is scored by the model of the fold that held it out" in done.err
    expected = json.loads(run("evaluate", trained, "--json").out)["metrics"]["auc"]["pooled"]
    assert json.loads(done.out)["metrics"]["auc"]["pooled"] == pytest.approx(expected)
    done = run("evaluate", trained / "fold0", *own)
    assert "were in the training of every model here" in done.err


def test_evaluate_tells_of_patients_the_run_was_trained_on(run, cohort, trained, tmp_path):
    done = run("evaluate", trained, *another_cohort(cohort, tmp_path, patient="p"))
    assert done.status == 0
    assert "was trained on other slides of 16 patients" in done.err
    assert "(p00, p01, p02, p03, p04 ...); if they are the same people" in done.err


def test_predict_marks_slides_that_a_model_was_trained_on(run, cohort, trained, tmp_path):
    new = tmp_path / "new.h5"
    new.write_bytes((cohort / "features/s00.h5").read_bytes())
    done = run("predict", trained, cohort / "features/s00.h5", cohort / "features/s01.h5", new)
    assert [row["warning"] for row in table(done.out)] == ["in_training", "in_training", ""]
    assert "was trained on 2 slides of these (s00, s01; in_training)" in done.err
    with (trained / "fold0/split.csv").open(newline="") as file:
        parts = {row["slide_id"]: row["part"] for row in csv.DictReader(file)}
    done = run("predict", trained / "fold0", cohort / "features")
    assert {row["slide_id"]: row["warning"] for row in table(done.out)} == {
        slide_id: "" if part == "test" else "in_training" for slide_id, part in parts.items()
    }


def test_a_slide_under_another_name_is_known_by_what_its_file_records(run, cohort, trained, tmp_path):
    new = tmp_path / "new.h5"
    new.write_bytes((cohort / "features/s00.h5").read_bytes())
    with h5py.File(new, "a") as file:
        file.attrs["slide_id"] = "s00"
    done = run("predict", trained, new)
    assert table(done.out)[0]["warning"] == "in_training; the file holds features of 's00'"


def test_evaluate_says_what_slides_under_other_names_do_to_its_figures(run, cohort, trained, tmp_path):
    (tmp_path / "features").mkdir()
    names = [f"s{number:02}" for number in range(20)]
    for name in names:
        copy = tmp_path / "features" / f"new-{name}.h5"
        copy.write_bytes((cohort / "features" / f"{name}.h5").read_bytes())
        with h5py.File(copy, "a") as file:
            file.attrs["slide_id"] = name
    with (cohort / "labels.csv").open(newline="") as file:
        label_of = {row["slide_id"]: row["label"] for row in csv.DictReader(file)}
    labels = tmp_path / "labels.csv"
    labels.write_text("slide_id,label\n" + "".join(f"new-{name},{label_of[name]}\n" for name in names))
    done = run("evaluate", trained, "--features", tmp_path / "features", "--labels", labels)
    assert "20 slides of" in done.err
    assert "under other names (new-s00 is s00, new-s01 is s01," in done.err
    assert "these figures are too good: take them out" in done.err
    assert done.err.count("the file holds features of") == 5
    assert "warning: 15 more, which --json lists slide by slide" in done.err


def test_evaluate_prints_the_run_and_scores_another_cohort(run, cohort, trained, tmp_path):
    own = run("evaluate", trained, "--json")
    assert own.status == 0
    assert json.loads(own.out)["metrics"]["auc"]["mean"] is not None
    external = another_cohort(cohort, tmp_path)
    other = run("evaluate", trained, *external, "--json")
    assert other.status == 0
    assert json.loads(other.out)["metrics"]["auc"]["pooled"] > 0.5
    assert "warning" not in other.err
    half = run("evaluate", trained, "--features", cohort / "features")
    assert half.status == 2
    assert "go together" in half.err


def test_evaluate_decides_at_the_thresholds_that_the_run_chose(run, cohort, trained, tmp_path):
    frozen = json.loads((trained / "metrics.json").read_text())["thresholds"]
    assert set(frozen) == {"half", "youden", "sensitivity_95"}
    external = another_cohort(cohort, tmp_path)
    for folder in (trained, trained / "fold0"):
        told = json.loads(run("evaluate", folder, *external, "--json").out)
        assert told["positive"] == "b"
        assert {name: one["threshold"] for name, one in told["decisions"].items()} == frozen
        assert told["decisions"]["half"]["sensitivity"]["value"] > 0.5
    shown = run("evaluate", trained, *external)
    assert "b is predicted from a threshold on, as the run's out-of-fold predictions chose it" in shown.err
    header, *rows = shown.out.split("\n\n")[1].splitlines()
    assert header.split() == ["threshold", "at", "sensitivity", "specificity", "ppv", "npv"]
    assert [row.split()[0] for row in rows] == ["half", "youden", "sensitivity_95"]


def test_evaluate_says_when_a_run_is_too_old_for_thresholds(run, cohort, trained, tmp_path):
    old = shutil.copytree(trained, tmp_path / "old")
    metrics = json.loads((old / "metrics.json").read_text())
    del metrics["thresholds"]
    (old / "metrics.json").write_text(json.dumps(metrics))
    told = run("evaluate", old, *another_cohort(cohort, tmp_path))
    assert told.status == 0
    assert "is of a version that chose no thresholds; train it anew" in told.err


def test_evaluate_takes_one_fold_and_names_what_it_leaves_out(run, cohort, trained, tmp_path):
    fold = run("evaluate", trained / "fold0", "--json")
    assert fold.status == 0
    own = json.loads(run("evaluate", trained, "--json").out)
    assert json.loads(fold.out)["metrics"]["auc"]["pooled"] == own["metrics"]["auc"]["folds"][0]
    done = scored_elsewhere(run, cohort, trained, tmp_path, "x00,a", "x01,b", "nowhere,b")
    assert done.status == 0
    assert "1 slide not scored (without_features): nowhere" in done.err
    assert (
        "few patients (1 of class a, 1 of class b): intervals of metrics, which draw them, are too narrow" in done.err
    )


def test_evaluate_says_what_a_class_without_slides_costs(run, cohort, trained, tmp_path):
    done = scored_elsewhere(run, cohort, trained, tmp_path, "x01,b")
    assert done.status == 0
    assert "no slide of class a was scored: the AUC is n/a, and kappa, F1, PPV and NPV tell nothing" in done.err


def test_evaluate_prints_what_is_known_in_the_order_of_train(run, cohort, trained, tmp_path):
    def header_and_metrics(out):
        first, *rows = out.split("\n\n")[0].splitlines()
        return first.split("  ")[1:], [row.split()[0] for row in rows]

    names = list(metrics_for("ab"))
    header, metrics = header_and_metrics(run("evaluate", trained).out)
    assert ("folds" in " ".join(header), metrics) == (True, names)
    for arguments in ((trained / "fold0",), (trained, *another_cohort(cohort, tmp_path))):
        out = run("evaluate", *arguments).out
        assert "n/a" not in out
        header, metrics = header_and_metrics(out)
        assert ("folds" in " ".join(header), metrics) == (False, names)


def test_evaluate_names_slides_whose_labels_are_not_the_runs(run, cohort, trained, tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text("slide_id,label\ns00,b\ns01,b\n")
    done = run("evaluate", trained, "--features", cohort / "features", "--labels", labels)
    assert "1 of 2 slides that" in done.err
    assert f"has another label in {labels} than there (s00 is 'b', there 'a')" in done.err


def test_evaluate_says_once_why_slides_cannot_be_scored(run, cohort, trained, tmp_path):
    options = another_cohort(cohort, tmp_path)
    shutil.rmtree(tmp_path / "other")
    (tmp_path / "other").mkdir()
    for number in range(20):
        write_bag(tmp_path / "other" / f"x{number:02d}.h5", np.zeros((3, 9)))
    done = run("evaluate", trained, *options)
    assert done.err.count("features have width 9") == 1
    assert "error: 20 slides (x00, x01, x02, x03, x04 ...): features have width 9" in done.err


def test_evaluate_refuses_a_class_the_run_does_not_know(run, cohort, trained, tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text("slide_id,label\ns00,a\ns01,c\n")
    done = run("evaluate", trained, "--features", cohort / "features", "--labels", labels)
    assert done.status == 2
    assert "has the label 'c', which" in done.err


def test_a_slide_goes_the_whole_way_in_one_command(run, slides, tmp_path):
    """Train on two slides' features in pieces, then predict and explain a slide file."""
    work = tmp_path / "work"
    copies = tmp_path / "slides"
    copies.mkdir()
    rows = ["slide_id,label"]
    for number in range(8):
        name = "one" if number % 2 else "two"
        (copies / f"c{number}.tif").symlink_to(slides / f"{name}.tif")
        rows.append(f"c{number},{name}")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    cut = ("--encoder", "colour-texture", "--min-tissue", "0.8", "--saturation", "20", "--workers", "0")
    assert run("extract", copies, "--out", work, *cut).status == 0
    cohort = ("--features", work, "--labels", tmp_path / "labels.csv")
    assert run("train", *cohort, "--out", tmp_path / "run", "--folds", "2", "--epochs", "2").status == 0
    done = run("predict", tmp_path / "run", slides / "one.tif", slides / "glass.tif", "--workers", "0")
    assert done.status == 0
    assert [row["warning"] for row in table(done.out)] == ["", "no_tissue"]
    (tmp_path / "bad.svs").write_text("no slide")
    done = run("predict", tmp_path / "run", tmp_path / "bad.svs", slides / "one.tif", "--workers", "0")
    assert done.status == 1
    assert done.err.count("'bad.svs' is no slide") == 1
    assert "'bad.svs' is no slide" in table(done.out)[0]["warning"]
    new = work / "features/colour-texture/c1.h5", tmp_path / "run/predicted/features/colour-texture/one.h5"
    assert new[0].stat().st_size == new[1].stat().st_size
    assert read_features(new[0]).coords.tolist() == read_features(new[1]).coords.tolist()
    assert 'saturation_threshold": 20' in read_header(new[1]).tissue_parameters
    done = run(
        "explain", tmp_path / "run", slides / "one.tif", "--out", tmp_path / "explained", "--json", "--workers", "0"
    )
    assert done.status == 0
    facts = json.loads(done.out)
    assert facts["tokens_out"] < facts["tokens_in"]
    assert facts["files"]["report.html"] == str(tmp_path / "explained/report.html")
    for name in (
        "figure2.png",
        "figure3.png",
        "figure4.png",
        "attention.png",
        "patches.csv",
        "patches.geojson",
        "report.html",
    ):
        assert (tmp_path / "explained" / name).stat().st_size > 500


def test_explain_asks_the_model_that_never_saw_a_slide_of_the_cohort_and_says_so(run, cohort, trained, tmp_path):
    file = cohort / "features/s04.h5"
    done = run("explain", trained, file, *BRIEF, "--out", tmp_path / "own", "--json")
    facts = json.loads(done.out)
    with (trained / "predictions.csv").open(newline="") as rows:
        expected = next(row for row in csv.DictReader(rows) if row["slide_id"] == "s04")
    assert facts["models"] == f"dtc-abmil, fold{expected['fold']}, not trained on this slide or its patient"
    assert facts["probabilities"]["a"] == pytest.approx(float(expected["prob_a"]), abs=1e-5)
    other = trained / f"fold{1 - int(expected['fold'])}"
    assert (
        f"dtc-abmil, {other.name}, trained on this slide"
        in run("explain", other, file, *BRIEF, "--out", tmp_path / "o").err
    )
    (tmp_path / "new.h5").write_bytes(file.read_bytes())
    done = run("explain", trained, tmp_path / "new.h5", *BRIEF, "--out", tmp_path / "new")
    assert "by dtc-abmil, mean of 2 fold models; pictures" in done.err


def test_explain_draws_the_figures_asked_for(run, cohort, trained, tmp_path):
    explain = ("explain", trained / "fold0", cohort / "features/s00.h5", "--out", tmp_path / "drawn")
    asked = ("--figure", "figure3", "--format", "svg", "--format", "pdf", "--retentions", "0.9,0.25")
    assert run(*explain, *asked).status == 0
    assert sorted(path.stem for path in (tmp_path / "drawn").glob("figure*")) == ["figure3", "figure3"]
    drawn = (tmp_path / "drawn/figure3.svg").read_text(encoding="utf-8")
    assert "r = 0.9" in drawn
    assert "r = 0.25" in drawn
    for wrong, told in (
        (("--retentions", "0.5,much"), "got --retentions '0.5,much'; expected shares separated by commas"),
        (("--figure", "figure9"), "got figure='figure9'; expected one of: attention, figure1"),
        (("--format", "gif"), "got format='gif'; expected one of: pdf"),
    ):
        done = run("explain", trained, cohort / "features/s00.h5", "--out", tmp_path / "none", *wrong)
        assert (done.status, told in done.err) == (2, True), done.err
    assert not (tmp_path / "none").exists()


def test_explain_does_not_write_over_another_slide(run, cohort, trained, tmp_path):
    first, second = (cohort / "features" / f"{name}.h5" for name in ("s00", "s01"))
    out = tmp_path / "explained"
    assert run("explain", trained, first, *BRIEF, "--out", out).status == 0
    assert run("explain", trained, first, *BRIEF, "--out", out).status == 0
    before = (out / "patches.csv").read_bytes()
    done = run("explain", trained, second, "--out", out)
    assert done.status == 2
    assert f"{out} holds the explanation of 's00'; name another --out for 's01'" in done.err
    assert (out / "patches.csv").read_bytes() == before
    (out / "slide.json").unlink()
    assert "does not say of which slide" in run("explain", trained, first, "--out", out).err


def test_explain_does_not_mix_the_pictures_of_two_models(run, cohort, trained, tmp_path):
    first, out = cohort / "features" / "s00.h5", tmp_path / "explained"
    folds = sorted(path for path in trained.iterdir() if path.name.startswith("fold"))
    assert run("explain", folds[0], first, *BRIEF, "--out", out).status == 0
    before = (out / "patches.csv").read_bytes()
    done = run("explain", folds[1], first, *BRIEF, "--out", out)
    assert done.status == 2
    assert f"{out} holds the explanation of 's00' by other models (" in done.err
    assert (out / "patches.csv").read_bytes() == before


def test_a_slide_without_tissue_is_explained_without_a_diagnosis(run, trained, tmp_path):
    write_bag(tmp_path / "bare.h5", np.zeros((0, 8)))
    done = run("explain", trained, tmp_path / "bare.h5", *BRIEF, "--out", tmp_path / "explained")
    assert (done.status, done.err.partition(";")[0]) == (0, "bare: no tissue, no prediction")
    assert "No tissue, no prediction" in (tmp_path / "explained/report.html").read_text(encoding="utf-8")
    facts = json.loads(
        run("explain", trained, tmp_path / "bare.h5", *BRIEF, "--out", tmp_path / "explained", "--json").out
    )
    assert (facts["prediction"], facts["warning"]) == (None, "no_tissue")
    assert "bare; no_tissue): no prediction" in run("predict", trained, tmp_path / "bare.h5").err


def test_the_report_of_explain_is_about_its_slide(run, cohort, trained, tmp_path):
    run("explain", trained, cohort / "features/s00.h5", *BRIEF, "--out", tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.index('id="slides"') < page.index('id="results"')
    assert "Time by stage" not in page


def test_outputs_that_cannot_be_written_are_refused_before_any_work(run, cohort, trained, tmp_path):
    file, labels = cohort / "features/s00.h5", cohort / "labels.csv"
    (tmp_path / "file").write_text("")
    for arguments, sentence in (
        (("predict", trained, file, "--out", tmp_path), f"{tmp_path} is a folder; expected a file to write"),
        (
            ("predict", trained, file, "--out", tmp_path / "file/p.csv"),
            f"cannot write to {tmp_path}/file (Not a directory)",
        ),
        (("explain", trained, file, "--out", tmp_path / "file"), f"cannot write to {tmp_path}/file (File exists)"),
        (("train", "--features", file.parent, "--labels", labels, "--out", tmp_path / "file/run"), "cannot write to"),
    ):
        done = run(*arguments)
        assert done.status == 2
        assert done.err.startswith("error: ")
        assert sentence in done.err


@pytest.mark.parametrize("second", [range(8, 12), range(12, 16)], ids=["the same slides tested", "some never tested"])
def test_folds_of_split_files_are_counted_by_partition(run, cohort, tmp_path, second):
    for number, test in enumerate((range(8, 12), second)):
        parts = dict.fromkeys(range(8), "train") | dict.fromkeys(test, "test")
        rows = "".join(f"s{slide:02d},{part}\n" for slide, part in parts.items())
        (tmp_path / f"{number}.csv").write_text("slide_id,part\n" + rows)
    out = tmp_path / "run"
    where = ["train", "--features", cohort / "features", "--labels", cohort / "labels.csv", "--out", out]
    splits = ["--splits", tmp_path / "0.csv", "--splits", tmp_path / "1.csv"]
    assert run(*where, *splits, "--model", "mean", "--epochs", "1").status == 0
    new = cohort / "features" / "s00.h5"
    assert "folds; train it" not in run("predict", out, new).err
    shutil.rmtree(out / "fold1")
    assert "has 1 of 2 folds; train it to its end" in run("predict", out, new).err


def test_one_model_has_no_deviation(run, cohort, trained):
    file = cohort / "features" / "s00.h5"
    of_two, of_one = (
        next(csv.DictReader(run("predict", which, file).out.splitlines())) for which in (trained, trained / "fold0")
    )
    assert float(of_two["prob_std"]) > 0
    assert of_one["prob_std"] == ""


def test_one_fold_is_named_where_it_alone_was_asked(run, trained, cohort, tmp_path):
    new = tmp_path / "new.h5"
    shutil.copy(cohort / "features/s00.h5", new)
    done = run("explain", trained / "fold1", new, "--out", tmp_path / "out", "--figure", "attention")
    assert "by dtc-abmil, fold1;" in done.err + done.out
    assert "dtc-abmil, fold1" in (tmp_path / "out/report.html").read_text()


def test_features_that_do_not_say_their_encoder_are_told_of(run, cohort, trained, tmp_path):
    silent = tmp_path / "silent.h5"
    with h5py.File(cohort / "features" / "s00.h5") as file, h5py.File(silent, "w") as copy:
        copy["features"], copy["coords"] = file["features"][()], file["coords"][()]
        copy["coords"].attrs["patch_size_level0"] = 256
    told = "the file does not say which encoder made it, trained with test"
    (row,) = csv.DictReader(run("predict", trained, silent).out.splitlines())
    assert told in row["warning"]
    done = run("explain", trained, silent, *BRIEF, "--out", tmp_path / "one", "--json")
    assert told in json.loads(done.out)["warning"]
    assert told in (tmp_path / "one" / "report.html").read_text()
    assert f"warning: silent: {told}" in run("explain", trained, silent, *BRIEF, "--out", tmp_path / "one").err


def test_explain_tells_of_a_slide_of_the_training_under_another_name(run, cohort, trained, tmp_path):
    with h5py.File(shutil.copy(cohort / "features" / "s05.h5", tmp_path / "new.h5"), "r+") as file:
        file.attrs["slide_id"] = "s05"
    done = run("explain", trained, tmp_path / "new.h5", *BRIEF, "--out", tmp_path / "one", "--json")
    assert json.loads(done.out)["warning"] == "in_training; the file holds features of 's05'"


def test_the_page_of_a_slide_of_the_cohort_says_its_true_class(run, cohort, trained, tmp_path):
    assert run("explain", trained, cohort / "features" / "s05.h5", *BRIEF, "--out", tmp_path).status == 0
    assert "true class b" in (tmp_path / "report.html").read_text()
