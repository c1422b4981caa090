"""Plain pictures as small slides: PNG, JPEG, BMP with a given um/px."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dtcwsi.errors import SlideError
from dtcwsi.slides.sampling import SampledReader
from dtcwsi.slides.spacing import resolve_spacing
from dtcwsi.types import SlideInfo

__all__ = ["PICTURE_SUFFIXES", "PictureReader"]

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp"})

_PNG, _JPEG, _BMP = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM"
_TAIL_BYTES = 1024


class PictureReader(SampledReader):
    """A picture that is held whole in memory, as a slide of one level; see `dtcwsi.types.SlideReader`.

    Its um/px must be given: what such files record is meant for printers. It is taken as stored, whatever the way up
    that a camera noted. 16 bits become 8, grey becomes RGB, and fully transparent pixels white.
    Memory: 3 bytes a pixel in every process that reads it.
    Raises: SlideError if the file is cut off or cannot be decoded; SpacingError if no um/px is given.
    """

    def __init__(self, path: Path, *, spacing_um: float | None = None, override: bool = False) -> None:
        spacing = resolve_spacing(path.name, None, spacing_um, override=override)
        self._pixels = _decoded(path)
        height, width = self._pixels.shape[:2]
        self._info = SlideInfo(path.stem, path, width, height, spacing, (1.0,), "picture")

    @staticmethod
    def reads(path: Path) -> bool:
        """Whether the file begins as a PNG, JPEG or BMP does."""
        with path.open("rb") as file:
            return file.read(8).startswith((_PNG, _JPEG, _BMP))

    def close(self) -> None:
        """Release the memory."""
        self._pixels = np.zeros((0, 0, 3), np.uint8)

    def _read_level(
        self,
        level: int,  # noqa: ARG002  # there is but one
        top_left_level0: tuple[int, int],
        level_size: tuple[int, int],
    ) -> NDArray[np.uint8]:
        (left, top), (width, height) = top_left_level0, level_size
        box = np.full((height, width, 3), 255, np.uint8)
        part = self._pixels[max(0, top) : max(0, top + height), max(0, left) : max(0, left + width)]
        y, x = max(0, -top), max(0, -left)
        box[y : y + part.shape[0], x : x + part.shape[1]] = part
        return box


def _decoded(path: Path) -> NDArray[np.uint8]:
    """The picture as (height, width, 3) RGB."""
    content = path.read_bytes()
    if not _is_whole(content):
        raise SlideError(f"{path.name!r} ends after {len(content):,} bytes, before the picture does: copy it again")
    try:
        stored = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        what = " ".join(str(error).split())[-120:]
        raise SlideError(f"{path.name!r} cannot be decoded ({what}); save it as a pyramidal TIFF") from error
    if stored is None:
        raise SlideError(f"{path.name!r} cannot be decoded; expected a whole PNG, JPEG or BMP: copy it again")
    if stored.dtype == np.uint16:
        stored = (stored // 257).astype(np.uint8)
    channels = 1 if stored.ndim == 2 else stored.shape[2]
    if stored.dtype != np.uint8 or channels not in (1, 3, 4):
        got = f"{stored.dtype} with {channels} channels a pixel"
        raise SlideError(f"{path.name!r} holds {got}; expected 8 or 16 bits of grey, RGB or RGBA: convert it to RGB")
    how = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}[channels]
    rgb = np.asarray(cv2.cvtColor(stored, how), np.uint8)
    if channels == 4:
        rgb[stored[..., 3] == 0] = 255
    return rgb


def _is_whole(content: bytes) -> bool:
    """Whether the end of the picture is there; decoders paint what is missing grey."""
    if content.startswith(_PNG):
        return b"IEND" in content[-_TAIL_BYTES:]
    if content.startswith(_JPEG):
        return b"\xff\xd9" in content[-_TAIL_BYTES:]
    return len(content) >= int.from_bytes(content[2:6], "little")
