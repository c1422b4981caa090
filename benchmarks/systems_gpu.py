"""Time and memory of systems beside their published code on a GPU, both sides in turns in one run.

python benchmarks/systems_gpu.py --published DIR [--systems NAME ...] [--sizes N ...] [--slides N] --out FILE

The slides, sides and folder of `systems_speed.py`, in float32 on one GPU, without TF32: medians between
synchronisations in turns; memory is the peak that torch has allocated beyond model and slide in a first call. A side
that fails has its reason in the row. With --slides ours take as many slides in one batch, published code, which takes
one at a time, as many calls.
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

import published
import systems_speed
from compressor_speed import alone
from dtcwsi.bags.packing import pack
from dtcwsi.models import create_model
from dtcwsi.types import Bag
from provenance import provenance, save

GPU, REPEATS, SECONDS_A_SIDE = "cuda", 15, 2
SIZES = (13_900, 100_000)
SYSTEMS = (
    "clam-sb",
    "dsmil",
    "transmil",
    "panther",
    "mhim-abmil",
    "mhim-transmil",
    "longformer",
    "hipt",
    "mamba2d",
    "spt",
    "patchgd",
)
OWN = {"abmil": {"abmil": {}, "dtc-abmil r=0.4": {"retention": 0.4}, "dtc-abmil r=0.1": {"retention": 0.1}}}


def ours(name: str, rows: torch.Tensor, slides: int, *, training: bool, **options: Any) -> published.Call:
    """Build our model's call on the GPU."""
    side, number = math.isqrt(len(rows) - 1) + 1, torch.arange(len(rows))
    coords = torch.stack([number % side, number // side], dim=1) * 512
    bag = Bag(rows.cpu(), coords.cpu(), 512) if name in systems_speed.PLACED else Bag(rows.cpu())
    model, label = create_model(name, in_dim=rows.shape[1], n_classes=2, **options), torch.zeros(slides).long()
    if model.needs_prototypes:
        with torch.device("cpu"):
            model.cpu().fit_prototypes([bag], patches=2000)
    model = model.to(GPU).train(training)
    packed = pack([bag] * slides).to(torch.device(GPU))
    step = lambda: model.loss(model(packed), label).backward()  # noqa: E731
    return step if training else lambda: model(packed)


def sides(
    system: str, folder: Path, rows: torch.Tensor, slides: int, *, training: bool
) -> dict[str, Callable[[], published.Call]]:
    """Name what is to be compared, and how to build it."""
    if system in OWN:
        return {
            label: partial(ours, label.split()[0], rows, slides, training=training, **given)
            for label, given in OWN[system].items()
        }
    checkout, build = published.PUBLISHED[system]
    given = systems_speed.OPTIONS.get(system, {})
    made = {"published": partial(build, folder / checkout, system, rows, training=training)}
    made[system] = partial(ours, system, rows, slides, training=training, **given)
    for label, budget in systems_speed.EXTRAS.get(system, {}).items():
        made[label] = partial(ours, label.split()[0], rows, slides, training=training, **given, **budget)
    return made


def timed(call: published.Call, times: int) -> float:
    """Time some calls.  Returns: milliseconds, what was asked of the GPU done."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(times):
        call()
    torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - start)


def rows_of(system: str, folder: Path, sizes: list[int], slides: int) -> dict[str, Any]:
    """Measure a system in this process, which does no other."""
    torch.set_default_device(GPU)
    published.LABEL = torch.tensor([0])
    made = [
        {"system": system, "patches": patches, "slides": slides, "training": training}
        | measured(system, folder, patches, slides, training=training)
        for patches in sizes
        for training in (False, True)
    ]
    return {"rows": made}


def measured(system: str, folder: Path, patches: int, slides: int, *, training: bool) -> dict[str, Any]:
    """Measure a row."""
    torch.manual_seed(0)
    rows, calls, memory, failed = torch.randn(patches, systems_speed.DIM), {}, {}, {}
    times: dict[str, list[float]] = {}
    with torch.set_grad_enabled(training):
        for label, build in sides(system, folder, rows, slides, training=training).items():
            try:
                call = build()
                torch.cuda.synchronize()
                torch.cuda.reset_peak_memory_stats()
                before = torch.cuda.memory_allocated()
                call()
                memory[label] = round((torch.cuda.max_memory_allocated() - before) / 2**20, 1)
                calls[label] = call
            except NotImplementedError:
                failed[label] = "not compared"
            except Exception as error:  # noqa: BLE001  # published code may fail in any way, which is a result
                failed[label] = f"{type(error).__name__}: {error}".splitlines()[0][:160]
                torch.cuda.empty_cache()
        times, again = {label: [] for label in calls}, {label: slides if label == "published" else 1 for label in calls}
        first = sum(timed(call, again[label]) for label, call in calls.items())
        for _ in range(max(1, min(REPEATS, int(1000 * SECONDS_A_SIDE / max(first, 1e-3))))):
            for label, call in calls.items():
                times[label].append(timed(call, again[label]))
    medians = {label: round(statistics.median(some), 3) for label, some in times.items()}
    return {"median_ms": medians, "extra_mib": memory, "failed": failed}


def main() -> None:
    """Measure system by system, size by size; rows of the same name are replaced."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--published", type=Path, required=True)
    parser.add_argument("--systems", nargs="+", choices=[*SYSTEMS, *OWN], default=[*SYSTEMS, *OWN])
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES))
    parser.add_argument("--slides", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    rows = json.loads(asked.out.read_text())["rows"] if asked.out.exists() else []
    made = provenance(dim=systems_speed.DIM, gpu=torch.cuda.get_device_name())
    same = ("system", "patches", "slides", "training")
    for system in asked.systems:
        for row in alone(rows_of, system, asked.published, asked.sizes, asked.slides)["rows"]:
            rows = [old for old in rows if [old[key] for key in same] != [row[key] for key in same]] + [row]
            print(json.dumps(row), flush=True)
        save(asked.out, {**made, "rows": rows})


if __name__ == "__main__":
    main()
