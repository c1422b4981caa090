"""Slides of PANDA: train.csv names each with its grade."""

from collections.abc import Iterable

from dtcwsi.cohorts.definitions import CohortDefinition
from dtcwsi.cohorts.judged import CohortRow, Judged, check_kinds, rows_of
from dtcwsi.cohorts.tables import GradedImage, SourceTables
from dtcwsi.errors import CohortError

__all__ = ["judge_panda"]


def judge_panda(definition: CohortDefinition, tables: SourceTables, on_disk: Iterable[str]) -> Judged:
    """Judge the images of train.csv by their ISUP grade; labels that are known to be noisy stay as they are.

    A patient is the image's own id, since PANDA publishes none; the site is the data provider.
    Raises: CohortError if a table is another, or one image has two grades.
    """
    check_kinds(tables.kinds, ("PANDA's train.csv",), definition.name)
    graded: dict[str, list[GradedImage]] = {}
    for image in tables.images:
        graded.setdefault(image.image_id, []).append(image)
    for same in graded.values():
        _check_agree(same)
    label_of = {grade: one.label for one in definition.classes for grade in one.grades}
    rows = {slide: _row(images[0], label_of) for slide, images in sorted(graded.items())}
    doubled = {
        slide: rows_of(len(images), (image.table for image in images))
        for slide, images in graded.items()
        if len(images) > 1
    }
    return Judged(rows, {}, tuple(sorted({*on_disk} - {*graded})), doubled)


def _row(image: GradedImage, label_of: dict[int, str]) -> CohortRow:
    further = {"isup_grade": str(image.grade), "gleason_score": image.gleason}
    return CohortRow(image.image_id, image.image_id, label_of[image.grade], image.provider, further)


def _check_agree(images: list[GradedImage]) -> None:
    first = images[0]
    other = next((image for image in images if image.grade != first.grade), None)
    if other is not None:
        raise CohortError(
            f"image {first.image_id!r} has isup_grade {first.grade} in {first.table} row {first.row} and {other.grade} "
            f"in {other.table} row {other.row}; expected one grade an image: take one of the rows out"
        )
