"""How large reports are, how long they take to write and to load, and how soon they answer a pointer.

    python benchmarks/report_size.py --demo DEMO [--patches 100000] --out docs/results/report_size.json

``--demo`` is a finished folder of `dtcwsi demo`, whose page is measured as it is, and that of its first new slide
alone. Slides of other sizes are noise, and the demo's model on drawn features: no value matters to it.
Needs Chromium and the package playwright (extra dev).
"""

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Browser, expect, sync_playwright

from dtcwsi.classifier import Classifier
from dtcwsi.explain import explain_slide, write_report
from dtcwsi.inference import load_run
from dtcwsi.slides import open_slide
from dtcwsi.slides.pyramid import write_pyramid
from dtcwsi.store.features import read_features
from dtcwsi.types import Features
from provenance import provenance, save

PATCH_PX = 16
HOVERS = 40

LATENCY = """
async ([moves]) => {
  const map = document.querySelector(".map"), cell = document.querySelector("[data-of=patch]");
  const box = map.getBoundingClientRect(), took = [];
  for (const [across, down] of moves) {
    const place = { clientX: box.left + across * box.width, clientY: box.top + down * box.height, bubbles: true };
    const began = performance.now();
    map.dispatchEvent(new PointerEvent("pointermove", place));
    cell.textContent.length;
    took.push(performance.now() - began);
    await new Promise(requestAnimationFrame);
  }
  const found = { hover: took };
  for (const layer of ["merging", "pruning"]) {
    document.querySelector(`input[value=${layer}]`).click();
    for (const [name, stops] of [["stage", [0, 1, 2, 3, 1]], ["budget", [0, 1, 2, 3, 1]]]) {
      const slider = document.querySelector(`input[name=${name}]`), times = found[`${name} of ${layer}`] = [];
      for (const stop of stops) {
        const began = performance.now();
        slider.value = stop;
        slider.dispatchEvent(new Event("input"));
        times.push(performance.now() - began);
        await new Promise(requestAnimationFrame);
      }
    }
  }
  return found;
}
"""


def drawn_slide(model: Classifier, patches: int, folder: Path) -> tuple[Features, Path]:
    """Draw a slide of so many patches and features of it; the picture is noise, the worst that JPEG can meet."""
    rng = np.random.default_rng(patches)
    side = int(np.ceil(np.sqrt(patches)))
    index = np.arange(patches)
    coords = np.stack([index % side, index // side], axis=1).astype(np.int64) * PATCH_PX
    pixels = rng.integers(120, 255, (side * PATCH_PX, side * PATCH_PX, 3), np.uint8)
    write_pyramid(folder / "slide.tif", pixels, spacing_um=8.0)
    drawn = rng.normal(size=(patches, model.in_dim)).astype(np.float32)
    return Features("slide", drawn, coords, float(PATCH_PX), None), folder / "slide.tif"


def new_slide(demo: Path) -> tuple[Features, Path]:
    """Read the features of the demo's first new slide."""
    file = min((demo / "new" / "features").glob("*/*.h5"))
    return read_features(file), demo / "new" / "slides" / f"{file.stem}.tif"


def slide_page(model: Classifier, features: Features, slide: Path, folder: Path) -> tuple[Path, float]:
    """Write the page of a slide.  Returns: its path, and the seconds it took once the slide was explained."""
    explained = explain_slide([model], features, open_slide(slide), folder / "explained")
    began = time.perf_counter()
    write_report(folder / "report.html", title=features.slide_id, slides=[explained], slides_first=True)
    return folder / "report.html", time.perf_counter() - began


def measure(browser: Browser, path: Path) -> dict[str, Any]:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    began = time.perf_counter()
    page.goto(path.resolve().as_uri())
    viewers = page.locator("script.patches").count()
    expect(page.locator(".card.live")).to_have_count(viewers, timeout=60_000)
    told = {"bytes": path.stat().st_size, "load_seconds": round(time.perf_counter() - began, 2), "viewers": viewers}
    if viewers:
        page.wait_for_timeout(500)
        moves = np.random.default_rng(0).uniform(0.2, 0.8, (HOVERS, 2)).tolist()
        took = page.evaluate(LATENCY, [moves])
        for name, values in took.items():
            told[f"{name}, ms"] = {"median": round(float(np.median(values)), 1), "most": round(max(values), 1)}
    assert not errors, errors
    page.close()
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, required=True)
    parser.add_argument("--patches", type=int, action="append")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    sizes = options.patches or [100_000]
    model = load_run(options.demo / "runs" / "dtc-abmil").models[0]
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    found: dict[str, Any] = {}
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as place:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        found["demo"] = measure(browser, options.demo / "report.html")
        slides = [new_slide(options.demo), *(drawn_slide(model, patches, Path(place)) for patches in sizes)]
        for features, slide in slides:
            page, seconds = slide_page(model, features, slide, Path(place) / str(len(features.features)))
            name = f"slide of {len(features.features)} patches"
            found[name] = {"write_seconds": round(seconds, 2), **measure(browser, page)}
            print(name, found[name])
        version = browser.version
        browser.close()
    save(options.out, {**provenance(patches=sizes, chromium=version), "reports": found})


if __name__ == "__main__":
    main()
