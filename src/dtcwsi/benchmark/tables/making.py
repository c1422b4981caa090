"""A table made row by row, its numbers beside the paper's, told anew after every row."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from dtcwsi.benchmark.tables.comparing import Compared, compare_runs, corrected
from dtcwsi.benchmark.tables.definitions import Table, scored_as
from dtcwsi.benchmark.tables.jobs import trained_ahead
from dtcwsi.benchmark.tables.rows import MadeRow, measured_row, trained_row, with_speedups
from dtcwsi.benchmark.tables.shelf import CohortUse, Shelf

__all__ = ["MadeTable", "make_table"]


@dataclass(frozen=True)
class MadeTable:
    """All rows, the cohort that they are of, and the cohort of the paper that stands beside it.

    ``uses`` has what became of its slides, for each kind of features. ``measured`` says what slide was measured where,
    and is empty where none was. ``pending`` names rows whose turn has not come.
    """

    name: str
    table: Table
    beside: str
    cohort: str
    uses: tuple[CohortUse, ...]
    protocol: Mapping[str, Any]
    measured: str
    rows: tuple[MadeRow, ...]
    pending: tuple[str, ...] = ()

    @property
    def refused(self) -> dict[str, str]:
        """The reason of each slide that should have been used and could not be."""
        return {slide: reason for use in self.uses for slide, reason in use.refused.items()}

    @property
    def complete(self) -> bool:
        """True if every row that could be run has all its folds, and no slide was refused."""
        return not (self.pending or self.refused or any(row.failed for row in self.rows))


def make_table(
    name: str,
    table: Table,
    shelves: Sequence[Shelf],
    *,
    beside: str,
    cohort: str,
    patches: int = 13_900,
    device: str = "cpu",
    jobs: int = 1,
    tell: Callable[[str], None] = lambda _: None,
    on_row: Callable[[MadeTable], object] = lambda _: None,
) -> MadeTable:
    """Train what is missing, row by row, and set it beside the paper's column of the cohort ``beside``.

    ``shelves`` hold the runs on each kind of features; a row of a kind that is not there is not run. A row that fails
    is told and does not end the others. Tables that measure do so with one slide of ``patches`` on ``device``.
    ``jobs`` runs are trained at a time, see `trained_ahead`, and ``tell`` hears of them from another thread; slides are
    measured when all are trained. Rows whose runs are finished come first; ``on_row`` gets the table with all of these,
    then after every further row.
    """
    making = _Making(name, table, shelves, beside, cohort, patches, device, tell)
    finished = [row for row in making.to_do if making.shelf_of(row).holds(table.rows[row])]
    for row in finished:
        making.train(row)
        making.finish(row)
    if finished:
        on_row(making.told())
    quiet = jobs == 1 or not table.measured  # a clock wants quiet
    left = [(table.encoders.get(row, 0), table.rows[row]) for row in making.to_do]
    with trained_ahead(shelves, left, jobs, tell):
        for row in making.to_do:
            making.train(row)
            if quiet:
                making.finish(row)
            on_row(making.told())
    for row in making.to_do:
        making.finish(row)
        on_row(making.told())
    return making.told()


@dataclass
class _Making:
    """A table under way; ``to_do`` lists the rows still to be made."""

    name: str
    table: Table
    shelves: Sequence[Shelf]
    beside: str
    cohort: str
    patches: int
    device: str
    tell: Callable[[str], None]

    def __post_init__(self) -> None:
        self.to_do = tuple(row for row in self.table.rows if self.table.encoders.get(row, 0) < len(self.shelves))
        self._rows = {row: self._blank(row) for row in self.table.rows}
        self._compared: dict[str, Compared | None] = {}
        self._threads = torch.get_num_threads()  # of a slide's process; jobs have fewer each

    def shelf_of(self, row: str) -> Shelf:
        """Give the runs on a row's features."""
        return self.shelves[self.table.encoders.get(row, 0)]

    def train(self, row: str) -> None:
        """Train and compare a row."""
        table, shelf, what = self.table, self.shelf_of(row), self.table.rows[row]
        for other in self.shelves:
            if other is not shelf:
                other.release()
        self.tell(f"{self.name} {row}")
        self._rows[row] = trained_row(self._rows[row], table.metrics, what, shelf, self.tell)
        self._compare(one for one, reference in table.against.items() if row in (one, reference))

    def finish(self, row: str) -> None:
        """Measure a row, if its table asks for that; it is made then."""
        if self.table.measured:
            what, shelf = self.table.rows[row], self.shelf_of(row)
            self._rows[row] = measured_row(self._rows[row], what, shelf, self.patches, self.device)
        self.to_do = tuple(other for other in self.to_do if other != row)

    def told(self) -> MadeTable:
        """Put together what there is."""
        told = corrected(self._compared)
        rows = [replace(row, compared=told.get(name)) for name, row in self._rows.items()]
        threads = f"{self._threads} threads"
        return MadeTable(
            name=self.name,
            table=self.table,
            beside=self.beside,
            cohort=self.cohort,
            uses=tuple(shelf.use for shelf in self.shelves),
            protocol=self.shelves[0].protocol.told,
            measured=f"{self.patches:,} patches on {self.device}, {threads}" if self.table.measured else "",
            rows=tuple(with_speedups(rows)),
            pending=self.to_do,
        )

    def _blank(self, row: str) -> MadeRow:
        table, number = self.table, self.table.encoders.get(row, 0)
        columns = dict(table.columns.get(row, {}))
        if table.encoders and number < len(self.shelves):
            columns["encoder"] = str(self.shelves[number].cohort.made_by.get("encoder") or "unknown")
        return MadeRow(row, columns, table.paper.get(row, {}).get(self.beside, {}))

    def _compare(self, rows: Iterable[str]) -> None:
        """Compare rows of which both sides have all their folds."""
        for row in rows:
            reference = self.table.against[row]
            mine, theirs = self._rows[row], self._rows[reference]
            if mine.folders and theirs.folders and not (mine.failed or theirs.failed):
                metric = scored_as(self.table.compared_by)
                self._compared[row] = compare_runs(reference, mine.folders, theirs.folders, metric)
