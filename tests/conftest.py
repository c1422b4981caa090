"""Small slides written with tifffile alone, so that the readers are tested against another hand's files."""

import math
import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
import torch
from jaxtyping import install_import_hook

# Shapes are enforced wherever tensors pass; the hook must stand before these modules are imported.
TENSOR_MODULES = ["types", "nn", "bags", "compressors", "aggregators", "classifier", "inference", "training"]
install_import_hook([f"dtcwsi.{name}" for name in TENSOR_MODULES], "beartype.beartype")
torch.set_num_threads(1)  # the tests' matrices are small

from dtcwsi.encoders import load_encoder  # noqa: E402
from dtcwsi.extraction import Extraction, Summary, run_extraction  # noqa: E402
from dtcwsi.types import Bag  # noqa: E402

GLASS = (243, 241, 244)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real slides and tiles, which not every checkout has."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("DTCWSI_SHARED", beside))
    folder = folder / "data" if (folder / "data").is_dir() else folder
    if not (folder / "slides").is_dir():
        pytest.skip(f"no shared data at {folder}; name the folder in DTCWSI_SHARED")
    return folder


def draw_tissue(side: int, discs: list[tuple[int, int, int]], seed: int = 0) -> np.ndarray:
    """Pink, textured discs (x, y, radius) on glass."""
    rng = np.random.default_rng(seed)
    grain = cv2.GaussianBlur(rng.integers(0, 255, (side, side), np.uint8), (0, 0), 2).astype(np.int16)
    stained = np.stack([180 + grain // 6, 90 + grain // 4, 150 + grain // 6], axis=-1).clip(0, 255).astype(np.uint8)
    picture = np.full((side, side, 3), GLASS, np.uint8)
    mask = np.zeros((side, side), np.uint8)
    for x, y, radius in discs:
        cv2.circle(mask, (x, y), radius, 1, thickness=-1)
    picture[mask > 0] = stained[mask > 0]
    return picture


def save_pyramid(
    path: Path, picture: np.ndarray, spacing_um: float | None = 0.5, levels: int = 3, tile: int = 256
) -> Path:
    """A generic pyramidal TIFF: JPEG tiles, one page a level, resolution tags unless the spacing is None."""
    with tifffile.TiffWriter(path) as tiff:
        for level in range(levels):
            side = (picture.shape[1] >> level, picture.shape[0] >> level)
            small = picture if level == 0 else cv2.resize(picture, side, interpolation=cv2.INTER_AREA)
            per_cm = None if spacing_um is None else (1e4 / (spacing_um * 2**level),) * 2
            tiff.write(
                small,
                tile=(tile, tile),
                compression="jpeg",
                compressionargs={"level": 90},
                photometric="rgb",
                subfiletype=1 if level else 0,
                resolution=per_cm,
                resolutionunit=None if per_cm is None else "CENTIMETER",
                metadata=None,
            )
    return path


@pytest.fixture(scope="session")
def tissue_picture() -> Callable[..., np.ndarray]:
    return draw_tissue


@pytest.fixture(scope="session")
def write_slide() -> Callable[..., Path]:
    return save_pyramid


@pytest.fixture(scope="session")
def slide_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A 1,024-px slide at 0.5 um/px with one disc of tissue, as bytes to copy."""
    return save_pyramid(tmp_path_factory.mktemp("slide") / "a.tif", draw_tissue(1024, [(500, 520, 400)])).read_bytes()


@pytest.fixture
def make_slide(tmp_path: Path, slide_bytes: bytes) -> Callable[[str], Path]:
    """Put a good slide into tmp_path/slides under a name."""

    def make(name: str) -> Path:
        path = tmp_path / "slides" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(slide_bytes)
        return path

    return make


@pytest.fixture
def extract(tmp_path: Path) -> Callable[..., Summary]:
    """Run an extraction with the colour/texture encoder into tmp_path/out; keywords go to `Extraction`."""

    def run(*slides: Path, **options: object) -> Summary:
        options = {"out": tmp_path / "out", "encoder": load_encoder("colour-texture"), "workers": 0, **options}
        return run_extraction({path.stem: path for path in slides}, Extraction(**options))

    return run


def draw_bags(sizes: list[int], seed: int = 0, dim: int = 6, coords: bool = True) -> list[Bag]:
    """Bags of random features, their patches a square grid in a random order."""
    generator = torch.Generator().manual_seed(seed)
    bags = []
    for size in sizes:
        side = math.isqrt(max(size - 1, 0)) + 1
        grid = torch.cartesian_prod(torch.arange(side), torch.arange(side))[:size] * 224
        shuffled = torch.randperm(size, generator=generator)
        features = torch.randn(size, dim, generator=generator)
        bags.append(Bag(features, grid[shuffled] if coords else None))
    return bags


@pytest.fixture(scope="session")
def make_bags() -> Callable[..., list[Bag]]:
    return draw_bags
