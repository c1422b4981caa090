"""Reports in a real browser: they load from disk, fetch nothing, fit a phone, and their controls do what they say."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dtcwsi.explain import ExplainedSlide, explain_slide, write_report
from dtcwsi.explain.fates import MERGED, PRUNED
from dtcwsi.explain.figures.drawing import Wanted

pytestmark = pytest.mark.browser

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATCH_PX, WIDTH_PX, HEIGHT_PX = 100, 1200, 800  # of the slide `sample`


@pytest.fixture(scope="module")
def browser() -> Iterator:
    binary = os.environ.get("CHROMIUM") or next((found for name in _NAMES if (found := shutil.which(name))), None)
    if binary is None:
        missing = f"no Chromium was found (looked for {', '.join(_NAMES)}); install it or set CHROMIUM to its path"
        if os.environ.get("DTCWSI_REQUIRE_BROWSER"):
            pytest.fail(missing)
        pytest.skip(missing)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=binary, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture(scope="module")
def explained_alone(make_model, sample, tmp_path_factory) -> ExplainedSlide:
    """The slide, explained by one model, whose stages and attention are then the same model's."""
    from dtcwsi.slides import open_slide

    out = tmp_path_factory.mktemp("alone")
    return explain_slide([make_model(seed=3)], sample.features, open_slide(sample.slide), out, true_label="whorled")


@pytest.fixture(scope="module")
def pages(tmp_path_factory, runs, explained, explained_alone, make_model, sample) -> dict[str, Path]:
    """A page of two runs and two slides, one of a slide alone, and one of a model that merges in more stages."""
    folder = tmp_path_factory.mktemp("pages")
    second = replace(explained, slide_id="S<2>")
    write_report(folder / "runs.html", title="Models & slides", runs=runs, slides=[explained, second])
    write_report(folder / "slide.html", title="S1", slides=[explained_alone], slides_first=True)
    few = Wanted(figures=("attention",), retentions=(0.05,))
    merging = explain_slide([make_model("merge-only-abmil")], sample.features, None, folder / "merging", wanted=few)
    write_report(folder / "merging.html", title="Merging", slides=[merging], slides_first=True)
    return {name: folder / f"{name}.html" for name in ("runs", "slide", "merging")}


@pytest.fixture
def visit(browser, pages) -> Iterator[Callable]:
    """Open a page; at the end of the test nothing may have gone wrong or been asked from elsewhere."""
    from playwright.sync_api import expect

    contexts, wrong, asked = [], [], []

    def open_page(name: str, *, width: int = 1280, scheme: str = "light", scripts: bool = True):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=scripts
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: wrong.append(message.text) if message.type != "log" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(pages[name].as_uri())
        if scripts:
            expect(page.locator(".live")).to_have_count(page.locator("script.patches").count())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []
    assert {url for url in asked if not url.startswith("data:")} <= {path.as_uri() for path in pages.values()}


def point_at(page, place: tuple[float, float]) -> None:
    """Move the pointer to level-0 pixels of the slide, which is shown whole."""
    box = page.locator(".map").bounding_box()
    scale = min(box["width"] / WIDTH_PX, box["height"] / HEIGHT_PX)
    left, top = (box["width"] - WIDTH_PX * scale) / 2, (box["height"] - HEIGHT_PX * scale) / 2
    page.mouse.move(box["x"] + left + place[0] * scale, box["y"] + top + place[1] * scale)


def middle(explained: ExplainedSlide, patch: int) -> tuple[float, float]:
    x, y = (explained.patches.coords[patch] + PATCH_PX / 2).tolist()
    return x, y


def told(page, what: str) -> str:
    return page.locator(f"[data-of={what}]").first.text_content()


def colour_at(page, place: tuple[float, float], canvas: int = 0) -> tuple[int, ...]:
    """RGBA that a canvas of the map has at level-0 pixels of the slide, which is shown whole."""
    script = """(canvas, [x, y, width, height]) => {
      const scale = Math.min(canvas.width / width, canvas.height / height);
      const left = (canvas.width - width * scale) / 2, top = (canvas.height - height * scale) / 2;
      const pixel = new OffscreenCanvas(1, 1).getContext("2d");
      pixel.drawImage(canvas, Math.floor(left + x * scale), Math.floor(top + y * scale), 1, 1, 0, 0, 1, 1);
      return [...pixel.getImageData(0, 0, 1, 1).data];
    }"""
    return tuple(page.locator(".map canvas").nth(canvas).evaluate(script, [*place, WIDTH_PX, HEIGHT_PX]))


@pytest.mark.parametrize(("scheme", "ground"), [("light", "255, 255, 255"), ("dark", "20, 23, 28")])
@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("name", ["runs", "slide"])
def test_pages_load_fit_and_show_their_pictures(visit, name, width, scheme, ground):
    page = visit(name, width=width, scheme=scheme)
    root = "document.documentElement"
    assert page.evaluate(f"{root}.scrollWidth - {root}.clientWidth") == 0
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == f"rgb({ground})"
    sizes = page.evaluate("[...document.images].map((image) => image.complete ? image.naturalWidth : 0)")
    assert len(sizes) == (8 if name == "runs" else 4)
    assert min(sizes) > 100
    assert page.locator(".viewer:visible").count() == (2 if name == "runs" else 1)
    curves = "[...document.querySelectorAll('svg .curve')].filter((line) => line.getBoundingClientRect().width > 0)"
    assert page.evaluate(f"{curves}.length") == (8 if name == "runs" else 0)


def test_a_slide_that_was_shown_whole_is_so_in_a_narrower_window(visit):
    page = visit("slide", width=1280)
    page.set_viewport_size({"width": 400, "height": 800})
    for _ in range(100):
        if page.locator(".map canvas").first.evaluate("(canvas) => canvas.width / devicePixelRatio") < 400:
            break
        page.wait_for_timeout(20)
    assert page.locator(".map.zoomed").count() == 0
    assert sum(colour_at(page, (510, 350))[:3]) < 60  # in the black patch, which begins at 500
    assert sum(colour_at(page, (480, 350))[:3]) > 300


def test_pointing_at_a_patch_tells_it_and_marks_its_fellows(visit, explained_alone):
    page, fates = visit("slide"), explained_alone.fates
    patch = int(np.flatnonzero(fates.fate == MERGED)[0])
    fellows = [other for other in np.flatnonzero(fates.token == fates.token[patch]).tolist() if other != patch]
    x, y = explained_alone.patches.coords[patch].tolist()
    corner = tuple((explained_alone.patches.coords[fellows[0]] + (PATCH_PX / 2, 0)).tolist())
    assert colour_at(page, corner, canvas=1)[3] == 0
    point_at(page, middle(explained_alone, patch))
    assert told(page, "patch") == f"{patch}, of 60 from 0 on; at pixel ({x:,}, {y:,})"
    assert told(page, "attention") == f"{100 * fates.attention[patch]:#.2g} % of the slide's"
    assert told(page, "importance") == f"{100 * fates.importance[patch]:#.2g} % of the slide's"
    assert told(page, "percentile").startswith(f"{fates.percentile[patch]:.1f}, place ")
    assert told(page, "fate") == f"merged at stage {fates.stage[patch]}"
    assert f"{fates.token[patch]}, shared with {len(fellows)} other" in told(page, "token")
    assert colour_at(page, corner, canvas=1)[3] > 0
    point_at(page, (20, 20))
    assert told(page, "patch") == "–"


def test_the_stages_are_the_models_own(visit, explained_alone):
    page, by_stage = visit("slide"), explained_alone.fates.by_stage
    walk, told_of_stage = page.locator("input[name=stage]"), page.locator("output[for^=stage]")
    assert int(walk.get_attribute("max")) == len(by_stage) == 3
    assert int(walk.input_value()) == 3
    for stage in range(4):
        walk.fill(str(stage))
        tokens = 60 if stage == 0 else len(set(by_stage[stage - 1]) - {-1})
        assert f": {tokens} tokens of 60 patches" in told_of_stage.text_content()
        assert f": {tokens} tokens of 60 patches" in walk.get_attribute("aria-valuetext")
    assert tokens == explained_alone.tokens_out
    pruned = int(np.flatnonzero(explained_alone.fates.fate == PRUNED)[0])
    point_at(page, middle(explained_alone, pruned))
    assert told(page, "token") == "in no token after stage 3"
    walk.fill("0")
    assert told(page, "token") == f"{pruned}, its own"


def test_the_retention_slides(visit, explained_alone):
    page, own = visit("slide"), explained_alone
    slider, words = page.locator("input[name=budget]"), page.locator("output[for^=budget]")
    assert (slider.input_value(), slider.get_attribute("max")) == ("3", "3")
    assert words.text_content() == f"r = 0.4: as trained, {own.prediction} {own.probability:.2f}"
    assert page.locator(".walk .ends").first.text_content() == "10.70.50.4"
    pruned = int(np.flatnonzero(own.fates.fate == PRUNED)[0])
    point_at(page, middle(own, pruned))
    assert told(page, "fate").startswith("pruned at stage ")
    page.get_by_label("pruning").check()
    point_at(page, middle(own, pruned))
    assert max(colour_at(page, middle(own, pruned))[:3]) < 80
    for stop, budget in enumerate(own.budgets[:3]):
        slider.fill(str(stop))
        assert words.text_content() == f"r = {(1, 0.7, 0.5)[stop]}: {budget.told}"
        assert slider.get_attribute("aria-valuetext") == words.text_content()
        assert f": {budget.fates.counts.tokens_out} tokens of 60" in page.locator("output[for^=stage]").text_content()
        attention = budget.fates.attention
        place = f"place {1 + (attention > attention[pruned]).sum()} of 60" if attention[pruned] else "no attention"
        assert place in told(page, "percentile")
    slider.fill("0")
    assert told(page, "fate") == "kept alone"
    assert colour_at(page, middle(own, pruned))[0] > 200
    page.locator("input[name=stage]").fill("1")
    slider.fill("3")
    assert page.locator("input[name=stage]").input_value() == "3"
    assert f": {own.tokens_out} tokens of 60" in page.locator("output[for^=stage]").text_content()


def test_a_slider_leaves_the_layers_that_it_would_not_change(visit):
    page = visit("slide")
    page.get_by_label("attention").check()
    page.locator("input[name=budget]").fill("1")
    assert page.get_by_label("attention").is_checked()
    page.locator("input[name=stage]").fill("1")
    assert page.get_by_label("pruning").is_checked()
    page.get_by_label("slide", exact=True).check()
    page.locator("input[name=budget]").fill("0")
    assert page.get_by_label("pruning").is_checked()


def test_a_chosen_patch_is_told_anew_where_a_slider_changes_it(visit, explained_alone):
    page = visit("slide")
    page.locator(".map").focus()
    page.keyboard.press("Home")
    live = page.locator("[aria-live=polite]")
    page.locator("input[name=budget]").fill("0")
    first, attention = live.text_content(), explained_alone.budgets[0].fates.attention
    patch = int(explained_alone.fates.attention.argmax())
    assert f"place {1 + (attention > attention[patch]).sum()} of 60" in first
    assert "kept alone" in first
    assert page.locator("output").evaluate_all("all => all.every(one => one.ariaLive === 'off')")


def test_the_first_models_rows_are_marked_where_its_attention_is_shown(visit):
    page = visit("runs")
    card = page.locator(".card").first
    marks, slider = card.locator("[data-alone]"), card.locator("input[name=budget]")
    assert [marks.nth(number).is_visible() for number in range(2)] == [False, False]
    slider.fill("3")
    assert [marks.nth(number).is_visible() for number in range(2)] == [True, True]


def test_models_with_more_stages_at_smaller_budgets_are_walked_to_their_end(visit):
    page = visit("merging")
    slider, walk = page.locator("input[name=budget]"), page.locator("input[name=stage]")
    assert walk.get_attribute("max") == "3"
    slider.fill("1")
    assert (walk.get_attribute("max"), walk.input_value()) == ("5", "5")
    assert "After stage 5 of 5: 3 tokens" in page.locator("output[for^=stage]").text_content()


def test_layers_change_the_picture(visit, explained_alone):
    page, fates = visit("slide"), explained_alone.fates
    pruned = int(np.flatnonzero(fates.fate == PRUNED)[0])
    slide = colour_at(page, middle(explained_alone, pruned))
    assert slide[0] > 200
    page.get_by_label("pruning").check()
    assert max(colour_at(page, middle(explained_alone, pruned))[:3]) < 80
    assert page.locator(".legend:visible").text_content().startswith("Dark: pruned")
    page.locator("input[name=stage]").fill("0")
    assert colour_at(page, middle(explained_alone, pruned)) == slide
    page.get_by_label("attention").check()
    red, green, blue, _ = colour_at(page, middle(explained_alone, int(fates.attention.argmax())))
    assert red > 1.5 * blue  # yellow, the upper end of the scale
    assert green > 1.5 * blue
    red, green, blue, _ = colour_at(page, middle(explained_alone, pruned))
    assert abs(red - green) <= 2
    assert abs(green - blue) <= 2


def test_the_keyboard_does_it_all(visit, explained_alone):
    page, coords = visit("slide"), explained_alone.patches.coords
    order = np.argsort(-explained_alone.fates.attention, kind="stable").tolist()
    page.get_by_role("radio", name="slide").focus()
    page.keyboard.press("ArrowRight")
    assert page.get_by_label("attention").is_checked()
    for _ in range(6):  # two sliders, three buttons, map
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "map"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    said = page.locator("[aria-live=polite]")
    assert said.text_content().startswith(f"Patch {order[0]}, of 60")
    page.keyboard.press("PageDown")
    assert said.text_content().startswith(f"Patch {order[1]}, of 60")
    page.keyboard.press("Home")
    x, y = coords[order[0]].tolist()
    across = PATCH_PX if x < coords[:, 0].max() else -PATCH_PX
    page.keyboard.press("ArrowRight" if across > 0 else "ArrowLeft")
    assert f"at pixel ({x + across:,}, {y:,})" in said.text_content()
    assert f"at pixel ({x + across:,}, {y:,})" in told(page, "patch")
    page.keyboard.press("Escape")
    assert said.text_content() == "No patch chosen."


def test_zoom_comes_closer_and_goes_back(visit, explained_alone):
    page = visit("slide")
    centre = (620, 420)
    whole = colour_at(page, centre)
    point_at(page, (550, 350))
    page.mouse.down()
    page.mouse.up()
    for _ in range(6):
        page.get_by_role("button", name="Zoom in").click()
    assert page.locator(".map.zoomed").count() == 1
    assert whole[0] > 200
    assert colour_at(page, centre)[:3] == pytest.approx((0, 0, 0), abs=3)  # the black patch fills the map
    page.get_by_role("button", name="Whole slide").click()
    assert page.locator(".map.zoomed").count() == 0
    assert colour_at(page, centre) == whole


def test_prints_show_the_pictures_and_no_controls(visit):
    page = visit("runs")
    assert page.locator(".panels:visible").count() == 0
    page.emulate_media(media="print")
    assert page.locator(".panels:visible").count() == 2
    assert page.locator(".viewer:visible, nav:visible").count() == 0
    assert page.pdf(format="A4").startswith(b"%PDF")


def test_without_scripts_the_pictures_are_there(visit):
    page = visit("slide", scripts=False)
    assert page.locator(".panels img:visible").count() == 4
    assert page.locator(".viewer:visible").count() == 0
