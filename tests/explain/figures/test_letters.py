"""Lines break where they are said to."""

import pytest

from dtcwsi.explain.figures.letters import drawable, width_of, wrap


@pytest.mark.parametrize("text", ["some words that are short", "W" * 90, "TCGA-05-4244-01Z-00-DX1", "i " * 60, ""])
@pytest.mark.parametrize("width", [3.0, 9.5])
def test_no_line_is_wider_and_nothing_is_lost(text, width):
    lines = wrap(text, width)
    assert all(width_of(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


def test_what_is_beyond_the_last_line_is_cut_with_an_ellipsis():
    lines = wrap("one two three four five six seven", 6.0, lines=2)
    assert len(lines) == 2
    assert lines[1].endswith(" …")
    assert width_of(lines[1]) <= 6.0


def test_long_words_break_after_a_hyphen():
    assert wrap("efficientnet-lite0", 8.0) == ["efficientnet-", "lite0"]


def test_characters_that_the_font_lacks_are_escapes():
    assert drawable("切 é") == r"\u5207 é"
    assert width_of("m") > width_of("i") > 0
    assert width_of("m", bold=True) > width_of("m")
