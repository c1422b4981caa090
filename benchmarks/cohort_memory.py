"""Memory of one `dtcwsi extract` over many slides: the slope of what the process holds after each, in MiB a slide.

python benchmarks/cohort_memory.py --work DIR [--slides 200] [--encoder efficientnet-lite0] [--workers 1] --out FILE

Slides of 2,048 px, copies of a few drawn ones, each a file and a job of its own. Read when a slide is finished, by the
resident size of the process that extracts; its reading processes live as long as their slide. The slope is the
least-squares line from the 20th slide on, for what is loaded and cached comes first.
"""

import argparse
import json
import os
import shutil
from pathlib import Path

import numpy as np

from dtcwsi.encoders import load_encoder
from dtcwsi.extraction import Extraction, run_extraction
from dtcwsi.slides.pyramid import write_pyramid
from extract_memory import TissueLike, resident
from provenance import provenance, save

SIDE_PX, DRAWN, WARM, MIB = 2048, 4, 20, 2**20


def copies(folder: Path, count: int) -> dict[str, Path]:
    """Draw a few slides and copy them to as many as asked for."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"slide{number:03d}.tif" for number in range(count)]
    for number, path in enumerate(paths):
        if path.exists():
            continue
        if number < DRAWN:
            write_pyramid(path, TissueLike(SIDE_PX, number), spacing_um=0.5)
        else:
            shutil.copy(paths[number % DRAWN], path)
    return {path.stem: path for path in paths}


def main() -> None:
    """Extract all slides in this process and fit the line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--slides", type=int, default=200)
    parser.add_argument("--encoder", default="efficientnet-lite0")
    parser.add_argument("--backend", default="eager")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    slides = copies(asked.work / "slides", asked.slides)
    shutil.rmtree(asked.work / "out", ignore_errors=True)
    held: list[float] = []
    encoder = load_encoder(asked.encoder, backend=asked.backend)
    extraction = Extraction(asked.work / "out", encoder=encoder, workers=asked.workers)
    run_extraction(slides, extraction, on_slide=lambda *_: held.append(resident(os.getpid()) / MIB))
    slope = float(np.polyfit(np.arange(WARM, len(held)), held[WARM:], 1)[0])
    row = {"slides": len(held), "slope_mib_a_slide": round(slope, 4), "mib": [round(size, 1) for size in held[::10]]}
    print(json.dumps(row), flush=True)
    told = {"encoder": asked.encoder, "backend": asked.backend, "workers": asked.workers}
    save(asked.out, {**provenance(**told), **row})


if __name__ == "__main__":
    main()
