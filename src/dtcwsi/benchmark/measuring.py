"""What one slide costs a model at inference, measured: milliseconds by stage, memory, products."""

import gc
import math
import statistics
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from dtcwsi.bags.packing import pack
from dtcwsi.errors import DtcwsiError, first_line
from dtcwsi.models import create_model
from dtcwsi.store.features import extraction_of
from dtcwsi.store.tables import read_rows
from dtcwsi.types import Bag, PackedBags

__all__ = ["Measured", "Peak", "measure", "products_of", "seconds_a_patch"]

_PATCH = 256.0
_STEPS = ("read", "encode")


@dataclass(frozen=True)
class Measured:
    """Medians of one slide: ``compress_ms``, ``aggregate_ms``, both together; ``gflop`` of products by torch's counter.

    ``extra_gib`` is the peak of memory beyond the model and the slide, in the first pass: of the device where that is
    a GPU, else of the process; None where the system does not tell. ``held_gib`` are the model's weights and the
    slide's features.
    """

    compress_ms: float
    aggregate_ms: float
    mil_ms: float
    gflop: float
    extra_gib: float | None
    held_gib: float

    @property
    def peak_gib(self) -> float | None:
        """The peak of all, weights and features included."""
        return None if self.extra_gib is None else self.held_gib + self.extra_gib


class Peak:
    """Sample this process's own memory while a block runs; ``extra_mib`` is its peak beyond the start.

    It is None where the system has no /proc.
    """

    extra_mib: float | None = None

    def __enter__(self) -> "Peak":
        self._start, self._most, self._going = _own_mib(), 0.0, True
        self._watch = threading.Thread(target=self._look, daemon=True)
        if self._start is not None:
            self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._going = False
        if self._start is not None:
            self._watch.join()
            self.extra_mib = max(self._most, _own_mib() or 0.0) - self._start

    def _look(self) -> None:
        while self._going:
            self._most = max(self._most, _own_mib() or 0.0)
            time.sleep(0.002)


def measure(
    model: str,
    options: Mapping[str, Any],
    *,
    in_dim: int,
    n_classes: int = 2,
    patches: int = 13_900,
    device: str = "cpu",
    repeats: int = 5,
) -> Measured:
    """Build a model in a process of its own and run one slide of random features on a square grid through it.

    Raises: what `create_model` raises for the model or its options; DtcwsiError if the model cannot be run on so many
    patches, or the process was ended, as for want of memory.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        work = pool.submit(_measured, model, dict(options), in_dim, n_classes, patches, device, repeats)
        try:
            return work.result()
        except BrokenProcessPool as error:
            raise DtcwsiError(
                f"the process that measured {model} on {patches:,} patches was ended, perhaps for want of memory"
            ) from error
        except (RuntimeError, MemoryError) as error:  # torch's out of memory is a RuntimeError
            raise DtcwsiError(
                f"{model} could not be run on {patches:,} patches on {device} ({first_line(error)}); measure fewer, or "
                "on another device"
            ) from error


def products_of(run: Callable[[], object]) -> int:
    """Count the FLOPs of the products in a call by torch's counter.

    It runs without oneDNN: there, scores are products of whole chunks, padding included.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="TF32 acceleration")  # of Intel's GPUs, whenever flags are set
        with torch.backends.mkldnn.flags(enabled=False), FlopCounterMode(display=False) as counter:
            run()
    return int(counter.get_total_flops())


def seconds_a_patch(features: Path, encoder: str | None = None) -> dict[str, float]:
    """Find what reading and encoding took a patch, by the table that `extract` left beside the features.

    Rows of another ``encoder`` do not count: the table has the seconds of the one that came last.
    Returns: ``read`` and ``encode``; nothing if there is no such table or row, as beside the features of other tools.
    """
    folder = extraction_of(features)
    rows = [] if folder is None else read_rows(folder / "slides.csv")
    told = [
        row
        for row in rows
        if all(_number(row.get(name)) for name in ("patches", "seconds_read", "seconds_encode"))
        and (encoder is None or row.get("encoder") in (None, "", encoder))
    ]
    patches = sum(float(row["patches"]) for row in told)
    return {step: sum(float(row[f"seconds_{step}"]) for row in told) / patches for step in _STEPS} if patches else {}


@torch.inference_mode()
def _measured(
    name: str, options: dict[str, Any], in_dim: int, n_classes: int, patches: int, device: str, repeats: int
) -> Measured:
    torch.manual_seed(0)
    model = create_model(name, in_dim=in_dim, n_classes=n_classes, **options).eval().to(device)
    slide = _slide(patches, in_dim).to(torch.device(device))
    gc.collect()
    extra = _extra_gib(lambda: model.aggregate(model.compress(slide)), device)
    flops = products_of(lambda: model.aggregate(model.compress(slide)))
    times = []
    for _ in range(repeats):
        began = _now(device)
        tokens = model.compress(slide)
        between = _now(device)
        model.aggregate(tokens)
        times.append((1000 * (between - began), 1000 * (_now(device) - between)))
    compress, aggregate = (statistics.median(column) for column in zip(*times, strict=True))
    mil = statistics.median(map(sum, times))
    held = sum(tensor.nbytes for tensor in (slide.features, *model.state_dict().values())) / 2**30
    return Measured(compress, aggregate, mil, flops / 1e9, extra, held)


def _slide(patches: int, in_dim: int) -> PackedBags:
    side, number = math.isqrt(patches - 1) + 1, torch.arange(patches)
    coords = torch.stack([number % side, number // side], dim=1) * int(_PATCH)
    return pack([Bag(torch.randn(patches, in_dim), coords, _PATCH)])


def _extra_gib(run: Callable[[], object], device: str) -> float | None:
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return float(torch.cuda.max_memory_allocated(device) - before) / 2**30
    with Peak() as peak:
        run()
    return None if peak.extra_mib is None else peak.extra_mib / 1024


def _now(device: str) -> float:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _own_mib() -> float | None:
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    line = next((line for line in status.read_text().splitlines() if line.startswith("RssAnon")), None)
    return None if line is None else float(line.split()[1]) / 1024


def _number(cell: str | None) -> bool:
    try:
        return float(cell or "") > 0
    except ValueError:
        return False
