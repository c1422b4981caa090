"""A share of a cohort's slides, so that many machines divide the work without talking to each other."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from dtcwsi.errors import UsageError

__all__ = ["Shard"]

_WRITTEN = re.compile(r"(\d{1,9})/(\d{1,9})", re.ASCII)


@dataclass(frozen=True)
class Shard:
    """Share ``number`` (from 1) of ``count`` shares.

    A hash of its id decides a slide's share. It stays there whatever other slides come or go, and is the same on every
    machine. Shares are therefore equal only on average: of 10,000 slides 16 shares hold 625 each, give or take 25.
    """

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Read I/N.  Raises: UsageError if it is not so written, or I is not among 1 to N."""
        written = _WRITTEN.fullmatch(text.strip())
        number, count = (int(part) for part in written.groups()) if written else (0, 0)
        if not 1 <= number <= count:
            raise UsageError(
                f"got --shard {text}; expected I/N with I from 1 to N, such as 3/16 for the third of 16 shares: number "
                "the tasks of a Slurm array from 1 (--array=1-16)"
            )
        return cls(number, count)

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def holds(self, slide_id: str) -> bool:
        """Whether the slide is in this share."""
        name = slide_id.encode(errors="surrogateescape")  # file names need not be UTF-8
        return int.from_bytes(hashlib.sha256(name).digest()[:8]) % self.count == self.number - 1

    def share(self, slides: dict[str, Path]) -> dict[str, Path]:
        """The slides of this share, in their order; there may be none."""
        return {slide_id: path for slide_id, path in slides.items() if self.holds(slide_id)}
