"""What to tell of a slide that failed."""

from dtcwsi.errors import DtcwsiError

__all__ = ["failure_sentence"]


def failure_sentence(slide_id: str, error: Exception) -> str:
    """Put what ended a slide into one line, with the remedy."""
    text = " ".join(str(error).split())
    if isinstance(error, DtcwsiError):
        return text
    if isinstance(error, OSError):
        return f"{slide_id!r} met an error of the disk ({text}); check it and run the same command again"
    return f"{slide_id!r} met an unexpected {type(error).__name__} ({text}); leave the slide out and report this"
