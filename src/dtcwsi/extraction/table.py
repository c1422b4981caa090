"""The table of processed slides: read it, edit a row, run again.

``slides.csv`` has one row a slide with the parameters of its tissue segmentation and what came of it. A row whose
parameters differ from those the slide was processed with was edited: it is obeyed, and marked ``table`` in
``parameters_from`` so that later runs keep obeying it. All other rows follow the command's options.
"""

from dataclasses import asdict, fields
from pathlib import Path

from dtcwsi.errors import CohortError, OptionError
from dtcwsi.pipeline import SlideJob, SlideResult
from dtcwsi.store.contours import read_provenance
from dtcwsi.store.tables import SlideTable
from dtcwsi.tissue import TissueParameters

__all__ = ["ProcessedSlides"]

_PARAMETERS = tuple(item.name for item in fields(TissueParameters))
_SECONDS = ("tissue", "read", "encode")


class ProcessedSlides:
    """``slides.csv`` of an output folder."""

    def __init__(self, out: Path) -> None:
        seconds = tuple(f"seconds_{step}" for step in _SECONDS)
        columns = ("path", "spacing_um", *_PARAMETERS, "parameters_from", "tissue_mm2", "patches", *seconds)
        self._table = SlideTable(out / "slides.csv", columns)
        self._rows = self._table.read()

    def parameters(self, job: SlideJob) -> tuple[TissueParameters, str]:
        """Decide a slide's tissue parameters: from its row if a person edited it, else the job's own.

        Returns: the parameters and ``table`` or ``options``.  Raises: CohortError if an edited value is no number.
        """
        row = self._rows.get(job.slide_id)
        used = read_provenance(job.contours_file).get("parameters")
        if row is None or used is None:
            return job.tissue, "options"
        tabled = self._parse(job.slide_id, row)
        if row.get("parameters_from") == "table" or asdict(tabled) != used:
            return tabled, "table"
        return job.tissue, "options"

    def record(self, job: SlideJob, result: SlideResult, parameters_from: str) -> None:
        """Write a slide's row unless it stands there already."""
        known = self._rows.get(job.slide_id)
        if known is not None and not result.done and known["parameters_from"] == parameters_from:
            return
        seconds = {name: known.get(f"seconds_{name}", "") if known else "" for name in _SECONDS}
        seconds |= {name: f"{value:.3f}" for name, value in result.seconds.items() if name in _SECONDS}
        self._table.put(
            job.slide_id,
            path=job.path,
            spacing_um=result.spacing_um,
            **{name: f"{value:g}" for name, value in asdict(job.tissue).items()},
            parameters_from=parameters_from,
            tissue_mm2=f"{result.tissue_um2 / 1e6:.3f}",
            patches="" if result.n_patches is None else result.n_patches,
            **{f"seconds_{name}": value for name, value in seconds.items()},
        )

    def _parse(self, slide_id: str, row: dict[str, str]) -> TissueParameters:
        values: dict[str, float | int] = {}
        for item in fields(TissueParameters):
            try:
                number = float(row[item.name])
                values[item.name] = int(number) if item.type in (int, "int") else number
            except (KeyError, ValueError, OverflowError) as error:
                raise CohortError(
                    f"{self._table.path}, row {slide_id!r}: {item.name} is {row.get(item.name)!r}; expected a number: "
                    "correct the row or delete it"
                ) from error
        try:
            return TissueParameters(**values)  # type: ignore[arg-type]
        except OptionError as error:
            raise CohortError(f"{self._table.path}, row {slide_id!r}: {error}") from error
