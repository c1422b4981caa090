"""What inference costs models over the number of patches: CSV, JSON and a page."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dtcwsi.benchmark.measuring import Measured, measure
from dtcwsi.errors import DtcwsiError
from dtcwsi.model_folder import package_versions
from dtcwsi.store.atomic import write_json, write_text
from dtcwsi.store.tables import csv_text

__all__ = ["MODELS", "SIZES", "Cost", "measure_costs", "write_costs"]

MODELS = ("abmil", "dtc-abmil", "tome-abmil", "random-abmil", "clam-sb", "dtc-clam-sb", "transmil", "dtc-transmil")
SIZES = (1000, 5000, 13_900, 50_000)
_LINEAR_FROM = 5000


@dataclass(frozen=True)
class Cost:
    """A model on one slide of ``patches``: what was ``measured``, or why it ``failed``."""

    model: str
    patches: int
    measured: Measured | None
    failed: str = ""

    @property
    def mil_ms(self) -> float | None:
        """Milliseconds of compression and aggregation together."""
        return None if self.measured is None else self.measured.mil_ms


def measure_costs(models: Sequence[str], sizes: Sequence[int], *, in_dim: int, device: str) -> Iterator[Cost]:
    """Measure models with their default options, each on slides of all sizes, each in a process of its own.

    A model that cannot be run at a size is told, and the others go on.
    """
    for model in models:
        for patches in sorted(sizes):
            try:
                yield Cost(model, patches, measure(model, {}, in_dim=in_dim, patches=patches, device=device))
            except DtcwsiError as error:
                yield Cost(model, patches, None, str(error))


def write_costs(costs: Sequence[Cost], folder: Path, *, facts: str, command: str) -> tuple[Path, ...]:
    """Write ``efficiency.csv``, ``.json`` and ``.md``, each whole or not at all.  Returns: the three paths."""
    rows = [_row(cost) for cost in costs]
    paths = tuple(folder / f"efficiency.{suffix}" for suffix in ("csv", "json", "md"))
    write_text(paths[0], csv_text(rows))
    exponents = {model: _exponent(costs, model) for model in dict.fromkeys(cost.model for cost in costs)}
    told = {"facts": facts, "command": command, "versions": package_versions(), "exponents": exponents}
    write_json(paths[1], {**told, "rows": rows})
    lines = ["# Efficiency", "", f"One slide of random features at inference: {facts}.", "", f"`{command}`", ""]
    lines += [*_table(costs), "", *_powers(exponents)]
    write_text(paths[2], "\n".join(lines).rstrip() + "\n")
    return paths


def _row(cost: Cost) -> dict[str, str | float | None]:
    named = ("compress_ms", "aggregate_ms", "gflop", "extra_gib")
    told = {name: getattr(cost.measured, name, None) for name in named}
    figures = {name: None if value is None else round(value, 4) for name, value in told.items()}
    whole = None if cost.mil_ms is None else round(cost.mil_ms, 4)
    return {"model": cost.model, "patches": cost.patches, "mil_ms": whole, **figures, "failed": cost.failed}


def _table(costs: Sequence[Cost]) -> list[str]:
    head = ["model", "patches", "compress ms", "aggregate ms", "MIL ms", "GFLOP", "MIL GiB"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for cost in costs:
        found = cost.measured
        cells = [cost.failed, "", "", "", ""]
        if found is not None and cost.mil_ms is not None:
            gib = "n/a" if found.extra_gib is None else f"{found.extra_gib:.3f}"
            times = [f"{value:.1f}" for value in (found.compress_ms, found.aggregate_ms, cost.mil_ms)]
            cells = [*times, f"{found.gflop:.2f}", gib]
        lines.append("| " + " | ".join([cost.model, f"{cost.patches:,}", *cells]) + " |")
    return lines


def _powers(exponents: dict[str, float | None]) -> list[str]:
    known = [f"{model} {power:.2f}" for model, power in exponents.items() if power is not None]
    if not known:
        return []
    return [f"Time grows with this power of the patches, from {_LINEAR_FROM:,} on: {', '.join(known)}."]


def _exponent(costs: Sequence[Cost], model: str) -> float | None:
    """Fit the power of patches that time grows with; None with fewer than two sizes."""
    known = [
        (math.log(cost.patches), math.log(cost.mil_ms))
        for cost in costs
        if cost.model == model and cost.mil_ms and cost.patches >= _LINEAR_FROM
    ]
    if len(known) < 2:
        return None
    sizes, times = np.array(known).T
    return float(np.polyfit(sizes, times, 1)[0])
