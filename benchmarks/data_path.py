"""How fast slides get from disk into a batch, by storage layout, and one training step on the paper's batch.

python benchmarks/data_path.py layouts batch --work DIR [--out docs/results/data_path.json]

layouts: 16 slides of 13,900 x 512, read, checked and packed into one batch as training does, against numpy.fromfile of
the same float32 numbers; in turns, from the page cache and with the files' pages dropped before every turn. batch: a
fold of 256 training slides of 12,000 to 15,800 patches x 512 on disk, one epoch of one optimiser step as
`dtcwsi train --batch-size 256` takes it (7 GiB under DIR); memory is the process's peak beyond its start.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

from compressor_speed import alone
from dtcwsi.bags.cohort import read_cohort
from dtcwsi.bags.packing import join, load_bag, pack
from dtcwsi.benchmark.measuring import Peak
from dtcwsi.store.features import features_writer
from dtcwsi.training.crossval import cross_validate
from dtcwsi.types import PatchGrid
from provenance import provenance, save

SLIDES, PATCHES, DIM, TURNS = 16, 13_900, 512, 7
BATCH, HELD_OUT, FEWEST, MOST = 256, 4, 12_000, 15_800
Layout = Callable[[h5py.File, NDArray[np.float32]], object]

OTHERS: dict[str, Layout] = {
    "contiguous": lambda file, rows: file.create_dataset("features", data=rows),
    "chunks of a row (CLAM)": lambda file, rows: _chunked(file, rows, (1, DIM)),
    "chunks of 1,024 rows": lambda file, rows: _chunked(file, rows, (1024, DIM)),
    "chunks of 1,024 rows, gzip": lambda file, rows: _chunked(file, rows, (1024, DIM), compression="gzip"),
    "contiguous float16": lambda file, rows: file.create_dataset("features", data=rows.astype(np.float16)),
}
OURS = "contiguous with checksum (dtcwsi)"


def _chunked(file: h5py.File, rows: NDArray[np.float32], chunks: tuple[int, int], **how: Any) -> object:
    return file.create_dataset("features", data=rows, chunks=chunks, maxshape=(None, DIM), **how)


def grid_of(patches: int) -> PatchGrid:
    """Lay patches out in a square."""
    side, number = int(np.ceil(np.sqrt(patches))), np.arange(patches)
    coords = np.stack([number % side, number // side], axis=1) * 256
    return PatchGrid(coords, np.ones(patches, np.float32), 256, 256, 0.5)


def write_slide(path: Path, rows: NDArray[np.float32]) -> None:
    """Write a slide as `extract` does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with features_writer(path, grid_of(len(rows)), DIM, {"encoder": "random"}) as writer:
        writer.append(rows)


def layouts(work: Path) -> dict[str, Any]:
    """Write the slides in every layout and time reading them."""
    torch.set_num_threads(2)
    rng, places = np.random.default_rng(0), grid_of(PATCHES).coords
    for number in range(SLIDES):
        rows = rng.standard_normal((PATCHES, DIM), np.float32)
        (work / "raw").mkdir(parents=True, exist_ok=True)
        rows.tofile(work / "raw" / f"{number}.bin")
        write_slide(work / OURS / f"{number}.h5", rows)
        for name, write in OTHERS.items():
            (work / name).mkdir(exist_ok=True)
            with h5py.File(work / name / f"{number}.h5", "w") as file:
                write(file, rows)
                file["coords"] = places
    calls: dict[str, Callable[[], object]] = {
        "numpy.fromfile": lambda: [np.fromfile(path, np.float32) for path in sorted((work / "raw").iterdir())]
    }
    for name in (OURS, *OTHERS):
        calls[name] = lambda name=name: join([pack([load_bag(path)]) for path in sorted((work / name).iterdir())])
    bytes_read = SLIDES * PATCHES * DIM * 4
    found = {}
    for cold in (False, True):
        taken: dict[str, list[float]] = {name: [] for name in calls}
        for turn in range(TURNS + 1):
            for name, call in calls.items():
                if cold:
                    forget(work / ("raw" if name == "numpy.fromfile" else name))
                start = time.perf_counter()
                call()
                taken[name] += [time.perf_counter() - start] if turn else []
        found["dropped" if cold else "cached"] = {
            name: {"seconds": statistics.median(times), "gb_per_s": bytes_read / statistics.median(times) / 1e9}
            for name, times in taken.items()
        }
    sizes = {
        name: sum(path.stat().st_size for path in (work / name).iterdir()) / 2**20 for name in ("raw", OURS, *OTHERS)
    }
    return {"slides": SLIDES, "patches": PATCHES, "dim": DIM, "gb": bytes_read / 1e9, "mib": sizes, **found}


def forget(folder: Path) -> None:
    """Drop the pages of a folder's files from the cache."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def batch(work: Path) -> dict[str, Any]:
    """Train one step on the paper's batch."""
    torch.set_num_threads(2)
    names = [f"s{number:03d}" for number in range(BATCH + 2 * HELD_OUT)]
    rng = np.random.default_rng(0)
    sizes = rng.integers(FEWEST, MOST + 1, len(names)).tolist()
    for name, size in zip(names, sizes, strict=True):
        path = work / "batch" / f"{name}.h5"
        if not path.exists():
            write_slide(path, rng.standard_normal((size, DIM), np.float32))
    total = sum(sizes[:BATCH])
    labels = work / "labels.csv"
    rows = [f"{name},{'ab'[number % 2]},{name}" for number, name in enumerate(names)]
    labels.write_text("\n".join(["slide_id,label,patient_id", *rows]) + "\n")
    parts = [*["train"] * BATCH, *["val"] * HELD_OUT, *["test"] * HELD_OUT]
    splits = work / "splits.csv"
    told = [f"{name},{part}" for name, part in zip(names, parts, strict=True)]
    splits.write_text("\n".join(["slide_id,part", *told]) + "\n")
    cohort = read_cohort(labels, work / "batch")
    with Peak() as peak:
        record = cross_validate(
            cohort,
            model="dtc-abmil",
            out=work / f"run-{time.time_ns()}",
            splits=[splits],
            epochs=1,
            batch_size=BATCH,
        )
    fold = record.metrics["folds"]["0"]
    return {
        "slides": BATCH,
        "patches": total,
        "dim": DIM,
        "features_gib": total * DIM * 4 / 2**30,
        "train_seconds": fold["train_seconds"],
        "extra_mib": peak.extra_mib,
    }


def main() -> None:
    """Run the parts asked for and merge them into the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=["layouts", "batch"])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs/results/data_path.json")
    asked = parser.parse_args()
    content = json.loads(asked.out.read_text()) if asked.out.exists() else {}
    for part in asked.parts:
        asked.work.mkdir(parents=True, exist_ok=True)
        found = alone({"layouts": layouts, "batch": batch}[part], asked.work)
        content[part] = {"result": found, **provenance(threads=2)}
        print(json.dumps(found, indent=1))
    save(asked.out, content)


if __name__ == "__main__":
    main()
