"""What all figures of a slide are of: its picture, its patches, what the models say; each raster is made once."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from dtcwsi.classifier import Classifier
from dtcwsi.explain.budgets import Budget, at_retentions
from dtcwsi.explain.fates import PatchFates
from dtcwsi.explain.figures.canvas import Canvas, owners
from dtcwsi.explain.figures.inside import Inside, look_inside
from dtcwsi.explain.figures.painting import paint_attention, paint_groups, paint_pruning, paint_stage
from dtcwsi.types import Features, SlideReader

__all__ = ["Heading", "Subject", "encode_jpeg"]

_THUMBNAIL_QUALITY = 82


@dataclass(frozen=True)
class Heading:
    """The words on the figures: the slide and its prediction; the models, and which of them the fates are of."""

    title: str
    attention_of: str
    fates_of: str
    fates_note: str = ""


@dataclass(frozen=True)
class Subject:
    """One slide to draw.

    ``fates`` are the first model's, with the attention of all models; ``model`` is that first model, ``class_names``
    what its classes are called. ``patch_size`` is in level-0 pixels. Without ``slide`` the canvas is blank, and no
    patch can be cut.
    """

    canvas: Canvas
    features: Features
    coords: NDArray[np.int64]
    patch_size: float
    fates: PatchFates
    model: Classifier
    class_names: Sequence[str]
    heading: Heading
    slide: SlideReader | None = None
    retentions: tuple[float, ...] = (1.0, 0.7, 0.5, 0.4)
    _crops: dict[int, NDArray[np.uint8]] = field(default_factory=dict, repr=False)
    _stages: dict[int, NDArray[np.uint8]] = field(default_factory=dict, repr=False)

    @cached_property
    def owner(self) -> NDArray[np.int32]:
        """Which patch each pixel of the canvas shows, see `owners`."""
        return owners(self.canvas, self.coords, self.patch_size)

    @cached_property
    def inside(self) -> Inside:
        """The first model's way with the slide."""
        return look_inside(self.model, self.features)

    @cached_property
    def budgets(self) -> tuple[list[Budget], str]:
        """The first model at the retentions, and why there is only its own; see `at_retentions`."""
        return at_retentions(self.model, self.features, self.inside.prediction, self.retentions, self.class_names)

    @cached_property
    def panels(self) -> dict[str, NDArray[np.uint8]]:
        """The rasters (height, width, 3) RGB that a report shows too: slide, attention, merging, pruning."""
        return {
            "slide": self.canvas.picture,
            "attention": self.painted(paint_attention),
            "merging": self.painted(paint_groups),
            "pruning": self.painted(paint_pruning),
        }

    def painted(
        self,
        paint: Callable[[Canvas, NDArray[np.int32], PatchFates], NDArray[np.uint8]],
        fates: PatchFates | None = None,
    ) -> NDArray[np.uint8]:
        """Paint fates, these models' or others, on the slide."""
        return paint(self.canvas, self.owner, self.fates if fates is None else fates)

    def after_stage(self, stage: int) -> NDArray[np.uint8]:
        """Paint the slide after a stage of the first model, counted from 1; see `paint_stage`."""
        if stage not in self._stages:
            self._stages[stage] = self.painted(paint_stage, self.inside.stages[stage - 1])
        return self._stages[stage]

    @property
    def crop_px(self) -> int:
        """The side of a patch in pixels of the um/px that the features were made at; of level 0 if that is unknown."""
        if not self.canvas.spacing_um or not self.features.spacing_um:
            return max(1, round(self.patch_size))
        return max(1, round(self.patch_size * self.canvas.spacing_um / self.features.spacing_um))

    def crops(self, patches: Iterable[int]) -> list[NDArray[np.uint8]]:
        """Cut patches from the slide as the encoder saw them, but for stain; none without the slide.

        Raises: SlideError if the file cannot be decoded there.
        """
        return [] if self.slide is None else [self._crop(self.slide, int(patch)) for patch in patches]

    def _crop(self, slide: SlideReader, patch: int) -> NDArray[np.uint8]:
        if patch not in self._crops:
            x, y = self.coords[patch].tolist()
            side, pixels = max(1, round(self.patch_size)), self.crop_px
            self._crops[patch] = slide.read((x, y), (side, side), (pixels, pixels))
        return self._crops[patch]


def encode_jpeg(picture: NDArray[np.uint8], *, max_px: int) -> bytes:
    """Shrink a picture (height, width, 3) RGB to ``max_px`` a side and encode it as JPEG."""
    shrink = min(1.0, max_px / max(picture.shape[:2]))
    size = (max(1, round(picture.shape[1] * shrink)), max(1, round(picture.shape[0] * shrink)))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    options = [cv2.IMWRITE_JPEG_QUALITY, _THUMBNAIL_QUALITY]
    encoded: bytes = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), options)[1].tobytes()
    return encoded
