"""How many pen patches the pen score finds and how many clean ones it takes, and what stain normalisation evens out."""

import argparse
import time
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
from numpy.typing import NDArray

from dtcwsi.patches import QualityParameters, quality_scores
from dtcwsi.pipeline import SlideJob, extract_slide
from dtcwsi.slides.synthetic import write_cohort
from dtcwsi.slides.synthetic.artefacts import draw_pen
from dtcwsi.slides.synthetic.cohort import plan_cohort
from dtcwsi.slides.synthetic.spec import SyntheticSlide
from dtcwsi.stain import METHODS, stain_like
from dtcwsi.stain.density import density, tissue_pixels
from provenance import provenance, save

THRESHOLDS = (0.0, 0.01, 0.02, 0.05, 0.1)
INKS = ("blue", "green", "black")
CELL_PX, TRUTH_PX, INKED, COVERED = 16, 4, 0.3, 0.1


def main() -> None:
    """Draw slides, score their patches, and score real tiles if there are any."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--tiles", type=Path, help="folder of real tiles of 0.5 um/px, searched one level deep")
    parser.add_argument("--slides", type=int, default=40)
    parser.add_argument("--seed", type=int, default=7, help="the rule was chosen on 24 slides of seed 0")
    parser.add_argument("--out", type=Path, default=Path("docs/results/quality.json"))
    asked = parser.parse_args()
    write_cohort(asked.work, slides=asked.slides, seed=asked.seed, workers=1)
    plan = plan_cohort(slides=asked.slides, seed=asked.seed)
    began = time.perf_counter()
    scored = [patches_of(slide, asked.work) for slide in plan]
    seconds = time.perf_counter() - began
    inks = np.concatenate([np.full(len(pen), ink) for ink, _, pen, _ in scored])
    cover, pen, sharpness = (np.concatenate([each[place] for each in scored]) for place in (1, 2, 3))
    result: dict[str, Any] = {
        "patches": len(pen),
        "ms_a_patch_with_tissue_and_grid": 1e3 * seconds / len(pen),
        "pen": [pen_row(threshold, inks, cover, pen) for threshold in THRESHOLDS],
        "sharpness_percentiles_1_5_50_95": np.percentile(sharpness, (1, 5, 50, 95)).round(1).tolist(),
    }
    if asked.tiles:
        result["tiles"] = real_tiles(sorted(asked.tiles.glob("*/*.jp*g")))
    save(asked.out, {**provenance(slides=asked.slides, seed=asked.seed), **result})


def patches_of(slide: SyntheticSlide, work: Path) -> tuple[str, NDArray[Any], NDArray[Any], NDArray[Any]]:
    """A slide's ink, and of its patches the share under ink and both scores."""
    job = SlideJob(work / "slides" / f"{slide.slide_id}.tif", work / "out", quality=QualityParameters(), workers=0)
    extract_slide(job)
    drawn = draw_pen(slide.rng("pen"), slide.side_px // CELL_PX)
    side = (slide.side_px // TRUTH_PX,) * 2
    truth = np.zeros(side, np.float32) if drawn is None else cv2.resize(drawn.cover, side)
    with h5py.File(job.patches_file) as file:
        step = int(file.attrs["patch_size_level0"])
        boxes = [
            (slice(y // TRUTH_PX, (y + step) // TRUTH_PX), slice(x // TRUTH_PX, (x + step) // TRUTH_PX))
            for x, y in file["coords"]
        ]
        cover = np.array([(truth[box] > INKED).mean() for box in boxes])
        ink = "none" if drawn is None else INKS[{0.86: 0, 0.36: 1, 0.24: 2}[drawn.passes[2]]]
        return ink, cover, file["pen"][()], file["sharpness"][()]


def pen_row(threshold: float, inks: NDArray[Any], cover: NDArray[Any], pen: NDArray[Any]) -> dict[str, Any]:
    """What ``--max-pen`` at a threshold drops: of the patches with ink on more than a tenth, and of the clean ones."""
    row: dict[str, Any] = {"max_pen": threshold}
    for ink in INKS:
        marked = (inks == ink) & (cover > COVERED)
        row[ink] = [int((pen[marked] > threshold).sum()), int(marked.sum())]
    row["clean"] = [int((pen[cover == 0] > threshold).sum()), int((cover == 0).sum())]
    return row


def real_tiles(paths: list[Path]) -> dict[str, Any]:
    """Pen and sharpness of real tiles without ink, cut into patches of 128 um, and their stain before and after."""
    tiles = [np.asarray(cv2.imread(str(path))[..., ::-1], np.uint8) for path in paths]
    halves = [cv2.resize(tile, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for tile in tiles]
    patches = np.stack(
        [half[y : y + 128, x : x + 128] for half in halves for y in (0, 128, 256) for x in (0, 128, 256)]
    )
    scores = quality_scores(patches, 1.0)
    blurred = quality_scores(np.stack([cv2.GaussianBlur(patch, (0, 0), 2) for patch in patches]), 1.0)
    shown = np.stack([cv2.resize(tile, (256, 256), interpolation=cv2.INTER_AREA) for tile in tiles[::6]])
    stain: dict[str, Any] = {"tiles": len(shown), "before": between(shown)}
    for name in METHODS:
        normaliser = stain_like(name)
        began = time.perf_counter()
        made = normaliser(shown)
        spent = 1e3 * (time.perf_counter() - began) / len(shown)
        stain[name] = {"after": between(made), "left": normaliser.left, "ms_a_patch": round(spent, 1)}
    return {
        "patches": len(patches),
        "dropped": {str(threshold): int((scores["pen"] > threshold).sum()) for threshold in THRESHOLDS},
        "sharpness_median": float(np.median(scores["sharpness"])),
        "sharpness_median_blurred_2um": float(np.median(blurred["sharpness"])),
        "stain_sd_between_tiles": stain,
    }


def between(tiles: NDArray[np.uint8]) -> list[float]:
    """Standard deviation between the mean colours of tiles' tissue, of red, green, blue."""
    means = [tile.reshape(-1, 3)[tissue_pixels(density(tile))].mean(axis=0) for tile in tiles]
    return np.std(means, axis=0).round(1).tolist()


if __name__ == "__main__":
    main()
