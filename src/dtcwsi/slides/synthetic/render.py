"""Paint a slide: textures into regions, densities through the stain, dust and pen on top."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dtcwsi.slides.synthetic import cellular, connective, lesions
from dtcwsi.slides.synthetic.artefacts import add_dust, draw_pen
from dtcwsi.slides.synthetic.blocks import BLOCK_PX, block_corners, field_in_block, regions_by_block
from dtcwsi.slides.synthetic.layout import (
    CELL_PX,
    EDGE_RAGGEDNESS_PX,
    EDGE_SOFTNESS_PX,
    FAR_PX,
    RAGGED_REACH,
    Region,
    draw_layout,
)
from dtcwsi.slides.synthetic.noise import smooth_noise
from dtcwsi.slides.synthetic.palette import Palette
from dtcwsi.slides.synthetic.shapes import TEXTURE_PX
from dtcwsi.slides.synthetic.spec import SyntheticSlide
from dtcwsi.slides.synthetic.stain import draw_stain, stained

__all__ = ["render_slide"]

_DRAWN_AT_UM = 0.5

_TEXTURES: dict[str, Callable[[Palette], NDArray[np.uint8]]] = {
    "fibrous_stroma": connective.fibrous_stroma,
    "loose_stroma": connective.loose_stroma,
    "smooth_muscle": connective.smooth_muscle,
    "adipose": connective.adipose,
    "glands": cellular.glands,
    "lymphocytes": cellular.lymphocytes,
    "necrosis": cellular.necrosis,
    "blood": cellular.blood,
    "glass": connective.empty,
    "nested": lesions.large_cell_nests,
    "whorled": lesions.whorls,
}


def render_slide(slide: SyntheticSlide) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw a slide's pixels and where its lesion is.

    Returns: RGB (side_px, side_px, 3), and the lesion's mask (side_px, side_px) of 0 and 255. Two slides that differ
    only in their label differ only inside the mask and two pixels around it (the optics blur).
    """
    painter = _Painter(slide)
    rgb = np.empty((slide.side_px, slide.side_px, 3), np.uint8)
    lesion_mask = np.zeros((slide.side_px, slide.side_px), np.uint8)
    for top, left in block_corners(slide.side_px):
        pixels, lesion = painter.block((top, left))
        box = rgb[top : top + BLOCK_PX, left : left + BLOCK_PX]
        box[...] = pixels[: box.shape[0], : box.shape[1]]
        lesion_mask[top : top + BLOCK_PX, left : left + BLOCK_PX] = lesion[: box.shape[0], : box.shape[1]]
    blurred = np.asarray(cv2.GaussianBlur(rgb, (5, 5), painter.stain.blur_px), dtype=np.uint8)
    add_dust(slide.rng("dust"), blurred)
    return blurred, lesion_mask


class _Painter:
    """Paints one slide block by block; its textures are drawn once, and each region shows another part of them."""

    def __init__(self, slide: SyntheticSlide) -> None:
        rng = slide.rng("paint")
        self.stain = draw_stain(slide.patient_rng("stain"), slide.rng("stain"), strength=slide.nuisance)
        self._slide = slide
        self._layout = draw_layout(slide)
        y, x = (np.indices(self._layout.inside_px.shape, dtype=np.float32) + np.float32(0.5)) * CELL_PX
        self._bent_y, self._bent_x = y + self._layout.bend_px[0], x + self._layout.bend_px[1]
        self._pen = draw_pen(slide.rng("pen"), slide.side_px // CELL_PX)
        ragged = 0.7 * smooth_noise(rng, TEXTURE_PX, 34.0) + 0.5 * smooth_noise(rng, TEXTURE_PX, 11.0)
        self._ragged = np.clip(ragged, -RAGGED_REACH, RAGGED_REACH)
        self._palette = Palette.from_rng(rng)
        self._grain = rng.integers(0, 5, (TEXTURE_PX, TEXTURE_PX, 3), dtype=np.uint8)
        self._textures: dict[str, NDArray[np.uint8]] = {}
        self._seen = regions_by_block((*self._layout.regions, self._layout.lesion), self._layout.inside_px)

    def block(self, corner: tuple[int, int]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Paint the block with this (top, left); returns its RGB and its part of the lesion's mask."""
        densities = np.zeros((BLOCK_PX, BLOCK_PX, 3), np.uint8)
        lesion = np.zeros((BLOCK_PX, BLOCK_PX), np.uint8)
        on_tissue = self._edge(corner)
        places = (field_in_block(self._bent_y, corner), field_in_block(self._bent_x, corner))
        for region, cover in self._visible(corner):
            densities = cv2.blendLinear(self._shown(region, places), densities, cover, 1.0 - cover)
            if region is self._layout.lesion:
                lesion = np.where((cover > 0) & (on_tissue > 0), 255, 0).astype(np.uint8)
        matter = on_tissue * field_in_block(self._layout.thickness, corner)
        densities = cv2.multiply(densities, cv2.merge([matter] * 3), dtype=cv2.CV_8U)
        rgb = stained(cv2.add(densities, _box_of(self._grain, corner)), self.stain)
        return self._under_pen(rgb, corner), lesion

    def _visible(self, corner: tuple[int, int]) -> list[tuple[Region, NDArray[np.float32]]]:
        """The block's regions with their cover, in painting order, without those that later ones hide."""
        visible: list[tuple[Region, NDArray[np.float32]]] = []
        for region in reversed(self._seen.get(corner, [])):
            cover = self._cover(region, corner)
            if cover.any():
                visible.insert(0, (region, cover))
            if cover.min() == 1.0:
                break
        return visible

    def _edge(self, corner: tuple[int, int]) -> NDArray[np.float32]:
        edge_px = field_in_block(self._layout.inside_px, corner) + EDGE_RAGGEDNESS_PX * _box_of(self._ragged, corner)
        return np.asarray(np.clip(edge_px / EDGE_SOFTNESS_PX + 0.5, 0.0, 1.0), dtype=np.float32)

    def _cover(self, region: Region, corner: tuple[int, int]) -> NDArray[np.float32]:
        first_cell = (region.row, region.column)
        inside_px = field_in_block(region.inside_px, corner, first_cell=first_cell, beyond=-FAR_PX)
        inside_px += region.raggedness_px * _box_of(self._ragged, corner)
        return np.asarray(np.clip(inside_px / region.softness_px + 0.5, 0.0, 1.0), dtype=np.float32)

    def _shown(self, region: Region, places: tuple[NDArray[np.float32], NDArray[np.float32]]) -> NDArray[np.uint8]:
        """The region's texture at these places (y, x), turned and scaled to the slide's um/px."""
        y, x = places
        scale = self._slide.spacing_um / _DRAWN_AT_UM
        cosine, sine = np.float32(scale * np.cos(region.angle)), np.float32(scale * np.sin(region.angle))
        map_y = x * sine + y * cosine + np.float32(region.offset_px[0])
        map_x = x * cosine - y * sine + np.float32(region.offset_px[1])
        texture = self._texture(region.tissue)
        return np.asarray(cv2.remap(texture, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP), np.uint8)

    def _texture(self, tissue: str) -> NDArray[np.uint8]:
        if tissue not in self._textures:
            # A generator of its own: a texture must not depend on which others, or which lesion, the slide shows.
            palette = self._palette.for_rng(self._slide.rng(tissue))
            self._textures[tissue] = _TEXTURES[tissue](palette)
        return self._textures[tissue]

    def _under_pen(self, rgb: NDArray[np.uint8], corner: tuple[int, int]) -> NDArray[np.uint8]:
        if self._pen is None:
            return rgb
        cover = field_in_block(self._pen.cover, corner)
        if not cover.any():
            return rgb
        passed = cv2.merge([1 - cover * (1 - share) for share in self._pen.passes])
        return np.asarray(cv2.multiply(rgb, passed, dtype=cv2.CV_8U), dtype=np.uint8)


def _box_of(plane: NDArray[Any], corner: tuple[int, int]) -> NDArray[Any]:
    """Cut a block out of the plane that a periodic field covers."""
    top, left = corner[0] % TEXTURE_PX, corner[1] % TEXTURE_PX
    return plane[top : top + BLOCK_PX, left : left + BLOCK_PX]
