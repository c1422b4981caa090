"""The plan of a run in words and as facts."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dtcwsi.cli.console import count, duration, size

if TYPE_CHECKING:
    from dtcwsi.extraction import Plan

__all__ = ["plan_facts", "plan_lines"]


def plan_facts(plan: "Plan", out: Path, shard: str | None) -> dict[str, Any]:
    """Lay a plan out for a script; what nothing tells is None."""
    estimate = plan.estimate
    return {
        "slides": len(plan.standing),
        "shard": shard,
        "done": plan.n_done,
        "left": len(plan.left),
        "failed_before": plan.failed_before,
        "will_fail": plan.refusals,
        "failed_looks": plan.failed_looks,
        "replaced": plan.n_replaced,
        "estimate": {
            "patches": estimate.patches,
            "hours": None if estimate.seconds is None else estimate.seconds / 3600,
            "gigabytes": None if estimate.written_bytes is None else estimate.written_bytes / 1e9,
            "slides_counted": estimate.counted,
            "slides_by_area": estimate.by_area,
            "slides_by_mean": estimate.by_mean,
            "mean_of_slides": estimate.like,
            "patches_give_or_take": estimate.give_or_take,
            "timed_slides": estimate.timed,
            "looked_at_slides": estimate.looked_at,
        },
        "gigabytes_free": _free_bytes(out) / 1e9,
        "slides_read": plan.n_slides_read,
        "seconds": plan.seconds,
        "out": str(out),
    }


def plan_lines(plan: "Plan", out: Path, shard: str | None, n_cohort: int) -> list[str]:
    """Put in words what a run will do, on what the estimate stands, and what planning took.

    ``n_cohort`` slides were named, of which a ``shard`` may hold a few.
    """
    n_left = len(plan.left)
    of = f" of {n_cohort:,} in shard {shard}" if shard else ""
    failed = f", of which {plan.failed_before:,} failed before" if plan.failed_before else ""
    lines = [f"plan: {count(len(plan.standing), 'slide')}{of}: {plan.n_done:,} done, {n_left:,} left{failed}"]
    if refusals := plan.refusals:
        lines.append(f"  {count(len(refusals), 'slide')} will fail, the first: {next(iter(refusals.values()))}")
    if tried := plan.failed_looks:
        first = next(iter(tried.values()))
        of_tried = count(len(tried) + plan.estimate.looked_at, "slide")
        lines.append(f"  {len(tried):,} of {of_tried} tried out failed, the first: {first}")
    if plan.n_replaced:
        lines.append(
            f"warning: patches or features of other options, or of a file that changed, are replaced in {out}: those "
            f"of {count(plan.n_replaced, 'slide')}; name another --out to keep them"
        )
    if n_left > len(refusals):
        lines += [f"  {line}" for line in _estimate_lines(plan)]
    need, free = plan.estimate.written_bytes or 0, _free_bytes(out)
    if need > free:
        lines.append(f"warning: {size(need)} are to be written and {size(free)} are free for {out}; free space first")
    return [*lines, f"  planned in {duration(plan.seconds)}, {_cost(plan)}"]


def _estimate_lines(plan: "Plan") -> list[str]:
    estimate = plan.estimate
    exact = estimate.patches is None or not (estimate.by_area or estimate.by_mean)
    patches = estimate.patches if exact else _rounded(estimate.patches or 0)
    amounts = [
        "" if estimate.patches is None else f"{patches:,} patches",
        "" if not estimate.written_bytes else size(estimate.written_bytes),
        "" if estimate.seconds is None else f"{duration(estimate.seconds)} of one process",
    ]
    if not any(amounts):
        return ["no estimate: nothing was counted or timed here yet"]
    told = ", ".join(amount for amount in amounts if amount)
    return [f"estimate of what is left: {told}", *(f"  {basis}" for basis in _bases(plan))]


def _rounded(number: int) -> int:
    """The two leading digits of a number that was not counted."""
    return int(float(f"{number:.1e}"))


def _cost(plan: "Plan") -> str:
    """What planning touched beside listings and tables."""
    opened = plan.estimate.looked_at + len(plan.failed_looks)
    read = f", {count(plan.n_slides_read, 'slide')} touched since and compared anew" if plan.n_slides_read else ""
    return (f"{count(opened, 'slide')} opened to try out" if opened else "no slide opened") + read


def _bases(plan: "Plan") -> list[str]:
    """On what each figure stands, or why there is none."""
    estimate, bases = plan.estimate, list[str]()
    if estimate.patches is not None:
        counts = {"cut already": estimate.counted, "by the area of tissue": estimate.by_area}
        counts[f"by the mean of {count(estimate.like, 'slide')}"] = estimate.by_mean
        sources = [f"{count(number, 'slide')} {how}" for how, number in counts.items() if number]
        spread = f", give or take {_rounded(estimate.give_or_take):,}" if estimate.give_or_take else ""
        bases.append(f"patches: {', '.join(sources)}{spread}")
    if estimate.seconds is None:
        bases.append("time: not known, no slide was timed here yet")
    else:
        bases.append(f"time: as {count(estimate.timed, 'slide')} took")
    return bases


def _free_bytes(out: Path) -> int:
    there = next(place for place in (out, *out.absolute().parents) if place.exists())
    return shutil.disk_usage(there).free
