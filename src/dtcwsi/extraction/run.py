"""One pass over a cohort of slides, safe to kill, to repeat and to run beside itself."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from dtcwsi.encoders import Encoder
from dtcwsi.errors import DtcwsiError, StoreError
from dtcwsi.extraction.failure import failure_sentence
from dtcwsi.extraction.table import ProcessedSlides
from dtcwsi.memory import give_back
from dtcwsi.patches import GridParameters, QualityParameters, RegionChoice
from dtcwsi.pipeline import SlideJob, SlideResult, check_encoder, extract_slide
from dtcwsi.store.atomic import sweep, try_lock
from dtcwsi.store.tables import SlideTable
from dtcwsi.tissue import TissueParameters

__all__ = ["Extraction", "Summary", "run_extraction"]

_WAIT_S = 0.5
_GIVE_BACK_S = 5.0  # it takes a tenth of a second, more than a finished slide does


@dataclass(frozen=True)
class Extraction:
    """What is done to every slide; see `dtcwsi.pipeline.SlideJob`.

    ``spacing_um`` is for slides that record none; ``spacing_by_slide`` replaces what those slides record. With
    ``as_recorded`` each slide keeps the parameters that its patches on disk were cut with. Unless ``any_spacing``, an
    encoder trained at another um/px than the patches' is refused.
    """

    out: Path
    tissue: TissueParameters = field(default_factory=TissueParameters)
    grid: GridParameters | None = field(default_factory=GridParameters)
    encoder: Encoder | None = None
    spacing_um: float | None = None
    spacing_by_slide: dict[str, float] = field(default_factory=dict)
    as_recorded: bool = False
    any_spacing: bool = True
    workers: int = 0
    tissue_from: Path | None = None
    regions: RegionChoice | None = None
    quality: QualityParameters | None = None

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
            any_spacing=self.any_spacing,
            workers=self.workers,
            tissue_from=self.tissue_from,
            regions=self.regions,
            quality=self.quality,
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
    def kept(self) -> list[str]:
        """Slides that were finished already."""
        return [slide_id for slide_id, result in self.results.items() if not result.done]

    @property
    def seconds(self) -> dict[str, float]:
        """The seconds of this process by step, of all slides together."""
        total: dict[str, float] = {}
        for result in self.results.values():
            for step, took in result.seconds.items():
                total[step] = total.get(step, 0.0) + took
        return total

    @property
    def encoded(self) -> list[SlideResult]:
        """Slides whose patches were encoded in this pass."""
        return [result for result in self.results.values() if "features" in result.done]

    @property
    def empty(self) -> dict[str, str]:
        """Slides without a patch, by id, and why."""
        return {slide_id: result.no_patches for slide_id, result in self.results.items() if result.n_patches == 0}


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
    Raises: CohortError if ``slides.csv`` was edited into something unreadable; EncoderError if the folder of the
    encoder's name holds features of another one.
    """
    out, encoder = extraction.out, extraction.encoder
    if encoder is not None:  # whose features never lie beside another's: any one file tells
        for file in sorted((out / "features" / encoder.name).glob("*.h5"))[:1]:
            check_encoder(encoder, file)
    sweep(out)
    run = _Run(
        ProcessedSlides(out),
        failed=SlideTable(out / "failed.csv", ("step", "reason"), key="slide"),
        empty=SlideTable(out / "empty.csv", ("path", "reason")),
        as_recorded=extraction.as_recorded,
    )
    run.failed.begin()
    run.empty.begin()
    summary = Summary()
    waiting, turned_away, given_back = deque(slides.values()), 0, time.monotonic()
    while waiting:
        path = waiting.popleft()
        outcome = run.locked(replace(extraction.job(path), on_patches=on_patches))
        if outcome is None:
            waiting.append(path)
            turned_away += 1
            if turned_away >= len(waiting):
                time.sleep(_WAIT_S)
            continue
        turned_away = 0
        if time.monotonic() - given_back > _GIVE_BACK_S:
            give_back()
            given_back = time.monotonic()
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
    as_recorded: bool

    def locked(self, job: SlideJob) -> SlideResult | tuple[str, str, str] | None:
        """Do one slide; None if another process has it in hand."""
        try:
            with try_lock(job.out / ".locks" / f"{job.slide_id}.lock") as mine:
                return self.one(job) if mine else None
        except StoreError as error:
            return self.note(job.slide_id, "tables", error)

    def one(self, job: SlideJob) -> SlideResult | tuple[str, str, str]:
        steps = ["tables"]
        job = replace(job, on_step=steps.append)
        try:
            if self.as_recorded:
                job, parameters_from = job.as_recorded(), self.processed.source(job)
            else:
                parameters, parameters_from = self.processed.parameters(job)
                job = replace(job, tissue=parameters)
            result = extract_slide(job)
            steps.append("tables")
            self.processed.record(job, result, parameters_from)
            self.failed.drop(job.slide_id)
            if result.n_patches == 0:
                self.empty.put(job.slide_id, path=job.path, reason=result.no_patches)
            elif result.n_patches is not None:
                self.empty.drop(job.slide_id)
        except Exception as error:  # noqa: BLE001 - whatever one slide does, the others are done
            return self.note(job.slide_id, steps[-1], error)
        return result

    def note(self, slide_id: str, step: str, error: Exception) -> tuple[str, str, str]:
        """Write a failure down and return it."""
        reason = failure_sentence(slide_id, error)
        try:
            self.failed.put(slide_id, step=step, reason=reason)
        except DtcwsiError as unwritten:
            reason = f"{reason} (and failed.csv could not be written: {unwritten})"
        return slide_id, step, reason
