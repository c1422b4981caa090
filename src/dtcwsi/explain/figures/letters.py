"""Text before it is drawn: which letters the font has, how wide they are, where lines break."""

from collections.abc import Iterator
from functools import cache

from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ft2font import FT2Font

__all__ = ["ASCENT", "LINE", "drawable", "width_of", "wrap"]

ASCENT, LINE = 0.95, 1.3  # of the letters' size: from a line's top to its baseline, and to the next line's top
_SLACK = 1.02  # hinting widens letters
_MEASURED_AT = 100.0


def drawable(text: str, *, bold: bool = False) -> str:
    """Write characters that the font lacks as their escapes: a box in their place would say nothing."""
    known = _font(bold).get_charmap()
    return "".join(letter if ord(letter) in known else letter.encode("unicode_escape").decode() for letter in text)


def width_of(text: str, *, bold: bool = False) -> float:
    """Measure a drawable text, in sizes of its letters."""
    return _SLACK * sum(_advance(letter, bold) for letter in text)


def wrap(text: str, width: float, *, bold: bool = False, lines: int | None = None) -> list[str]:
    """Break a drawable text into lines at most ``width`` letter sizes wide, words too long anywhere.

    What is beyond ``lines`` is cut, with an ellipsis.
    """
    broken: list[str] = []
    for word in _pieces(text, width, bold):
        joined = f"{broken[-1]} {word}" if broken else word
        if broken and width_of(joined, bold=bold) <= width:
            broken[-1] = joined
        else:
            broken.append(word)
    if lines is None or len(broken) <= lines:
        return broken
    last = broken[lines - 1]
    while last and width_of(last + " …", bold=bold) > width:
        last = last[:-1]
    return [*broken[: lines - 1], last.rstrip() + " …"]


def _pieces(text: str, width: float, bold: bool) -> Iterator[str]:
    """Give the words, those wider than a line cut into lines, after a hyphen if there is one."""
    for word in text.split():
        rest = word
        while width_of(rest, bold=bold) > width and len(rest) > 1:
            end = len(rest) - 1
            while end > 1 and width_of(rest[:end], bold=bold) > width:
                end -= 1
            end = max(rest.rfind("-", 0, end), rest.rfind("_", 0, end)) + 1 or end
            yield rest[:end]
            rest = rest[end:]
        yield rest


@cache
def _font(bold: bool) -> FT2Font:
    return get_font(findfont(FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")))


@cache
def _advance(letter: str, bold: bool) -> float:
    font = _font(bold)
    font.set_size(_MEASURED_AT, 72)
    return float(font.load_char(ord(letter)).linearHoriAdvance / 65536 / _MEASURED_AT)
