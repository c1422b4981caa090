"""Seconds and memory of all figures of one slide, each drawn and encoded, over the number of patches.

    python benchmarks/figures_speed.py [--patches 1000 13900 100000] [--out docs/results/figures_speed.json]

One thread. The slide is noise in the colours of tissue; features are random numbers of 1,280, so that asking the model
(dtc-abmil, untrained) costs what it does on real ones.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from dtcwsi.explain.figures.canvas import slide_canvas
from dtcwsi.explain.figures.drawing import FIGURES
from dtcwsi.explain.figures.subject import Heading, Subject
from dtcwsi.explain.slide import view_slide
from dtcwsi.models import create_model
from dtcwsi.slides import open_slide
from dtcwsi.slides.pyramid import write_pyramid
from dtcwsi.types import Features
from provenance import provenance, save

DIM, MIB = 1280, 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patches", type=int, nargs="+", default=[1000, 13_900, 100_000])
    parser.add_argument("--out", type=Path, default=Path("figures_speed.json"))
    parser.add_argument("--one", type=Path, help="measure one size into this file, in this process")
    settings = parser.parse_args()
    if settings.one:
        save(settings.one, measured(settings.patches[0]))
        return
    made, rows = provenance(patches=settings.patches, dim=DIM, threads=1), []
    with tempfile.TemporaryDirectory() as folder:
        for count in settings.patches:
            row = Path(folder) / f"{count}.json"
            command = [sys.executable, __file__, "--patches", str(count), "--one", str(row)]
            subprocess.run(command, check=True)  # a process each: the memory is its peak
            rows.append(json.loads(row.read_text()))
    save(settings.out, {**made, "rows": rows})


def measured(count: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    torch.manual_seed(0)
    across = round((count * 1.4) ** 0.5)
    coords = np.stack([np.arange(count) % across, np.arange(count) // across], axis=1) * 64
    values = np.random.default_rng(0).normal(size=(count, DIM)).astype(np.float32)
    features = Features("S", values, coords.astype(np.int64), 64.0, "random", 0.5)
    model = create_model("dtc-abmil", in_dim=DIM, n_classes=2).eval()
    with tempfile.TemporaryDirectory() as folder:
        width, height = (int(side) + 64 for side in coords.max(axis=0))
        noise = np.random.default_rng(1).integers(-20, 20, (height // 8, width // 8, 3)) + (220, 150, 190)
        pixels = cv2.resize(noise.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
        write_pyramid(Path(folder) / "S.tif", pixels, spacing_um=0.5)
        del pixels, noise
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        with closing(open_slide(Path(folder) / "S.tif")) as slide:
            seconds: dict[str, Any] = {}
            start = clock()
            view = view_slide([model], features)
            canvas = slide_canvas(slide, max_px=680, patch_size_level0=64.0)
            words = Heading("S", model.name, model.name)
            place = canvas, features, features.coords, 64.0
            subject = Subject(*place, view.fates, model, model.class_names, words, slide)
            seconds["ask the model, read the overview"] = passed(start)
            sizes = {}
            for name, draw in FIGURES.items():
                start = clock()
                sizes[name] = len(draw(subject).encode("png")) / MIB
                seconds[name] = passed(start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    total = {kind: round(sum(each[kind] for each in seconds.values()), 2) for kind in ("wall", "processor")}
    return {
        "patches": count,
        "seconds": seconds,
        "total": total,
        "png_mib": {name: round(size, 2) for name, size in sizes.items()},
        "peak_mib": round(peak),
        "peak_before_mib": round(before),
    }


def clock() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def passed(start: tuple[float, float]) -> dict[str, float]:
    wall, processor = clock()
    return {"wall": round(wall - start[0], 2), "processor": round(processor - start[1], 2)}


if __name__ == "__main__":
    main()
