"""Every figure of every kind of slide: no word is cut, overlaps another or lies on a picture."""

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from dtcwsi.explain.figures.drawing import FIGURES
from dtcwsi.explain.figures.page import Page
from dtcwsi.slides.pyramid import write_pyramid

from .conftest import DIM, features_of, subject_of

LONG = "TCGA-05-4244-01Z-00-DX1.d4ff32cd-38cf-40ea-8213-45c2b100ac01 " * 3 + "W" * 300


def check(page: Page, *, labels_on_pictures: bool = False, numbers_on_pictures: bool = False) -> None:
    figure = page.figure()
    renderer = FigureCanvasAgg(figure).get_renderer()
    axes = figure.axes[0]
    words = [(text.get_text(), text.get_window_extent(renderer)) for text in axes.texts]
    assert words
    for text, box in words:
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= page.width, text
        assert box.y1 <= page.height, text
    for (one, first), (other, second) in combinations(words, 2):
        assert not overlap(first, second), (one, other)
    pictures = [image.get_window_extent(renderer) for image in axes.images]
    for (one, first), (other, second) in combinations(enumerate(pictures), 2):
        assert labels_on_pictures or not overlap(first, second), (one, other)
    for text, box in words:
        allowed = labels_on_pictures or (numbers_on_pictures and text.isdigit())
        assert allowed or not any(overlap(box, picture) for picture in pictures), text


def overlap(one, other) -> bool:
    return one.x0 < other.x1 and other.x0 < one.x1 and one.y0 < other.y1 and other.y0 < one.y1


@pytest.fixture(scope="module")
def strips(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("strips")
    rng = np.random.default_rng(0)
    for name, size in (("wide", (100, 800)), ("tall", (800, 100)), ("tiny", (20, 20))):
        write_pyramid(folder / f"{name}.tif", rng.integers(90, 250, (*size, 3)).astype(np.uint8), spacing_um=0.5)
    return {path.stem: path for path in folder.iterdir()}


CASES = {
    "wide": (16, 2, 50),
    "tall": (2, 16, 50),
    "tiny": (1, 1, 20),
}


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("shape", CASES)
def test_words_fit_whatever_the_slides_shape(strips, make_model, name, shape):
    subject = subject_of(features_of(*CASES[shape]), make_model(), strips[shape])
    check(
        FIGURES[name](subject),
        labels_on_pictures=name in ("top-patches", "figure1"),
        numbers_on_pictures=name == "figure2",
    )


MODELS = ["clam-mb", "tome-abmil", "random-abmil", "prune-only-abmil"]


@pytest.mark.parametrize("model", MODELS)
def test_words_fit_whatever_the_model(sample, make_model, model):
    subject = subject_of(sample.features, make_model(model), sample.slide)
    for name, draw in FIGURES.items():
        check(
            draw(subject), labels_on_pictures=name in ("top-patches", "figure1"), numbers_on_pictures=name == "figure2"
        )


@pytest.mark.parametrize("name", FIGURES)
def test_words_fit_whatever_the_names(sample, make_model, name):
    model = make_model()
    model.describe_classes((LONG, "b$_{2}$"), (0.5, 0.5))
    features = replace(sample.features, encoder=LONG)
    subject = subject_of(features, model, sample.slide, f"{LONG}: predicted {LONG}")
    check(
        FIGURES[name](subject),
        labels_on_pictures=name in ("top-patches", "figure1"),
        numbers_on_pictures=name == "figure2",
    )


@pytest.mark.parametrize("name", FIGURES)
def test_words_fit_without_the_slide_and_without_tissue(sample, make_model, name):
    check(FIGURES[name](subject_of(sample.features, make_model())), labels_on_pictures=name == "top-patches")
    empty = replace(sample.features, features=np.zeros((0, DIM), np.float32), coords=np.zeros((0, 2), np.int64))
    for slide in (None, sample.slide):
        check(FIGURES[name](subject_of(empty, make_model(), slide)))
