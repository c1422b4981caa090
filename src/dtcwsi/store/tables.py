"""Small CSV tables with one row a slide, shared by processes and edited by people."""

import csv
import io
from pathlib import Path

from dtcwsi.errors import CohortError
from dtcwsi.store.atomic import folder_lock, write_text

__all__ = ["SlideTable"]


class SlideTable:
    """A CSV keyed by its first column; every change re-reads the file under the folder's lock and replaces it whole."""

    def __init__(self, path: Path, columns: tuple[str, ...], *, key: str = "slide_id") -> None:
        self.path, self.columns, self._key = path, (key, *columns), key

    def read(self) -> dict[str, dict[str, str]]:
        """Read all rows by slide id; no file means no rows.

        Raises: CohortError if the table has lost its key column.
        """
        try:
            text = self.path.read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            return {}
        reader = csv.DictReader(io.StringIO(text))
        if self._key not in (reader.fieldnames or ()):
            raise CohortError(
                f"{self.path} has the columns {', '.join(reader.fieldnames or ['none'])}; expected "
                f"{', '.join(self.columns)}, comma-separated: restore the header or delete the file"
            )
        return {row[self._key]: {name: value or "" for name, value in row.items() if name} for row in reader}

    def put(self, slide_id: str, **values: object) -> None:
        """Add or replace a slide's row."""
        with folder_lock(self.path.parent):
            rows = self.read()
            rows[slide_id] = {self._key: slide_id, **{name: _text(value) for name, value in values.items()}}
            self._write(rows)

    def drop(self, slide_id: str) -> None:
        """Remove a slide's row if it has one."""
        if slide_id not in self.read():
            return
        with folder_lock(self.path.parent):
            rows = self.read()
            rows.pop(slide_id, None)
            self._write(rows)

    def _write(self, rows: dict[str, dict[str, str]]) -> None:
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, self.columns, extrasaction="ignore", restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows[slide_id] for slide_id in sorted(rows))
        write_text(self.path, buffer.getvalue())


def _text(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
