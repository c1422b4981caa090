"""What a TCGA slide's name says: its patient, the site that sent it, the kind of tissue and of slide."""

import re
from dataclasses import dataclass

__all__ = ["Barcode", "barcode_of", "patient_of"]

_PATTERN = re.compile(
    r"TCGA-(?P<site>[A-Z0-9]{2})-(?P<participant>[A-Z0-9]{4})"
    r"(?:-(?P<sample>\d{2})[A-Z]?(?:-\d{2}[A-Z]?)?(?:-(?P<slide>[A-Z]{2}[A-Z0-9]*))?)?(?![A-Z0-9])",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Barcode:
    """A TCGA barcode: ``patient`` TCGA-02-0001, its tissue source ``site`` 02, ``sample`` type and ``slide``.

    ``sample`` is 01 for a primary tumour, 06 for a metastasis, 11 for normal tissue; ``slide`` DX1 for a diagnostic
    slide, TS1, BS1 or MS1 for frozen sections; None where the name ends before them.
    Source: the GDC's encyclopedia, "TCGA Barcode".
    """

    patient: str
    site: str
    sample: str | None
    slide: str | None


def barcode_of(slide_id: str) -> Barcode | None:
    """Read the barcode that a slide's name begins with, or None."""
    found = _PATTERN.match(slide_id)
    if found is None:
        return None
    site, participant, sample, slide = (
        None if part is None else part.upper() for part in found.group("site", "participant", "sample", "slide")
    )
    return Barcode(f"TCGA-{site}-{participant}", str(site), sample, slide)


def patient_of(slide_id: str) -> str:
    """Name a slide's patient: that of its TCGA barcode if it has one, else the slide itself."""
    barcode = barcode_of(slide_id)
    return slide_id if barcode is None else barcode.patient
