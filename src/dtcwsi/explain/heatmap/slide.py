"""One slide's heatmap: asked once, drawn on any scale."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dtcwsi.ensemble import Answers
from dtcwsi.explain.exports import Exports, write_exports
from dtcwsi.explain.fates import concentration
from dtcwsi.explain.heatmap.blending import HeatLayer
from dtcwsi.explain.heatmap.overlay import write_overlay
from dtcwsi.explain.heatmap.picture import Words, draw_heatmap
from dtcwsi.explain.heatmap.scales import Scale, shares_of
from dtcwsi.explain.origin import Origin
from dtcwsi.explain.places import check_inside, places_of
from dtcwsi.explain.slide import SlideView, view_of
from dtcwsi.store.atomic import write_bytes
from dtcwsi.types import Features, SlideReader

__all__ = ["SlideHeat", "heat_of", "write_heatmap"]


@dataclass(frozen=True)
class SlideHeat:
    """What models saw in a slide's patches at ``coords`` (N, 2); ``asked`` says which models, ``of`` what is drawn."""

    slide_id: str
    coords: NDArray[np.int64]
    patch_size_level0: float
    view: SlideView
    asked: str
    of: str

    @property
    def shares(self) -> NDArray[np.float64]:
        """Attention of the patches (N,) as multiples of an even share."""
        return shares_of(self.view.fates.attention)

    def layer(self, scale: Scale) -> HeatLayer:
        """Give the patches their heat on a scale."""
        return HeatLayer(self.coords, self.patch_size_level0, scale.heat(self.shares))

    @property
    def words(self) -> Words:
        """What stands on the picture."""
        view = self.view
        verdict = f"predicted {view.prediction} (probability {view.probabilities.max():.3f})"
        title = f"{self.slide_id}: {verdict if len(view.fates) else 'no tissue, no prediction'}"
        foot = concentration(view.fates.attention) if len(view.fates) else ""
        return Words(title, f"{self.asked}; {len(view.fates):,} patches", self.of.capitalize(), foot)


def heat_of(features: Features, answers: Answers, asked: str, class_name: str | None = None) -> SlideHeat:
    """Bring models' answers to the places of the patches; ``asked`` says which models were.

    Raises: FeaturesError if the features have no coordinates; UsageError as `Answers.attention`.
    """
    coords, patch_size = places_of(features)
    by_class = len(coords) and all(out.attention_by_class is not None for out in answers.predictions)
    of = f"attention for {class_name or answers.prediction}" if by_class else "attention"
    return SlideHeat(features.slide_id, coords, patch_size, view_of(answers, class_name), asked, of)


def write_heatmap(
    heat: SlideHeat,
    scale: Scale,
    out: Path,
    slide: SlideReader | None = None,
    *,
    origin: Origin | None = None,
    overlay: bool = True,
    exports: Exports | None = None,
) -> dict[str, Path]:
    """Write ID.png, ID.overlay.tif if asked for, the table ID.csv or ID.parquet, and GeoJSON, into ``out``.

    Without ``slide`` patches are drawn on blank ground. Size, um/px and tissue are the slide's, else those that
    ``origin`` knows; without either the overlay reaches as far as the patches, and says nothing of um.
    Returns: the files by name.
    Raises: FeaturesError if patches lie outside the slide; SlideError if the slide cannot be decoded; StoreError if
    the disk is full or the folder cannot be written.
    """
    origin = origin or Origin(heat.slide_id)
    info = None if slide is None else slide.info
    if info is not None:
        check_inside(heat.slide_id, heat.coords, heat.patch_size_level0, info)
    spacing_um = origin.spacing_um if info is None else info.spacing_um
    layer, files = heat.layer(scale), [out / f"{heat.slide_id}.png"]
    write_bytes(files[0], draw_heatmap(heat.words, layer, scale, slide, spacing_um=spacing_um))
    if overlay:
        files.append(out / f"{heat.slide_id}.overlay.tif")
        size = origin.size_level0 or _reach(layer) if info is None else (info.width_px, info.height_px)
        about = {"slide_id": heat.slide_id, "heat": scale.label, "ticks": scale.ticks}
        write_overlay(files[1], layer, size, spacing_um=spacing_um, about=about)
    exported = write_exports(
        out / heat.slide_id,
        out / f"{heat.slide_id}.outlines",
        heat.slide_id,
        heat.coords,
        heat.patch_size_level0,
        heat.view.fates,
        models_told=heat.asked,
        exports=exports,
        tissue=origin.tissue,
    )
    return {path.name: path for path in files} | exported


def _reach(layer: HeatLayer) -> tuple[int, int]:
    if not len(layer.coords):
        return 1, 1
    right, bottom = np.ceil(layer.coords.max(axis=0) + layer.patch_size_level0).astype(int).tolist()
    return max(1, right), max(1, bottom)
