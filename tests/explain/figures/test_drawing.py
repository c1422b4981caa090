"""What is on the figures: the slide's own pixels, frames in the colours of the legend, the model's own counts."""

import math
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import cv2
import numpy as np
import pytest

from dtcwsi.ensemble import ask
from dtcwsi.errors import OptionError
from dtcwsi.explain.figures.compression import fate_legend
from dtcwsi.explain.figures.drawing import FIGURES, Wanted, draw_figures
from dtcwsi.explain.figures.examples import choose_groups, choose_pruned
from dtcwsi.explain.figures.inside import look_inside
from dtcwsi.explain.figures.painting import FATE_COLOURS, GROUP_COLOURS
from dtcwsi.models import with_retention

from .conftest import subject_of


@pytest.fixture(scope="module")
def subject(sample, make_model):
    return subject_of(sample.features, make_model(merge_share=0.5, flat_start=False), sample.slide)


def decoded(content: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def words_of(page) -> list[str]:
    return [text.get_text() for text in page.figure().axes[0].texts]


def test_crops_are_the_slides_own_pixels(subject, sample):
    crops = subject.crops(range(len(subject.coords)))
    for patch, crop in enumerate(crops):
        x, y = sample.features.coords[patch].tolist()
        assert (crop == subject.slide.read((x, y), (100, 100), (100, 100))).all()
    assert crops[sample.black_patch].max() < 60


def test_figure2_frames_merged_patches_green_and_pruned_ones_red(subject):
    page = FIGURES["figure2"](subject)
    drawn = decoded(page.encode("png"))
    assert drawn.shape == (page.height, page.width, 3)
    inside = subject.inside
    groups = [group[:4] for group in choose_groups(inside.fates, subject.coords, 4)]
    pruned = choose_pruned(inside.fates, subject.coords, inside.importance, 8)
    tiles = [picture for picture in page.pictures if picture.width == picture.height]
    wanted = [(patch, "kept") for group in groups for patch in group] + [(patch, "pruned") for patch in pruned]
    assert len(tiles) == len(wanted)
    for tile, (patch, colour) in zip(tiles, wanted, strict=True):
        shown = drawn[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width]
        crop = cv2.resize(subject.crops([patch])[0], (tile.width, tile.height), interpolation=cv2.INTER_LINEAR)
        assert (shown == crop).all()
        assert (drawn[tile.top - 4, tile.left : tile.left + tile.width] == FATE_COLOURS[colour]).all()


def test_figure3_frames_and_counts_each_fate_as_the_model_at_that_retention(subject):
    page = FIGURES["figure3"](subject)
    columns, why = subject.budgets
    assert (why, [column.name for column in columns]) == ("", ["r = 1", "r = 0.7", "r = 0.5", "r = 0.4"])
    words = words_of(page)
    for column, share in zip(columns, (1.0, 0.7, 0.5, 0.4), strict=True):
        own = ask([with_retention(subject.model, share)], subject.features).predictions[0]
        tokens = max(1, math.ceil(60 * share - 1e-6))
        assert column.fates.counts.tokens_out == int(own.tokens_out[0]) == tokens
        assert f"{column.name}: {tokens} tokens" in words
        assert (column.fates.token == own.patch_to_token.numpy()).all()
    assert [" ".join(words).count(f"r = {share}: as trained, ") for share in (0.5, 0.4)] == [0, 1]
    drawn = decoded(page.encode("png"))
    frames = {tuple(drawn[tile.top - 4, tile.left + 9].tolist()) for tile in page.pictures if tile.width == tile.height}
    assert frames == set(FATE_COLOURS.values())


def test_figure3_of_a_model_without_retention_says_so(sample, make_model):
    plain = subject_of(sample.features, make_model("abmil"), sample.slide)
    columns, why = plain.budgets
    assert len(columns) == 1
    assert why == "abmil does not compress, so it has no other retention; use 'dtc-abmil'."
    assert any(why in words for words in (" ".join(words_of(FIGURES["figure3"](plain))),))
    threshold = subject_of(sample.features, make_model(budget="threshold"), sample.slide)
    assert "threshold" in threshold.budgets[1]


def test_figures_of_all_models_count_the_first_models_fates(subject):
    counts = subject.fates.counts
    told = " ".join(entry.text for entry in fate_legend(subject.fates))
    assert [int(number) for number in re.findall(r"\d+", told)] == [
        counts.kept,
        counts.merged,
        counts.merged_tokens,
        counts.pruned,
    ]
    for name in ("figure4", "tokens-by-stage"):
        assert all(part in " ".join(words_of(FIGURES[name](subject))) for part in told.split(", "))


def test_legends_name_only_the_fates_that_there_are(sample, make_model, subject):
    plain = subject_of(sample.features, make_model("abmil"), sample.slide)
    assert [entry.text for entry in fate_legend(plain.fates)] == ["kept: 60 patches, each a token of its own"]
    told = " ".join(words_of(FIGURES["figure4"](plain)))
    assert "nothing is merged" in told
    assert "nothing is pruned" in told
    assert "share interior" not in told
    for name in FIGURES:
        assert "merged: " not in " ".join(words_of(FIGURES[name](plain))), name
    kept_alone = words_of(FIGURES["top-patches"](plain))
    assert "kept" in kept_alone
    assert not {"merged", "pruned"} & set(kept_alone)
    method = " ".join(words_of(FIGURES["figure1"](plain)))
    assert "Stage 1" not in method
    assert "this model pruned nothing" in method
    groups, outlines = fate_legend(subject.fates, None)[1], fate_legend(subject.fates)[1]
    assert groups.edge is None
    assert outlines.edge == FATE_COLOURS["merged"]
    assert {tuple(colour) for colour in GROUP_COLOURS.tolist()} >= set(groups.faces)


def test_figure1_has_the_real_counts_and_weights(subject):
    words = " ".join(words_of(FIGURES["figure1"](subject)))
    stages = look_inside(subject.model, subject.features).stages
    for number, stage in enumerate(stages, start=1):
        assert f"Stage {number}: {stage.counts.tokens_out} tokens" in words
    assert "60 patches of 100 px at 0.5 µm/px" in words
    bare = replace(subject, slide=None, features=replace(subject.features, spacing_um=0.25))
    assert "60 patches of 200 px at 0.25 µm/px" in " ".join(words_of(FIGURES["figure1"](bare)))
    group = choose_groups(subject.inside.fates, subject.coords, 2)[0]
    assert f"{subject.inside.part[group].max():.2f} × patch 1" in words
    assert subject.inside.part[group].sum() == pytest.approx(1)


def test_slides_and_patches_have_their_scale(subject):
    for name in FIGURES:
        assert "100 µm" in words_of(FIGURES[name](subject)), name
    for name in ("figure1", "figure2", "figure3", "top-patches"):
        assert "10 µm" in words_of(FIGURES[name](subject)), name


def test_words_are_words_in_svg_and_pdf(subject):
    page = FIGURES["figure4"](subject)
    root = ElementTree.fromstring(page.encode("svg"))
    texts = {"".join(node.itertext()).strip() for node in root.iter("{http://www.w3.org/2000/svg}text")}
    assert texts >= set(words_of(page))
    assert len(list(root.iter("{http://www.w3.org/2000/svg}image"))) == 3
    pdf = page.encode("pdf")
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf


def test_a_page_is_300_dpi_and_the_same_every_time(subject):
    page = FIGURES["figure4"](subject)
    png = page.encode("png")
    at = png.index(b"pHYs") + 4
    assert round(int.from_bytes(png[at : at + 4], "big") * 0.0254) == 300
    for file_format in ("svg", "pdf"):
        assert page.encode(file_format) == FIGURES["figure4"](subject).encode(file_format)


def test_what_is_wanted_is_drawn_once(subject):
    wanted = Wanted(figures=("figure4", "figure4"), formats=("svg", "png", "svg"))
    assert [name for name, _ in draw_figures(subject, wanted)] == ["figure4.svg", "figure4.png"]


def test_what_is_no_figure_is_refused():
    with pytest.raises(OptionError, match="got figure='figure5'; expected one of: attention, figure1"):
        Wanted(figures=("figure5",))
    with pytest.raises(OptionError, match="got format='jpg'; expected one of: "):
        Wanted(formats=("jpg",))
    with pytest.raises(OptionError, match="got retention=0.0; expected a number above 0 and at most 1"):
        Wanted(retentions=(1.0, 0.0))
    with pytest.raises(OptionError, match="number of retentions"):
        Wanted(retentions=(0.5,) * 7)
