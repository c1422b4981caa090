"""``dtcwsi extract``, and its steps alone: ``segment``, ``patch``, ``encode``."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dtcwsi.cli import choices
from dtcwsi.cli.console import Progress, count, print_json, say, some
from dtcwsi.cli.options import (
    DEFAULT_ENCODER,
    DEFAULT_WORKERS,
    Device,
    EncoderName,
    Json,
    Out,
    Spacing,
    Workers,
    pick_device,
)
from dtcwsi.errors import CohortError, EncoderError, UsageError

if TYPE_CHECKING:
    from dtcwsi.encoders import Encoder
    from dtcwsi.extraction import Extraction, Summary
    from dtcwsi.pipeline import SlideResult
    from dtcwsi.stain import StainNormaliser

__all__ = ["encode", "extract", "extract_slides", "patch", "run_with_progress", "segment"]

_ENLARGED = 1.25

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
    as_json: Json = False,
) -> int:
    """Find tissue, cut patches and encode them: one feature file a slide, resumable.

    Edit a row of OUT/slides.csv and run again to redo that slide with other tissue parameters.
    """
    found, plan = _plan(out, slides, cohort, spacing)
    tissue = choices.tissue_parameters(seg_spacing, saturation, median, closing, min_area, min_hole)
    grid = choices.grid_parameters(patch_size, patch_spacing, min_tissue)
    plan = replace(
        plan,
        tissue_from=choices.pick_tissue(tissue_from),
        quality=choices.pick_quality(quality, min_sharpness, max_pen),
    )
    plan = replace(plan, regions=choices.pick_regions(regions, region_class, region_without))
    plan = replace(plan, tissue=tissue, grid=grid, any_spacing=any_spacing, workers=workers)
    chosen = choices.pick_stain(stain, stain_target)
    return extract_slides(found, plan, encoder=encoder, stain=chosen, device=device, as_json=as_json)


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
    as_json: Json = False,
) -> int:
    """Find tissue alone: outlines as GeoJSON, an overlay picture a slide, and OUT/slides.csv to edit."""
    found, plan = _plan(out, slides, cohort, spacing)
    tissue = choices.tissue_parameters(seg_spacing, saturation, median, closing, min_area, min_hole)
    plan = replace(plan, tissue=tissue, grid=None, tissue_from=choices.pick_tissue(tissue_from))
    return extract_slides(found, plan, as_json=as_json)


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
    as_json: Json = False,
) -> int:
    """Find tissue and cut patches: their level-0 coordinates, nothing encoded yet."""
    found, plan = _plan(out, slides, cohort, spacing)
    tissue = choices.tissue_parameters(seg_spacing, saturation, median, closing, min_area, min_hole)
    grid = choices.grid_parameters(patch_size, patch_spacing, min_tissue)
    plan = replace(
        plan,
        tissue_from=choices.pick_tissue(tissue_from),
        quality=choices.pick_quality(quality, min_sharpness, max_pen),
    )
    plan = replace(plan, regions=choices.pick_regions(regions, region_class, region_without))
    return extract_slides(found, replace(plan, tissue=tissue, grid=grid, workers=workers), as_json=as_json)


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
    as_json: Json = False,
) -> int:
    """Encode the patches that `patch` or `extract` left in OUT, as they were cut."""
    found, plan = _plan(out, slides, cohort, None)
    plan = replace(plan, as_recorded=True, any_spacing=any_spacing, workers=workers)
    chosen = choices.pick_stain(stain, stain_target)
    return extract_slides(found, plan, encoder=encoder, stain=chosen, device=device, as_json=as_json)


def extract_slides(
    slides: dict[str, Path],
    plan: "Extraction",
    *,
    encoder: str | None = None,
    stain: "StainNormaliser | None" = None,
    device: str | None = None,
    as_json: bool = False,
) -> int:
    """Run an extraction with its progress on the screen.  Returns: the exit status."""
    if encoder is not None:
        from dtcwsi.encoders import StainedEncoder, check_spacing, load_encoder

        try:
            loaded = load_encoder(encoder, device=pick_device(device))
            if plan.grid is not None and not (plan.any_spacing or plan.as_recorded):
                check_spacing(loaded, plan.grid.patch_spacing_um)
                _tell_enlarged(loaded, plan.grid.patch_size_px)
            plan = replace(plan, encoder=loaded if stain is None else StainedEncoder(loaded, stain))
        except EncoderError as error:
            raise UsageError(str(error)) from error
    summary = run_with_progress(slides, plan)
    _conclude(summary, plan.out, as_json=as_json)
    return 1 if summary.failed else 0


def _tell_enlarged(encoder: "Encoder", patch_px: int) -> None:
    """Say if patches are much smaller than what the encoder sees, which shows it tissue larger than it has learnt."""
    input_px = getattr(encoder, "input_px", 0)
    if getattr(encoder, "spacing_um", ()) and input_px > _ENLARGED * patch_px:
        say(
            f"warning: {encoder.name} sees {input_px} px, to which patches of {patch_px} px are enlarged; "
            f"--patch-size {input_px} shows it tissue at the size that it was trained on"
        )


def run_with_progress(slides: dict[str, Path], plan: "Extraction") -> "Summary":
    """Run an extraction; a bar or a line a slide tells how it goes."""
    from dtcwsi.extraction import run_extraction

    with Progress(len(slides), "slides") as progress:
        return run_extraction(
            slides,
            plan,
            on_slide=lambda outcome: _report(progress, outcome),
            on_patches=progress.counter("patches encoded"),
        )


def _plan(
    out: Path, slides: list[Path] | None, cohort: Path | None, spacing: float | None
) -> "tuple[dict[str, Path], Extraction]":
    """The slides to work on, from arguments or the cohort table's paths, and a plan with their um/px."""
    from dtcwsi.bags.cohort import read_labels
    from dtcwsi.extraction import Extraction
    from dtcwsi.slides import find_slides
    from dtcwsi.store.atomic import check_writable

    rows = read_labels(cohort) if cohort else ()
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
    check_writable(out)
    if cohort is not None:
        _tell_unmatched(cohort, {row.slide_id for row in rows}, set(found))
    own = {row.slide_id: row.spacing_um for row in rows if row.spacing_um is not None}
    return found, Extraction(out=out, spacing_um=spacing, spacing_by_slide=own)


def _tell_unmatched(table: Path, listed: set[str], given: set[str]) -> None:
    """Say which rows of the cohort table concern no slide: a mistyped id would leave its um/px unused."""
    astray, bare = sorted(listed - given), given - listed
    if astray:
        without = f"; {count(len(bare), 'slide')} given without a row" if bare else ""
        say(f"warning: {count(len(astray), 'row')} of {table} for no slide given ({some(astray)}){without}")


def _report(progress: Progress, outcome: "SlideResult | tuple[str, str, str]") -> None:
    """Say how a slide went."""
    if isinstance(outcome, tuple):
        slide_id, step, reason = outcome
        progress.item(f"{slide_id}: FAILED at {step}: {reason}")
        return
    patches = "" if outcome.n_patches is None else f", {outcome.n_patches:,} patches"
    tissue = f"{outcome.tissue_um2 / 1e6:.2f} mm2 tissue"
    took = f"{sum(outcome.seconds.values()):.1f} s" if outcome.done else "already finished"
    progress.item(f"{outcome.slide_id}: {tissue}{patches}, {took}", quiet=True)


def _conclude(summary: "Summary", out: Path, *, as_json: bool) -> None:
    total, patches = len(summary.results) + len(summary.failed), sum(r.n_patches or 0 for r in summary.results.values())
    facts = {
        "slides": total,
        "finished": len(summary.results),
        "done_now": len(summary.redone),
        "patches": patches,
        "without_tissue": summary.empty,
        "failed": [dict(zip(("slide", "step", "reason"), failure, strict=True)) for failure in summary.failed],
        "out": str(out),
    }
    if as_json:
        print_json(facts)
        return
    say(
        f"{len(summary.results)} of {count(total, 'slide')} finished ({len(summary.redone)} now), {patches:,} patches, "
        f"{len(summary.empty)} without tissue, {len(summary.failed)} failed; see {out / 'slides.csv'}"
    )
    if summary.failed:
        say(f"reasons of the failures: {out / 'failed.csv'}")
