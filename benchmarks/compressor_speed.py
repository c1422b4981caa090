"""Time and memory of the compressor beside the least that its work could cost.

python benchmarks/compressor_speed.py [floor] [scale] [mapped] [step] [cohort] --out docs/results/compressor_speed.json

floor: one slide of 13,900 patches, inference, against the scorer's LayerNorm and one product plus three passes over
the matrix. scale: 1,000 to 1,000,000 patches. mapped: 1,000,000 x 512 float16 from disk. step: a training step beside
plain attention's. cohort: one optimiser step over 256 slides, accumulated. Memory is the peak of what a process of its
own has allocated beyond the start, mapped files aside, sampled every 2 ms.
"""

import argparse
import json
import math
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dtcwsi.bags.packing import join, pack
from dtcwsi.benchmark.measuring import Peak
from dtcwsi.compressors import create_compressor
from dtcwsi.models import create_model
from dtcwsi.types import Bag, PackedBags
from provenance import provenance, save

SLIDE, RETENTION, MERGE_SHARE, WIDTH = 13_900, 0.4, 0.25, 64
REPEATS = 31
SIZES = (1000, 3000, 10_000, 30_000, 100_000, 300_000, 1_000_000)


def medians_of(calls: dict[str, Callable[[], object]], repeats: int = REPEATS) -> dict[str, float]:
    """Time calls in turns, so that a busy moment falls on all.  Returns: median milliseconds."""
    for call in calls.values():
        call()
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            taken[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(times) for name, times in taken.items()}


def slide_of(patches: int, dim: int, *, placed: bool = False) -> PackedBags:
    """Draw a slide; ``placed`` puts its patches on a square grid, listed at random."""
    features = torch.randn(patches, dim, generator=torch.Generator().manual_seed(0))
    side = math.isqrt(patches - 1) + 1
    shuffled = torch.randperm(side * side, generator=torch.Generator().manual_seed(1))[:patches]
    coords = torch.stack([shuffled % side, shuffled // side], dim=1) * 256 if placed else None
    return pack([Bag(features, coords, 256 if placed else None)])


def compressor_of(name: str, dim: int, **options: Any) -> torch.nn.Module:
    """Build a compressor whose scorer prefers something."""
    torch.manual_seed(0)
    made = create_compressor(name, dim=dim, retention=RETENTION, **options).eval()
    if hasattr(made, "importance"):
        torch.nn.init.normal_(made.importance.last.weight)
    return made


def floor_of(features: torch.Tensor) -> Callable[[], object]:
    """The scorer's LayerNorm and product, and three passes: neighbours' dots, merged rows, survivors."""
    patches, dim = features.shape
    norm, first = torch.nn.LayerNorm(dim), torch.nn.Linear(dim, WIDTH)
    merged = torch.randperm(patches - 1)[: round(MERGE_SHARE * (1 - RETENTION) * patches)].sort().values
    stays = torch.randperm(patches)[: round(RETENTION * patches)].sort().values

    def run() -> None:
        first(norm(features))
        (features[0 : patches // 2 * 2 : 2] * features[1::2]).sum(dim=1)
        torch.lerp(features[merged], features[merged + 1], 0.5)
        features.index_select(0, stays)

    return run


@torch.no_grad()
def floor(dim: int) -> dict[str, Any]:
    """Compare inference on one slide with the floor and with full matching to the same budget."""
    given, placed = slide_of(SLIDE, dim), slide_of(SLIDE, dim, placed=True)
    exact, quick = compressor_of("dtc", dim), compressor_of("dtc", dim, exact_ranking=False)
    tome = compressor_of("tome", dim, exact_ranking=False)
    times = medians_of(
        {
            "floor": floor_of(given.features),
            "dtc float32 scores": lambda: quick(given),
            "dtc": lambda: exact(given),
            "dtc along the Hilbert curve": lambda: exact(placed),
            "tome float32": lambda: tome(given),
        }
    )
    return {"dim": dim, "median_ms": times, "times_floor": {k: v / times["floor"] for k, v in times.items()}}


def alone(work: Callable[..., dict[str, Any]], *given: Any, seconds: float | None = None) -> dict[str, Any]:
    """Run in a fresh process, so that its peak of memory is its own.  Raises: TimeoutError after ``seconds``."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        try:
            return pool.apply_async(work, given).get(seconds)
        except multiprocessing.TimeoutError as error:
            raise TimeoutError(f"more than {seconds} s") from error


@torch.no_grad()
def scaled(patches: int, dim: int) -> dict[str, Any]:
    """Compress one slide of any size; memory beyond the features themselves."""
    torch.set_num_threads(2)
    made, slide = compressor_of("dtc", dim), slide_of(patches, dim)
    made(slide_of(1000, dim))
    with Peak() as peak:
        made(slide)
    times = [_timed(lambda: made(slide)) for _ in range(5)]
    matrix = patches * dim * 4 / 2**20
    return {
        "patches": patches,
        "ms": 1000 * statistics.median(times),
        "matrix_mib": matrix,
        "extra_mib": peak.extra_mib,
    }


@torch.no_grad()
def mapped(patches: int, dim: int) -> dict[str, Any]:
    """Compress a float16 matrix that stays on disk, and the same one in memory."""
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "features.npy"
        rows = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(patches, dim))
        rng = np.random.default_rng(0)
        for start in range(0, patches, 10_000):
            rows[start : start + 10_000] = rng.standard_normal((min(10_000, patches - start), dim), np.float32)
        rows.flush()
        made = compressor_of("dtc", dim)
        made(slide_of(1000, dim))
        slide = PackedBags(torch.from_numpy(np.load(path, mmap_mode="r+")), torch.tensor([0, patches]))
        with Peak() as peak:
            start = time.perf_counter()
            tokens = made(slide)
            seconds = time.perf_counter() - start
        inside = made(PackedBags(slide.features.clone(), slide.offsets))
        same = torch.equal(tokens.patch_to_token, inside.patch_to_token)
    size = patches * dim * 2 / 2**20
    return {
        "patches": patches,
        "dim": dim,
        "seconds": seconds,
        "matrix_mib": size,
        "extra_mib": peak.extra_mib,
        "same_tokens_as_in_memory": same,
    }


def stepped(name: str, dim: int) -> dict[str, Any]:
    """Time one training step at full budget on one slide."""
    torch.set_num_threads(2)
    torch.manual_seed(0)
    options = {} if name == "abmil" else {"retention": RETENTION}
    model = create_model(name, in_dim=dim, n_classes=2, **options).train()
    optimizer, slide = torch.optim.Adam(model.parameters()), slide_of(SLIDE, dim)
    labels = torch.tensor([0])

    def step() -> None:
        optimizer.zero_grad()
        model.loss(model(slide), labels).backward()
        optimizer.step()

    with Peak() as peak:
        step()
    times = [_timed(step) for _ in range(REPEATS)]
    return {"model": name, "dim": dim, "ms": 1000 * statistics.median(times), "extra_mib": peak.extra_mib}


def cohort(slides: int, most: int) -> dict[str, Any]:
    """Take one optimiser step over many slides of 1,000 to 20,000 patches, in passes of at most 60,000."""
    torch.set_num_threads(2)
    rng = np.random.default_rng(0)
    sizes = rng.integers(1000, most + 1, slides)
    model = create_model("dtc-abmil", in_dim=512, n_classes=2).train()
    optimizer = torch.optim.Adam(model.parameters())
    with Peak() as peak:
        start = time.perf_counter()
        waiting: list[PackedBags] = []
        for number, size in enumerate(sizes):
            bag = Bag(torch.from_numpy(rng.standard_normal((size, 512), np.float32)), label=number % 2)
            waiting.append(pack([bag]))
            full = sum(len(one.features) for one in waiting) + most > 60_000
            if full or number == slides - 1:
                batch = join(waiting)
                (model.loss(model(batch), batch.labels) * len(waiting) / slides).backward()
                waiting = []
        optimizer.step()
        seconds = time.perf_counter() - start
    return {"slides": slides, "patches": int(sizes.sum()), "seconds": seconds, "extra_mib": peak.extra_mib}


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _exponents(rows: list[dict[str, Any]], least: int) -> dict[str, float]:
    """Fit log(key) = a + b log(patches) from ``least`` patches on.  Returns: b of time and memory."""
    big = [row for row in rows if row["patches"] >= least]
    sizes = np.log([row["patches"] for row in big])
    return {key: float(np.polyfit(sizes, np.log([row[key] for row in big]), 1)[0]) for key in ("ms", "extra_mib")}


def main() -> None:
    """Run the parts asked for, all by default, and merge them into the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = ("floor", "scale", "mapped", "step", "cohort")
    parser.add_argument("parts", nargs="*", default=list(parts))
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs/results/compressor_speed.json")
    asked = parser.parse_args()
    torch.set_num_threads(2)
    content = json.loads(asked.out.read_text()) if asked.out.exists() else {}
    for part in asked.parts:
        if part == "floor":
            rows: Any = [floor(dim) for dim in (512, 1024)]
        elif part == "scale":
            found = [alone(scaled, patches, 512) for patches in SIZES]
            rows = {"rows": found, "exponents": _exponents(found, 0), "exponents_from_10000": _exponents(found, 10_000)}
        elif part == "mapped":
            rows = alone(mapped, 1_000_000, 512)
        elif part == "step":
            rows = [alone(stepped, name, dim) for dim in (512, 1024) for name in ("abmil", "dtc-abmil")]
        else:
            rows = alone(cohort, 256, 20_000)
        content[part] = {"result": rows, **provenance(threads=2)}
        print(json.dumps(rows, indent=1))
    save(asked.out, content)


if __name__ == "__main__":
    main()
