"""Small CSV tables with one row a slide, shared by processes and edited by people."""

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from dtcwsi.errors import CohortError, UsageError
from dtcwsi.store.atomic import folder_lock, write_text

__all__ = ["SlideTable", "Table", "csv_text", "read_rows", "read_table", "write_table"]


class SlideTable:
    """A CSV keyed by its first column; every change re-reads the file under the folder's lock and replaces it whole.

    The file is parsed anew only when it has changed, so that asking for one slide's row costs one look at the disk.
    """

    def __init__(self, path: Path, columns: tuple[str, ...], *, key: str = "slide_id") -> None:
        self.path, self.columns, self._key = path, (key, *columns), key
        self._seen: tuple[int, int, int] | None = None
        self._rows: dict[str, dict[str, str]] = {}

    def read(self) -> dict[str, dict[str, str]]:
        """Read all rows by slide id; no file means no rows.

        Raises: CohortError if the table has lost its key column or is no text.
        """
        try:
            file = self.path.open("rb")  # network disks answer stat from memory, open from the server
        except FileNotFoundError:
            self._seen, self._rows = None, {}
            return self._rows
        with file:
            now = os.fstat(file.fileno())
            version = (now.st_ino, now.st_size, now.st_mtime_ns)
            if version != self._seen:
                self._rows, self._seen = self._parse(file.read()), version
        return self._rows

    def begin(self) -> None:
        """Write the header if there is no table yet, so that scripts find one."""
        if not self.path.exists():
            with folder_lock(self.path.parent):
                if not self.path.exists():
                    self._write({})

    def put(self, slide_id: str, **values: object) -> None:
        """Add or replace a slide's row; nothing is written if it stands there already."""
        known = self.read().get(slide_id, {})
        added_by_people = {name: value for name, value in known.items() if name not in self.columns}
        row = dict.fromkeys(self.columns, "") | {self._key: slide_id} | added_by_people
        row |= {name: _text(value) for name, value in values.items()}
        if row == known:
            return
        with folder_lock(self.path.parent):
            self._write({**self.read(), slide_id: row})

    def drop(self, slide_id: str) -> None:
        """Remove a slide's row if it has one."""
        if slide_id not in self.read():
            return
        with folder_lock(self.path.parent):
            self._write({other: row for other, row in self.read().items() if other != slide_id})

    def _parse(self, content: bytes) -> dict[str, dict[str, str]]:
        try:
            text = content.decode("utf-8-sig", errors="surrogateescape")
            reader = csv.DictReader(io.StringIO(text, newline=None))
            found = [{name: value or "" for name, value in row.items() if name} for row in reader]
        except csv.Error as error:
            raise CohortError(f"{self.path} is no CSV ({error}); save it as CSV or delete it") from error
        if self._key not in (reader.fieldnames or ()):
            raise CohortError(
                f"{self.path} has the columns {', '.join(reader.fieldnames or ['none'])}; expected "
                f"{', '.join(self.columns)}, comma-separated: restore the header or delete the file"
            )
        return {row[self._key]: row for row in found}

    def _write(self, rows: dict[str, dict[str, str]]) -> None:
        write_text(self.path, csv_text([rows[slide_id] for slide_id in sorted(rows)], self.columns))


def csv_text(rows: Sequence[Mapping[str, object]], columns: Iterable[str] = ()) -> str:
    """Lay rows out as CSV: ``columns`` first, then what else rows name, in their order; a cell not named is empty."""
    buffer = io.StringIO()
    named = dict.fromkeys([*columns, *(name for row in rows for name in row)])
    writer = csv.DictWriter(buffer, list(named), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV whole or not at all."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([columns, *rows])
    write_text(path, buffer.getvalue())


@dataclass(frozen=True)
class Table:
    """A table that people made: its ``header``, and ``rows``, each with the number of its first line in an editor."""

    header: list[str]
    rows: list[tuple[int, dict[str, str]]]


def read_table(path: Path, *, expected: str, separator: str | None = ",", comment: str | None = None) -> Table:
    """Read a table that people made; a byte-order mark, blank lines and blanks around cells do not count.

    Without a ``separator`` it is the tab where the header has one, else the comma. Between tabs a quote is a character
    like others, as in the GDC's tables; only a cell that is quoted whole loses its quotes, as other programs write it.
    Lines before the header that begin with ``comment`` are passed over. Of columns with one name the first counts.
    Raises: CohortError if the file is missing, empty, no text or no CSV, has no row, or a row with other cells than
    the header; ``expected`` says what it should hold.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise CohortError(f"{path} is not UTF-8 text; save it as CSV UTF-8") from error
    except OSError as error:
        raise CohortError(f"{path} cannot be read: {error.strerror}; expected a table with {expected}") from error
    text = text if comment is None else _without_comments(text, comment)
    lines = _numbered_lines(path, text, separator or _separator(text))
    if not lines:
        raise CohortError(f"{path} is empty; expected {expected}: save or download it again")
    header = [cell.strip() for cell in lines[0][1]]
    if len(lines) == 1:
        raise CohortError(f"{path} has a header and no row; expected {expected}")
    for number, line in lines[1:]:
        if len(line) != len(header):
            raise CohortError(
                f"{path} row {number} has {len(line)} cells; expected {len(header)}, as in the header: correct the "
                "row, or save the table again"
            )
    first = {name: header.index(name) for name in header}
    rows = [(number, {name: line[at].strip() for name, at in first.items()}) for number, line in lines[1:]]
    return Table(header, rows)


def _without_comments(text: str, mark: str) -> str:
    """Blank the comments before the header, so that rows keep their numbers."""
    lines = text.splitlines(keepends=True)
    comments = sum(1 for _ in takewhile(lambda line: line.startswith(mark) or not line.strip(), lines))
    return "\n" * comments + "".join(lines[comments:])


def _separator(text: str) -> str:
    header = next((line for line in text.splitlines() if line.strip()), "")
    return "\t" if "\t" in header else ","


def _numbered_lines(path: Path, text: str, separator: str) -> list[tuple[int, list[str]]]:
    """Cut a table into its rows that are not blank, each with the number of its first line."""
    literal = separator == "\t"
    reader = csv.reader(
        io.StringIO(text, newline=""),
        strict=True,
        delimiter=separator,
        quoting=csv.QUOTE_NONE if literal else csv.QUOTE_MINIMAL,
    )
    lines, number = [], 1
    try:
        for cells in reader:
            line = [_unwrapped(cell) for cell in cells] if literal else cells
            if any(cell.strip() for cell in line):
                lines.append((number, line))
            number = reader.line_num + 1
    except csv.Error as error:
        raise CohortError(f"{path} row {number} is no CSV ({error}); close its quotes or export it again") from error
    return lines


def _unwrapped(cell: str) -> str:
    """Take the quotes off a cell that is quoted whole, quotes inside it doubled."""
    inside = cell.strip()[1:-1]
    whole = cell.strip() == f'"{inside}"' and '"' not in inside.replace('""', "")
    return inside.replace('""', '"') if whole else cell


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read a CSV that a run wrote; no file means no rows.  Raises: UsageError if it cannot be read."""
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            return list(csv.DictReader(file))
    except FileNotFoundError:
        return []
    except (OSError, csv.Error) as error:
        raise UsageError(f"{path} cannot be read ({error}); restore it or make the run again") from error


def _text(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
