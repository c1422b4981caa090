"""Slides of PANDA: train.csv names each with its grade."""

from collections.abc import Iterable

from dtcwsi.cohorts.definitions import CohortDefinition
from dtcwsi.cohorts.judged import CohortRow, Judged, check_kinds, rows_of
from dtcwsi.cohorts.tables import GradedImage, SourceTables

__all__ = ["judge_panda"]

_GRADES = ("0", "1", "2", "3", "4", "5")


def judge_panda(definition: CohortDefinition, tables: SourceTables, on_disk: Iterable[str]) -> Judged:
    """Judge the images of train.csv by their ISUP grade; labels that are known to be noisy stay as they are.

    A patient is the image's own id, since PANDA publishes none; the site is the data provider. Images without a grade
    from 0 to 5, or with two, are refused.
    Raises: CohortError if a table is another.
    """
    check_kinds(tables.kinds, ("PANDA's train.csv",), definition.name)
    graded: dict[str, list[GradedImage]] = {}
    for image in tables.images:
        graded.setdefault(image.image_id or f"{image.table} row {image.row}", []).append(image)
    refused = {slide: why for slide, images in sorted(graded.items()) if (why := _why_refused(images))}
    label_of = {str(grade): one.label for one in definition.classes for grade in one.grades}
    rows = {slide: _row(images[0], label_of) for slide, images in sorted(graded.items()) if slide not in refused}
    doubled = {
        slide: rows_of(len(images), (image.table for image in images))
        for slide, images in graded.items()
        if len(images) > 1
    }
    return Judged(rows, {}, tuple(sorted({*on_disk} - {*graded})), doubled, refused)


def _row(image: GradedImage, label_of: dict[str, str]) -> CohortRow:
    further = {"isup_grade": image.grade, "gleason_score": image.gleason}
    return CohortRow(image.image_id, image.image_id, label_of[image.grade], image.provider, further)


def _why_refused(images: list[GradedImage]) -> str:
    """Say what is wrong with an image's rows; "" if nothing is."""
    first = images[0]
    if not first.image_id:
        return "no image_id: fill it in or take the row out"
    for image in images:
        if image.grade not in _GRADES:
            return f"{image.table} row {image.row} has isup_grade {image.grade!r}; expected 0 to 5: correct the row"
        if image.grade != first.grade:
            return (
                f"isup_grade {first.grade} in {first.table} row {first.row} and {image.grade} in {image.table} row "
                f"{image.row}; expected one grade an image: take one of the rows out"
            )
    return ""
