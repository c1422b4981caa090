"""``dtcwsi extract``, and its steps alone: ``segment``, ``patch``, ``encode``."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dtcwsi.cli import choices
from dtcwsi.cli.console import count, say, some
from dtcwsi.cli.extract_run import extract_slides
from dtcwsi.cli.labels import tell_overlooked
from dtcwsi.cli.options import (
    DEFAULT_ENCODER,
    DEFAULT_WORKERS,
    Device,
    EncoderName,
    Json,
    Out,
    Spacing,
    Workers,
)
from dtcwsi.errors import CohortError, UsageError

if TYPE_CHECKING:
    from dtcwsi.extraction import Extraction

__all__ = ["encode", "extract", "patch", "segment"]

# readable=False: a file that may not be read is one slide's failure, and no reason to refuse the others
Slides = Annotated[
    list[Path] | None,
    typer.Argument(metavar="SLIDES...", help="Slide files, or folders of them.", show_default=False, readable=False),
]
Cohort = Annotated[
    Path | None,
    typer.Option("--cohort", help="CSV with slide_id and optional path and spacing_um columns.", show_default=False),
]
PatchSize = Annotated[int, typer.Option("--patch-size", metavar="PX", help="Side of a patch in pixels.")]
PatchSpacing = Annotated[float, typer.Option("--patch-spacing", metavar="UM", help="um/px at which patches are read.")]
MinTissue = Annotated[float, typer.Option("--min-tissue", help="Least share of tissue in a patch, 0 to 1.")]
SegSpacing = Annotated[float, typer.Option("--seg-spacing", metavar="UM", help="um/px at which tissue is looked for.")]
Saturation = Annotated[
    int, typer.Option("--saturation", help="HSV saturation above which a pixel is tissue, 0 to 255.")
]
Median = Annotated[float, typer.Option("--median", metavar="UM", help="Width of the median filter.")]
Closing = Annotated[float, typer.Option("--closing", metavar="UM", help="Width of the morphological closing.")]
MinArea = Annotated[float, typer.Option("--min-area", metavar="UM2", help="Smallest piece of tissue kept.")]
MinHole = Annotated[float, typer.Option("--min-hole", metavar="UM2", help="Smallest hole kept.")]
AnySpacing = Annotated[
    bool, typer.Option("--any-spacing", help="Encode patches of another um/px than the encoder was trained at.")
]

Backend = Annotated[
    str,
    typer.Option("--backend", help="What runs the network: eager or compile (torch), onnxruntime, openvino (CPUs)."),
]
ShardOption = Annotated[
    str | None,
    typer.Option("--shard", metavar="I/N", help="Only share I of N, by slide id: 1/16 to 16/16 are all slides."),
]
PlanOnly = Annotated[bool, typer.Option("--plan", help="Say what there is to do and what it will take; do nothing.")]


def extract(
    out: Out,
    slides: Slides = None,
    encoder: EncoderName = DEFAULT_ENCODER,
    spacing: Spacing = None,
    cohort: Cohort = None,
    patch_size: PatchSize = 256,
    patch_spacing: PatchSpacing = 0.5,
    min_tissue: MinTissue = 0.5,
    seg_spacing: SegSpacing = 8.0,
    saturation: Saturation = 15,
    median: Median = 56.0,
    closing: Closing = 32.0,
    min_area: MinArea = 60_000.0,
    min_hole: MinHole = 30_000.0,
    tissue_from: choices.TissueFrom = None,
    regions: choices.Regions = None,
    region_class: choices.RegionClass = None,
    region_without: choices.RegionWithout = None,
    quality: choices.Quality = False,
    min_sharpness: choices.MinSharpness = None,
    max_pen: choices.MaxPen = None,
    stain: choices.Stain = None,
    stain_target: choices.StainTarget = None,
    any_spacing: AnySpacing = False,
    workers: Workers = DEFAULT_WORKERS,
    device: Device = None,
    backend: Backend = "eager",
    shard: ShardOption = None,
    plan_only: PlanOnly = False,
    as_json: Json = False,
) -> int:
    """Find tissue, cut patches and encode them: one feature file a slide, resumable.

    Edit a row of OUT/slides.csv and run again to redo that slide with other tissue parameters.
    """
    found, plan = _plan(out, slides, cohort, spacing)
    plan = replace(
        plan,
        tissue=choices.tissue_parameters(seg_spacing, saturation, median, closing, min_area, min_hole),
        tissue_from=choices.pick_tissue(tissue_from),
        grid=choices.grid_parameters(patch_size, patch_spacing, min_tissue),
        regions=choices.pick_regions(regions, region_class, region_without),
        quality=choices.pick_quality(quality, min_sharpness, max_pen),
        any_spacing=any_spacing,
        workers=workers,
    )
    return extract_slides(
        found,
        plan,
        encoder=encoder,
        stain=choices.pick_stain(stain, stain_target),
        device=device,
        backend=backend,
        shard=shard,
        plan_only=plan_only,
        as_json=as_json,
    )


def segment(
    out: Out,
    slides: Slides = None,
    spacing: Spacing = None,
    cohort: Cohort = None,
    seg_spacing: SegSpacing = 8.0,
    saturation: Saturation = 15,
    median: Median = 56.0,
    closing: Closing = 32.0,
    min_area: MinArea = 60_000.0,
    min_hole: MinHole = 30_000.0,
    tissue_from: choices.TissueFrom = None,
    shard: ShardOption = None,
    plan_only: PlanOnly = False,
    as_json: Json = False,
) -> int:
    """Find tissue alone: outlines as GeoJSON, an overlay picture a slide, and OUT/slides.csv to edit."""
    found, plan = _plan(out, slides, cohort, spacing)
    tissue = choices.tissue_parameters(seg_spacing, saturation, median, closing, min_area, min_hole)
    plan = replace(plan, tissue=tissue, grid=None, tissue_from=choices.pick_tissue(tissue_from))
    return extract_slides(found, plan, shard=shard, plan_only=plan_only, as_json=as_json)


def patch(
    out: Out,
    slides: Slides = None,
    spacing: Spacing = None,
    cohort: Cohort = None,
    patch_size: PatchSize = 256,
    patch_spacing: PatchSpacing = 0.5,
    min_tissue: MinTissue = 0.5,
    seg_spacing: SegSpacing = 8.0,
    saturation: Saturation = 15,
    median: Median = 56.0,
    closing: Closing = 32.0,
    min_area: MinArea = 60_000.0,
    min_hole: MinHole = 30_000.0,
    tissue_from: choices.TissueFrom = None,
    regions: choices.Regions = None,
    region_class: choices.RegionClass = None,
    region_without: choices.RegionWithout = None,
    quality: choices.Quality = False,
    min_sharpness: choices.MinSharpness = None,
    max_pen: choices.MaxPen = None,
    workers: Workers = DEFAULT_WORKERS,
    shard: ShardOption = None,
    plan_only: PlanOnly = False,
    as_json: Json = False,
) -> int:
    """Find tissue and cut patches: their level-0 coordinates, nothing encoded yet."""
    found, plan = _plan(out, slides, cohort, spacing)
    plan = replace(
        plan,
        tissue=choices.tissue_parameters(seg_spacing, saturation, median, closing, min_area, min_hole),
        tissue_from=choices.pick_tissue(tissue_from),
        grid=choices.grid_parameters(patch_size, patch_spacing, min_tissue),
        regions=choices.pick_regions(regions, region_class, region_without),
        quality=choices.pick_quality(quality, min_sharpness, max_pen),
        workers=workers,
    )
    return extract_slides(found, plan, shard=shard, plan_only=plan_only, as_json=as_json)


def encode(
    out: Out,
    slides: Slides = None,
    encoder: EncoderName = DEFAULT_ENCODER,
    cohort: Cohort = None,
    stain: choices.Stain = None,
    stain_target: choices.StainTarget = None,
    any_spacing: AnySpacing = False,
    workers: Workers = DEFAULT_WORKERS,
    device: Device = None,
    backend: Backend = "eager",
    shard: ShardOption = None,
    plan_only: PlanOnly = False,
    as_json: Json = False,
) -> int:
    """Encode the patches that `patch` or `extract` left in OUT, as they were cut."""
    found, plan = _plan(out, slides, cohort, None)
    plan = replace(plan, as_recorded=True, any_spacing=any_spacing, workers=workers)
    return extract_slides(
        found,
        plan,
        encoder=encoder,
        stain=choices.pick_stain(stain, stain_target),
        device=device,
        backend=backend,
        shard=shard,
        plan_only=plan_only,
        as_json=as_json,
    )


def _plan(
    out: Path, slides: list[Path] | None, cohort: Path | None, spacing: float | None
) -> "tuple[dict[str, Path], Extraction]":
    """The slides to work on, from arguments or the cohort table's paths, and a plan with their um/px."""
    from dtcwsi.bags.cohort import read_labels
    from dtcwsi.extraction import Extraction
    from dtcwsi.slides import find_slides

    rows = read_labels(cohort, labelled=False) if cohort else ()
    for row in rows:
        if row.path is not None and row.path.stem != row.slide_id:
            raise CohortError(
                f"{cohort}: slide {row.slide_id!r} has the path {row.path.name}; ids are file names without suffix: "
                f"use {row.path.stem!r} or rename the file"
            )
    places = slides or [row.path for row in rows if row.path is not None]
    if not places:
        raise UsageError("no slides were named; expected slide files or folders, or --cohort with a path column")
    found = find_slides(places)
    if cohort is not None:
        tell_overlooked(cohort)
        _tell_unmatched(cohort, {row.slide_id for row in rows}, set(found))
    own = {row.slide_id: row.spacing_um for row in rows if row.spacing_um is not None}
    return found, Extraction(out=out, spacing_um=spacing, spacing_by_slide=own)


def _tell_unmatched(table: Path, listed: set[str], given: set[str]) -> None:
    """Say which rows of the cohort table concern no slide: a mistyped id would leave its um/px unused."""
    astray, bare = sorted(listed - given), given - listed
    if astray:
        without = f"; {count(len(bare), 'slide')} given without a row" if bare else ""
        say(f"warning: {count(len(astray), 'row')} of {table} for no slide given ({some(astray)}){without}")
