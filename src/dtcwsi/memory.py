"""How much memory a stretch of work took at most, and giving back what it left."""

import ctypes
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

__all__ = ["PeakMemory", "give_back", "watch_memory"]

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # proc(5): the peak becomes what is resident now
_watched: "list[PeakMemory]" = []


def give_back() -> None:
    """Collect garbage, and let the system have what was freed: glibc keeps it in ever more pieces."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)


@dataclass(eq=False)  # two blocks may have the same peaks
class PeakMemory:
    """The most bytes of this process that were resident, and that tensors had on its GPU, while it was watched.

    None where the system does not tell (other than Linux), or there is no GPU. Other processes, such as those that
    read patches, are not in it.
    """

    process_bytes: int | None = None
    gpu_bytes: int | None = None


@contextmanager
def watch_memory() -> Iterator[PeakMemory]:
    """Watch a block, whose record is complete when it ends; blocks may be nested, but not run beside each other."""
    peak = PeakMemory()
    _note()
    _watched.append(peak)
    try:
        yield peak
    finally:
        _note()
        _watched.remove(peak)


def _note() -> None:
    """Give every watched block the peak since the last note, and begin anew."""
    process, gpu = _process_peak(), _gpu_peak()
    for one in _watched:
        one.process_bytes = _larger(one.process_bytes, process)
        one.gpu_bytes = _larger(one.gpu_bytes, gpu)


def _larger(one: int | None, other: int | None) -> int | None:
    known = [value for value in (one, other) if value is not None]
    return max(known, default=None)


def _process_peak() -> int | None:
    try:
        line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        _RESET.write_text(_RESET_PEAK)
    except (OSError, StopIteration):
        return None
    return 1024 * int(line.split()[1])


def _gpu_peak() -> int | None:
    if not (torch.cuda.is_available() and torch.cuda.is_initialized()):  # type: ignore[no-untyped-call]
        return None
    peak = torch.cuda.max_memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    return peak
