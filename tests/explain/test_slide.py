"""A slide explained, from its features to files."""

import csv
import warnings
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

import dtcwsi.explain.slide
from dtcwsi.bags.packing import bag_of
from dtcwsi.errors import FeaturesError, UsageError
from dtcwsi.explain import TruthMask, explain_slide
from dtcwsi.explain.figures.canvas import slide_canvas
from dtcwsi.explain.figures.drawing import FIGURES, Wanted
from dtcwsi.explain.figures.letters import drawable
from dtcwsi.explain.slide import view_slide
from dtcwsi.slides import open_slide

FILES = [*(f"{name}.png" for name in FIGURES), "patches.csv", "patches.geojson", "outlines.geojson"]
FEW_FILES = ["figure4.png", "outlines.geojson", "patches.csv", "patches.geojson", "slide.json"]
FEW = Wanted(figures=("figure4",))  # as little drawing as there can be


def test_it_writes_what_it_says_and_counts_right(explained, sample):
    assert list(explained.files) == FILES
    written = {path.name for path in explained.files["patches.csv"].parent.iterdir()}
    assert written == {*FILES, "slide.json"}
    rows = list(csv.DictReader(explained.files["patches.csv"].open()))
    fates = [row["fate"] for row in rows]
    counts = explained.counts
    assert [fates.count(fate) for fate in ("kept", "merged", "pruned")] == [counts.kept, counts.merged, counts.pruned]
    assert counts.tokens_in == explained.tokens_in == len(rows) == len(sample.features.features)
    assert counts.tokens_out == explained.tokens_out == counts.kept + counts.merged_tokens == 24
    assert (
        explained.probabilities[explained.prediction] == explained.probability == max(explained.probabilities.values())
    )
    assert sum(explained.probabilities.values()) == pytest.approx(1)
    for picture in (explained.files["figure2.png"].read_bytes(), *explained.panels.values()):
        assert cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR) is not None


def test_models_are_averaged_and_fates_are_the_firsts(sample, make_model):
    models = [make_model(seed=seed) for seed in range(3)]
    view = view_slide(models, sample.features)
    alone = [model(bag_of(sample.features)) for model in models]
    chances = torch.stack([out.logits[0].softmax(dim=0) for out in alone]).mean(dim=0)
    np.testing.assert_allclose(view.probabilities, chances.detach().numpy(), atol=1e-6)
    attention = torch.stack([out.attention for out in alone]).mean(dim=0)
    np.testing.assert_allclose(view.fates.attention, attention.detach().numpy(), atol=1e-6)
    assert (view.fates.token == alone[0].patch_to_token.numpy()).all()
    assert view.fates.attention.sum() == pytest.approx(1, abs=1e-5)


def test_asking_leaves_a_model_in_the_mode_it_was_in(sample, make_model):
    model = make_model().train()
    first = view_slide([model], sample.features)
    assert model.training
    assert (view_slide([model.eval()], sample.features).probabilities == first.probabilities).all()


def test_pictures_show_the_slide_pixel_for_pixel(sample, make_model, tmp_path):
    made = explain_slide([make_model()], sample.features, open_slide(sample.slide), tmp_path, max_px=600, wanted=FEW)
    figure = cv2.imread(str(made.files["figure4.png"]))
    _, _, boxes, _ = cv2.connectedComponentsWithStats((figure.max(axis=2) < 60).astype(np.uint8))
    squares = [box for box in boxes.tolist() if box[2:4] == [50, 50]]
    assert squares, "the black patch of 100 level-0 pixels is 50 px a side where a pixel covers two"
    left, top = squares[0][0] - 250, squares[0][1] - 150
    shown = figure[top : top + 400, left : left + 600, ::-1]
    assert (shown == slide_canvas(open_slide(sample.slide), max_px=600).picture).all()


def test_without_the_slide_patches_are_drawn_on_blank_ground(sample, make_model, tmp_path):
    made = explain_slide([make_model()], sample.features, None, tmp_path, wanted=FEW)
    assert made.scale_bar.label.endswith("px (level 0)")
    scaled = explain_slide([make_model()], sample.features, None, tmp_path, spacing_um=0.5, wanted=FEW)
    assert scaled.scale_bar.label == "100 µm"
    assert sorted(path.name for path in tmp_path.iterdir()) == FEW_FILES


def test_a_slide_without_tissue_is_explained_too(sample, make_model, tmp_path):
    empty = replace(sample.features, features=np.zeros((0, 8), np.float32), coords=np.zeros((0, 2), np.int64))
    for slide in (None, open_slide(sample.slide)):
        made = explain_slide(
            [make_model()], empty, slide, tmp_path, truth=TruthMask(np.ones((9, 9), bool), 16), wanted=FEW
        )
        assert (made.tokens_in, made.tokens_out, made.lesion_auroc) == (0, 0, None)
        assert made.probability == pytest.approx(0.5)
        assert sorted(path.name for path in tmp_path.iterdir()) == FEW_FILES


def test_a_heatmap_is_scored_against_the_truth(sample, make_model, tmp_path):
    lesion = np.zeros((80, 120), bool)
    lesion[30:40, 50:60] = True
    made = explain_slide(
        [make_model("abmil")], sample.features, None, tmp_path, truth=TruthMask(lesion, 10), wanted=FEW
    )
    attention = view_slide([make_model("abmil")], sample.features).fates.attention
    others = np.delete(attention, sample.black_patch)
    assert made.lesion_auroc == pytest.approx((attention[sample.black_patch] > others).mean())


def test_names_are_drawn_as_they_are(sample, make_model, tmp_path):
    strange = replace(sample.features, slide_id=r"a$\frac{1}$_{b}^c <i> " + "long" * 60)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = explain_slide([make_model()], strange, None, tmp_path, true_label="$x$", wanted=FEW)
    assert made.slide_id == strange.slide_id


def test_characters_that_the_font_lacks_are_escaped(sample, make_model, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        explain_slide([make_model()], replace(sample.features, slide_id="切片 é\udcff"), None, tmp_path, wanted=FEW)
    assert drawable("切片 é µ\udcff", bold=True) == r"\u5207\u7247 é µ\udcff"


def test_features_that_cannot_be_placed_are_refused(sample, make_model, tmp_path):
    with pytest.raises(FeaturesError, match=r"'S1' have no coordinates.*extract the slide again"):
        explain_slide([make_model()], replace(sample.features, coords=None), None, tmp_path)
    moved = replace(sample.features, coords=sample.features.coords + 900)
    with pytest.raises(FeaturesError, match=r"up to pixel \(2000, 1600\), but 'S1.tif' has 1200 x 800"):
        explain_slide([make_model()], moved, open_slide(sample.slide), tmp_path)
    narrow = replace(sample.features, features=sample.features.features[:, :5])
    with pytest.raises(FeaturesError, match="width 5"):
        explain_slide([make_model()], narrow, None, tmp_path)
    assert not list(tmp_path.iterdir())


def test_requests_that_make_no_sense_are_refused(sample, make_model, tmp_path):
    with pytest.raises(UsageError, match="no model was given"):
        explain_slide([], sample.features, None, tmp_path)
    with pytest.raises(UsageError, match="got 3 class names; expected 2"):
        explain_slide([make_model()], sample.features, None, tmp_path, class_names=["a", "b", "c"])


@pytest.fixture
def headings(monkeypatch):
    """The words that pictures are drawn with."""
    seen = []
    draw = dtcwsi.explain.slide.draw_figures
    monkeypatch.setattr(
        dtcwsi.explain.slide, "draw_figures", lambda subject, all: seen.append(subject.heading) or draw(subject, all)
    )
    return seen


def test_pictures_say_of_which_models_they_are(sample, make_model, tmp_path, headings):
    explain_slide([make_model(seed=seed) for seed in range(3)], sample.features, None, tmp_path, wanted=FEW)
    explain_slide([make_model()], sample.features, None, tmp_path, models_told="dtc-abmil, fold2", wanted=FEW)
    several, one = headings
    assert several.attention_of == "dtc-abmil, mean of 3 fold models"
    assert several.fates_of == "dtc-abmil, the first of 3 fold models alone"
    assert several.fates_note == "The other models merge and prune otherwise."
    assert (one.attention_of, one.fates_of, one.fates_note) == ("dtc-abmil, fold2", "dtc-abmil, fold2", "")


def test_a_slide_without_tissue_is_given_no_diagnosis(sample, make_model, tmp_path, headings):
    empty = replace(sample.features, features=np.zeros((0, 8), np.float32), coords=np.zeros((0, 2), np.int64))
    explain_slide([make_model()], empty, None, tmp_path, wanted=FEW)
    assert headings[0].title == "S1: no tissue, no prediction"
