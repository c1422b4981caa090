"""Peak memory of `dtcwsi extract` on a small and on a very large slide, and with many small patches.

    python benchmarks/extract_memory.py --out /tmp/memory
    python benchmarks/extract_memory.py --out /tmp/memory --side 16000 --encoder colour-texture
    python benchmarks/extract_memory.py --out /tmp/memory --wide 1536

Makes a slide of 4,000 px a side and one of --side, tissue nearly everywhere, and runs the real command on each; then on
the large one with --patch-size 128 and the colour/texture encoder (about 200,000 patches at 60,000 px). With --wide it
runs once, on the large slide with --patch-size 180 (about 100,000 patches at 60,000 px) and a TorchScript encoder that
gives so many numbers a patch and computes next to nothing.
"""

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from dtcwsi.slides.pyramid import write_pyramid
from provenance import provenance, save

SMALL_PX = 4_000
WIDE_PATCH_PX = 180
MIB = 2**20


class TissueLike:
    """A lazy picture: stained texture that repeats with a shift, within a margin of glass."""

    def __init__(self, side: int, seed: int) -> None:
        self.shape = (side, side, 3)
        rng = np.random.default_rng(seed)
        grain = sum(cv2.GaussianBlur(rng.normal(size=(2048, 2048)), (0, 0), width) * width for width in (2, 6, 20))
        stain = np.clip(grain[..., None] * (26, 34, 24) + (186, 112, 162), 0, 255)
        self._texture, self._margin = stain.astype(np.uint8), side // 45

    def __getitem__(self, rows_columns: tuple[slice, slice]) -> np.ndarray:
        rows, columns = (np.arange(*part.indices(self.shape[0])) for part in rows_columns)
        shift = 397 * (rows[:, None] // 2048) + columns
        band = self._texture[rows[:, None] % 2048, shift % 2048]
        inside = [abs(axis - self.shape[0] / 2) < self.shape[0] / 2 - self._margin for axis in (rows, columns)]
        band[~(inside[0][:, None] & inside[1])] = (243, 241, 244)
        return band


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the slides and features")
    parser.add_argument("--side", type=int, default=60_000, help="pixels a side of the large slide")
    parser.add_argument("--encoder", default="efficientnet-lite0", help="of the two runs with 256-px patches")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--wide", type=int, help="numbers a patch of an encoder that costs nothing, many patches")
    parser.add_argument("--json", type=Path, help="JSON to write; OUT/extract_memory.json without")
    arguments = parser.parse_args()
    large = make(arguments.out, arguments.side, arguments.seed)
    if arguments.wide:
        plans = [(large, wide_encoder(arguments.out, arguments.wide), WIDE_PATCH_PX)]
    else:
        small = make(arguments.out, SMALL_PX, arguments.seed)
        plans = [(small, arguments.encoder, 256), (large, arguments.encoder, 256), (large, "colour-texture", 128)]
    rows = []
    for slide, encoder, patch_px in plans:
        rows.append(measure(slide, arguments.out, encoder, patch_px, arguments.workers))
        print(rows[-1], flush=True)
    settings = {name: value for name, value in vars(arguments).items() if isinstance(value, str | int | float)}
    content = {**provenance(**settings), "runs": rows}
    save(arguments.json or arguments.out / "extract_memory.json", content)


def wide_encoder(out: Path, dim: int) -> str:
    """Save means of 3 x 3 fields, drawn out to so many numbers, as a TorchScript file."""
    network = nn.Sequential(nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(27, dim))
    path = out / f"wide{dim}.pt"
    torch.jit.trace(network.eval(), torch.zeros(1, 3, 64, 64)).save(path)
    path.with_suffix(".json").write_text(json.dumps({"input_px": 64}))
    return str(path)


def make(out: Path, side: int, seed: int) -> Path:
    path = out / "slides" / f"side{side}.tif"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        start = time.perf_counter()
        write_pyramid(path, TissueLike(side, seed), spacing_um=0.5)
        seconds = time.perf_counter() - start
        print(f"made {path.name}: {path.stat().st_size / 1e6:,.0f} MB in {seconds:.0f} s", flush=True)
    return path


def measure(slide: Path, out: Path, encoder: str, patch_px: int, workers: int) -> dict:
    """Run the command on one slide in a fresh folder and watch its memory."""
    work = out / f"{slide.stem}-{Path(encoder).stem}-{patch_px}-{time.time_ns()}"
    command = [sys.executable, "-m", "dtcwsi", "extract", str(slide), "--out", str(work), "--encoder", encoder]
    command += ["--patch-size", str(patch_px), "--workers", str(workers), "--json"]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    with watched(process.pid) as peak:
        told = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status):
        sys.exit(f"{' '.join(command)} failed")
    return {
        "slide": slide.name,
        "encoder": Path(encoder).name,
        "patch_px": patch_px,
        "workers": workers,
        "patches": json.loads(told)["patches"],
        "seconds": round(time.perf_counter() - start, 1),
        "step_seconds": step_seconds(work / "slides.csv"),
        "peak_main_process_mib": peak["main"] // MIB,
        "peak_with_children_mib": peak["tree"] // MIB,
        "peak_ru_maxrss_mib": usage.ru_maxrss // 1024,
    }


def step_seconds(table: Path) -> dict[str, float]:
    header, row = (line.split(",") for line in table.read_text().splitlines()[:2])
    found = dict(zip(header, row, strict=True))
    return {name: float(found[f"seconds_{name}"]) for name in ("tissue", "read", "encode")}


@contextmanager
def watched(pid: int, every_s: float = 0.05) -> Iterator[dict[str, int]]:
    """Sample the resident memory of a process and its descendants; the dictionary holds the peaks in bytes."""
    peak, over = {"main": 0, "tree": 0}, threading.Event()

    def watch() -> None:
        while not over.wait(every_s):
            sizes = {member: resident(member) for member in family(pid)}
            peak["main"] = max(peak["main"], sizes.get(pid, 0))
            peak["tree"] = max(peak["tree"], sum(sizes.values()))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        over.set()
        watcher.join()


def family(pid: int) -> list[int]:
    members = [pid]
    for member in members:
        for path in Path(f"/proc/{member}/task").glob("*/children"):
            try:
                members += [int(child) for child in path.read_text().split()]
            except OSError:
                continue
    return members


def resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


if __name__ == "__main__":
    main()
