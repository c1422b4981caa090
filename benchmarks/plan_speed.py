"""Seconds to plan a run over many slides: none begun, all finished, all finished and their files touched since.

    python benchmarks/plan_speed.py [--slides 10000] [--out docs/results/plan_speed.json]

The slides are copies of one small file, and so are their results; all are in the page cache.
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from dtcwsi.encoders import load_encoder
from dtcwsi.extraction import Extraction, plan_extraction, run_extraction
from dtcwsi.patches import GridParameters
from dtcwsi.slides.pyramid import write_pyramid
from provenance import provenance, save


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slides", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=Path("plan_speed.json"))
    settings = parser.parse_args()
    count, made = settings.slides, provenance(slides=settings.slides)
    with tempfile.TemporaryDirectory() as folder:
        slides = draw(Path(folder) / "slides", count)
        extraction = Extraction(
            out=Path(folder) / "out", encoder=load_encoder("colour-texture"), grid=GridParameters(64), workers=0
        )
        plans = {"none_begun": planned(slides, extraction, done=0)}
        finish(slides, extraction)
        plans["all_finished"] = planned(slides, extraction, done=count)
        for path in slides.values():
            path.touch()
        plans["all_finished_and_touched_since"] = planned(slides, extraction, done=count)
    save(settings.out, {**made, "plans": plans})


def draw(folder: Path, count: int) -> dict[str, Path]:
    picture = np.full((1024, 1024, 3), 243, np.uint8)
    cv2.circle(picture, (500, 520), 400, (190, 90, 150), -1)
    folder.mkdir()
    slides = {f"S{number:05d}": folder / f"S{number:05d}.tif" for number in range(count)}
    first, *others = slides.values()
    write_pyramid(first, picture, spacing_um=0.5)
    for path in others:
        shutil.copyfile(first, path)
    return slides


def finish(slides: dict[str, Path], extraction: Extraction) -> None:
    """Extract the first slide and copy its files for the others: equal slides have equal results."""
    first, *others = slides
    run_extraction({first: slides[first]}, extraction)
    out = extraction.out
    for made in [*out.glob("tissue/*.geojson"), *out.glob("patches/*.h5"), *out.glob("features/*/*.h5")]:
        for slide_id in others:
            shutil.copyfile(made, made.with_stem(slide_id))
    header, row = (out / "slides.csv").read_text().splitlines()
    rows = [row.replace(first, slide_id) for slide_id in slides]
    (out / "slides.csv").write_text("\n".join([header, *rows]) + "\n")


def planned(slides: dict[str, Path], extraction: Extraction, *, done: int) -> dict[str, float]:
    began, cpu = time.perf_counter(), time.process_time()
    plan = plan_extraction(slides, extraction)
    took = {"seconds": round(time.perf_counter() - began, 2), "processor_s": round(time.process_time() - cpu, 2)}
    assert plan.n_done == done, (plan.n_done, done)
    return took


if __name__ == "__main__":
    main()
