"""A lesion is outlined where it lies: in the picture, in the pyramid and in QuPath's objects, within half a patch."""

import gzip
import json
from dataclasses import replace

import cv2
import numpy as np
import openslide
import pytest
import shapely

from dtcwsi.explain.exports import Exports
from dtcwsi.explain.faithfulness.lesion import lesion_cover
from dtcwsi.explain.fates import KEPT, PatchFates, attention_percentile
from dtcwsi.explain.figures.canvas import slide_canvas
from dtcwsi.explain.figures.painting import PALE
from dtcwsi.explain.heatmap import SlideHeat, scale_over, write_heatmap
from dtcwsi.explain.heatmap.picture import heat_over
from dtcwsi.explain.slide import SlideView
from dtcwsi.slides import open_slide
from dtcwsi.slides.pyramid import write_pyramid
from dtcwsi.slides.synthetic import plan_cohort, render_slide


@pytest.fixture(scope="module")
def drawn_slide(tmp_path_factory):
    """A synthetic slide on disk and the mask of its lesion."""
    plan = plan_cohort(slides=2, side_px=1536, difficulty=0.0)[0]
    pixels, mask = render_slide(plan)
    path = tmp_path_factory.mktemp("synthetic") / "drawn.tif"
    write_pyramid(path, pixels, spacing_um=plan.spacing_um)
    return path, mask > 127


@pytest.fixture(
    scope="module",
    params=[(96.7, 48.35, (37, 21)), (61.5, 41.0, (5, 300))],
    ids=["half overlapping", "part of the slide, a third overlapping"],
)
def drawn(request, drawn_slide, tmp_path_factory):
    """The heatmap of a model that looks at the lesion alone: heat, lesion mask, folder of the files, open slide."""
    size, step, offset = request.param
    path, lesion = drawn_slide
    places = [np.arange(start, 1536 - size, step) for start in offset]
    coords = np.rint(np.stack(np.meshgrid(*places), -1).reshape(-1, 2)).astype(np.int64)
    seen = lesion_cover(coords, size, lesion, downsample=1) >= 0.5
    assert 0 < seen.sum() < len(seen) / 2
    attention, count = seen / seen.sum(), len(seen)
    percentile, every = attention_percentile(attention), np.arange(count)
    fates = PatchFates(np.full(count, KEPT, np.int8), np.zeros(count, np.int64), every, every, attention, percentile)
    heat = SlideHeat("drawn", coords, size, SlideView(("a", "b"), np.array([0.3, 0.7]), fates), "a model", "attention")
    out = tmp_path_factory.mktemp("heatmaps")
    slide = open_slide(path)
    scale = scale_over("percentile", [heat.shares])
    write_heatmap(heat, scale, out, slide, exports=Exports(compressed=True))
    return heat, lesion, out, slide


def farthest(hot: np.ndarray, pixel_level0: float, lesion: np.ndarray, heat: SlideHeat) -> float:
    """How many patches, down or across, hot pixels are from the lesion at most, or pixels of the lesion from hot ones.

    Only the lesion under patches counts. Pixels are enlarged to level 0, less half a pixel that sampling may shift.
    """
    side = lesion.shape[0]
    column = (np.arange(side) / pixel_level0).astype(int).clip(0, np.array(hot.shape)[:, None] - 1)
    hot = hot[np.ix_(column[0], column[1])]
    low = heat.coords.min(axis=0)
    high = np.ceil(heat.coords.max(axis=0) + heat.patch_size_level0).astype(int)
    under = np.zeros_like(lesion)
    under[low[1] : high[1], low[0] : high[0]] = True
    apart = [
        cv2.distanceTransform((~one).astype(np.uint8), cv2.DIST_C, 3)[other].max()
        for one, other in ((hot, lesion & under), (lesion, hot))
    ]
    return (max(apart) - pixel_level0 / 2) / heat.patch_size_level0


def test_at_every_level_of_the_pyramid(drawn):
    heat, lesion, out, _ = drawn
    with openslide.OpenSlide(str(out / "drawn.overlay.tif")) as overlay:
        assert overlay.level_count == 3
        for level, size in enumerate(overlay.level_dimensions):
            pixels = np.asarray(overlay.read_region((0, 0), level, size))
            hot = pixels[..., 3] > 127
            assert farthest(hot, 16 * overlay.level_downsamples[level], lesion, heat) < 0.5


def test_in_the_picture(drawn):
    heat, lesion, out, slide = drawn
    page = cv2.imread(str(out / "drawn.png"))[..., ::-1]
    canvas = slide_canvas(slide, max_px=1040, patch_size_level0=heat.patch_size_level0)
    panel = heat_over(canvas, heat.layer(scale_over("percentile", [heat.shares])))
    match = cv2.matchTemplate(page, panel, cv2.TM_SQDIFF)
    y, x = np.unravel_index(match.argmin(), match.shape)
    shown = page[y : y + panel.shape[0], x : x + panel.shape[1]]
    assert (shown == panel).all()
    hot = np.ptp(shown.astype(int), axis=2) > 20  # the slide itself is grey
    assert farthest(hot, canvas.pixel_level0, lesion, heat) < 0.5


def test_what_no_patch_shows_is_paler_than_patches_without_attention(drawn):
    heat, _, _, slide = drawn
    canvas = slide_canvas(slide, max_px=1040, patch_size_level0=heat.patch_size_level0)
    cold = heat.layer(scale_over("percentile", [heat.shares]))
    x, y = ((heat.coords[np.isnan(cold.heat)][0] + heat.patch_size_level0 / 2) / canvas.pixel_level0).astype(int)
    picture = np.full_like(canvas.picture, 100)
    shown = heat_over(replace(canvas, picture=picture), cold)
    assert (shown[y, x] == 100).all()
    assert (np.abs(shown[0, 0].astype(int) - (100 + PALE * 155)) <= 1).all()


def test_in_qupaths_objects(drawn):
    heat, lesion, out, _ = drawn
    features = json.loads(gzip.decompress((out / "drawn.geojson.gz").read_bytes()))["features"]
    seen = [
        shapely.geometry.shape(feature["geometry"])
        for feature in features
        if feature["properties"]["measurements"]["attention"] > 0
    ]
    y, x = (np.indices((384, 384)) + 0.5) * 4
    hot = shapely.contains_xy(shapely.union_all(seen), x, y)
    assert farthest(hot, 4.0, lesion, heat) < 0.5
