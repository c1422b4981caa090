"""The hardest slides, told by hand."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from dtcwsi.explain.report.cases import hard_cases
from dtcwsi.explain.report.runs import read_run
from dtcwsi.store.digest import fingerprint


def run_of(base, chances: dict[str, float], labels: str):
    names = tuple(chances)
    return replace(
        base,
        slide_ids=names,
        patients=tuple(f"P{name}" for name in names),
        tested_in=tuple("01"[number % 2] for number in range(len(names))),
        labels=np.array([int(label) for label in labels]),
        probabilities=np.array([[1 - chance, chance] for chance in chances.values()]),
    )


@pytest.fixture
def pair(runs):
    base = read_run(runs[0])
    one = run_of(base, {"a": 0.9, "b": 0.6, "c": 0.52, "d": 0.95}, "0001")
    other = run_of(base, {"b": 0.7, "a": 0.8, "c": 0.46, "e": 0.1}, "0000")
    return {"one": one, "other": other}


def test_the_surest_mistakes_come_first_and_the_smallest_leads_after(pair, sample):
    found = hard_cases(pair, {"a": sample.slide, "b": sample.slide.with_name("gone.tif")})
    assert [case.slide_id for case in found.wrong] == ["a", "b"]
    assert [case.slide_id for case in found.unsure] == ["c", "e", "d"]
    first = found.wrong[0]
    assert (first.patient, first.folds, first.label) == ("Pa", ("0", "1"), pair["one"].classes[0])
    assert first.said["one"].probability == pytest.approx(0.9)
    assert first.said["other"].prediction == pair["one"].classes[1]
    assert found.unsure[1].said["one"] is None
    picture = cv2.imdecode(np.frombuffer(first.thumbnail, np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape[:2] == (133, 200)
    assert (found.wrong[1].thumbnail, found.wrong[1].missing) == (None, "no slide file")


def test_another_slide_of_the_name_is_not_shown(pair, sample):
    told = {}
    for checksum in (fingerprint(sample.slide), "another", None):
        known = {} if checksum is None else {"a": checksum}
        runs = {name: replace(run, checksums=known) for name, run in pair.items()}
        first = hard_cases(runs, {"a": sample.slide}).wrong[0]
        told[checksum] = first.missing
        assert (first.thumbnail is None) == bool(first.missing)
    assert list(told.values()) == ["", f"{sample.slide.name} is another file than the features were made from", ""]


def test_runs_of_other_classes_have_no_cases_in_common(pair):
    assert hard_cases({**pair, "third": replace(pair["one"], classes=("x", "y"))}, {}) is None
    assert hard_cases({}, {}) is None


def test_a_slide_that_is_tested_twice_is_judged_by_its_mean(pair):
    twice = run_of(pair["one"], {"a": 0.9, "b": 0.2}, "00")
    twice = replace(twice, slide_ids=("a", "a"))
    (case,) = hard_cases({"one": twice}, {}).wrong
    assert case.said["one"].probability == pytest.approx(0.55)
