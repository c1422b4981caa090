"""One pass over a cohort of slides, safe to kill, to repeat and to run beside itself."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from dtcwsi.encoders import Encoder
from dtcwsi.errors import DtcwsiError
from dtcwsi.extraction.table import ProcessedSlides
from dtcwsi.patches import GridParameters
from dtcwsi.pipeline import SlideJob, SlideResult, extract_slide
from dtcwsi.store.atomic import sweep, try_lock
from dtcwsi.store.tables import SlideTable
from dtcwsi.tissue import TissueParameters

__all__ = ["Extraction", "Summary", "run_extraction"]

_WAIT_S = 0.5


@dataclass(frozen=True)
class Extraction:
    """What is done to every slide; see `dtcwsi.pipeline.SlideJob`.

    ``spacing_um`` is for slides that record none; ``spacing_by_slide`` replaces what those slides record.
    """

    out: Path
    tissue: TissueParameters = field(default_factory=TissueParameters)
    grid: GridParameters | None = field(default_factory=GridParameters)
    encoder: Encoder | None = None
    spacing_um: float | None = None
    spacing_by_slide: dict[str, float] = field(default_factory=dict)
    workers: int = 1

    def job(self, path: Path) -> SlideJob:
        """The job of one slide."""
        own = self.spacing_by_slide.get(path.stem)
        return SlideJob(
            path=path,
            out=self.out,
            tissue=self.tissue,
            grid=self.grid,
            encoder=self.encoder,
            spacing_um=self.spacing_um if own is None else own,
            override_spacing=own is not None,
            workers=self.workers,
        )


@dataclass
class Summary:
    """What came of a cohort: results by slide id, and failures as (slide id, step, reason)."""

    results: dict[str, SlideResult] = field(default_factory=dict)
    failed: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def redone(self) -> list[str]:
        """Slides for which anything was computed."""
        return [slide_id for slide_id, result in self.results.items() if result.done]

    @property
    def empty(self) -> list[str]:
        """Slides in which no patch has tissue."""
        return [slide_id for slide_id, result in self.results.items() if result.n_patches == 0]


def run_extraction(
    slides: dict[str, Path],
    extraction: Extraction,
    *,
    on_slide: Callable[[SlideResult | tuple[str, str, str]], None] | None = None,
    on_patches: Callable[[int], None] | None = None,
) -> Summary:
    """Take every slide through the pipeline and keep the folder's tables.

    ``failed.csv`` and ``empty.csv`` list what needs a look; a slide that succeeds later leaves them. A slide that
    another process has in hand is left for the end of the pass and then only checked. ``on_slide`` hears each result
    or failure, ``on_patches`` how many patches were encoded.
    Raises: CohortError if ``slides.csv`` was edited into something unreadable.
    """
    out = extraction.out
    sweep(out)
    run = _Run(
        ProcessedSlides(out),
        failed=SlideTable(out / "failed.csv", ("step", "reason"), key="slide"),
        empty=SlideTable(out / "empty.csv", ("path",)),
    )
    summary = Summary()
    waiting, turned_away = deque(slides.values()), 0
    while waiting:
        path = waiting.popleft()
        with try_lock(out / ".locks" / f"{path.stem}.lock") as mine:
            if not mine:
                waiting.append(path)
                turned_away += 1
                if turned_away >= len(waiting):
                    time.sleep(_WAIT_S)
                continue
            turned_away = 0
            outcome = run.one(replace(extraction.job(path), on_patches=on_patches))
        if isinstance(outcome, SlideResult):
            summary.results[path.stem] = outcome
        else:
            summary.failed.append(outcome)
        if on_slide is not None:
            on_slide(outcome)
    return summary


@dataclass(frozen=True)
class _Run:
    """The tables of an output folder, and how one slide changes them."""

    processed: ProcessedSlides
    failed: SlideTable
    empty: SlideTable

    def one(self, job: SlideJob) -> SlideResult | tuple[str, str, str]:
        try:
            parameters, parameters_from = self.processed.parameters(job)
            job = replace(job, tissue=parameters)
            result = extract_slide(job)
            self.processed.record(job, result, parameters_from)
            self.failed.drop(job.slide_id)
            if result.n_patches == 0:
                self.empty.put(job.slide_id, path=job.path)
            else:
                self.empty.drop(job.slide_id)
        except (DtcwsiError, OSError) as error:
            return self._note(job, error)
        return result

    def _note(self, job: SlideJob, error: Exception) -> tuple[str, str, str]:
        failure = (job.slide_id, _step(job), str(error))
        try:
            self.failed.put(job.slide_id, step=failure[1], reason=failure[2])
        except DtcwsiError as unwritten:
            failure = (job.slide_id, failure[1], f"{error} (and failed.csv could not be written: {unwritten})")
        return failure


def _step(job: SlideJob) -> str:
    """The first step of the job that is not finished; the slide itself could not be read if that is the tissue."""
    try:
        wanted, stored = job.digests(), job.stored_digests()
    except OSError:
        return "open"
    return next((step for step in wanted if wanted[step] != stored[step]), "tables")
