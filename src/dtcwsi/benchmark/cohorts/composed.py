"""Pyramidal slides composed from a folder of labelled real tiles: normal lung with a little of one carcinoma.

Tiles are dealt into five disjoint pools; a slide takes all its tiles from one pool, turned and mirrored, and the pool
is the fold (and the patient) of the slide, so that no tile is in two parts of a split. Tiles: LC25000 (Borkowski,
arXiv 1912.12142), one of each group of augmented copies.
"""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dtcwsi.errors import UsageError
from dtcwsi.explain.faithfulness.lesion import TRUTH_DOWNSAMPLE
from dtcwsi.slides.pyramid import write_pyramid
from dtcwsi.store.atomic import write_bytes, write_text
from dtcwsi.store.digest import digest
from dtcwsi.store.tables import write_table

__all__ = ["compose_cohort"]

_CLASSES = {"aca": "lung_aca", "scc": "lung_scc"}
_NORMAL = "lung_n"
_POOLS = 5
_TILE_PX = 768
_COLUMNS, _ROWS, _MARGIN_PX = 6, 5, 256
_SPACING_UM = 0.5


def compose_cohort(tiles: Path, out: Path, *, seed: int, slides_a_class_and_pool: int = 6) -> None:
    """Write ``slides/ID.tif``, ``truth/ID.png`` and ``labels.csv`` (slide_id, label, patient_id, fold).

    A slide is 6 x 5 tiles of 768 px, of which one or two (3.3 or 6.7 %) are of its carcinoma, the rest normal lung.
    `truth` masks are 255 on the tiles of carcinoma, 16 level-0 pixels a pixel. Finished slides are kept.
    Raises: UsageError if ``tiles`` lacks a folder of 10 tiles or more, two a pool, of normal lung or of a carcinoma, a
    tile is of another size, or ``out`` has slides of other tiles, which may lie in other pools there.
    """
    rng = np.random.default_rng(seed)
    for name in (_NORMAL, *_CLASSES.values()):
        count = len(list((tiles / name).glob("*.jpeg")))
        if count < 2 * _POOLS:
            raise UsageError(f"{tiles / name} holds {count} .jpeg tiles; expected {2 * _POOLS} or more of 768 px")
    pools = {name: _deal(sorted((tiles / name).glob("*.jpeg")), rng) for name in (_NORMAL, *_CLASSES.values())}
    _check_same(out, digest(pools=[[[path.name for path in pool] for pool in one] for one in pools.values()]))
    rows = []
    for pool in range(_POOLS):
        for label, folder in _CLASSES.items():
            for number in range(slides_a_class_and_pool):
                slide_id = f"pool{pool}-{label}-{number:02d}"
                chosen = _choose(pools[_NORMAL][pool], pools[folder][pool], rng)
                path = out / "slides" / f"{slide_id}.tif"
                write_bytes(
                    out / "truth" / f"{slide_id}.png", _truth([tile.parent.name == folder for tile, _ in chosen])
                )
                if not path.exists():
                    write_pyramid(path, _paint(chosen), spacing_um=_SPACING_UM)
                rows.append((slide_id, label, f"pool{pool}", pool))
    write_table(out / "labels.csv", ("slide_id", "label", "patient_id", "fold"), rows)


def _check_same(out: Path, pools: str) -> None:
    """Note the pools that slides are made of, or make sure that they are the same."""
    file = out / "pools.txt"
    if file.exists() and file.read_text() != pools:
        raise UsageError(f"{out} holds slides composed of other tiles; name another folder, or the same tiles")
    write_text(file, pools)


def _deal(paths: list[Path], rng: np.random.Generator) -> list[list[Path]]:
    """Deal tiles into disjoint pools."""
    order = rng.permutation(len(paths))
    return [[paths[index] for index in order[pool::_POOLS]] for pool in range(_POOLS)]


def _choose(normal: list[Path], tumour: list[Path], rng: np.random.Generator) -> list[tuple[Path, int]]:
    """Choose the tiles of a slide and how each is turned (0 to 7)."""
    count = _COLUMNS * _ROWS
    n_tumour = int(rng.integers(1, 3))
    chosen = [normal[index] for index in rng.choice(len(normal), count - n_tumour, replace=len(normal) < count)]
    chosen += [tumour[index] for index in rng.choice(len(tumour), n_tumour, replace=False)]
    return [(chosen[index], int(rng.integers(8))) for index in rng.permutation(count)]


def _truth(carcinoma: list[bool]) -> bytes:
    """Encode the mask of a slide whose places, row by row, hold carcinoma or not."""
    tile, margin = _TILE_PX // TRUTH_DOWNSAMPLE, _MARGIN_PX // TRUTH_DOWNSAMPLE
    places = np.where(np.reshape(carcinoma, (_ROWS, _COLUMNS)), np.uint8(255), np.uint8(0))
    mask = np.pad(places.repeat(tile, axis=0).repeat(tile, axis=1), margin)
    encoded: bytes = cv2.imencode(".png", mask)[1].tobytes()
    return encoded


def _paint(chosen: list[tuple[Path, int]]) -> NDArray[np.uint8]:
    """Paint a slide's pixels: the tiles in a grid, white glass around."""
    picture = np.full((_ROWS * _TILE_PX + 2 * _MARGIN_PX, _COLUMNS * _TILE_PX + 2 * _MARGIN_PX, 3), 245, np.uint8)
    for place, (path, turn) in enumerate(chosen):
        read = cv2.imread(str(path))
        if read is None or read.shape != (_TILE_PX, _TILE_PX, 3):
            what = "cannot be read" if read is None else f"has {read.shape[1]} x {read.shape[0]} px"
            raise UsageError(f"the tile {path} {what}; expected {_TILE_PX} x {_TILE_PX} px")
        tile = np.rot90(cv2.cvtColor(read, cv2.COLOR_BGR2RGB), turn % 4)
        tile = tile[:, ::-1] if turn >= 4 else tile
        top, left = (_MARGIN_PX + _TILE_PX * step for step in divmod(place, _COLUMNS))
        picture[top : top + _TILE_PX, left : left + _TILE_PX] = tile
    return picture
