"""Patches a second from a slide file to features: ours, a plain loop, CLAM's, TRIDENT's, the network alone; one run.

python benchmarks/extract_speed.py --work DIR [--published DIR] [--networks NAME ...] [--patches N] [--sides NAME ...]
    --out FILE

The first N patches of a drawn slide, in the order of its grid, with timm's networks and random weights. alone: the
network, on our back end, on the same tiles in memory, prepared. ours: `patch_batches` and `encode_prepared`, from the
second batch on. plain: OpenSlide's read_region, PIL, torchvision's usual transforms, timm eager, 32 at a time, in one
process. clam and trident: see `published_loops`. reading: tiles alone, see `tile_readers`. Sides in turns; medians.
"""

import argparse
import json
import statistics
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import openslide
import timm
import torch
from PIL import Image
from torchvision import transforms

from dtcwsi.encoders.network import NetworkEncoder
from dtcwsi.patches import GridParameters, make_grid
from dtcwsi.slides import open_slide
from dtcwsi.slides.batches import patch_batches
from dtcwsi.slides.sampling import overview
from dtcwsi.tissue import TissueParameters, segment_tissue
from dtcwsi.types import PatchGrid, SlideInfo
from extract_memory import make
from provenance import provenance, save
from published_loops import published_loops
from tile_readers import Side, readers

PATCH_PX, INPUT_PX, PLAIN_BATCH, TURNS = 256, 224, 32, 3
HALF = (0.5, 0.5, 0.5)


def grid_of(path: Path, patches: int) -> tuple[SlideInfo, PatchGrid]:
    """Find the first patches of a slide."""
    with closing(open_slide(path)) as slide:
        picture, scale = overview(slide, 16.0)
        mask = segment_tissue(picture, scale, slide.info.spacing_um, TissueParameters())
        grid = make_grid(slide.info, mask, GridParameters(PATCH_PX, slide.info.spacing_um))
        return slide.info, grid.part(slice(patches))


def extractors(name: str, info: SlideInfo, grid: PatchGrid, asked: argparse.Namespace) -> dict[str, Side]:
    """Build the sides for a network."""
    torch.manual_seed(0)
    network, other = (timm.create_model(name, pretrained=False, num_classes=0).eval() for _ in range(2))
    encoder = NetworkEncoder(name, network, input_px=INPUT_PX, mean=HALF, std=HALF).run_on(asked.backend)
    step = encoder.batch_size
    usual = transforms.Compose([transforms.Resize(INPUT_PX), transforms.ToTensor(), transforms.Normalize(HALF, HALF)])

    def read(workers: int) -> Any:
        how = {"batch_size": step, "prepare": encoder.prepare, "with_digests": True}
        return closing(patch_batches(info, grid, workers=workers, **how))

    with read(0) as batches:
        prepared = [batch.pixels for batch in batches]

    def ours() -> tuple[int, float]:
        with read(asked.workers) as batches:
            rows = encoder.encode_prepared(batch.pixels for batch in batches)
            next(rows)
            began = time.perf_counter()  # readers have started, and imported this file
            return sum(map(len, rows)), time.perf_counter() - began

    def alone() -> None:
        for _ in encoder.encode_prepared(prepared):
            pass

    @torch.inference_mode()
    def plain() -> None:
        with openslide.OpenSlide(str(info.path)) as slide:
            corners = grid.coords.tolist()
            for start in range(0, len(corners), PLAIN_BATCH):
                tiles = [
                    slide.read_region(tuple(at), 0, (PATCH_PX,) * 2) for at in corners[start : start + PLAIN_BATCH]
                ]
                other(torch.stack([usual(tile.convert("RGB")) for tile in tiles])).numpy()

    sides: dict[str, Side] = {"alone": alone, "ours": ours, "plain": plain}
    loops = published_loops(info, grid, other, usual, asked.work, asked.published) if asked.published else {}
    return {side: call for side, call in (sides | loops).items() if asked.sides is None or side in asked.sides}


def in_turns(sides: dict[str, Side], patches: int) -> dict[str, float]:
    """Time the sides in turns.  Returns: patches a second, medians."""
    rates: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(TURNS):
        for side, call in sides.items():
            began = time.perf_counter()
            count, seconds = call() or (patches, time.perf_counter() - began)
            rates[side].append(count / seconds)
    return {side: round(statistics.median(some), 1) for side, some in rates.items()}


def main() -> None:
    """Measure reading, then network by network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--published", type=Path)
    parser.add_argument("--networks", nargs="*", default=["tf_efficientnet_lite0"])
    parser.add_argument("--backend", default="onnxruntime")
    parser.add_argument("--patches", type=int, default=4000)
    parser.add_argument("--sides", nargs="*", help="of a network: alone, ours, plain, clam, trident; all without")
    parser.add_argument("--side", type=int, default=40_000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    Image.MAX_IMAGE_PIXELS = None
    info, grid = grid_of(make(asked.work, asked.side, 0), asked.patches)
    rows = json.loads(asked.out.read_text())["rows"] if asked.out.exists() else []
    for name in ["reading", *asked.networks]:
        sides = readers(info, grid, PATCH_PX) if name == "reading" else extractors(name, info, grid, asked)
        made = {"what": name, "backend": None if name == "reading" else asked.backend, "side": asked.side}
        row = {**made, "patches": len(grid), "patches_a_second": in_turns(sides, len(grid))}
        rows = [old for old in rows if any(old[key] != row[key] for key in made)] + [row]
        print(json.dumps(row), flush=True)
        threads = torch.get_num_threads()
        save(asked.out, {**provenance(threads=threads, workers=asked.workers), "rows": rows})


if __name__ == "__main__":
    main()
