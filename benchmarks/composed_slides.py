"""Pyramidal slides composed from a folder of labelled real tiles: normal lung with a little of one carcinoma.

Tiles are dealt into five disjoint pools; a slide takes all its tiles from one pool, turned and mirrored, and the pool
is the fold (and the patient) of the slide, so that no tile is in two parts of a split. Tiles: LC25000 (Borkowski,
arXiv 1912.12142), one of each group of augmented copies.
"""

import csv
from pathlib import Path

import cv2
import numpy as np

from dtcwsi.slides.pyramid import write_pyramid

CLASSES = {"aca": "lung_aca", "scc": "lung_scc"}
NORMAL = "lung_n"
POOLS = 5
TILE_PX = 768
COLUMNS, ROWS, MARGIN_PX = 6, 5, 256
SPACING_UM = 0.5


def compose_cohort(tiles: Path, out: Path, *, seed: int, slides_a_class_and_pool: int = 6) -> None:
    """Write ``slides/ID.tif`` and ``labels.csv`` (slide_id, label, patient_id, fold); finished slides are kept.

    A slide is 6 x 5 tiles of 768 px, of which one or two (3.3 or 6.7 %) are of its carcinoma, the rest normal lung.
    """
    rng = np.random.default_rng(seed)
    pools = {name: deal(sorted((tiles / name).glob("*.jpeg")), rng) for name in (NORMAL, *CLASSES.values())}
    rows = []
    for pool in range(POOLS):
        for label, folder in CLASSES.items():
            for number in range(slides_a_class_and_pool):
                slide_id = f"pool{pool}-{label}-{number:02d}"
                chosen = choose(pools[NORMAL][pool], pools[folder][pool], rng)
                path = out / "slides" / f"{slide_id}.tif"
                if not path.exists():
                    write_pyramid(path, paint(chosen), spacing_um=SPACING_UM)
                rows.append((slide_id, label, f"pool{pool}", pool))
    with (out / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("slide_id", "label", "patient_id", "fold"))
        writer.writerows(rows)


def deal(paths: list[Path], rng: np.random.Generator) -> list[list[Path]]:
    """Deal tiles into disjoint pools."""
    order = rng.permutation(len(paths))
    return [[paths[index] for index in order[pool::POOLS]] for pool in range(POOLS)]


def choose(normal: list[Path], tumour: list[Path], rng: np.random.Generator) -> list[tuple[Path, int]]:
    """Choose the tiles of a slide and how each is turned (0 to 7)."""
    count = COLUMNS * ROWS
    n_tumour = int(rng.integers(1, 3))
    chosen = [normal[index] for index in rng.choice(len(normal), count - n_tumour, replace=len(normal) < count)]
    chosen += [tumour[index] for index in rng.choice(len(tumour), n_tumour, replace=False)]
    return [(chosen[index], int(rng.integers(8))) for index in rng.permutation(count)]


def paint(chosen: list[tuple[Path, int]]) -> np.ndarray:
    """Paint a slide's pixels: the tiles in a grid, white glass around."""
    picture = np.full((ROWS * TILE_PX + 2 * MARGIN_PX, COLUMNS * TILE_PX + 2 * MARGIN_PX, 3), 245, np.uint8)
    for place, (path, turn) in enumerate(chosen):
        tile = np.rot90(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB), turn % 4)
        tile = tile[:, ::-1] if turn >= 4 else tile
        top, left = (MARGIN_PX + TILE_PX * step for step in divmod(place, COLUMNS))
        picture[top : top + TILE_PX, left : left + TILE_PX] = tile
    return picture
