"""How a run over slides goes: a table that stays in its place on a terminal, lines elsewhere."""

import os
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

from tqdm import tqdm

from dtcwsi.cli.console import duration, say
from dtcwsi.cli.tally import Tally

if TYPE_CHECKING:
    from dtcwsi.pipeline import SlideResult

__all__ = ["RunProgress"]

_COLUMNS = {"slides": 7, "done": 7, "kept": 7, "failed": 7, "empty": 7, "left": 7, "patches": 12, "patches/s": 11}
_LAST = "time left"
_USUAL_WIDTH = 80
_REDRAWN_S, _TOLD_S = 0.2, 60.0


class RunProgress:
    """Shows a tally as it grows.

    On a terminal failures scroll by above the table. In a file, such as the log of a batch job, each slide that was
    worked on has a line, and so has the tally at most once a minute; slides that were finished before have none.
    """

    def __init__(self, tally: Tally) -> None:
        self._tally, self._live, self._shown_at = tally, sys.stderr.isatty(), time.monotonic()
        self._lines = [
            tqdm(bar_format="{desc}", position=place, leave=True, file=sys.stderr)
            for place in range(2 if self._live else 0)
        ]

    def __enter__(self) -> "RunProgress":
        if self._live:
            self._draw()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._draw()
        for line in self._lines:
            line.close()

    def patches(self, count: int) -> None:
        """So many more patches are encoded."""
        self._tally.add_patches(count)
        self._show()

    def slide(self, outcome: "SlideResult | tuple[str, str, str]") -> None:
        """A slide is done or has failed."""
        self._tally.add(outcome)
        line = _told(outcome)
        if line and (isinstance(outcome, tuple) or not self._live):
            say(f"[{self._tally.seen}/{self._tally.slides}] {line}")
        self._show()

    def _show(self) -> None:
        now = time.monotonic()
        if now - self._shown_at < (_REDRAWN_S if self._live else _TOLD_S):
            return
        self._shown_at = now
        if self._live:
            self._draw()
        else:
            say(_sentence(self._tally))

    def _draw(self) -> None:
        header = "".join(name.rjust(width) for name, width in _COLUMNS.items()) + f"  {_LAST}"
        cells = zip(_cells(self._tally), _COLUMNS.values(), strict=True)
        left_s = self._tally.time_left_s
        row = "".join(cell.rjust(width) for cell, width in cells) + f"  {'-' if left_s is None else duration(left_s)}"
        for line, text in zip(self._lines, (header, row), strict=True):
            line.ncols = _width()
            line.set_description_str(text)


def _width() -> int:
    """Columns of the terminal; some say 0."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or _USUAL_WIDTH
    except (OSError, ValueError):
        return _USUAL_WIDTH


def _told(outcome: "SlideResult | tuple[str, str, str]") -> str:
    """A slide's line; nothing of one that was finished before."""
    if isinstance(outcome, tuple):
        slide_id, step, reason = outcome
        return f"{slide_id}: FAILED at {step}: {reason}"
    if not outcome.done:
        return ""
    patches = "" if outcome.n_patches is None else f", {outcome.n_patches:,} patches"
    tissue = f"{outcome.tissue_um2 / 1e6:.2f} mm2 tissue"
    return f"{outcome.slide_id}: {tissue}{patches}, {duration(sum(outcome.seconds.values()))}"


def _cells(tally: Tally) -> list[str]:
    counts = (tally.slides, tally.done, tally.kept, tally.failed, tally.empty, tally.left, tally.patches)
    rate = tally.patches_a_second
    return [f"{number:,}" for number in counts] + ["-" if rate is None else _rate(rate)]


def _sentence(tally: Tally) -> str:
    left = "not known" if tally.time_left_s is None else f"about {duration(tally.time_left_s)}"
    rate = "" if tally.patches_a_second is None else f"; {_rate(tally.patches_a_second)} patches a second"
    return (
        f"so far {tally.done:,} done, {tally.kept:,} kept, {tally.failed:,} failed, {tally.empty:,} empty, "
        f"{tally.left:,} left, {tally.patches:,} patches{rate}; time left {left}"
    )


def _rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"
