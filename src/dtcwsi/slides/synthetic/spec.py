"""What one synthetic slide is."""

import hashlib
from dataclasses import asdict, dataclass

import numpy as np

from dtcwsi.errors import CohortError
from dtcwsi.store.digest import digest

__all__ = ["LABELS", "SyntheticSlide"]

LABELS = ("nested", "whorled")
"""The two classes, named after the growth pattern of their lesion."""

# Part of a slide's fingerprint: raise it when the drawing changes, so that slides on disk are drawn again.
_DRAWING_VERSION = 2


@dataclass(frozen=True)
class SyntheticSlide:
    """One slide of the cohort, from which its pixels follow.

    ``label`` decides which lesion is drawn and nothing else. ``seed`` is the slide's, ``patient_seed`` that of all its
    patient's slides. ``side_px`` is a multiple of 16; ``spacing_um`` is microns a pixel. ``difficulty`` in 0..1 shrinks
    the lesion and widens the variation between slides.
    Raises: CohortError if a value is outside its range.
    """

    slide_id: str
    patient_id: str
    label: str
    seed: int
    patient_seed: int
    side_px: int = 4096
    spacing_um: float = 0.5
    difficulty: float = 0.5

    def __post_init__(self) -> None:
        if self.label not in LABELS:
            raise CohortError(f"{self.slide_id}: label is {self.label!r}, expected one of {', '.join(LABELS)}")
        if self.side_px < 512 or self.side_px % 16:
            raise CohortError(f"{self.slide_id}: side is {self.side_px} px, expected a multiple of 16 from 512 up")
        if not 0.0 <= self.difficulty <= 1.0:
            raise CohortError(f"{self.slide_id}: difficulty is {self.difficulty}, expected 0 to 1")
        if not 0.2 <= self.spacing_um <= 1.0:
            raise CohortError(f"{self.slide_id}: spacing is {self.spacing_um} um/px, expected 0.2 to 1")

    @property
    def nuisance(self) -> float:
        """How strongly stain, scanner and composition vary: 0.6 at difficulty 0, 1.4 at 1."""
        return 0.6 + 0.8 * self.difficulty

    @property
    def fingerprint(self) -> str:
        """A digest of everything the pixels depend on."""
        return digest(drawing=_DRAWING_VERSION, **asdict(self))

    def rng(self, purpose: str) -> np.random.Generator:
        """The slide's random numbers for one purpose; purposes do not disturb each other."""
        return _generator(self.seed, purpose)

    def patient_rng(self, purpose: str) -> np.random.Generator:
        """The patient's random numbers for one purpose: the same on all its slides."""
        return _generator(self.patient_seed, purpose)


def _generator(seed: int, purpose: str) -> np.random.Generator:
    return np.random.default_rng([seed, int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:4], "big")])
