"""GeoJSON as QuPath reads it, one object a line, plain or compressed."""

import gzip
import json
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from dtcwsi.store.atomic import beside

__all__ = ["object_id", "write_objects"]

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_OID, "dtcwsi patch")
_EFFORT = 5


def object_id(name: str) -> str:
    """Make the UUID of an object from what it is, so that a file that is imported again replaces its objects."""
    return str(uuid.uuid5(_NAMESPACE, name.encode(errors="backslashreplace").decode()))  # file names need not be UTF-8


def write_objects(path: Path, features: Iterable[dict[str, Any]], about: dict[str, Any] | None = None) -> None:
    """Write features as they come, so that memory does not grow with their number; ``.gz`` paths are compressed.

    ``about`` becomes the member ``dtcwsi`` of the collection, which QuPath passes over. Equal features give equal
    bytes.
    Raises: StoreError if the disk is full or the folder cannot be written.
    """
    told = "" if about is None else f'"dtcwsi": {json.dumps(about)}, '
    with beside(path) as part, _opened(part, compressed=path.suffix == ".gz") as file:
        file.write(f'{{"type": "FeatureCollection", {told}"features": ['.encode())
        for number, feature in enumerate(features):
            text = json.dumps(feature, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
            file.write(f"{',' if number else ''}\n{text}".encode())
        file.write(b"\n]}\n")


@contextmanager
def _opened(path: Path, *, compressed: bool) -> Iterator[IO[bytes]]:
    with path.open("wb") as file:
        if not compressed:
            yield file
            return
        with gzip.GzipFile("", "wb", _EFFORT, fileobj=file, mtime=0) as packed:
            yield packed  # type: ignore[misc]  # a file in all that is used here
