"""What a slide of 13,900 patches costs by stage, for three encoders: read, encode, write, compress, aggregate.

python benchmarks/stage_costs.py --work DIR [--patches 13900] [--encoded 1000] [--backend onnxruntime] --out FILE

One drawn slide, the first patches of its grid; random weights, which cost what trained ones do. read: `patch_batches`
with one reading process, each batch prepared for the encoder. encode: `encode_prepared` of batches in memory, after the
first; at most ``--encoded`` patches are encoded and their seconds scaled to all. write: features to their HDF5 file, to
the disk. compress and aggregate: dtc-abmil at r = 0.4 on features as wide as the encoder's, in a process of its own.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import timm
import torch

from dtcwsi.benchmark.measuring import measure
from dtcwsi.encoders import Encoder, load_encoder
from dtcwsi.encoders.network import NetworkEncoder
from dtcwsi.slides.batches import patch_batches
from dtcwsi.store.features import features_writer, read_features
from dtcwsi.types import PatchGrid, SlideInfo
from extract_memory import make
from extract_speed import HALF, INPUT_PX, grid_of
from provenance import provenance, save

NETWORKS = {"efficientnet-lite0": "tf_efficientnet_lite0", "ViT-S/16": "vit_small_patch16_224"}
SIDE_PX = 34_000


def encoders(backend: str) -> Iterator[tuple[str, Encoder]]:
    """Give the encoders, cheapest first."""
    yield "colour-texture", load_encoder("colour-texture")
    for told, name in NETWORKS.items():
        torch.manual_seed(0)
        network = timm.create_model(name, pretrained=False, num_classes=0).eval()
        yield told, NetworkEncoder(name, network, input_px=INPUT_PX, mean=HALF, std=HALF).run_on(backend)


def timed(call: Callable[[], object]) -> float:
    """Seconds of a call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def encode_seconds(encoder: Encoder, info: SlideInfo, grid: PatchGrid, most: int) -> float:
    """Seconds of encoding all patches, scaled from at most ``most`` of them after the first batch."""
    prepare, together = getattr(encoder, "prepare", None), getattr(encoder, "encode_prepared", None)
    some = grid.part(slice(most + encoder.batch_size))
    with closing(patch_batches(info, some, batch_size=encoder.batch_size, workers=0, prepare=prepare)) as read:
        batches = [batch.pixels for batch in read]
    rows = together(batches) if together else map(encoder.encode, batches)
    next(rows)
    began = time.perf_counter()
    encoded = sum(len(each) for each in rows)
    return (time.perf_counter() - began) * len(grid) / encoded


def costs(encoder: Encoder, info: SlideInfo, grid: PatchGrid, asked: argparse.Namespace) -> dict[str, float]:
    """Measure every stage of one encoder, in seconds."""
    prepare, file = getattr(encoder, "prepare", None), asked.work / "features.h5"
    features = np.random.default_rng(0).normal(size=(len(grid), encoder.dim)).astype(np.float32)

    def read() -> None:
        with closing(patch_batches(info, grid, batch_size=encoder.batch_size, workers=1, prepare=prepare)) as batches:
            for _ in batches:
                pass

    def write() -> None:
        with features_writer(file, grid, encoder.dim, {"slide_id": "drawn"}) as writer:
            for start in range(0, len(features), encoder.batch_size):
                writer.append(features[start : start + encoder.batch_size])

    seconds = {"read": timed(read), "encode": encode_seconds(encoder, info, grid, asked.encoded)}
    seconds |= {"write": timed(write), "read features": timed(lambda: read_features(file))}
    model = measure("dtc-abmil", {"retention": 0.4}, in_dim=encoder.dim, patches=len(grid))
    return seconds | {"compress": model.compress_ms / 1000, "aggregate": model.aggregate_ms / 1000}


def main() -> None:
    """Measure encoder by encoder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--patches", type=int, default=13_900)
    parser.add_argument("--encoded", type=int, default=1000)
    parser.add_argument("--backend", default="onnxruntime")
    parser.add_argument("--side", type=int, default=SIDE_PX)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    info, grid = grid_of(make(asked.work, asked.side, 0), asked.patches)
    rows = []
    with closing(patch_batches(info, grid.part(slice(1)), batch_size=1, workers=1)) as first:
        next(first)  # reading processes come from a server that has to start once
    for name, encoder in encoders(asked.backend):
        seconds = {stage: round(value, 4) for stage, value in costs(encoder, info, grid, asked).items()}
        rows.append({"encoder": name, "dim": encoder.dim, "patches": len(grid), "seconds": seconds})
        print(json.dumps(rows[-1]), flush=True)
    told = {"encoded": asked.encoded, "backend": asked.backend, "threads": torch.get_num_threads()}
    save(asked.out, {**provenance(**told), "rows": rows})


if __name__ == "__main__":
    main()
