"""Time and memory of the comparison systems beside their published code, both sides in turns in one run.

python benchmarks/systems_speed.py --published DIR [--systems NAME ...] [--sizes N ...] [--inference] --out FILE

DIR holds checkouts named CLAM, dsmil-wsi, TransMIL, PANTHER, MHIM-MIL (branch v1), HIPT, vision-longformer, 2DMamba,
fastglioma and PatchGD; of a system whose checkout is not there ours is measured alone, and so is tome-abmil, for its
matching over the whole matrix of similarities. What those need besides torch (nystrom-attention, einops, pandas) is
installed by hand. One slide of random features, 512 wide, on a square grid for
systems that look at places, in the order given for others; two threads, float32: inference and a training step (loss
and gradients, no optimiser), medians in turns; memory is the peak of what a process of its own has allocated beyond the
start, in its first call, and where all are below two seconds the median of three such processes. A side that fails, or
takes longer than --limit seconds, has its reason in the row.
"""

import argparse
import json
import math
import resource
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from compressor_speed import alone, medians_of
from dtcwsi.bags.packing import pack
from dtcwsi.benchmark.measuring import Peak
from dtcwsi.models import create_model
from dtcwsi.types import Bag
from provenance import provenance, save
from published import PUBLISHED, Call

DIM, LARGEST_GIB, MOST_REPEATS, SECONDS_A_ROW = 512, 20, 9, 30
SHORT, FIRST_CALLS = 2.0, 3
SIZES = (5000, 13_900, 100_000)
TOME = "tome-abmil"
READ = " and its attention"  # of a side that also reads what is worked out when it is read
EXTRAS = {
    "transmil": {f"transmil{READ}": {}, "dtc-transmil r=0.4": {"retention": 0.4}},
    "clam-sb": {
        "dtc-clam-sb r=0.1": {"retention": 0.1},
        "dtc-clam-sb r=0.1 float32 scores": {"retention": 0.1, "exact_ranking": False},
    },
    TOME: {"tome-abmil float32 scores": {"exact_ranking": False}},
}
PLACED = ("hipt", "longformer", "mamba2d", "spt", "patchgd")
OPTIONS: dict[str, dict[str, Any]] = {
    TOME: {"retention": 0.4},
    "clam-sb": {"instance_loss": "ce"},
    "clam-mb": {"instance_loss": "ce"},
    "longformer": {"relative": False},
    "mamba2d": {"cell_size": 512},
}


def ours(name: str, rows: torch.Tensor, *, training: bool, reads: bool = False, **options: Any) -> Call:
    """Build our model's call, which ``reads`` its attention or leaves it."""
    side, number = math.isqrt(len(rows) - 1) + 1, torch.arange(len(rows))
    coords = torch.stack([number % side, number // side], dim=1) * 512
    bag = Bag(rows, coords, 512) if name in PLACED else Bag(rows)
    model, label = create_model(name, in_dim=DIM, n_classes=2, **options), torch.tensor([0])
    if model.needs_prototypes:
        model.fit_prototypes([bag], patches=2000)
    model.train(training)
    if training and name.startswith("mhim-"):
        model.set_progress(0.5)  # from here on there is a teacher
    packed = pack([bag])
    step = lambda: model.loss(model(packed), label).backward()  # noqa: E731
    if reads:
        return lambda: model(packed).attention
    return step if training else lambda: model(packed)


def sides(system: str, published: Path, patches: int, *, training: bool) -> dict[str, Callable[[], Call]]:
    """Name what is to be compared, and how to build it."""
    torch.set_num_threads(2)
    torch.manual_seed(0)
    rows, given = torch.randn(patches, DIM), OPTIONS.get(system, {})
    made: dict[str, Callable[[], Call]] = {}
    folder, build = PUBLISHED.get(system, ("", None))
    if build and (published / folder).is_dir():
        made["published"] = partial(build, published / folder, system, rows, training=training)
    made[system] = partial(ours, system, rows, training=training, **given)
    for label, budget in EXTRAS.get(system, {}).items():
        reads = label.endswith(READ)
        if not (reads and training):
            made[label] = partial(ours, label.split()[0], rows, training=training, reads=reads, **given, **budget)
    return made


def first_call(system: str, published: Path, patches: int, training: bool, side: str) -> dict[str, float]:  # noqa: FBT001  # the pool gives places
    """Measure one side's first call: seconds, and extra memory in MiB, as a process keeps what it has allocated."""
    resource.setrlimit(resource.RLIMIT_DATA, (LARGEST_GIB << 30, LARGEST_GIB << 30))
    with torch.set_grad_enabled(training):
        call = sides(system, published, patches, training=training)[side]()
        start = time.perf_counter()
        with Peak() as peak:
            call()
    return {"seconds": time.perf_counter() - start, "extra_mib": peak.extra_mib}


def told(error: Exception) -> str:
    """Say in a line what failed."""
    return f"{type(error).__name__}: {error}".splitlines()[0][:160]


def timed(
    system: str, published: Path, patches: int, training: bool, names: list[str], repeats: int
) -> dict[str, float]:  # noqa: FBT001
    """Time sides in turns.  Returns: median milliseconds."""
    with torch.set_grad_enabled(training):
        made = sides(system, published, patches, training=training)
        return medians_of({name: made[name]() for name in names}, repeats=repeats)


def measured(system: str, published: Path, patches: int, *, training: bool, limit: float) -> dict[str, Any]:
    """Measure a row: every side's first call by itself, then those that came through in turns."""
    first, failed = {}, {}
    for side in sides(system, published, patches, training=training):
        try:
            first[side] = alone(first_call, system, published, patches, training, side, seconds=limit)
        except NotImplementedError:
            failed[side] = "not compared"
        except (MemoryError, RuntimeError) as error:
            lacks = isinstance(error, MemoryError) or "allocate memory" in str(error)
            failed[side] = f"more than {LARGEST_GIB} GiB" if lacks else told(error)
        except TimeoutError:
            failed[side] = f"more than {limit:.0f} s"
        except Exception as error:  # noqa: BLE001  # published code may fail in any way, which is a result
            failed[side] = told(error)
    memory = {side: [call["extra_mib"]] for side, call in first.items()}
    if all(call["seconds"] < SHORT for call in first.values()):  # there, what libraries set aside by the way tells most
        for side in list(first) * (FIRST_CALLS - 1):
            again = alone(first_call, system, published, patches, training, side, seconds=limit)
            memory[side].append(again["extra_mib"])
    turn = sum(call["seconds"] for call in first.values())
    repeats = max(1, min(MOST_REPEATS, int(SECONDS_A_ROW / max(turn, 1e-3))))
    times = alone(timed, system, published, patches, training, list(first), repeats)
    middle = {side: round(statistics.median(seen), 1) for side, seen in memory.items()}
    return {"median_ms": times, "extra_mib": middle, "failed": failed, "repeats": repeats}


def main() -> None:
    """Measure system by system, size by size; rows of the same name are replaced."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--published", type=Path, required=True)
    parser.add_argument("--systems", nargs="+", choices=[*PUBLISHED, TOME], default=list(PUBLISHED))
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES))
    parser.add_argument("--inference", action="store_true", help="no training steps")
    parser.add_argument("--limit", type=float, default=180, help="most seconds of a call")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    rows = json.loads(asked.out.read_text())["rows"] if asked.out.exists() else []
    made = provenance(dim=DIM, threads=2)
    for system in asked.systems:
        for patches in asked.sizes:
            for training in (False,) if asked.inference else (False, True):
                row = {"system": system, "patches": patches, "training": training, "commit": made["commit"]}
                row |= measured(system, asked.published, patches, training=training, limit=asked.limit)
                same = ("system", "patches", "training")
                rows = [old for old in rows if [old[key] for key in same] != [row[key] for key in same]] + [row]
                print(json.dumps(row), flush=True)
                save(asked.out, {**made, "rows": rows})


if __name__ == "__main__":
    main()
