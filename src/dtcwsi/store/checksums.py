"""By which file of a slide's name the features of a run's cohort were made."""

from collections.abc import Iterable
from pathlib import Path

from dtcwsi.store.features import FeaturesHeader
from dtcwsi.store.tables import read_rows, write_table

__all__ = ["read_checksums", "write_checksums"]

_FILE = "checksums.csv"
_SLIDE, _CHECKSUM = "slide_id", "slide_fingerprint"


def write_checksums(folder: Path, headers: Iterable[FeaturesHeader]) -> None:
    """Write a row a slide, without checksum where the features do not tell one.  Raises: StoreError."""
    write_table(
        folder / _FILE,
        (_SLIDE, _CHECKSUM),
        [(header.slide_id, header.slide_fingerprint or "") for header in headers],
    )


def read_checksums(folder: Path) -> dict[str, str]:
    """Read the checksums that are known, by slide id; none of a run that kept none, or where the file was edited."""
    pairs = ((row.get(_SLIDE), row.get(_CHECKSUM)) for row in read_rows(folder / _FILE))
    return {slide_id: checksum for slide_id, checksum in pairs if slide_id and checksum}
