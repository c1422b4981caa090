"""The report's HTML: what it tells, what it escapes, and that it needs nothing else."""

import base64
import hashlib
import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from dtcwsi.errors import UsageError
from dtcwsi.explain import explain_slide, write_report
from dtcwsi.explain.figures.drawing import Wanted
from dtcwsi.explain.report.runs import read_run


class Page(HTMLParser):
    """Tags with their attributes, the text, and tags that were never closed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.open = "", []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def extraction(tmp_path_factory):
    folder = tmp_path_factory.mktemp("extraction")
    (folder / "slides.csv").write_text(
        "slide_id,seconds_tissue,seconds_read,seconds_encode\nS0,1.5,2,30\nS1,0.5,2,\n", encoding="utf-8"
    )
    (folder / "failed.csv").write_text("slide,step,reason\nbroken<1>,open,no slide & no luck\n")
    (folder / "empty.csv").write_text("slide_id,path\nglass,/x/glass.tif\n")
    return folder


@pytest.fixture(scope="module")
def report(tmp_path_factory, runs, explained, extraction) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(
        path,
        title="Two models <script>alert(1)</script>",
        runs=runs,
        slides=[explained, replace(explained, slide_id='"><img src=x onerror=alert(1)>', true_label=None)],
        extraction=extraction,
        seconds={"draw slides": 65.0},
        facts={"Command": "dtcwsi demo --out 'a & b'"},
        notes=["These slides are synthetic."],
    )
    return path


@pytest.fixture(scope="module")
def page(report) -> Page:
    return Page(report)


def test_every_tag_is_closed(page):
    assert page.open == []


def test_it_needs_nothing_but_itself(page, report):
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object", "embed")
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            assert (attributes.get(name) or "data:").startswith(("data:", "#"))
        assert not any(name.startswith("on") for name in attributes)
    assert "url(" not in report.read_text()
    assert "@import" not in report.read_text()
    assert report.stat().st_size < 2_000_000


def test_the_only_script_that_may_run_is_the_pages_own(page, report):
    policy = next(attributes["content"] for tag, attributes in page.tags if "http-equiv" in attributes)
    scripts = re.findall(r"<script([^>]*)>(.*?)</script>", report.read_text(), re.DOTALL)
    (own,) = [text for attributes, text in scripts if "application/json" not in attributes]
    digest = base64.b64encode(hashlib.sha256(own.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_names_from_outside_are_escaped(page, report):
    source = report.read_text()
    assert "<script>alert" not in source
    assert "<img src=x" not in source
    assert "<b>nested" not in source
    assert "<b>nested</b> & co" in page.text
    assert '"><img src=x onerror=alert(1)>' in page.text
    assert "Two models <script>alert(1)</script>" in page.text
    assert "broken<1>" in page.text


def test_the_table_has_a_row_a_model_with_the_runs_numbers(report, runs):
    source = report.read_text()
    table = re.search(r'<table id="models">.*?</table>', source, re.DOTALL).group()
    assert re.findall(r'<th scope="row">(.*?)</th>', table) == ["abmil", "dtc-abmil"]
    for run in runs:
        metrics = json.loads((run / "metrics.json").read_text())
        for metric in ("accuracy", "balanced_accuracy", "auc"):
            told = metrics["metrics"][metric]
            assert f"{told['mean']:.3f} ± {told['std']:.3f}" in table
            low, high = told["interval_95"]
            assert f"95 %: {low:.3f} to {high:.3f}" in table
        tokens = {name: f"{count:.0f}" for name, count in metrics["tokens"].items() if isinstance(count, float)}
        assert f"<td>{tokens['in']}</td><td>{tokens['out']}<" in table
        fates = f"<small>{tokens['merged']} patches merged, {tokens['pruned']} pruned</small>"
        assert (fates in table) == (metrics["model"] == "dtc-abmil")
    assert "AUC minus that of abmil" in table


def test_it_tells_what_was_run_and_what_was_left_out(page):
    for told in (
        "dtcwsi demo --out 'a & b'",
        "16 slides of 8 patients",
        "whorled (8)",
        "2, grouped by patient",
        "These slides are synthetic.",
        "failed at open: no slide & no luck",
        "glass",
        "no tissue",
        "find tissue",
        "2.0 s",
        "1 min 05 s",
        "train dtc-abmil",
        "No leak: no slide and no patient is in two parts of a fold.",
        "Brier score",
        "the positive class is whorled",
    ):
        assert told in page.text


def test_pictures_have_words_and_tables_captions(page):
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 8
    assert all(attributes["alt"] for attributes in images)
    drawings = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert all(attributes.get("aria-label") or attributes.get("aria-hidden") for attributes in drawings)
    tags = [tag for tag, _ in page.tags]
    assert tags.count("caption") == tags.count("table") > 10


def test_the_out_of_fold_prediction_decides_right_or_wrong(report, runs, explained):
    run = read_run(runs[1])
    chances = run.probabilities[run.slide_ids.index("S1")]
    said = run.classes[int(chances.argmax())]
    card = Page(report).text.split("\nS1\n")[-1][:900]
    assert (
        f"{'Right' if said == explained.true_label else 'Wrong'}: {said}, probability {chances.max():.2f}"
        in " ".join(card.split())
    )


def test_a_model_trained_on_all_tokens_has_its_other_retentions_to_walk(sample, make_model, tmp_path):
    few = Wanted(figures=("attention",))
    explained = explain_slide([make_model(retention=1.0)], sample.features, None, tmp_path, wanted=few)
    assert (explained.tokens_out, explained.compressed) == (60, True)
    write_report(tmp_path / "report.html", title="All", slides=[explained])
    given = [given for tag, given in Page(tmp_path / "report.html").tags if tag == "input"]
    assert [one["value"] for one in given if one["type"] == "radio"] == ["slide", "attention", "merging", "pruning"]
    assert [one["name"] for one in given if one["type"] == "range"] == ["budget", "stage"]


@pytest.mark.parametrize(("name", "patches"), [("abmil", 60), ("dtc-abmil", 1)])
def test_a_slide_that_nothing_was_merged_of_or_pruned_has_two_layers(sample, make_model, tmp_path, name, patches):
    features = replace(
        sample.features, features=sample.features.features[:patches], coords=sample.features.coords[:patches]
    )
    few = Wanted(figures=("figure4",))
    explained = explain_slide([make_model(name)], features, None, tmp_path, wanted=few)
    write_report(tmp_path / "report.html", title="Plain", slides=[explained])
    layers = [given["value"] for tag, given in Page(tmp_path / "report.html").tags if given.get("type") == "radio"]
    assert layers == ["slide", "attention"]


def test_a_slide_that_the_models_never_saw_is_told_as_they_say(sample, make_model, runs, tmp_path):
    few = Wanted(figures=("figure4",))
    models = [make_model(seed=seed) for seed in range(2)]
    explained = explain_slide(models, sample.features, None, tmp_path, wanted=few, unseen=True)
    write_report(tmp_path / "report.html", title="Unseen", runs=[runs[1]], slides=[explained])
    text = " ".join(Page(tmp_path / "report.html").text.split())
    assert f"Predicted {explained.prediction}, probability {explained.probability:.2f}" in text
    assert "were trained on this slide" not in text


def test_slides_alone_make_a_report_too(tmp_path, explained):
    write_report(tmp_path / "report.html", title="One slide", slides=[explained])
    page = Page(tmp_path / "report.html")
    assert "What was run" not in page.text
    assert "Nothing was left out." in page.text
    assert sum(tag == "img" for tag, _ in page.tags) == 4


def test_a_run_with_missing_numbers_is_reported_as_far_as_it_goes(tmp_path, runs):
    run = tmp_path / "run"
    shutil.copytree(runs[0], run)
    content = json.loads((run / "metrics.json").read_text())
    content["metrics"]["auc"] |= {"mean": None, "std": None, "interval_95": [None, None], "folds": [None, 0.5]}
    content["failed_folds"] = {"1": "out of <memory>"}
    content["left_out"]["refused"] = {"S99": "another width"}
    (run / "metrics.json").write_text(json.dumps(content))
    write_report(tmp_path / "report.html", title="Partial", runs=[run])
    text = Page(tmp_path / "report.html").text
    assert "n/a ± n/a" in text
    assert "failed: out of <memory>" in text
    assert "another width" in text


def test_two_runs_of_one_model_are_told_apart(tmp_path, runs):
    shutil.copytree(runs[0], tmp_path / "again")
    shutil.copytree(runs[0], tmp_path / "runs" / "abmil")
    write_report(tmp_path / "report.html", title="Thrice", runs=[runs[0], tmp_path / "runs" / "abmil", runs[0]])
    source = (tmp_path / "report.html").read_text()
    for folder in (runs[0], tmp_path / "runs" / "abmil"):
        assert f'<th scope="row">abmil ({folder})</th>' in source
    write_report(tmp_path / "report.html", title="Twice", runs=[runs[0], tmp_path / "again"])
    text = Page(tmp_path / "report.html").text
    assert "abmil (runs/abmil)" in text
    assert "/again)" in text
    assert "+0.000" in text


def test_three_classes(tmp_path, runs):
    run = tmp_path / "three"
    shutil.copytree(runs[0], run)
    content = json.loads((run / "metrics.json").read_text())
    content["classes"] = ["a", "b", "c"]
    (run / "metrics.json").write_text(json.dumps(content))
    rows = [f"S{n},{'abc'[n % 3]},0,a,{0.2 + 0.05 * (n % 5)},{0.5 - 0.05 * (n % 5)},0.3" for n in range(16)]
    (run / "predictions.csv").write_text(
        "slide_id,label,fold,prediction,prob_a,prob_b,prob_c\n" + "\n".join(rows) + "\n"
    )
    write_report(tmp_path / "report.html", title="Three", runs=[run])
    assert "the mean of the classes, each against the rest" in Page(tmp_path / "report.html").text
    with pytest.raises(UsageError, match=r"has the classes a, b, c, but .* has .*; expected runs of one task"):
        write_report(tmp_path / "mixed.html", title="Mixed", runs=[runs[0], run])
    assert not (tmp_path / "mixed.html").exists()


def test_runs_of_other_slides_are_told(tmp_path, runs):
    shutil.copytree(runs[0], tmp_path / "less")
    head, *rows = (tmp_path / "less" / "predictions.csv").read_text().splitlines()
    rows[0] = "another," + rows[0].split(",", 1)[1]
    (tmp_path / "less" / "predictions.csv").write_text("\n".join([head, *rows]) + "\n")
    write_report(tmp_path / "report.html", title="Two", runs=[runs[0], tmp_path / "less"])
    told = f"was tested on {len(rows) - 1} of the {len(rows)} slides of"
    assert told in Page(tmp_path / "report.html").text
    write_report(tmp_path / "alike.html", title="Alike", runs=list(runs))
    assert "was tested on" not in Page(tmp_path / "alike.html").text


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"holds no metrics\.json; expected the folder of a finished run"):
        write_report(tmp_path / "report.html", title="x", runs=[tmp_path])
    assert not (tmp_path / "report.html").exists()
