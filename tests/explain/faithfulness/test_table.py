"""Means over slides, their intervals, the page and the figure."""

import cv2
import numpy as np
import pytest

from dtcwsi.explain.faithfulness.curves import SHARES, Curve, Curves
from dtcwsi.explain.faithfulness.drawing import draw_curves
from dtcwsi.explain.faithfulness.lesion import LesionScores
from dtcwsi.explain.faithfulness.measure import Agreement, MapScores, SlideScores
from dtcwsi.explain.faithfulness.page import markdown_page
from dtcwsi.explain.faithfulness.table import MEASURES, estimates, rows_of


def flat(probability, margin):
    steps = np.ones(len(SHARES))
    curve = Curve(probability * steps, margin * steps)
    return Curves(curve, curve)


def scored(number, probability, auroc):
    lesion = None if auroc is None else LesionScores(auroc, 0.5, None)
    scores = MapScores(flat(probability, 2.0), lesion, Agreement(None, 0.1), None, {"aggregator": 0.25})
    return SlideScores(f"s{number}", "a", 0.9, 40, 1, {"attention": scores}, flat(0.5, 1.0))


@pytest.fixture(scope="module")
def slides():
    return [scored(number, number / 10, None if number == 0 else 0.5 + number / 20) for number in range(10)]


def test_a_row_has_every_measure_and_the_floor_its_curves_alone(slides):
    rows = rows_of(slides[2])
    assert list(rows) == ["attention", "random"]
    assert list(rows["attention"]) == list(rows["random"]) == list(MEASURES)
    assert rows["attention"]["deletion_gain"] == pytest.approx(0.5 - 0.2)
    assert rows["attention"]["insertion_margin_gain"] == pytest.approx(2.0 - 1.0)
    assert rows["attention"]["lesion_auroc"] == 0.6
    assert rows["attention"]["folds_spearman"] is None
    assert rows["random"]["deletion"] == pytest.approx(0.5)
    assert rows["random"]["lesion_auroc"] is None


def test_means_are_of_the_slides_that_have_a_value_and_patients_are_drawn_whole(slides):
    alone = estimates(slides, [f"p{number}" for number in range(10)])
    paired = estimates(slides, [f"p{number // 5}" for number in range(10)])
    deletion = alone["attention"]["deletion"]
    assert (deletion.mean, deletion.slides) == (pytest.approx(0.45), 10)
    values = np.random.default_rng(0).choice(np.arange(10) / 10, (5000, 10)).mean(axis=1)
    assert (deletion.low, deletion.high) == pytest.approx(np.percentile(values, [2.5, 97.5]), abs=0.03)
    assert (paired["attention"]["deletion"].low, paired["attention"]["deletion"].high) == pytest.approx((0.2, 0.7))
    lesion = alone["attention"]["lesion_auroc"]
    assert (lesion.mean, lesion.slides) == (pytest.approx(0.75), 9)
    assert "folds_spearman" not in alone["attention"]
    assert set(alone["random"]) == {"deletion", "insertion", "deletion_margin", "insertion_margin"}


def test_one_patient_gives_no_interval(slides):
    found = estimates(slides[:2], ["p", "p"])["attention"]["deletion"]
    assert (found.mean, found.low, found.high) == (pytest.approx(0.05), None, None)


def test_the_page_has_tables_of_what_was_measured_and_says_what_it_means(slides):
    means = estimates(slides, [f"p{number}" for number in range(10)])
    page = markdown_page("Title", means, facts=["a fact"], figure="curves.svg")
    assert page.startswith("# Title\n\n* a fact\n\n## What can be said\n\nBy 95 % intervals over patients:\n\n* **att")
    assert "\n\n![deletion and insertion curves](curves.svg)\n" in page
    assert "| attention | 0.450 (" in page
    assert f"* `lesion_auroc`: {MEASURES['lesion_auroc']}." in page
    assert "## Other trainings" in page
    assert "seeds_spearman" not in page


def test_the_figure_is_vector_text_and_a_picture_and_the_same_each_time(slides):
    patients = [f"p{number}" for number in range(10)]
    figure, again = (draw_curves(slides, patients, "Faithfulness of $x_1$") for _ in range(2))
    assert figure == again
    svg = figure["svg"].decode()
    for words in ("Faithfulness of $x_1$", "attention", "random order", "Deletion", "margin, logits"):
        assert f">{words}</text>" in svg
    assert ">importance</text>" not in svg, "no slide has this map"
    picture = cv2.imdecode(np.frombuffer(figure["png"], np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape[1] == 2160
