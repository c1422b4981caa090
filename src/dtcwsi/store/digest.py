"""Short digests by which a finished file knows what made it."""

import hashlib
import json
from pathlib import Path
from typing import Any

__all__ = ["content_digest", "digest", "fingerprint"]

_SAMPLE_BYTES = 65_536
_ZARR_METADATA = (".zarray", ".zattrs", ".zgroup")


def digest(*before: str, **parameters: Any) -> str:
    """Digest earlier digests and named parameters, in whatever order these are named; 16 hexadecimal digits.

    8 and 8.0 are the same parameter.
    """
    text = json.dumps(_plain([before, parameters]), sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def fingerprint(path: Path) -> str:
    """Digest a file by its size and 64 KiB from its start, middle and end: quick whatever the size.

    A folder, as an OME-Zarr is one, by the names and sizes of its files, its JSON, and 64 KiB from the start of the
    largest file and of nine between the first and the last. Two versions of a slide under
    one name get other fingerprints; a copy or a touched date does not.
    Raises: OSError if the file cannot be read.
    """
    if path.is_dir():
        return _folder_fingerprint(path)
    size = path.stat().st_size
    seen = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for start in (0, max(0, size // 2 - _SAMPLE_BYTES // 2), max(0, size - _SAMPLE_BYTES)):
            file.seek(start)
            seen.update(file.read(_SAMPLE_BYTES))
    return seen.hexdigest()[:16]


def _folder_fingerprint(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sizes = {file: file.stat().st_size for file in files}
    sampled = {files[len(files) * step // 9 - (step == 9)] for step in range(10)} if files else set()
    sampled |= {max(files, key=lambda file: sizes[file])} if files else set()
    seen = hashlib.sha256()
    for file in files:
        seen.update(f"{file.relative_to(folder).as_posix()} {sizes[file]}\n".encode())
        if file.suffix == ".json" or file.name in _ZARR_METADATA:
            seen.update(file.read_bytes())
        elif file in sampled:
            with file.open("rb") as content:
                seen.update(content.read(_SAMPLE_BYTES))
    return seen.hexdigest()[:16]


def content_digest(path: Path) -> str:
    """Digest every byte of a file: for small ones, of which any part may change.

    Raises: OSError if the file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
