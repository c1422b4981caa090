"""Readers of a slide's tiles, ours and others, each in one process: what `extract_speed.py` compares as reading.

OpenSlide's and tiffslide's read_region; tifffile's decoding of the tiles that a patch touches, done again where patches
share them; fastslide; pyvips, with libvips' own reader. Those that are not installed are left out.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import openslide
import tifffile

from dtcwsi.slides import open_slide
from dtcwsi.types import PatchGrid, SlideInfo

Side = Callable[[], tuple[int, float] | None]
"""Embeds or reads all patches; or says how many it did in how many seconds, the first batch left out."""
Corner = tuple[int, int]


def readers(info: SlideInfo, grid: PatchGrid, patch_px: int) -> dict[str, Side]:
    """Give every reader at hand as a call that reads all patches."""
    corners = [(x, y) for x, y in grid.coords.tolist()]

    def reading(tiles: Callable[[str, list[Corner], int], Iterator[np.ndarray]]) -> Side:
        def read() -> None:
            for tile in tiles(str(info.path), corners, patch_px):
                assert tile.shape == (patch_px, patch_px, 3), tile.shape

        return read

    sides: dict[str, Side] = {name: reading(tiles) for name, tiles in READERS.items()}
    sides |= {name: reading(tiles) for name, tiles in OPTIONAL.items() if find_spec(name)}
    return {**sides, "tifffile": lambda: decode(str(info.path), corners, patch_px)}


def by_ours(path: str, corners: list[Corner], patch_px: int) -> Iterator[np.ndarray]:
    """Read as extract does."""
    with closing(open_slide(Path(path))) as slide:
        for corner in corners:
            yield slide.read(corner, (patch_px, patch_px), (patch_px, patch_px))


def by_openslide(path: str, corners: list[Corner], patch_px: int) -> Iterator[np.ndarray]:
    """Read as most extraction scripts do."""
    with openslide.OpenSlide(path) as slide:
        for corner in corners:
            yield np.asarray(slide.read_region(corner, 0, (patch_px, patch_px)).convert("RGB"))


def by_tiffslide(path: str, corners: list[Corner], patch_px: int) -> Iterator[np.ndarray]:
    """Read with OpenSlide's interface over tifffile and zarr."""
    with import_module("tiffslide").TiffSlide(path) as slide:
        for corner in corners:
            yield slide.read_region(corner, 0, (patch_px, patch_px), as_array=True)


def by_fastslide(path: str, corners: list[Corner], patch_px: int) -> Iterator[np.ndarray]:
    """Read with a tile cache as large as OpenSlide's, 32 MiB."""
    with import_module("fastslide").FastSlide.from_file_path(path, cache=32 * 2**20) as slide:
        for corner in corners:
            yield slide.read_region(corner, 0, (patch_px, patch_px)).numpy()[..., :3]


def by_pyvips(path: str, corners: list[Corner], patch_px: int) -> Iterator[np.ndarray]:
    """Fetch regions, in one thread."""
    pyvips = import_module("pyvips")
    pyvips.concurrency_set(1)
    picture = pyvips.Image.new_from_file(path, access="random")
    region = pyvips.Region.new(picture)
    for x, y in corners:
        yield np.frombuffer(region.fetch(x, y, patch_px, patch_px), np.uint8).reshape(patch_px, patch_px, -1)[..., :3]


def decode(path: str, corners: list[Corner], patch_px: int) -> None:
    """Decode the tiles that each patch touches, and nothing else."""
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        rows, columns = page.chunks[:2]
        across = -(-page.imagewidth // columns)
        for x, y in corners:
            for row in range(y // rows, -(-(y + patch_px) // rows)):
                for column in range(x // columns, -(-(x + patch_px) // columns)):
                    index = row * across + column
                    start, length = page.dataoffsets[index], page.databytecounts[index]
                    tiff.filehandle.seek(start)
                    stored = tiff.filehandle.read(length)
                    page.decode(stored, index, jpegtables=page.jpegtables)


READERS = {"ours": by_ours, "openslide": by_openslide}
OPTIONAL = {"tiffslide": by_tiffslide, "fastslide": by_fastslide, "pyvips": by_pyvips}
