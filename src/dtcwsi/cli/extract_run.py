"""A run over slides: its plan, how it goes, and what came of it."""

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dtcwsi.cli.console import count, duration, print_json, say, size
from dtcwsi.cli.extract_plan import plan_facts, plan_lines
from dtcwsi.cli.live import RunProgress
from dtcwsi.cli.options import pick_device
from dtcwsi.cli.tally import Tally
from dtcwsi.errors import EncoderError, UsageError

if TYPE_CHECKING:
    from dtcwsi.encoders import Encoder
    from dtcwsi.extraction import Extraction, Plan, Summary
    from dtcwsi.stain import StainNormaliser

__all__ = ["extract_slides", "run_with_progress"]

_ENLARGED = 1.25
_LOOKS = 5
_REASONS = 5


def extract_slides(
    slides: dict[str, Path],
    extraction: "Extraction",
    *,
    encoder: str | None = None,
    stain: "StainNormaliser | None" = None,
    device: str | None = None,
    backend: str = "eager",
    shard: str | None = None,
    plan_only: bool = False,
    as_json: bool = False,
) -> int:
    """Tell the plan of an extraction and, unless that is all that was asked for, carry it out.

    Returns: the exit status.  Raises: UsageError if the shard, the encoder or the folder cannot be used.
    """
    from dtcwsi.extraction import Shard, plan_extraction
    from dtcwsi.store.atomic import check_writable

    n_cohort = len(slides)
    if shard is not None:
        slides = Shard.parse(shard).share(slides)
    check_writable(extraction.out, make=not plan_only)
    if encoder is not None:
        extraction = replace(extraction, encoder=_loaded(encoder, device, backend, extraction, stain))
    plan = plan_extraction(slides, extraction, looks=_LOOKS if plan_only else 0)
    told = plan_lines(plan, extraction.out, shard, n_cohort)
    if plan_only:
        if as_json:
            print_json(plan_facts(plan, extraction.out, shard))
        else:
            print("\n".join(told))
        return 0
    for line in told:
        say(line)
    began = time.perf_counter()
    summary = run_with_progress(slides, extraction, plan)
    facts = _facts(summary, extraction.out, shard, time.perf_counter() - began)
    if as_json:
        print_json(facts)
    else:
        _conclude(facts)
    return 1 if summary.failed else 0


def run_with_progress(slides: dict[str, Path], extraction: "Extraction", plan: "Plan | None" = None) -> "Summary":
    """Run an extraction; a table on a terminal, or a line a slide, tells how it goes."""
    from dtcwsi.extraction import run_extraction

    tally = Tally(len(slides), plan, encodes=extraction.encoder is not None)
    with RunProgress(tally) as progress:
        return run_extraction(slides, extraction, on_slide=progress.slide, on_patches=progress.patches)


def _loaded(
    name: str, device: str | None, backend: str, extraction: "Extraction", stain: "StainNormaliser | None"
) -> "Encoder":
    """The encoder, if it suits the patches.  Raises: UsageError if not, or if it cannot be had."""
    from dtcwsi.encoders import StainedEncoder, check_spacing, load_encoder

    try:
        loaded = load_encoder(name, device=pick_device(device), backend=backend)
        if extraction.grid is not None and not (extraction.any_spacing or extraction.as_recorded):
            check_spacing(loaded, extraction.grid.patch_spacing_um)
            _tell_enlarged(loaded, extraction.grid.patch_size_px)
    except EncoderError as error:
        raise UsageError(str(error)) from error
    return loaded if stain is None else StainedEncoder(loaded, stain)


def _tell_enlarged(encoder: "Encoder", patch_px: int) -> None:
    """Say if patches are much smaller than what the encoder sees, which shows it tissue larger than it has learnt."""
    input_px = getattr(encoder, "input_px", 0)
    if getattr(encoder, "spacing_um", ()) and input_px > _ENLARGED * patch_px:
        say(
            f"warning: {encoder.name} sees {input_px} px, to which patches of {patch_px} px are enlarged; "
            f"--patch-size {input_px} shows it tissue at the size that it was trained on"
        )


def _facts(summary: "Summary", out: Path, shard: str | None, wall_s: float) -> dict[str, Any]:
    encoded = summary.encoded
    return {
        "slides": len(summary.results) + len(summary.failed),
        "shard": shard,
        "finished": len(summary.results),
        "done_now": len(summary.redone),
        "kept": len(summary.kept),
        "patches": sum(result.n_patches or 0 for result in summary.results.values()),
        "patches_encoded": sum(result.n_patches or 0 for result in encoded),
        "gigabytes_of_features": sum(r.features_file.stat().st_size for r in encoded if r.features_file) / 1e9,
        "seconds": {**summary.seconds, "in_all": wall_s},
        "without_patches": summary.empty,
        "failed": [dict(zip(("slide", "step", "reason"), failure, strict=True)) for failure in summary.failed],
        "out": str(out),
        "lists": {name: str(out / f"{name}.csv") for name in ("slides", "failed", "empty")},
    }


def _conclude(facts: dict[str, Any]) -> None:
    """Say what came of a run."""
    failed = facts["failed"]
    say(
        f"{facts['finished']:,} of {count(facts['slides'], 'slide')} finished ({facts['done_now']:,} now, "
        f"{facts['kept']:,} kept), {facts['patches']:,} patches, {len(facts['without_patches']):,} without patches, "
        f"{len(failed):,} failed"
    )
    in_all = facts["seconds"]["in_all"]
    steps = ", ".join(f"{step} {duration(took)}" for step, took in facts["seconds"].items() if step != "in_all")
    if facts["patches_encoded"]:
        written = size(facts["gigabytes_of_features"] * 1e9)
        say(f"  now: {facts['patches_encoded']:,} patches encoded, {written} of features")
    say(f"  time: {duration(in_all)}" + (f", of which {steps}" if steps else ""))
    empty = [f"without patches: {slide_id}: {reason}" for slide_id, reason in facts["without_patches"].items()]
    for lines in ([f"failed: {one['slide']} at {one['step']}: {one['reason']}" for one in failed], empty):
        for line in lines[:_REASONS]:
            say(f"  {line}")
        if len(lines) > _REASONS:
            say(f"  ... and {len(lines) - _REASONS:,} more")
    say(f"  lists: {', '.join(facts['lists'].values())}")
