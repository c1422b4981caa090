"""What took how long, and how much memory."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dtcwsi.explain.report.runs import RunSummary

__all__ = ["STEPS", "Stage", "stages"]

STEPS = {"tissue": "find tissue", "read": "read patches", "encode": "encode patches"}
"""What the page calls the steps of extraction."""


@dataclass(frozen=True)
class Stage:
    """Seconds of one stage, their percentage of the longest stage's, and the most bytes of memory, None if unknown."""

    name: str
    seconds: float
    percent: float
    peak_bytes: int | None
    gpu_peak_bytes: int | None = None


def stages(
    extracted: Sequence[Mapping[str, str]],
    runs: Mapping[str, RunSummary],
    others: Mapping[str, float],
    peak_bytes: Mapping[str, int | None],
) -> list[Stage]:
    """Add up the seconds of each stage: tissue, read and encode over all slides, then each model's, then others'.

    ``peak_bytes`` are those of stages by name; of training, the runs know them.
    """
    seconds = {told: sum(float(row.get(f"seconds_{step}") or 0) for row in extracted) for step, told in STEPS.items()}
    peaks, gpu_peaks = dict(peak_bytes), dict[str, int | None]()
    for name, run in runs.items():
        seconds |= {f"train {name}": run.train_seconds, f"predict with {name}": run.predict_seconds}
        peaks[f"train {name}"] = _most(fold.peak_bytes for fold in run.folds)
        gpu_peaks[f"train {name}"] = _most(fold.gpu_peak_bytes for fold in run.folds)
    seconds = {name: value for name, value in seconds.items() if value} | dict(others)
    longest = max(seconds.values(), default=1.0) or 1.0
    return [
        Stage(name, value, 100 * value / longest, peaks.get(name), gpu_peaks.get(name))
        for name, value in seconds.items()
    ]


def _most(values: Iterable[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)
