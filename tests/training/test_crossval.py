import csv
import json
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch

import dtcwsi
from dtcwsi.aggregators.dsmil import Dsmil
from dtcwsi.aggregators.mean import MeanPooling
from dtcwsi.bags.cohort import read_cohort
from dtcwsi.classifier import Classifier
from dtcwsi.errors import CohortError, FeaturesError, OptionError, UsageError
from dtcwsi.explain.report import write_report
from dtcwsi.inference import load_run
from dtcwsi.metrics import METRICS
from dtcwsi.store.atomic import try_lock
from dtcwsi.training import crossval
from dtcwsi.training.crossval import cross_validate
from dtcwsi.training.plan import chosen_recipe, default_batch_size

FILES = {"settings.json", "folds.csv", "predictions.csv", "metrics.json", "environment.json", "checksums.csv"}
QUICK = {"model": "dtc-abmil", "folds": 2, "epochs": 2}


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_needles_are_found_by_attention_and_compression_but_not_by_the_mean(needle_cohort, tmp_path):
    cohort = needle_cohort(slides=60, slides_per_patient=1)
    pooled = {}
    for model, retention in (("mean", None), ("abmil", None), ("dtc-abmil", 0.2)):
        record = cross_validate(cohort, model=model, out=tmp_path / model, folds=2, epochs=25, retention=retention)
        assert record.complete
        pooled[model] = record.metrics["metrics"]["auc"]["pooled"]
        kept = 1.0 if retention is None else retention
        assert record.metrics["tokens"]["kept_share"] == pytest.approx(kept, abs=0.01)
    assert pooled["mean"] < 0.85
    assert pooled["abmil"] > 0.95
    assert pooled["dtc-abmil"] > 0.95


def test_prototypes_are_fitted_to_the_training_slides_of_the_fold(needle_cohort, tmp_path):
    cohort = needle_cohort(slides=12)
    record = cross_validate(cohort, model="panther", out=tmp_path / "run", folds=2, epochs=1, options={"prototypes": 3})
    sizes = {header.slide_id: header.n_patches for header in cohort.headers}
    for fold in (0, 1):
        parts = rows_of(record.folder / f"fold{fold}" / "split.csv")
        training = sum(sizes[row["slide_id"]] for row in parts if row["part"] == "train")
        assert int(dtcwsi.load(record.folder / f"fold{fold}").aggregator.fitted_on) == training


def test_split_files_are_the_folds_and_may_test_a_slide_twice(needle_cohort, tmp_path):
    cohort = needle_cohort(slides=16)
    names = [slide.slide_id for slide in cohort.slides]
    for number, (val, test) in enumerate([(slice(8, 12), slice(12, 16)), (slice(4, 8), slice(12, 16))]):
        parts = dict.fromkeys(names, "train") | dict.fromkeys(names[val], "val") | dict.fromkeys(names[test], "test")
        rows = "".join(f"{slide},{part}\n" for slide, part in parts.items() if slide != names[0])
        (tmp_path / f"{number}.csv").write_text("slide_id,part\n" + rows + "nowhere,train\n")
    files, events = [tmp_path / "0.csv", tmp_path / "1.csv"], []
    record = cross_validate(cohort, model="mean", out=tmp_path / "run", splits=files, epochs=1, on_event=events.append)
    assert events[0].message == "1 slides of the split files are not in the cohort and take no part: nowhere"
    assert [(row["slide_id"], row["fold"]) for row in rows_of(record.folder / "predictions.csv")] == [
        (slide, fold) for fold in "01" for slide in names[12:]
    ]
    assert {row["slide_id"]: row["fold"] for row in rows_of(record.folder / "folds.csv")} == {
        slide: "0" if slide in names[12:] else "" for slide in names
    }
    assert names[0] not in {row["slide_id"] for row in rows_of(record.folder / "fold0" / "split.csv")}
    write_report(tmp_path / "report.html", title="given", runs=[record.folder])
    told = (tmp_path / "report.html").read_text()
    assert "4 of the 16 slides were predicted, 8 times in all" in told
    assert "2, named by split files" in told
    with pytest.raises(UsageError, match="changed: .*splits"):
        cross_validate(cohort, model="mean", out=record.folder, splits=files[:1], epochs=1)


def test_sites_stay_whole_and_are_told(needle_cohort, tmp_path):
    cohort = needle_cohort(slides=24)
    with pytest.raises(CohortError, match="24 slides have no site, such as"):
        cross_validate(cohort, model="mean", out=tmp_path / "run", group="site", folds=2, epochs=1)
    sites = {slide.patient_id: f"s{number // 2 % 5}" for number, slide in enumerate(cohort.slides)}
    cohort = replace(cohort, slides=tuple(replace(one, site=sites[one.patient_id]) for one in cohort.slides))
    record = cross_validate(cohort, model="mean", out=tmp_path / "run", group="site", folds=2, epochs=1)
    fold_of = {row["patient_id"]: row["fold"] for row in rows_of(record.folder / "folds.csv")}
    assert len({(sites[patient], fold) for patient, fold in fold_of.items()}) == 5
    settings = json.loads((record.folder / "settings.json").read_text())
    assert settings["group"] == "site"
    assert [slide[-1] for slide in settings["slides"]] == [slide.site for slide in cohort.slides]
    site_of = {slide.slide_id: slide.site for slide in cohort.slides}
    for fold in (0, 1):
        parts = {}
        for row in rows_of(record.folder / f"fold{fold}" / "split.csv"):
            parts.setdefault(row["part"], set()).add(site_of[row["slide_id"]])
        assert sum(map(len, parts.values())) == len(set.union(*parts.values())) == 5


def test_too_few_sites_to_validate_on_are_told(needle_cohort, tmp_path):
    cohort, events = needle_cohort(slides=24), []
    cohort = replace(cohort, slides=tuple(replace(s, site=f"s{i // 12}") for i, s in enumerate(cohort.slides)))
    given = {"model": "mean", "group": "site", "folds": 2, "epochs": 1}
    cross_validate(cohort, out=tmp_path / "run", on_event=events.append, **given)
    told = [event.message for event in events if event.kind == "fold_begins"]
    assert all(re.search("of sites that are trained on, as there are too few: s[01]$", line) for line in told)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"group": "ward"}, "got group='ward'; expected one of: patient, site"),
        ({"splits": ["a.csv"], "folds": 3}, "got split files together with folds or group"),
        ({"splits": ["a.csv"], "group": "site"}, "got split files together with folds or group"),
    ],
)
def test_folds_that_contradict_each_other_are_told(needle_cohort, tmp_path, given, message):
    with pytest.raises(OptionError, match=message):
        cross_validate(needle_cohort(slides=8), model="mean", out=tmp_path / "run", **given)


@pytest.mark.parametrize("model", ["abmil", "merge-only-abmil", "prune-only-abmil", "dtc-abmil"])
def test_a_run_tells_how_many_patches_were_merged_and_pruned(needle_cohort, tmp_path, model):
    record = cross_validate(needle_cohort(slides=16), model=model, out=tmp_path / "run", folds=2, epochs=1)
    tokens = record.metrics["tokens"]
    alone = tokens["in"] - tokens["merged"] - tokens["pruned"]
    assert alone <= tokens["out"] <= alone + tokens["merged"] / 2
    assert (tokens["merged"] > 0) == (model in ("merge-only-abmil", "dtc-abmil"))
    assert (tokens["pruned"] > 0) == (model in ("prune-only-abmil", "dtc-abmil"))


SPT = {"model": "spt", "folds": 2, "epochs": 1, "options": {"width": 16, "heads": 2}}


def weights_of(folder):
    return {path.parent.name: path.read_bytes() for path in folder.rglob("model.safetensors")}


def test_the_self_supervised_phase_sees_the_training_slides_of_the_fold_only(needle_cohort, tmp_path, monkeypatch):
    cohort, seen = needle_cohort(slides=12), []
    real = Classifier.pretrain

    def watched(model, bags, **options):
        seen.append([slide_id for packed in bags for slide_id in packed.slide_ids])
        return real(model, bags, **options)

    monkeypatch.setattr(Classifier, "pretrain", watched)
    events = []
    record = cross_validate(cohort, out=tmp_path / "run", pretrain_steps=3, on_event=events.append, **SPT)
    assert record.complete
    for fold in (0, 1):
        parts = rows_of(record.folder / f"fold{fold}" / "split.csv")
        assert sorted(seen[fold]) == sorted(row["slide_id"] for row in parts if row["part"] == "train")
        card = json.loads((record.folder / f"fold{fold}" / "card.json").read_text())
        assert card["recipe"]["pretrain_steps"] == 3
    assert json.loads((record.folder / "settings.json").read_text())["pretrain_steps"] == 3
    told = [event.message for event in events if event.kind == "pretrained"]
    assert told[0].startswith("fold 0: 3 self-supervised steps, loss ")


def test_a_resumed_run_with_a_self_supervised_phase_repeats_no_fold_and_gives_the_same_weights(needle_cohort, tmp_path):
    cohort, folder = needle_cohort(slides=12), tmp_path / "run"
    cross_validate(cohort, out=folder, pretrain_steps=3, **SPT)
    whole, events = weights_of(folder), []
    shutil.rmtree(folder / "fold1")
    cross_validate(cohort, out=folder, pretrain_steps=3, on_event=events.append, **SPT)
    assert weights_of(folder) == whole
    assert [event.kind for event in events if event.fold == 0] == ["fold_kept"]
    cross_validate(cohort, out=tmp_path / "plain", **SPT)
    assert weights_of(tmp_path / "plain")["fold0"] != whole["fold0"]
    assert "pretrain_steps" not in json.loads((tmp_path / "plain" / "settings.json").read_text())
    with pytest.raises(UsageError, match="changed: pretrain_steps"):
        cross_validate(cohort, out=folder, pretrain_steps=4, **SPT)


@pytest.mark.parametrize(
    ("given", "instead"),
    [
        ({"model": "dtc-longformer", "folds": 2}, "such as abmil$"),
        ({"model": "patchgd", "folds": 2}, "such as abmil$"),
        ({"model": "dtc-abmil", "folds": 2, "options": {"position": "sinusoidal"}}, "position=none"),
        ({**SPT, "pretrain_steps": 3}, "no self-supervised phase"),
    ],
)
def test_slides_without_places_are_told_before_any_fold_by_what_needs_them(needle_cohort, tmp_path, given, instead):
    needle_cohort(slides=12)
    with h5py.File(tmp_path / "features" / "s03.h5", "r+") as file:
        del file["coords"]
    cohort = read_cohort(tmp_path / "labels.csv", tmp_path / "features")
    with pytest.raises(FeaturesError, match=f"1 of 12 feature files hold none, the first s03; .* or .*{instead}"):
        cross_validate(cohort, out=tmp_path / "run", **given)
    assert not (tmp_path / "run").exists()


def test_the_published_recipe_is_the_model_s_own_but_for_what_is_asked(needle_cohort, tmp_path, monkeypatch):
    cohort = needle_cohort(slides=12)
    record = cross_validate(cohort, model="dtc-dsmil", out=tmp_path / "run", folds=2, recipe="published", epochs=2)
    card = json.loads((record.folder / "fold0" / "card.json").read_text())
    published = Dsmil.recipe
    assert card["recipe"]["betas"] == list(published.betas)
    assert (card["recipe"]["lr"], card["recipe"]["schedule"]) == (published.lr, "cosine")
    assert (card["recipe"]["epochs"], card["recipe"]["batch_size"]) == (2, 1)
    assert card["recipe"]["source"] == published.source
    settings = json.loads((record.folder / "settings.json").read_text())
    assert settings["schedule"] == "cosine"
    assert "source" not in settings  # its wording changes no result
    assert "Adaptations" in card["about"]
    assert (chosen_recipe("published", "mean", {}).lr, chosen_recipe("published", "max", {}).epochs) == (5e-4, 20)
    monkeypatch.delattr(MeanPooling, "recipe")  # as an aggregator of somebody's own
    with pytest.raises(OptionError, match="recipe='published', but mean was published with none; use 'common'"):
        cross_validate(cohort, model="mean", out=tmp_path / "other", recipe="published")
    with pytest.raises(OptionError, match="got recipe='publised'; expected one of: common, published"):
        cross_validate(cohort, model="dsmil", out=tmp_path / "other", recipe="publised")


def test_the_common_recipe_leaves_settings_as_they_were(run):
    _, record = run
    settings = json.loads((record.folder / "settings.json").read_text())
    assert settings.keys() == {
        "digest",
        "model",
        "options",
        "epochs",
        "batch_size",
        "lr",
        "weight_decay",
        "patience",
        "seed",
        "in_dim",
        "slides",
    }


def test_the_run_folder_is_whole(run):
    cohort, record = run
    names = {path.relative_to(record.folder).as_posix() for path in record.folder.rglob("*") if path.is_file()}
    in_fold = ("card.json", "model.safetensors", "split.csv", "history.csv", "fold.json")
    assert names - {".lock"} == FILES | {f"fold{fold}/{name}" for fold in (0, 1) for name in in_fold}
    folds = {row["slide_id"]: row for row in rows_of(record.folder / "folds.csv")}
    assert [folds[slide.slide_id]["label"] for slide in cohort.slides] == list(cohort.labels)
    told = {header.slide_id: header.slide_fingerprint for header in cohort.headers if header.slide_fingerprint}
    assert told
    assert load_run(record.folder).checksums == load_run(record.folder / "fold1").checksums == told
    for fold in (0, 1):
        parts = rows_of(record.folder / f"fold{fold}" / "split.csv")
        tested = {row["slide_id"] for row in parts if row["part"] == "test"}
        assert tested == {slide for slide, row in folds.items() if row["fold"] == str(fold)}
        assert len(rows_of(record.folder / f"fold{fold}" / "history.csv")) == 2


def test_no_patient_is_on_two_sides_of_a_fold(run):
    _, record = run
    patient = {row["slide_id"]: row["patient_id"] for row in rows_of(record.folder / "folds.csv")}
    for fold in (0, 1):
        parts = {}
        for row in rows_of(record.folder / f"fold{fold}" / "split.csv"):
            parts.setdefault(row["part"], set()).add(patient[row["slide_id"]])
        assert parts.keys() == {"train", "val", "test"}
        assert sum(map(len, parts.values())) == len(set.union(*parts.values()))


def test_predictions_are_out_of_fold_and_the_saved_models(run):
    cohort, record = run
    rows = {row["slide_id"]: row for row in rows_of(record.folder / "predictions.csv")}
    assert rows.keys() == {slide.slide_id for slide in cohort.slides}
    paths = {header.slide_id: header.path for header in cohort.headers}
    models = [dtcwsi.load(record.folder / f"fold{fold}") for fold in (0, 1)]
    for slide, row in rows.items():
        told = [float(row[f"prob_kind {number}"]) for number in range(3)]
        bag = dtcwsi.load_bag(paths[slide])
        expected = models[int(row["fold"])](bag).logits[0].softmax(0)
        assert told == pytest.approx(expected.tolist(), abs=1e-5)
        assert row["prediction"] == f"kind {int(np.argmax(told))}"


def test_metrics_are_those_of_the_predictions(run):
    cohort, record = run
    metrics = json.loads((record.folder / "metrics.json").read_text())
    assert metrics == record.metrics
    rows = rows_of(record.folder / "predictions.csv")
    labels = np.array([int(row["label"][-1]) for row in rows])
    probabilities = np.array([[float(row[f"prob_kind {number}"]) for number in range(3)] for row in rows])
    assert metrics["metrics"]["auc"]["pooled"] == pytest.approx(METRICS["auc"](labels, probabilities))
    assert metrics["metrics"]["accuracy"]["pooled"] == pytest.approx(METRICS["accuracy"](labels, probabilities))
    by_fold = metrics["metrics"]["auc"]["folds"]
    assert metrics["metrics"]["auc"]["mean"] == pytest.approx(np.mean(by_fold))
    assert metrics["metrics"]["auc"]["std"] == pytest.approx(np.std(by_fold, ddof=1))
    assert metrics["tokens"]["in"] == pytest.approx(np.mean([header.n_patches for header in cohort.headers]))
    assert set(metrics["seconds"]) == {"read", "compress", "aggregate", "model_by_fold", "train_per_fold"}
    assert (metrics["seed"], metrics["n_slides"], metrics["n_patients"]) == (5, 24, 12)


def test_a_finished_fold_is_not_trained_again(run, monkeypatch):
    cohort, record = run
    before = {path: path.read_bytes() for path in record.folder.rglob("model.safetensors")}
    shutil.rmtree(record.folder / "fold1")
    trained = []
    train_fold = crossval._train_fold
    monkeypatch.setattr(crossval, "_train_fold", lambda plan, fold: trained.append(fold) or train_fold(plan, fold))
    events = []
    again = cross_validate(cohort, out=record.folder, seed=5, on_event=events.append, **QUICK)
    assert trained == [1]
    assert [event.kind for event in events if event.fold == 0] == ["fold_kept"]
    assert {path: path.read_bytes() for path in before} == before
    assert again.metrics["metrics"] == record.metrics["metrics"]


def test_a_fold_of_an_earlier_version_is_scored_anew_and_kept(run):
    cohort, record = run
    path = record.folder / "fold1" / "fold.json"
    told = {name: value for name, value in json.loads(path.read_text()).items() if name not in ("merged", "pruned")}
    path.write_text(json.dumps({**told, "metrics": {"auc": told["metrics"]["auc"], "loss": told["metrics"]["loss"]}}))
    again = cross_validate(cohort, out=record.folder, seed=5, **QUICK)
    assert again.metrics["metrics"] == record.metrics["metrics"]
    assert again.metrics["tokens"].keys() == record.metrics["tokens"].keys() - {"merged", "pruned"}


def test_a_killed_fold_is_trained_anew(run):
    cohort, record = run
    before = (record.folder / "fold1" / "model.safetensors").read_bytes()
    (record.folder / "fold1" / "fold.json").unlink()
    (record.folder / "fold1" / "model.safetensors").write_bytes(b"half")
    cross_validate(cohort, out=record.folder, seed=5, **QUICK)
    assert (record.folder / "fold1" / "model.safetensors").read_bytes() == before


def test_a_terminated_run_does_not_look_finished(needle_cohort, tmp_path):
    needle_cohort(slides=24)
    code = f"""
import signal
from dtcwsi.bags.cohort import read_cohort
from dtcwsi.training.crossval import cross_validate
end = lambda event: event.kind == "epoch" and signal.raise_signal(signal.SIGTERM)
cohort = read_cohort({str(tmp_path / "labels.csv")!r}, {str(tmp_path / "features")!r})
cross_validate(cohort, model="mean", out={str(tmp_path / "run")!r}, folds=2, epochs=2, on_event=end)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGTERM
    assert not (tmp_path / "run" / "metrics.json").exists()


@pytest.mark.parametrize(
    ("changes", "told"),
    [({"seed": 6}, "seed"), ({"epochs": 3}, "epochs"), ({"retention": 0.3}, "options"), ({"model": "mean"}, "model")],
)
def test_other_settings_need_another_folder(run, changes, told):
    cohort, record = run
    with pytest.raises(UsageError, match=f"is a run of other settings .*{told}.*; use a new folder"):
        cross_validate(cohort, **{"out": record.folder, "seed": 5, **QUICK, **changes})


def test_a_setting_that_is_left_out_is_a_changed_one(needle_cohort, tmp_path):
    given = {**SPT, "out": tmp_path / "run"}
    cohort = needle_cohort(slides=12)
    cross_validate(cohort, pretrain_steps=1, **given)
    with pytest.raises(UsageError, match=r"\(changed: pretrain_steps\)"):
        cross_validate(cohort, **given)


def test_an_optimiser_that_is_not_installed_is_told_before_any_work(needle_cohort, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm.optim", None)
    with pytest.raises(OptionError, match="lookahead-radam comes from timm"):
        cross_validate(needle_cohort(slides=12), model="transmil", recipe="published", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_changed_feature_file_is_another_setting(run):
    cohort, record = run
    with h5py.File(cohort.headers[0].path, "r+") as file:
        file["features"][0, 0] = 9.0
    with pytest.raises(UsageError, match="changed: slides"):
        cross_validate(cohort, out=record.folder, seed=5, **QUICK)


def test_a_folder_that_is_no_run_or_in_use_is_left_alone(needle_cohort, tmp_path):
    cohort = needle_cohort(slides=24)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("dear")
    with pytest.raises(UsageError, match="is not empty and no training run"):
        cross_validate(cohort, out=tmp_path / "other", **QUICK)
    with pytest.raises(UsageError, match="thesis.txt is a file; expected a folder"):
        cross_validate(cohort, out=tmp_path / "other" / "thesis.txt", **QUICK)
    with try_lock(tmp_path / "busy" / ".lock"), pytest.raises(UsageError, match="another process trains into"):
        cross_validate(cohort, out=tmp_path / "busy", **QUICK)


def test_a_run_killed_while_its_settings_were_written_begins_anew(needle_cohort, tmp_path):
    cohort = needle_cohort(slides=24)
    code = f"""
import os, pathlib, signal
from dtcwsi.store.atomic import beside
with beside(pathlib.Path({str(tmp_path / "run" / "settings.json")!r})) as part:
    part.write_text("{{")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    (half,) = (tmp_path / "run").iterdir()
    assert cross_validate(cohort, out=half.parent, **QUICK).complete
    assert not half.exists()


def test_slides_that_cannot_be_used_are_left_out_and_told(needle_cohort, tmp_path):
    needle_cohort(slides=24)
    with h5py.File(tmp_path / "features" / "s00.h5", "r+") as file:
        file["features"][0, 0] = np.nan
    with h5py.File(tmp_path / "features" / "s01.h5", "w") as file:
        file["features"] = np.zeros((0, 64), np.float32)
        file["coords"] = np.zeros((0, 2), np.int64)
    events = []
    cohort = read_cohort(tmp_path / "labels.csv", tmp_path / "features")
    record = cross_validate(cohort, out=tmp_path / "run", on_event=events.append, **QUICK)
    assert "NaN" in record.left_out["s00"]
    assert record.left_out["s01"] == "no tissue"
    assert record.metrics["left_out"]["no_tissue"] == ["s01"]
    assert list(record.metrics["left_out"]["refused"]) == ["s00"]
    assert not record.complete
    assert len([event for event in events if event.kind == "slides_left_out"]) == 2
    assert len(rows_of(record.folder / "predictions.csv")) == 22


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("out of memory\nlong trace"), "RuntimeError: out of memory"),
        (OSError(5, "Input/output error"), "OSError: [Errno 5] Input/output error"),
        (ValueError(), "ValueError"),
    ],
)
def test_a_failing_fold_does_not_end_the_others(needle_cohort, tmp_path, monkeypatch, error, reason):
    cohort = needle_cohort(slides=24)
    train_fold = crossval._train_fold

    def failing(plan, fold):
        if fold == 0:
            raise error
        return train_fold(plan, fold)

    monkeypatch.setattr(crossval, "_train_fold", failing)
    record = cross_validate(cohort, out=tmp_path / "run", **QUICK)
    assert record.failed_folds == {0: reason}
    assert record.metrics["failed_folds"] == {"0": reason}
    assert not record.complete
    assert {row["fold"] for row in rows_of(tmp_path / "run" / "predictions.csv")} == {"1"}
    monkeypatch.undo()
    assert cross_validate(cohort, out=tmp_path / "run", **QUICK).complete


def test_a_fold_has_its_split_before_its_model(needle_cohort, tmp_path, monkeypatch):
    def full(model, folder, **_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Classifier, "save", full)
    record = cross_validate(needle_cohort(slides=24), out=tmp_path / "run", **QUICK)
    assert set(record.failed_folds) == {0, 1}
    assert len(list((tmp_path / "run").glob("fold*/split.csv"))) == 2
    assert not list((tmp_path / "run").glob("fold*/card.json"))


def test_the_seed_decides_everything(needle_cohort, tmp_path):
    cohort = needle_cohort(slides=24)
    weights = []
    for number, seed in enumerate((1, 1, 2)):
        torch.manual_seed(number)
        cross_validate(cohort, out=tmp_path / f"run{number}", seed=seed, **QUICK)
        weights.append((tmp_path / f"run{number}" / "fold0" / "model.safetensors").read_bytes())
    assert weights[0] == weights[1] != weights[2]


def test_training_leaves_the_callers_random_state_alone(needle_cohort, tmp_path):
    cohort = needle_cohort(slides=24)
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    cross_validate(cohort, out=tmp_path / "run", **QUICK)
    assert torch.equal(torch.rand(3), expected)


def test_fixed_folds_of_the_table_are_used(needle_cohort, tmp_path):
    cohort = needle_cohort(slides=24)
    lines = (tmp_path / "labels.csv").read_text().splitlines()
    fold = {slide.slide_id: int(slide.patient_id[1:]) // 2 % 3 for slide in cohort.slides}
    table = [f"{line},{'fold' if number == 0 else fold[line[:3]]}" for number, line in enumerate(lines)]
    (tmp_path / "labels.csv").write_text("\n".join(table))
    cohort = read_cohort(tmp_path / "labels.csv", tmp_path / "features")
    record = cross_validate(cohort, model="mean", out=tmp_path / "run", epochs=1)
    assert {row["slide_id"]: int(row["fold"]) for row in rows_of(record.folder / "folds.csv")} == fold
    assert len(record.metrics["metrics"]["auc"]["folds"]) == 3


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"model": "abmil", "retention": 0.4}, OptionError, "use 'dtc-abmil'"),
        ({"epochs": 0}, OptionError, "got epochs=0; expected a whole number from 1 on"),
        ({"seed": -1}, OptionError, "got seed=-1; expected a whole number from 0"),
        ({"lr": 0.0}, OptionError, "got lr=0.0; expected a number above 0"),
        ({"batch_size": 0}, OptionError, "got batch_size=0; expected a whole number from 1 on"),
        ({"device": "gpu"}, OptionError, "got device 'gpu'"),
        (
            {"model": "patchgd", "batch_size": 4, "max_tokens": 200},
            OptionError,
            "got batches of 4 slides, .* and max_tokens=200; .* raise max_tokens to",
        ),
        ({"folds": 7}, CohortError, "class 'kind 0' has 6 patients; expected at least 7"),
    ],
)
def test_what_cannot_be_done_is_told_before_anything_is_written(needle_cohort, tmp_path, changes, error, message):
    with pytest.raises(error, match=message):
        cross_validate(needle_cohort(slides=24), **{"out": tmp_path / "run", **QUICK, **changes})
    assert not (tmp_path / "run").exists()


def test_small_cohorts_take_several_steps_an_epoch():
    assert [default_batch_size(count) for count in (1, 24, 640, 5000)] == [1, 3, 80, 256]


def test_a_shorter_training_warms_up_for_as_large_a_share(needle_cohort, tmp_path):
    given = {**SPT, "epochs": 2, "recipe": "published"}
    record = cross_validate(needle_cohort(slides=12), out=tmp_path / "run", **given)
    recipe = json.loads((record.folder / "fold0" / "card.json").read_text())["recipe"]
    assert (recipe["epochs"], recipe["lr"], recipe["warm_up_epochs"]) == (2, 1.875e-5, pytest.approx(0.2))


def test_a_model_that_needs_whole_batches_takes_as_many_slides_as_fit(needle_cohort, tmp_path):
    options, cohort = {"width": 8, "hidden": 4, "patch_share": 0.5}, needle_cohort(slides=60)
    for limit, taken in ((65_536, 3), (200, 2)):
        settings = {**QUICK, "model": "patchgd", "options": options, "max_tokens": limit}
        run = cross_validate(cohort, out=tmp_path / f"{limit}", **settings)
        assert run.complete
        card = json.loads((tmp_path / f"{limit}" / "fold0" / "card.json").read_text())
        assert card["recipe"]["batch_size"] == taken


@pytest.mark.parametrize(("names", "graded"), [(("0", "1", "2"), True), (("x", "y", "z"), False)])
def test_neighbouring_classes_are_forgiven_only_where_they_are_grades(needle_cohort, tmp_path, names, graded):
    cohort = needle_cohort(slides=24, classes=3)
    named = dict(zip(cohort.class_names, names, strict=True))
    cohort = replace(cohort, slides=tuple(replace(one, label=named[one.label]) for one in cohort.slides))
    record = cross_validate(cohort, model="mean", out=tmp_path / "run", folds=2, epochs=1)
    assert ("quadratic_kappa" in record.metrics["metrics"]) == graded
    assert ("quadratic_kappa" in json.loads((record.folder / "fold0" / "fold.json").read_text())["metrics"]) == graded
    assert "kappa" in record.metrics["metrics"]
