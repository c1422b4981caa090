"""What a run will do, told before it does anything."""

import time
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from dtcwsi.extraction.estimate import Estimate, estimate_left
from dtcwsi.extraction.looks import look_at
from dtcwsi.extraction.run import Extraction
from dtcwsi.extraction.standing import Folder, Standing
from dtcwsi.extraction.table import ProcessedSlides
from dtcwsi.store.tables import SlideTable

__all__ = ["Plan", "plan_extraction"]


@dataclass(frozen=True)
class Plan:
    """How far the slides of a run are, by id, and what the rest will take.

    ``failed_before`` of the slides left failed in an earlier run; ``failed_looks`` says of slides tried out, by id, why
    they failed; ``seconds`` is what planning took.
    """

    standing: dict[str, Standing]
    estimate: Estimate
    failed_before: int
    failed_looks: dict[str, str]
    seconds: float

    @cached_property
    def left(self) -> frozenset[str]:
        """Slides with steps to go."""
        return frozenset(slide_id for slide_id, at in self.standing.items() if at.todo)

    @property
    def n_done(self) -> int:
        """Slides of which every file is as asked for."""
        return len(self.standing) - len(self.left)

    @cached_property
    def refusals(self) -> dict[str, str]:
        """Slides that will fail, by id, and with which sentence."""
        return {slide_id: at.refusal for slide_id, at in self.standing.items() if at.refusal}

    @property
    def n_replaced(self) -> int:
        """Slides whose finished patches or features are made anew, for they are of other options or another file."""
        return sum(at.replaces for at in self.standing.values())

    @property
    def n_slides_read(self) -> int:
        """Slides whose file was read, for it was changed after its tissue was found."""
        return sum(at.slide_read for at in self.standing.values())


def plan_extraction(slides: dict[str, Path], extraction: Extraction, *, looks: int = 0) -> Plan:
    """Find out how far each slide is and estimate the rest; nothing is written.

    It costs a listing of each folder and two or three small files a slide that was begun. Where this folder has too
    little to judge by, up to ``looks`` slides are tried out, which takes seconds to minutes each.
    Raises: CohortError if ``slides.csv`` was edited into something unreadable.
    """
    began = time.perf_counter()
    processed = ProcessedSlides(extraction.out)
    folder = Folder(extraction.out, extraction.encoder.name if extraction.encoder else None)
    jobs = {slide_id: extraction.job(path) for slide_id, path in slides.items()}
    standing = {
        slide_id: folder.standing(job, processed, as_recorded=extraction.as_recorded) for slide_id, job in jobs.items()
    }
    failed = SlideTable(extraction.out / "failed.csv", ("step", "reason"), key="slide").read()
    rows, grid, encoder = processed.rows(), extraction.grid, extraction.encoder
    estimate = estimate_left(standing, rows, grid, encoder)
    unknown = estimate.seconds is None or (grid is not None and estimate.patches is None)
    few = estimate.by_mean > 0 and estimate.like < looks
    failed_looks: dict[str, str] = {}
    if looks and (unknown or few):
        some_left = [jobs[slide_id] for slide_id, at in standing.items() if at.todo and not at.refusal]
        if estimate.seconds is not None:  # how fast encoding goes is known
            some_left = [replace(job, encoder=None) for job in some_left]
        seen, failed_looks = look_at(some_left, looks, as_recorded=extraction.as_recorded)
        estimate = estimate_left(standing, rows, grid, encoder, seen)
    return Plan(
        standing=standing,
        estimate=estimate,
        failed_before=sum(slide_id in failed for slide_id, at in standing.items() if at.todo),
        failed_looks=failed_looks,
        seconds=time.perf_counter() - began,
    )
