"""The records that pass from one step to the next, in the order of the data.

All positions are level-0 pixels, x to the right and y down, of a patch's top-left corner.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from numbers import Integral, Real
from pathlib import Path
from typing import NewType, Protocol

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from dtcwsi.errors import FeaturesError
from dtcwsi.later import WhenRead, worked_out_when_read

__all__ = [
    "Aggregated",
    "Bag",
    "CompressedBags",
    "Features",
    "Microns",
    "MicronsPerPixel",
    "Objective",
    "PackedBags",
    "PatchGrid",
    "Pixels",
    "Polygon",
    "Prediction",
    "SlideInfo",
    "SlideReader",
    "TissueMask",
]

Microns = NewType("Microns", float)
MicronsPerPixel = NewType("MicronsPerPixel", float)
Pixels = NewType("Pixels", int)
Objective = Callable[[Tensor, Tensor], Tensor]
"""What a method minimises: from logits (bags, classes) and labels (bags,) a loss of each bag (bags,)."""

_FARTHEST = 100_000_000  # pixels; the cells of a batch of such slides can still be numbered
_LARGEST = 1e17  # squares of features must stay in the range of float32
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True)
class SlideInfo:
    """What is known of a slide file before its pixels are read.

    ``spacing_um`` is um per level-0 pixel; ``level_downsamples`` are the real ones, the first is 1.
    """

    slide_id: str
    path: Path
    width_px: int
    height_px: int
    spacing_um: float
    level_downsamples: tuple[float, ...]
    reader: str


class SlideReader(Protocol):
    """An open slide: pixels at any um/px, whatever the file format."""

    @property
    def info(self) -> SlideInfo:
        """The slide's size, resolution and levels."""
        ...

    def read(
        self, top_left_level0: tuple[int, int], size_level0: tuple[int, int], size_px: tuple[int, int]
    ) -> NDArray[np.uint8]:
        """Read a box of level-0 pixels, resampled with antialiasing.

        Sizes are (width, height). Returns: (height, width, 3) RGB of ``size_px``; white outside the slide.
        Raises: SlideError if the file cannot be decoded there.
        """
        ...

    def close(self) -> None:
        """Release the file."""
        ...


@dataclass(frozen=True)
class Polygon:
    """One piece of tissue: an outer ring and the holes in it, each (points, 2) level-0 pixels, not closed."""

    outer: NDArray[np.float64]
    holes: tuple[NDArray[np.float64], ...] = ()


@dataclass(frozen=True)
class TissueMask:
    """Where a slide has tissue, as polygons in level-0 pixels; no polygon means no tissue.

    Polygons that ``may_overlap`` were drawn apart from each other; where two do, there is tissue.
    """

    polygons: tuple[Polygon, ...]
    area_um2: float
    may_overlap: bool = False


@dataclass(frozen=True)
class PatchGrid:
    """The patches of a slide, in a space-filling order.

    ``coords`` (N, 2) int64 level-0 pixels; ``tissue_fraction`` (N,) in 0..1. A patch covers ``patch_size_level0``
    level-0 pixels a side and is read as ``patch_size_px`` pixels of ``spacing_um``.
    """

    coords: NDArray[np.int64]
    tissue_fraction: NDArray[np.float32]
    patch_size_px: int
    patch_size_level0: int
    spacing_um: float

    def __len__(self) -> int:
        return len(self.coords)

    def part(self, which: slice | NDArray[np.bool_]) -> "PatchGrid":
        """Take some of the patches, in their order."""
        return replace(self, coords=self.coords[which], tissue_fraction=self.tissue_fraction[which])


@dataclass(frozen=True)
class Features:
    """A slide's patch embeddings: ``features`` (N, D) float32 in the order of ``coords`` (N, 2)."""

    slide_id: str
    features: NDArray[np.float32]
    coords: NDArray[np.int64] | None
    patch_size_level0: float | None
    encoder: str | None
    spacing_um: float | None = None


def _check_coords(coords: Tensor, name: str) -> None:
    if coords.dtype == torch.bool or coords.is_complex():
        raise FeaturesError(f"{name} has coords of {coords.dtype}; expected level-0 pixels, such as torch.int64")
    if not bool(torch.isfinite(coords).all()):
        raise FeaturesError(f"{name} has NaN or infinite coords; expected level-0 pixels")
    farthest = max(float(coords.max()), -float(coords.min()))
    if farthest > _FARTHEST:
        raise FeaturesError(f"{name} has coords of {farthest:.3g}; expected level-0 pixels, at most {_FARTHEST:,}")


def _check_values(features: Tensor, name: str) -> None:
    """Look at the smallest and the largest value; only a suspect bag is looked at row by row."""
    ends = torch.stack(features.detach().aminmax()) if features.numel() else features.new_zeros(2)
    if bool((ends.abs() <= _LARGEST).all()):
        return
    what = f"features beyond {_LARGEST:g}" if bool(torch.isfinite(ends).all()) else "NaN or infinite features"
    bad = int((~(features.abs() <= _LARGEST).all(dim=1)).sum())
    raise FeaturesError(
        f"{name} has {what} in {bad} of {len(features)} patches; extract the slide again, or leave these patches out"
    )


@dataclass(frozen=True)
class Bag:
    """One slide as a set of patch embeddings.

    ``features`` (N, D); ``coords`` (N, 2) level-0 pixels. Without ``patch_size_level0`` the grid step is inferred from
    the coordinates (smallest positive difference between sorted unique x or y).
    Raises: FeaturesError if shapes or types disagree, a value is not finite or beyond 1e17, coordinates pass 100
    million pixels or the patch size is below 0.
    """

    features: Float[Tensor, "patches dim"]
    coords: Int[Tensor, "patches 2"] | Float[Tensor, "patches 2"] | None = None
    patch_size_level0: float | None = None
    label: int | None = None
    slide_id: str | None = None

    def __post_init__(self) -> None:
        name = repr(self.slide_id) if self.slide_id else "a bag"
        for field_name, value in (("features", self.features), ("coords", self.coords)):
            if not isinstance(value, Tensor) and not (value is None and field_name == "coords"):
                raise FeaturesError(
                    f"{name} has {field_name} of type {type(value).__name__}; expected a tensor, such as "
                    "torch.from_numpy(array)"
                )
        if self.features.dtype not in _FLOATS or self.features.layout != torch.strided:
            raise FeaturesError(
                f"{name} has features of {self.features.dtype}, {self.features.layout}; expected dense floating point "
                "of 16 to 64 bits: use .float() or .to_dense()"
            )
        if self.features.ndim != 2:
            raise FeaturesError(f"{name} has features of shape {tuple(self.features.shape)}; expected (patches, dim)")
        if self.coords is not None and tuple(self.coords.shape) != (len(self.features), 2):
            raise FeaturesError(
                f"{name} has coords of shape {tuple(self.coords.shape)}; expected ({len(self.features)}, 2), "
                "one row a patch"
            )
        size = self.patch_size_level0
        if size is not None and not (isinstance(size, Real) and 0 <= size < math.inf):
            raise FeaturesError(
                f"{name} has patch_size_level0 {size!r}; expected level-0 pixels, more than 0, or None where unknown"
            )
        if self.label is not None and (isinstance(self.label, bool) or not isinstance(self.label, Integral)):
            raise FeaturesError(f"{name} has label {self.label!r}; expected a class number, or None where unknown")
        if self.coords is not None and len(self.coords):
            _check_coords(self.coords, name)
        _check_values(self.features, name)

    def __len__(self) -> int:
        return len(self.features)


@dataclass(frozen=True)
class PackedBags:
    """Several bags as one matrix: rows ``offsets[b]`` to ``offsets[b + 1]`` belong to bag b; no padding.

    ``features`` (sum of patches, dim) in the order given; ``offsets`` (bags + 1,) int64; ``coords`` (sum of patches, 2)
    or None if any bag lacks them; ``patch_size_level0`` (bags,) float, NaN where unknown; ``step_level0`` (bags,) the
    step of the coordinates' grid, the same or, where that is unknown, inferred, NaN without coordinates; ``labels``
    (bags,) int64, -1 where unknown. ``order`` (sum of patches,) lists the rows bag after bag in each bag's spatial
    order; None if that is the order given. ``coords_dropped`` says that some bags had coordinates and others had none.
    """

    features: Float[Tensor, "patches dim"]
    offsets: Int[Tensor, "bags_plus_one"]
    coords: Tensor | None = None
    patch_size_level0: Float[Tensor, "bags"] | None = None
    labels: Int[Tensor, "bags"] | None = None
    slide_ids: tuple[str | None, ...] = ()
    order: Int[Tensor, "patches"] | None = None
    coords_dropped: bool = False
    step_level0: Float[Tensor, "bags"] | None = None

    @property
    def n_bags(self) -> int:
        """How many bags are packed."""
        return len(self.offsets) - 1

    def to(self, device: torch.device | str) -> "PackedBags":
        """Copy every tensor to a device."""

        def moved(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.to(device, non_blocking=True)

        return PackedBags(
            self.features.to(device, non_blocking=True),
            self.offsets.to(device, non_blocking=True),
            moved(self.coords),
            moved(self.patch_size_level0),
            moved(self.labels),
            self.slide_ids,
            moved(self.order),
            self.coords_dropped,
            moved(self.step_level0),
        )


@dataclass(frozen=True)
class CompressedBags:
    """Tokens left of packed bags, and where each came from.

    Tokens: ``features`` (tokens, dim), ``offsets`` (bags + 1,), ``log_size`` (tokens,) log of the patches inside,
    ``gate`` (tokens,) <= 0 prior on attention from the score, ``mass`` (tokens,) share of first-stage importance,
    ``score`` (tokens,), ``coords`` (tokens, 2) or None; ``patch_size_level0`` and ``step_level0`` are the bags'.
    Aggregators add ``bias`` to attention logits, sizes included if ``size_bias``.
    Patches, in the order given: ``patch_offsets`` (bags + 1,), ``patch_to_token`` (patches,) index of its token within
    the bag or -1, ``tokens_by_stage`` (stages, patches) the same after each stage, ``patch_stage`` (patches,) where it
    stopped being a token alone, ``patch_weight`` (patches,) its share in its token, 0 once pruned, ``importance``
    (patches,) its share of first-stage importance, which sums to 1 in each bag; None if the compressor does not score
    patches.
    """

    features: Float[Tensor, "tokens dim"]
    offsets: Int[Tensor, "bags_plus_one"]
    log_size: Float[Tensor, "tokens"]
    gate: Float[Tensor, "tokens"]
    mass: Float[Tensor, "tokens"]
    score: Float[Tensor, "tokens"]
    coords: Tensor | None
    patch_size_level0: Tensor | None
    patch_offsets: Int[Tensor, "bags_plus_one"]
    patch_to_token: Int[Tensor, "patches"]
    tokens_by_stage: Int[Tensor, "stages patches"]
    patch_weight: Float[Tensor, "patches"]
    size_bias: bool = True
    losses: dict[str, Tensor] = field(default_factory=dict)
    step_level0: Float[Tensor, "bags"] | None = None
    importance: Float[Tensor, "patches"] | None = None

    @property
    def n_bags(self) -> int:
        """How many bags are packed."""
        return len(self.offsets) - 1

    @property
    def patch_stage(self) -> Int[Tensor, "patches"]:
        """See `patch_stages`."""
        return patch_stages(self.tokens_by_stage, self.patch_offsets)

    @property
    def size_prior(self) -> Float[Tensor, "tokens"]:
        """What a token adds to its attention logit for its size: the log of it, or 0 without ``size_bias``."""
        return self.log_size if self.size_bias else torch.zeros_like(self.log_size)

    @property
    def bias(self) -> Float[Tensor, "tokens"]:
        """What a token adds to its attention logit: for its size, and its gate."""
        return self.size_prior + self.gate


def patch_stages(
    tokens_by_stage: Int[Tensor, "stages patches"], patch_offsets: Int[Tensor, "bags_plus_one"]
) -> Int[Tensor, "patches"]:
    """Give the stage, counted from 1, at which each patch stopped being a token alone; 0 if it never did."""
    n_stages, n_patches = tokens_by_stage.shape
    there = tokens_by_stage >= 0
    first = torch.repeat_interleave(patch_offsets[:-1], patch_offsets.diff(), output_size=n_patches)
    first = first + n_patches * torch.arange(n_stages, device=patch_offsets.device)[:, None]
    key = torch.where(there, tokens_by_stage + first, n_stages * n_patches)
    inside = torch.bincount(key.flatten(), minlength=n_stages * n_patches + 1)
    alone_stages = (there & (inside[key] == 1)).sum(dim=0)
    return torch.where(alone_stages == n_stages, 0, alone_stages + 1)


@worked_out_when_read("attention", "teacher", "attention_by_class")
@dataclass(frozen=True)
class Aggregated:
    """What an aggregator makes of compressed bags; what costs time besides the logits may be worked out when read.

    ``logits`` (bags, classes); ``attention`` (tokens,) sums to 1 in each bag with tokens; ``teacher`` (tokens,) the
    same without gradient, and without the gate where the method can tell; ``losses`` weighted auxiliary terms.
    ``attention_by_class`` (tokens, classes) if there is one map a class; ``attention`` is then the predicted class's.
    ``objective`` is the method's own loss of each bag, see `Objective`; without it cross-entropy.
    """

    logits: Float[Tensor, "bags classes"]
    attention: WhenRead[Float[Tensor, "tokens"]]
    teacher: WhenRead[Float[Tensor, "tokens"]]
    losses: dict[str, Tensor] = field(default_factory=dict)
    attention_by_class: WhenRead[Float[Tensor, "tokens classes"] | None] = None
    objective: Objective | None = None


@worked_out_when_read("attention", "attention_by_class", "patch_stage")
@dataclass(frozen=True)
class Prediction:
    """What a classifier says of a batch of bags, in one layout whatever the model.

    ``logits`` (bags, classes); ``attention`` (patches,) sums to 1 in each bag with patches; TransMIL's, PatchGD's and
    PANTHER's is worked out when it is first read, of the weights and tokens of this pass, which are kept until then;
    ``tokens_in`` and ``tokens_out`` (bags,); ``patch_to_token`` (patches,); ``tokens_by_stage`` (stages, patches);
    ``patch_stage`` (patches,) stage at which a patch stopped being a token alone, 0 if it never did; ``losses``
    weighted auxiliary terms, empty in evaluation; ``offsets`` (bags + 1,) rows of each bag in the patch-wise fields.
    Where the compressor scores patches, ``importance`` (patches,) is each one's share of first-stage importance and
    ``mass`` (patches,) that of all patches in its token, 0 once pruned; else both are None. ``objective`` is the
    method's own loss, see `Objective`. ``whole_logits`` (bags, classes) and ``whole_objective`` are those of all
    patches, while training looks at whole bags as well.
    """

    logits: Float[Tensor, "bags classes"]
    attention: WhenRead[Float[Tensor, "patches"]]
    tokens_in: Int[Tensor, "bags"]
    tokens_out: Int[Tensor, "bags"]
    patch_to_token: Int[Tensor, "patches"]
    tokens_by_stage: Int[Tensor, "stages patches"]
    patch_stage: WhenRead[Int[Tensor, "patches"]]
    offsets: Int[Tensor, "bags_plus_one"]
    losses: dict[str, Tensor] = field(default_factory=dict)
    attention_by_class: WhenRead[Float[Tensor, "patches classes"] | None] = None
    objective: Objective | None = None
    whole_logits: Float[Tensor, "bags classes"] | None = None
    whole_objective: Objective | None = None
    importance: Float[Tensor, "patches"] | None = None
    mass: Float[Tensor, "patches"] | None = None
