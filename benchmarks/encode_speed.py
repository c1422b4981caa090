"""Patches a second that encoders make of tiles in memory, beside the network alone and a plain loop; one run.

python benchmarks/encode_speed.py [--device cuda] [--networks NAME ...] [--tiles N] [--precision P] --out FILE

Networks are timm's with random weights. alone: the network on images that lie on the device already, batch by batch of
ours; ours: `NetworkEncoder.encode_prepared` of tiles as readers hand them over, sent, normalised and brought back;
plain: a batch of 32 at a time, every tile through PIL and torchvision's usual transforms in this process, eager, in
torch's default memory format. Medians of turns.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from torchvision import transforms

from dtcwsi.encoders.network import NetworkEncoder
from provenance import provenance, save

NETWORKS = ("tf_efficientnet_lite0", "vit_small_patch16_224", "vit_large_patch16_224")
TURNS, TILE_PX, INPUT_PX, PLAIN_BATCH = 5, 256, 224, 32
HALF = (0.5, 0.5, 0.5)


def sides(name: str, tiles: np.ndarray, device: str, precision: str) -> dict[str, Callable[[], object]]:
    """Build the three sides, each a call that embeds all tiles."""
    torch.manual_seed(0)
    network = timm.create_model(name, pretrained=False, num_classes=0).eval()
    encoder = NetworkEncoder(name, network, input_px=INPUT_PX, mean=HALF, std=HALF, precision=precision, device=device)
    step, lower = encoder.batch_size, device == "cuda" and precision != "float32"
    prepared = [encoder.prepare(tiles[start : start + step]) for start in range(0, len(tiles), step)]
    usual = transforms.Compose([transforms.Resize(INPUT_PX), transforms.ToTensor(), transforms.Normalize(HALF, HALF)])
    lying = [torch.from_numpy(batch).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1 for batch in prepared]
    lying = [batch.contiguous(memory_format=torch.channels_last) for batch in lying]
    other = timm.create_model(name, pretrained=False, num_classes=0).eval().to(device)

    @torch.inference_mode()
    def alone() -> None:
        with torch.autocast(device, getattr(torch, precision), enabled=lower):
            for batch in lying:
                network(batch)

    @torch.inference_mode()
    def plain() -> None:
        with torch.autocast(device, getattr(torch, precision), enabled=lower):
            for start in range(0, len(tiles), PLAIN_BATCH):
                images = [usual(Image.fromarray(tile)) for tile in tiles[start : start + PLAIN_BATCH]]
                other(torch.stack(images).to(device)).float().cpu()

    return {"alone": alone, "ours": lambda: list(encoder.encode_prepared(prepared)), "plain": plain}


def measured(name: str, tiles: np.ndarray, device: str, precision: str) -> dict[str, float]:
    """Time the sides in turns.  Returns: patches a second, medians."""
    calls = sides(name, tiles, device, precision)
    times: dict[str, list[float]] = {side: [] for side in calls}
    for _ in range(TURNS + 1):
        for side, call in calls.items():
            began = time.perf_counter()
            call()
            if device == "cuda":
                torch.cuda.synchronize()
            times[side].append(time.perf_counter() - began)
    return {side: round(len(tiles) / statistics.median(some[1:]), 1) for side, some in times.items()}


def main() -> None:
    """Measure network by network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS[:2]))
    parser.add_argument("--tiles", type=int, default=256)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    tiles = np.random.default_rng(0).integers(0, 256, (asked.tiles, TILE_PX, TILE_PX, 3), np.uint8)
    rows = json.loads(asked.out.read_text())["rows"] if asked.out.exists() else []
    for name in asked.networks:
        made = {"network": name, "device": asked.device, "precision": asked.precision, "tiles": asked.tiles}
        row = {**made, "patches_a_second": measured(name, tiles, asked.device, asked.precision)}
        rows = [old for old in rows if any(old[key] != row[key] for key in made)] + [row]
        print(json.dumps(row), flush=True)
        save(asked.out, {**provenance(threads=torch.get_num_threads()), "rows": rows})


if __name__ == "__main__":
    main()
