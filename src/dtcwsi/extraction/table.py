"""The table of processed slides: read it, edit a row, run again.

``slides.csv`` has one row a slide with the parameters of its tissue segmentation and what came of it. ``written_with``
repeats the parameters as this program wrote them: a row that differs from it was edited by a person. It is obeyed, and
marked ``table`` in ``parameters_from`` so that later runs keep obeying it. All other rows follow the command's options.
"""

from dataclasses import asdict, fields
from pathlib import Path

from dtcwsi.errors import CohortError, OptionError
from dtcwsi.pipeline import SlideJob, SlideResult
from dtcwsi.store.tables import SlideTable
from dtcwsi.tissue import TissueParameters

__all__ = ["ProcessedSlides"]

_PARAMETERS = tuple(item.name for item in fields(TissueParameters))
_SECONDS = ("tissue", "patches", "read", "encode")


class ProcessedSlides:
    """``slides.csv`` of an output folder."""

    def __init__(self, out: Path) -> None:
        seconds = tuple(f"seconds_{step}" for step in _SECONDS)
        columns = (
            "path", "spacing_um", *_PARAMETERS, "parameters_from", "tissue_mm2", "patches", *seconds, "encoder",
            "written_with"
        )  # fmt: skip
        self._table = SlideTable(out / "slides.csv", columns)
        self._table.read()  # what cannot be read is told before any slide is opened

    def rows(self) -> dict[str, dict[str, str]]:
        """All rows by slide id, as they stand in the table."""
        return self._table.read()

    def parameters(self, job: SlideJob) -> tuple[TissueParameters, str]:
        """Decide a slide's tissue parameters: from its row if a person edited it, else the job's own.

        Returns: the parameters and ``table`` or ``options``.  Raises: CohortError if an edited value is no number.
        """
        row = self._table.read().get(job.slide_id)
        if row is None or not _is_edited(row):
            return job.tissue, "options"
        return self._parse(job.slide_id, row), "table"

    def source(self, job: SlideJob) -> str:
        """Where the slide's recorded parameters came from: ``table`` or ``options``."""
        return self._table.read().get(job.slide_id, {}).get("parameters_from") or "options"

    def record(self, job: SlideJob, result: SlideResult, parameters_from: str) -> None:
        """Write a slide's row unless it stands there already."""
        known = self._table.read().get(job.slide_id, {})
        seconds, encoder = _timing(known, job, result)
        parameters = {name: f"{value!r}".removesuffix(".0") for name, value in asdict(job.tissue).items()}
        written_with = " ".join(parameters.values())
        stands = known.get("parameters_from") == parameters_from and known.get("written_with") == written_with
        if stands and not result.done:
            return
        patches = known.get("patches", "") if stands and result.n_patches is None else result.n_patches
        self._table.put(
            job.slide_id,
            path=job.path,
            spacing_um=result.spacing_um,
            **parameters,
            parameters_from=parameters_from,
            tissue_mm2=f"{result.tissue_um2 / 1e6:.3f}",
            patches="" if patches is None else patches,
            **{f"seconds_{name}": value for name, value in seconds.items()},
            encoder=encoder,
            written_with=written_with,
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


def _timing(known: dict[str, str], job: SlideJob, result: SlideResult) -> tuple[dict[str, str], str]:
    """The seconds of each step, and the encoder that those of reading and encoding belong to."""
    seconds = {name: known.get(f"seconds_{name}", "") for name in _SECONDS}
    encoder = known.get("encoder", "")
    if "patches" in result.done:  # what older patches took says nothing of these
        seconds |= {"read": "", "encode": ""}
        encoder = ""
    if "features" in result.done and job.encoder is not None:
        encoder = job.encoder.name
    seconds |= {name: f"{value:.3f}" for name, value in result.seconds.items() if name in _SECONDS}
    return seconds, encoder


def _is_edited(row: dict[str, str]) -> bool:
    """Whether a person chose the row's parameters, in this run or an earlier one; a reformatted number is no edit."""
    written = row.get("written_with", "").split()
    now = [row.get(name, "") for name in _PARAMETERS]
    return row.get("parameters_from") == "table" or [_number(text) for text in written] != [_number(t) for t in now]


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
