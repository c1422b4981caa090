"""Seconds and memory of a heatmap of a large slide, stage by stage; each model in a process of its own.

    python benchmarks/heatmap_speed.py --out docs/results/heatmap_speed.json

The features are random numbers in a raster of patches (nothing in these stages depends on what they say), the slide a
tiled TIFF of one colour, so that its overview has to be read and averaged. The models are not trained.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
import torch

from dtcwsi.ensemble import ask
from dtcwsi.explain.fates import PatchFates
from dtcwsi.explain.heatmap import heat_of, scale_over, write_overlay
from dtcwsi.explain.heatmap.picture import draw_heatmap
from dtcwsi.explain.patch_table import write_patch_table
from dtcwsi.explain.qupath import write_outlines_geojson, write_patches_geojson
from dtcwsi.models import create_model
from dtcwsi.slides import open_slide
from dtcwsi.store.features import features_writer, read_features
from dtcwsi.types import PatchGrid
from provenance import provenance, save

PATCH = 256
SPACING_UM = 0.25
MODELS = ("abmil", "dtc-abmil")


def write_slide(path: Path, side_px: tuple[int, int]) -> None:
    """Write a slide of one colour, each level a quarter of the one before: one encoded tile stands for all."""
    tile = imagecodecs.jpeg8_encode(
        np.full((512, 512, 3), (220, 160, 200), np.uint8), 85, colorspace="rgb", subsampling="420"
    )
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        for level in range(4):
            width, height = (side >> 2 * level for side in side_px)
            tiles = -(-width // 512) * -(-height // 512)
            per_cm = 10_000 / (SPACING_UM * 4**level)
            tiff.write(
                (tile for _ in range(tiles)),
                shape=(height, width, 3),
                dtype=np.uint8,
                photometric="ycbcr",
                compression="jpeg",
                subsampling=(2, 2),
                tile=(512, 512),
                resolution=(per_cm, per_cm),
                resolutionunit="CENTIMETER",
                subfiletype=1 if level else 0,
                metadata=None,
            )


def make_inputs(folder: Path, patches: int, dim: int, side_px: tuple[int, int]) -> None:
    """Write big.h5 and big.tif."""
    columns = round((patches * side_px[0] / side_px[1]) ** 0.5)
    place = np.arange(patches)
    coords = np.stack([place % columns, place // columns], axis=1).astype(np.int64) * PATCH
    grid = PatchGrid(coords, np.ones(patches, np.float32), PATCH, PATCH, SPACING_UM)
    rng = np.random.default_rng(0)
    told = {"width_level0": side_px[0], "height_level0": side_px[1], "slide_spacing_um": SPACING_UM}
    with features_writer(folder / "big.h5", grid, dim, told) as rows:
        for begin in range(0, patches, 10_000):
            rows.append(rng.normal(size=(min(10_000, patches - begin), dim)).astype(np.float32))
    write_slide(folder / "big.tif", side_px)


class Stages:
    """Seconds of each stage by the clock and of the processor, and how far memory rose above what it was before."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, float]] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure a block."""
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before, start, worked = _memory_mib("VmRSS"), time.perf_counter(), time.process_time()
        yield
        self.rows[name] = {
            "seconds": round(time.perf_counter() - start, 2),
            "cpu_seconds": round(time.process_time() - worked, 2),
            "peak_mib": round(_memory_mib("VmHWM")),
            "extra_peak_mib": round(_memory_mib("VmHWM") - before),
        }


def _memory_mib(which: str) -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{which}:")[2].split()[0]) / 1024


def one(folder: Path, model_name: str) -> dict:
    """Draw everything for one model."""
    torch.set_num_threads(1)
    made, stages, start_mib = folder / model_name, Stages(), _memory_mib("VmRSS")
    with stages.stage("read features"):
        features = read_features(folder / "big.h5")
    torch.manual_seed(0)
    model = create_model(model_name, in_dim=features.features.shape[1], n_classes=2).eval()
    with stages.stage("predict"):
        answers = ask([model], features)
    with stages.stage("bring to patches"):
        heat = heat_of(features, answers, model_name)
        scale = scale_over("percentile", [heat.shares])
        layer = heat.layer(scale)
    del features, answers
    fates: PatchFates = heat.view.fates
    where = ("big", heat.coords, heat.patch_size_level0, fates)
    with closing(open_slide(folder / "big.tif")) as slide:
        size = (slide.info.width_px, slide.info.height_px)
        with stages.stage("draw PNG"):
            made.mkdir()
            (made / "big.png").write_bytes(draw_heatmap(heat.words, layer, scale, slide, spacing_um=SPACING_UM))
    with stages.stage("write overlay TIFF"):
        write_overlay(made / "big.overlay.tif", layer, size, spacing_um=SPACING_UM)
    with stages.stage("write CSV"):
        write_patch_table(made / "big.csv", *where[1:])
    with stages.stage("write GeoJSON of patches"):
        write_patches_geojson(made / "big.geojson", *where)
    with stages.stage("write GeoJSON of outlines"):
        write_outlines_geojson(made / "big.outlines.geojson", *where)
    total = {of: round(sum(row[of] for row in stages.rows.values()), 1) for of in ("seconds", "cpu_seconds")}
    with stages.stage("also: GeoJSON of patches, compressed"):
        write_patches_geojson(made / "big.geojson.gz", *where)
    with stages.stage("also: Parquet"):
        write_patch_table(made / "big.parquet", *where[1:])
    return {
        "model": model_name,
        "tokens_out": fates.counts.tokens_out,
        "in_all": total,
        "memory_before_mib": round(start_mib),
        "peak_mib": max(row["peak_mib"] for row in stages.rows.values()),
        "stages": stages.rows,
        "megabytes": {path.name: round(path.stat().st_size / 1e6, 1) for path in sorted(made.iterdir())},
    }


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--patches", type=int, default=100_000)
    arguments.add_argument("--dim", type=int, default=1536)
    arguments.add_argument("--width", type=int, default=110_000)
    arguments.add_argument("--height", type=int, default=70_000)
    arguments.add_argument("--out", type=Path)
    arguments.add_argument("--work", type=Path, help="Keeps the inputs.")
    arguments.add_argument("--one", nargs=2, metavar=("FOLDER", "MODEL"))
    given = arguments.parse_args()
    if given.one:
        print(json.dumps(one(Path(given.one[0]), given.one[1])))
        return
    with tempfile.TemporaryDirectory(dir=given.work) as work:
        folder = Path(work)
        make_inputs(folder, given.patches, given.dim, (given.width, given.height))
        command = [sys.executable, __file__, "--one", work]
        rows = [
            json.loads(subprocess.run([*command, model], check=True, capture_output=True, text=True).stdout)
            for model in MODELS
        ]
    sizes = {name: getattr(given, name) for name in ("patches", "dim", "width", "height")}
    result = {**provenance(**sizes, threads=1, seed=0), "rows": rows}
    if given.out:
        save(given.out, result)
    else:
        print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
