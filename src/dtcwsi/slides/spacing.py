"""What um/px a slide has: recorded or given, never guessed."""

from dtcwsi.errors import SpacingError

__all__ = ["SPACING_LIMITS_UM", "believable", "resolve_spacing"]

SPACING_LIMITS_UM = (0.05, 20.0)
"""um/px outside these limits are no scan of tissue: an 80x oil scan has 0.12, a thumbnail about 10."""


def believable(spacing_um: float | None) -> bool:
    """Whether a number can be the um/px of a slide."""
    low, high = SPACING_LIMITS_UM
    return spacing_um is not None and low <= spacing_um <= high


def resolve_spacing(
    name: str, recorded_um: tuple[float, float] | None, given_um: float | None, *, override: bool
) -> float:
    """Decide a slide's um/px from what the file records (x, y) and what the user gives.

    The recorded value stands unless there is none, it cannot be true, or ``override`` is set.
    Raises: SpacingError naming the remedy if no believable value is left.
    """
    low, high = SPACING_LIMITS_UM
    if given_um is not None and not believable(given_um):
        raise SpacingError(f"{name!r} was given {given_um:g} um/px; expected {low:g} to {high:g}: correct the spacing")
    if given_um is not None and override:
        return given_um
    if recorded_um is not None and all(believable(value) for value in recorded_um):
        across, down = recorded_um
        if abs(across - down) <= 0.02 * max(across, down):
            return (across + down) / 2
        problem = f"records {across:g} um/px across and {down:g} down; expected square pixels"
    elif recorded_um is not None:
        problem = f"records {recorded_um[0]:g} um/px; expected {low:g} to {high:g}"
    else:
        problem = "records no um/px"
    if given_um is not None:
        return given_um
    raise SpacingError(f"{name!r} {problem}; pass --spacing or add a spacing_um column to the cohort table")
