import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, fields

import pytest

from dtcwsi.errors import DtcwsiError, OptionError, UsageError
from dtcwsi.training import crossval
from dtcwsi.training import search as searching
from dtcwsi.training.crossval import cross_validate
from dtcwsi.training.module import Epoch
from dtcwsi.training.search import Choice, Range, Search, values_of

QUICK = {"model": "dtc-abmil", "folds": 2, "epochs": 2}


@pytest.fixture
def search():
    return Search({"lam": Range(0.0, 1.0), "lr": Range(1e-4, 1e-2, log=True), "stages": Choice((1, 3))}, 3)


def told_by(cohort, out, search, on_event=None, **given):
    return cross_validate(cohort, out=out, search=search, on_event=on_event, **{**QUICK, **given})


def test_a_fold_is_trained_with_what_its_validation_part_chose(needle_cohort, tmp_path, search):
    events = []
    record = told_by(needle_cohort(slides=16), tmp_path / "run", search, events.append)
    assert record.complete
    assert [event.kind for event in events].count("trial") == 6
    for fold, told in record.metrics["folds"].items():
        found = told["search"]
        assert found["space"] == {"lam": "0.0 to 1.0", "lr": "0.0001 to 0.01, log scale", "stages": "1 | 3"}
        assert (found["trials"], found["failed"]) == (3, 0)
        card = json.loads((record.folder / f"fold{fold}" / "card.json").read_text())
        best = found["best"]
        assert (card["options"]["lam"], card["options"]["stages"]) == (best["lam"], best["stages"])
        assert card["recipe"]["lr"] == best["lr"]
        rows = (record.folder / f"fold{fold}" / "history.csv").read_text().splitlines()
        columns = rows[0].split(",")
        losses = [float(row.split(",")[columns.index("val_loss")]) for row in rows[1:]]
        assert found["val_loss"] == pytest.approx(losses[card["best_epoch"] - 1])  # the best trial, trained again


def test_a_search_that_was_stopped_ends_as_one_that_was_not(needle_cohort, tmp_path, search, monkeypatch):
    cohort = needle_cohort(slides=16)
    whole = told_by(cohort, tmp_path / "whole", search)
    trained, calls = searching.fit_fold, []

    def stopped_at_the_third(*given, **named):
        calls.append(1)
        if len(calls) % 3 == 0:
            raise KeyboardInterrupt
        return trained(*given, **named)

    monkeypatch.setattr(searching, "fit_fold", stopped_at_the_third)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            told_by(cohort, tmp_path / "stopped", search)
    stopped = told_by(cohort, tmp_path / "stopped", search)
    for fold, told in whole.metrics["folds"].items():
        assert stopped.metrics["folds"][fold]["search"] == told["search"]
        weights = [(run.folder / f"fold{fold}" / "model.safetensors").read_bytes() for run in (whole, stopped)]
        assert weights[0] == weights[1]


@dataclass
class FakeFit:
    """A training whose validation loss is the distance of lam to 0.3; beyond 0.9 it fails."""

    on_epoch: Callable
    lam: float

    def run(self):
        if self.lam > 0.9:
            raise DtcwsiError("the loss became nan")
        unknown = dict.fromkeys((column.name for column in fields(Epoch)), 0.0)
        losses = [abs(self.lam - 0.3) + 1 / epoch for epoch in range(1, 9)]
        self.history = [
            Epoch(**{**unknown, "epoch": number, "step": number, "val_loss": loss, "chosen": True})
            for number, loss in enumerate(losses, start=1)
        ]
        self.best_epoch = 8
        for row in self.history:
            self.on_epoch(row)
        return self


def test_the_best_trial_wins_hopeless_ones_are_cut_short_and_broken_ones_set_aside(
    needle_cohort, tmp_path, monkeypatch
):
    plans, trained = [], searching.fit_fold
    monkeypatch.setattr(
        searching, "fit_fold", lambda plan, fold, on_epoch: FakeFit(on_epoch, plan.options["lam"]).run()
    )
    monkeypatch.setattr(
        crossval, "fit_fold", lambda plan, *rest, **named: plans.append(plan) or trained(plan, *rest, **named)
    )
    search = Search({"lam": Range(0, 1)}, 40)
    events = []
    record = told_by(needle_cohort(slides=16), tmp_path / "run", search, events.append, epochs=1)
    assert record.failed_folds == {}
    found = record.metrics["folds"]["0"]["search"]
    assert found["best"]["lam"] == pytest.approx(0.3, abs=0.03)
    assert found["val_loss"] == pytest.approx(abs(found["best"]["lam"] - 0.3) + 1 / 8)
    assert plans[0].options["lam"] == found["best"]["lam"]
    lines = [event.message for event in events if event.kind == "trial" and event.fold == 0]
    assert len(lines) == 40
    assert sum("pruned" in line for line in lines) == found["pruned"] > 5
    assert sum("failed: the loss became nan" in line for line in lines) == found["failed"] > 0


def test_a_search_of_which_nothing_comes_through_fails_its_fold(needle_cohort, tmp_path):
    record = told_by(needle_cohort(slides=16), tmp_path / "run", Search({"lr": Choice((1e30, 1e31))}, 2))
    assert record.failed_folds[0] == "none of 2 trials came through; search a smaller space"


def test_the_store_of_another_search_is_told(needle_cohort, tmp_path, search):
    cohort = needle_cohort(slides=16)
    told_by(cohort, tmp_path / "one", search)
    record = told_by(cohort, tmp_path / "three", Search(search.space, 2))
    shutil.rmtree(record.folder / "fold1")
    shutil.copytree(tmp_path / "one" / "fold1", record.folder / "fold1", ignore=shutil.ignore_patterns("fold.json"))
    again = told_by(cohort, record.folder, Search(search.space, 2))
    assert "holds a search of other settings; delete it" in again.failed_folds[1]
    with pytest.raises(UsageError, match="changed: search"):
        told_by(cohort, record.folder, search)


def test_a_store_that_is_none_is_told_and_the_other_folds_are_trained(needle_cohort, tmp_path, search):
    cohort = needle_cohort(slides=16)
    record = told_by(cohort, tmp_path / "run", Search(search.space, 2))
    shutil.rmtree(record.folder / "fold1")
    (record.folder / "fold1").mkdir()
    (record.folder / "fold1" / "search.db").write_bytes(b"junk" * 1000)
    again = told_by(cohort, record.folder, Search(search.space, 2))
    store = record.folder / "fold1" / "search.db"
    assert again.failed_folds == {
        1: f"{store} is no store of a search (file is not a database); delete it, and the fold is searched anew"
    }


@pytest.mark.parametrize(
    ("space", "options", "message"),
    [
        ({"lamb": Range(0, 1)}, {}, "dtc-abmil has no option 'lamb' to search; near options: lam"),
        ({"lam": Range(0, 1)}, {"lam": 0.5}, "got lam=0.5 and a search over it; leave one of the two out"),
        ({"lam": Range(0, 3)}, {}, "got lam=3"),
        ({"stages": Choice((1, 0))}, {}, "got stages=0"),
        ({"lr": Range(-1, 1)}, {}, "got lr=-1.0; expected a number above 0"),
        ({"weight_decay": Choice(("none", 0.1))}, {}, "got weight_decay=.none."),
    ],
)
def test_a_space_that_a_model_does_not_take_is_told(needle_cohort, tmp_path, space, options, message):
    with pytest.raises(OptionError, match=message):
        told_by(needle_cohort(slides=8), tmp_path / "run", Search(space, 2), options=options)
    assert not (tmp_path / "run").exists()


def test_numbers_are_whole_where_the_option_is(needle_cohort, tmp_path):
    search = Search({"lam": Range(0, 1), "stages": Range(1, 4)}, 3)
    record = told_by(needle_cohort(slides=16), tmp_path / "run{x}", search)
    best = [told["search"]["best"] for told in record.metrics["folds"].values()]
    assert all(0 < found["lam"] < 1 for found in best)
    assert {found["stages"] for found in best} <= {1, 2, 3, 4}


def test_values_are_read_as_written():
    assert values_of("lam", "0:1") == Range(0, 1)
    assert values_of("lr", "1e-4:1e-2:log") == Range(1e-4, 1e-2, log=True)
    assert values_of("k", "4,8,16") == Choice((4, 8, 16))
    assert values_of("gated", "true,false") == Choice((True, False))
    assert values_of("k", [4, 8]) == Choice((4, 8))
    assert values_of("lr", "1e-4,1e-3") == Choice((1e-4, 1e-3))
    assert values_of("matching", "aligned,full") == Choice(("aligned", "full"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1", "got lam='1' to search; expected low:high, low:high:log or values such as 4,8,16"),
        ("a:b", "got lam='a:b' to search"),
        (248, "got lam=248 to search; .*, in quotes where it has a colon"),
        ("0:1:2", "got lam='0:1:2' to search"),
        ("1:0", "got the range 1 to 0; expected two numbers, the smaller one first"),
        ("0:1:log", "got a log scale from 0; expected one from above 0"),
    ],
)
def test_values_that_are_none_are_told(text, message):
    with pytest.raises(OptionError, match=message):
        values_of("lam", text)


def test_a_search_for_nothing_or_without_optuna_is_told(monkeypatch):
    with pytest.raises(OptionError, match="without anything to search"):
        Search({})
    with pytest.raises(OptionError, match="got trials=0"):
        Search({"lam": Range(0, 1)}, 0)
    with pytest.raises(OptionError, match=r"got the choice \[1\]; expected two"):
        Choice((1,))
    monkeypatch.setattr(searching, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r'install it: pip install "dtcwsi\[tune\]"'):
        Search({"lam": Range(0, 1)})


def test_a_number_that_is_given_is_not_searched_as_well(needle_cohort, tmp_path, search):
    with pytest.raises(OptionError, match=r"got lr=0.01 and a search over it; leave one of the two out"):
        told_by(needle_cohort(slides=8), tmp_path / "run", search, lr=0.01)


def test_options_that_follow_from_a_searched_one_follow_in_every_trial(needle_cohort, tmp_path, monkeypatch):
    plans, trained = [], searching.fit_fold
    monkeypatch.setattr(
        searching, "fit_fold", lambda plan, *rest, **named: plans.append(plan) or trained(plan, *rest, **named)
    )
    record = told_by(needle_cohort(slides=16), tmp_path / "run", Search({"preset": Choice(("default", "paper"))}, 4))
    assert {(plan.options["preset"], plan.options["merge_share"]) for plan in plans} == {
        ("default", 0.25),
        ("paper", 1.0),
    }
    for fold, told in record.metrics["folds"].items():
        card = json.loads((record.folder / f"fold{fold}" / "card.json").read_text())
        assert card["options"]["merge_share"] == {"default": 0.25, "paper": 1.0}[told["search"]["best"]["preset"]]


def test_the_order_in_which_options_are_named_changes_nothing(needle_cohort, tmp_path, search):
    cohort = needle_cohort(slides=16)
    one = told_by(cohort, tmp_path / "one", search)
    other = told_by(cohort, tmp_path / "other", Search(dict(reversed(search.space.items())), search.trials))
    for fold, told in one.metrics["folds"].items():
        assert other.metrics["folds"][fold]["search"] == told["search"]


def test_a_trial_that_does_not_fit_into_memory_is_set_aside(needle_cohort, tmp_path, search, monkeypatch):
    trained, calls = searching.fit_fold, []

    def full(*given, **named):
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("CUDA out of memory.\nTried to allocate")
        return trained(*given, **named)

    monkeypatch.setattr(searching, "fit_fold", full)
    events = []
    record = told_by(needle_cohort(slides=16), tmp_path / "run", search, events.append)
    assert record.complete
    assert record.metrics["folds"]["0"]["search"]["failed"] == 1
    assert next(event.message for event in events if event.kind == "trial").endswith("failed: CUDA out of memory.")
