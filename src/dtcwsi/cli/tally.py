"""What a run has done so far, how fast, and how long the rest will take."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dtcwsi.extraction import Plan
    from dtcwsi.pipeline import SlideResult

__all__ = ["Tally"]


class Tally:
    """Counts of a run's slides and patches.

    ``done`` slides were worked on, ``kept`` ones were finished before; ``empty`` ones are among these and have no
    tissue. ``patches`` are those of this run: encoded, or without an encoder cut. ``clock`` gives seconds.
    """

    def __init__(
        self,
        slides: int,
        plan: "Plan | None" = None,
        *,
        encodes: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.slides, self.done, self.kept, self.failed, self.empty, self.patches = slides, 0, 0, 0, 0, 0
        self._todo = None if plan is None else set(plan.left)
        self._expected_s = None if plan is None else plan.estimate.seconds
        self._encodes, self._clock, self._began = encodes, clock, clock()

    def add(self, outcome: "SlideResult | tuple[str, str, str]") -> None:
        """Count a slide's result or failure."""
        if isinstance(outcome, tuple):
            self.failed += 1
            slide_id = outcome[0]
        else:
            slide_id = outcome.slide_id
            self.done += bool(outcome.done)
            self.kept += not outcome.done
            self.empty += outcome.n_patches == 0
            if outcome.done and not self._encodes:
                self.patches += outcome.n_patches or 0
        if self._todo is not None:
            self._todo.discard(slide_id)

    def add_patches(self, count: int) -> None:
        """Count encoded patches."""
        self.patches += count

    @property
    def seen(self) -> int:
        """Slides that this run has come to an end with."""
        return self.done + self.kept + self.failed

    @property
    def left(self) -> int:
        """Slides that this run has yet to look at."""
        return self.slides - self.seen

    @property
    def elapsed_s(self) -> float:
        """Seconds since the run began."""
        return self._clock() - self._began

    @property
    def patches_a_second(self) -> float | None:
        """Patches a second since the run began; None before the first."""
        return self.patches / self.elapsed_s if self.patches and self.elapsed_s > 0 else None

    @property
    def time_left_s(self) -> float | None:
        """Seconds for the slides with work left, each like the mean of those done; the plan's before there is one.

        None if nothing tells.
        """
        if not self.left:
            return 0.0
        if self.done:
            return self.elapsed_s / self.done * (self.left if self._todo is None else len(self._todo))
        return None if self._expected_s is None else max(0.0, self._expected_s - self.elapsed_s)
