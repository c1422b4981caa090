"""A cohort's slides as all that train on them share them: nothing is read before it is needed, or twice."""

from functools import cached_property

from dtcwsi.bags.cohort import Cohort
from dtcwsi.training.data import DEFAULT_CACHE_BYTES, SlideFeatures

__all__ = ["CohortSlides"]


class CohortSlides:
    """A cohort, as its tables and the headers of its files tell, with its ``features``.

    Hand one to several trainings, and slides are read and fingerprinted for the first that needs it. Those read are
    kept in memory up to ``cache_bytes``.
    """

    def __init__(self, cohort: Cohort, *, cache_bytes: int = DEFAULT_CACHE_BYTES) -> None:
        self.cohort, self._cache_bytes = cohort, cache_bytes
        numbers = {name: number for number, name in enumerate(cohort.class_names)}
        self.features = SlideFeatures(
            [header.path for header in cohort.headers],
            [numbers[label] for label in cohort.labels],
            [header.n_patches for header in cohort.headers],
            cache_bytes=cache_bytes,
        )

    @cached_property
    def usable(self) -> "CohortSlides":
        """Read every slide, and leave out those that cannot be used.  Raises: CohortError if none is left."""
        bad = {self.cohort.slides[index].slide_id: reason for index, reason in self.features.unusable().items()}
        if not bad:
            return self
        self.features.release()
        return CohortSlides(self.cohort.without(bad), cache_bytes=self._cache_bytes)

    def release(self) -> None:
        """Give back the memory of slides that were read; they are read again when asked for."""
        self.features.release()
        if "usable" in self.__dict__:
            self.usable.features.release()
