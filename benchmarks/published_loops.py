"""The extraction loops of CLAM and TRIDENT, run from checkouts of theirs, with any network; none of their code is here.

clam: its dataset in the loop that its extract_features_fp.py runs without a GPU, 256 at a time. trident:
`extract_patch_features` of its OpenSlide reader on the CPU, with its own number of reading processes, 256 at a time; it
writes its HDF5 file too. A checkout that is not there, or lacks a package, is left out.
"""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import openslide
import torch
from torch.utils.data import DataLoader

from dtcwsi.types import PatchGrid, SlideInfo
from tile_readers import Side

BATCH = 256


def published_loops(
    info: SlideInfo, grid: PatchGrid, network: torch.nn.Module, usual: Any, work: Path, published: Path
) -> dict[str, Side]:
    """Give the loops that can be run here as calls that embed all patches."""
    loops = {}
    for name, build in {"CLAM": clam, "TRIDENT": trident}.items():
        if (published / name).is_dir():
            sys.path.insert(0, str(published / name))
            try:
                loops[name.lower()] = build(info, grid, network, usual, work)
            except ImportError as error:
                print(f"{name} left out: {error}", flush=True)
    return loops


def clam(info: SlideInfo, grid: PatchGrid, network: torch.nn.Module, usual: Any, work: Path) -> Side:
    """Build CLAM's loop over its own dataset."""
    dataset_of = import_module("dataset_modules.dataset_h5").Whole_Slide_Bag_FP
    listed = work / "clam.h5"
    with h5py.File(listed, "w") as file:
        file["coords"] = grid.coords
        file["coords"].attrs.update(patch_level=0, patch_size=grid.patch_size_px)

    @torch.inference_mode()
    def run() -> None:
        with openslide.OpenSlide(str(info.path)) as slide:
            dataset = dataset_of(file_path=str(listed), wsi=slide, img_transforms=usual)
            for batch in DataLoader(dataset=dataset, batch_size=BATCH):
                network(batch["img"]).cpu().numpy().astype(np.float32)

    return run


def trident(info: SlideInfo, grid: PatchGrid, network: torch.nn.Module, usual: Any, work: Path) -> Side:
    """Build TRIDENT's extraction of features at coordinates in its own layout."""
    reader = import_module("trident").OpenSlideWSI
    listed = work / "trident.h5"
    with h5py.File(listed, "w") as file:
        file["coords"] = grid.coords
        told = {"patch_size": grid.patch_size_px, "patch_size_level0": grid.patch_size_px, "overlap": 0}
        file["coords"].attrs.update(told, level0_magnification=20, target_magnification=20, name=info.slide_id)
    network.eval_transforms, network.enc_name = usual, "network"

    def run() -> None:
        slide = reader(slide_path=str(info.path), mpp=info.spacing_um, lazy_init=False)
        slide.extract_patch_features(network, str(listed), str(work / "trident"), device="cpu", batch_limit=BATCH)

    return run
