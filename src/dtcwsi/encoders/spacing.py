"""Whether patches have the um/px that an encoder was trained at."""

from dtcwsi.encoders.base import Encoder
from dtcwsi.errors import EncoderError

__all__ = ["check_spacing"]

_TOLERANCE = 1.25
"""How many times finer or coarser patches may be: 0.5 um/px is 0.4 to 0.625."""


def check_spacing(encoder: Encoder, patch_spacing_um: float) -> None:
    """Refuse patches of another um/px than the encoder's; one that says none takes any.

    Raises: EncoderError with the um/px to ask for.
    """
    trained: tuple[float, ...] = getattr(encoder, "spacing_um", ())
    if not trained or any(1 / _TOLERANCE <= patch_spacing_um / known <= _TOLERANCE for known in trained):
        return
    known = " or ".join(f"{spacing:g}" for spacing in trained)
    nearest = min(trained, key=lambda spacing: abs(spacing - patch_spacing_um))
    raise EncoderError(
        f"the encoder {encoder.name} was trained at {known} um/px and these patches are read at {patch_spacing_um:g}; "
        f"use --patch-spacing {nearest:g}, or --any-spacing to encode them nevertheless"
    )
