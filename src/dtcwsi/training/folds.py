"""Which slides each fold trains on, validates on and tests: drawn, fixed by the labels table, or named by files."""

from collections.abc import Sequence
from pathlib import Path

from dtcwsi.bags.cohort import Cohort, LabelledSlide
from dtcwsi.bags.split_files import read_splits
from dtcwsi.bags.splits import Split, assign_folds, given_splits, make_split
from dtcwsi.errors import OptionError
from dtcwsi.options import check_whole_number, one_of

__all__ = ["GROUPS", "FoldChoice"]

GROUPS = ("patient", "site")


class FoldChoice:
    """How a cohort is dealt out: into ``folds`` by ``group``, or by the partitions of split ``files``.

    Without any of it, into the folds of the labels table or else five.
    Raises: OptionError for a number or a name that is none, or for files together with the rest.
    """

    def __init__(self, folds: int | None, group: str, files: Sequence[str | Path]) -> None:
        if folds is not None:
            check_whole_number("folds", folds, least=2)
        self.folds, self.group, self.files = folds, one_of("group", group, GROUPS), tuple(map(Path, files))
        if self.files and (folds is not None or group != "patient"):
            raise OptionError("got split files together with folds or group; the files say what the folds are")

    def settings(self, splits: Sequence[Split]) -> dict[str, object]:
        """Tell what is not the common way, for a run's settings."""
        if self.files:
            return {"splits": [[list(split.train), list(split.val), list(split.test)] for split in splits]}
        return {} if self.group == "patient" else {"group": self.group, "validation": "by site"}

    def seen_of(self, slide: LabelledSlide) -> tuple[str | None, ...]:
        """What of a slide decides, beside label and patient, where it goes."""
        return () if self.group == "patient" else (slide.site,)

    def shared_sites(self, cohort: Cohort, split: Split) -> tuple[str, ...]:
        """List the sites that are in training and in validation though whole ones were asked for."""
        if self.group != "site":
            return ()
        return tuple(sorted({cohort.sites[i] for i in split.train} & {cohort.sites[i] for i in split.val}))

    def strangers(self, cohort: Cohort) -> tuple[str, ...]:
        """List slides of the files that the cohort lacks."""
        known = {slide.slide_id for slide in cohort.slides}
        return tuple(slide for slide in read_splits(self.files).slides if slide not in known) if self.files else ()

    def of(self, cohort: Cohort, *, seed: int) -> tuple[Split, ...]:
        """Deal a cohort out.  Raises: CohortError if it cannot be."""
        labels, patients = cohort.labels, cohort.patients
        if self.files:
            slides = [slide.slide_id for slide in cohort.slides]
            return given_splits(read_splits(self.files).partitions, slides, labels, patients, seed=seed)
        fixed, sites = cohort.fixed_folds, cohort.sites if self.group == "site" else None
        if sites is not None and fixed is not None:
            raise OptionError("got group='site', but the labels have a column 'fold'; leave one of the two out")
        assigned = assign_folds(labels, patients, folds=self.folds, seed=seed, fixed=fixed, sites=sites)
        numbers = sorted(set(assigned))
        return tuple(make_split(labels, patients, assigned, fold, seed=seed, sites=sites) for fold in numbers)
