"""Bags of real tissue: patches of normal lung with a few percent of one carcinoma or the other, tiles never shared.

Tiles: LC25000 (Borkowski, arXiv 1912.12142), one of each group of augmented copies; nine 256 px patches a tile,
efficientnet-lite0 features. Tiles have no patients, so results are about the method.
"""

from pathlib import Path

import cv2
import numpy as np
import torch

from dtcwsi.encoders import load_encoder
from dtcwsi.types import Bag

NORMAL, TUMOURS = "lung_n", ("lung_aca", "lung_scc")
PATCH_PX, PATCHES_A_TILE = 256, 9


def tile_features(tiles: Path, cache: Path) -> dict[str, torch.Tensor]:
    """Encode every tile once; ``cache`` keeps the result.  Returns: per class, (tiles, 9, 1280)."""
    if not cache.exists():
        encoder = load_encoder("efficientnet-lite0")
        found = {name: _encoded(sorted((tiles / name).glob("*.jpeg")), encoder) for name in (NORMAL, *TUMOURS)}
        cache.parent.mkdir(parents=True, exist_ok=True)
        np.savez(cache, **found)
    with np.load(cache) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays}


def draw_bags(features: dict[str, torch.Tensor], count: int, *, test: bool, seed: int) -> list[Bag]:
    """Compose bags of 180 to 360 patches, 2 to 6 % of them tumour, from the training or the test half of the tiles.

    ``seed`` deals the tiles into halves and composes; one seed's halves share no tile.
    """
    halves = np.random.default_rng([seed, 0])
    pool = {}
    for name, rows in features.items():
        order = halves.permutation(len(rows))
        pool[name] = rows[order[len(order) // 2 :] if test else order[: len(order) // 2]].flatten(0, 1)
    rng = np.random.default_rng([seed, 1 + test])
    return [_compose(pool, number % 2, rng) for number in range(count)]


def _compose(pool: dict[str, torch.Tensor], label: int, rng: np.random.Generator) -> Bag:
    size = int(rng.integers(180, 361))
    tumour = max(1, round(size * rng.uniform(0.02, 0.06)))
    parts = [_drawn(pool[NORMAL], size - tumour, rng), _drawn(pool[TUMOURS[label]], tumour, rng)]
    return Bag(torch.cat(parts)[rng.permutation(size)], label=label)


def _drawn(rows: torch.Tensor, count: int, rng: np.random.Generator) -> torch.Tensor:
    return rows[rng.choice(len(rows), count, replace=count > len(rows))]


def _encoded(paths: list[Path], encoder: object) -> np.ndarray:
    return np.stack([encoder.encode(_patches(path)).astype(np.float32) for path in paths])


def _patches(path: Path) -> np.ndarray:
    picture = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    steps = range(0, 3 * PATCH_PX, PATCH_PX)
    return np.stack([picture[y : y + PATCH_PX, x : x + PATCH_PX] for y in steps for x in steps])
