"""The page can be read by ear, by key and by eyes that see little contrast."""

import re
from pathlib import Path

import pytest

import dtcwsi.explain.report as package
from dtcwsi.explain import write_report

CSS = (Path(package.__file__).parent / "templates" / "report.css").read_text(encoding="utf-8")
LIGHT = CSS.split("}", 1)[0]
BLOCKS = {
    "light": LIGHT,
    "dark": CSS.split("prefers-color-scheme: dark", 1)[1].split("}", 1)[0],
    "print": CSS.split("@media print", 1)[1].split("}", 1)[0],
}
SCHEMES = {name: dict(re.findall(r"--(\w+): (#[0-9a-f]+);", LIGHT + block)) for name, block in BLOCKS.items()}


def rgb(colour: str) -> tuple[float, ...]:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    return tuple(int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4))


def contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """The ratio of WCAG 2.2."""
    light = []
    for colour in (one, other):
        linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in colour]
        light.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(light) + 0.05) / (min(light) + 0.05)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_words_and_lines_stand_out(scheme):
    colours = {name: rgb(value) for name, value in SCHEMES[scheme].items()}
    assert contrast((0, 0, 0), (1, 1, 1)) == pytest.approx(21)
    grounds = [colours["ground"], colours["raised"]]
    for tint in ("s0", "s1"):  # the cells of a confusion matrix, at their fullest
        grounds.append(tuple(0.22 * a + 0.78 * b for a, b in zip(colours[tint], colours["ground"], strict=True)))
    for name in ("ink", "soft"):
        assert min(contrast(colours[name], ground) for ground in grounds) >= 4.5, name
    for name in ("accent", "bad"):
        assert min(contrast(colours[name], ground) for ground in grounds[:2]) >= 4.5, name
    for name in ("edge", "s0", "s1", "s2", "s3", "s4", "s5"):
        assert min(contrast(colours[name], ground) for ground in grounds[:2]) >= 3, name


@pytest.fixture(scope="module")
def source(tmp_path_factory, runs, explained) -> str:
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report(path, title="Page", runs=runs, slides=[explained])
    return path.read_text(encoding="utf-8")


def test_headings_go_down_one_by_one(source):
    levels = [int(level) for level in re.findall(r"<h([1-6])", source)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in zip(levels, levels[1:], strict=False))


def test_every_header_cell_says_of_what(source):
    cells = re.findall(r"<th\b[^>]*>", source)
    assert len(cells) > 40
    assert all('scope="col"' in cell or 'scope="row"' in cell for cell in cells)


def test_names_that_are_referred_to_exist_once(source):
    ids = re.findall(r'\bid="([^"]+)"', source)
    assert len(ids) == len(set(ids))
    referred = re.findall(r'(?:href="#|aria-labelledby="|aria-describedby="|\bfor=")([^"]+)"', source)
    assert len(referred) > 10
    assert set(referred) <= set(ids)


def test_what_scrolls_can_be_reached_by_key_and_has_a_name(source):
    scrolled = re.findall(r'<div class="scroll"[^>]*>', source)
    assert len(scrolled) > 5
    assert all('tabindex="0"' in part and 'role="region"' in part and 'aria-label="' in part for part in scrolled)
