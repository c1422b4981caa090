"""Every error that a user's input can cause.

::

    DtcwsiError
    ├── UsageError           the request itself cannot be carried out: arguments, tables, folders; exit status 2
    │   ├── CohortError      a labels or cohort table
    │   ├── UnknownNameError a name that no registry knows
    │   └── OptionError      an option that a model or a compressor does not take
    ├── SlideError           one slide file: truncated, unreadable, not a slide
    │   └── SpacingError     one slide file without a believable um/px
    ├── EncoderError         weights or packages that an encoder needs
    ├── FeaturesError        one feature file: NaN, another width, wrong layout
    ├── BudgetError          a compression budget that cannot be met
    └── StoreError           the disk: full, read-only, locked

A message says what, got, expected and remedy, in one sentence. One slide's error never ends a batch.
"""

__all__ = [
    "BudgetError",
    "CohortError",
    "DtcwsiError",
    "EncoderError",
    "FeaturesError",
    "OptionError",
    "SlideError",
    "SpacingError",
    "StoreError",
    "UnknownNameError",
    "UsageError",
    "first_line",
    "told_of",
]


class DtcwsiError(Exception):
    """Base of every error that this package raises on purpose."""


class UsageError(DtcwsiError):
    """The request cannot be carried out as it stands; nothing was begun."""


class CohortError(UsageError):
    """A labels or cohort table cannot be used."""


class UnknownNameError(UsageError):
    """A name is in no registry; the message lists the near ones."""


class OptionError(UsageError):
    """An option is not taken here; the message lists the near ones."""


class SlideError(DtcwsiError):
    """A slide file cannot be read."""


class SpacingError(SlideError):
    """A slide records no um/px, or one that cannot be true."""


class EncoderError(DtcwsiError):
    """An encoder's weights or packages are missing or do not fit."""


class FeaturesError(DtcwsiError):
    """A feature file or a bag cannot be used."""


class BudgetError(DtcwsiError):
    """A compression budget cannot be met."""


class StoreError(DtcwsiError):
    """A file could not be written or locked."""


def first_line(error: Exception) -> str:
    """Give the first line of an error's text, or its kind if it has none."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def told_of(error: Exception) -> str:
    """Put an error into a line: its sentence if this package raised it, else its kind and first line."""
    return str(error) if isinstance(error, DtcwsiError) else f"{type(error).__name__}: {first_line(error)}"
