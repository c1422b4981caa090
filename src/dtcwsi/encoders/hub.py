"""Weights from the Hugging Face hub, at a pinned revision; from its cache where they are there."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from dtcwsi.encoders.cards import EncoderCard
from dtcwsi.errors import EncoderError

__all__ = ["asking_the_hub", "cached_weights", "fetch_weights", "has_token", "why_not_fetched"]

_MAIN = "main"


def has_token() -> bool:
    """Whether the hub's client has an access token (``hf auth login`` or HF_TOKEN)."""
    from huggingface_hub import get_token

    return get_token() is not None


def cached_weights(card: EncoderCard, revision: str | None = None) -> Path | None:
    """Find a card's weights in the hub's cache, without asking the hub.  Returns: None if they are not there."""
    from huggingface_hub import try_to_load_from_cache

    for file in card.files if card.hub else ():
        found = try_to_load_from_cache(str(card.hub), file, revision=revision or card.revision or _MAIN)
        if isinstance(found, str | os.PathLike):
            return Path(found)
    return None


def fetch_weights(card: EncoderCard, revision: str | None = None) -> Path:
    """Get a card's weights at ``revision``, else the card's, else of the hub's main branch.

    Raises: EncoderError if the card has no hub, access is not granted, or the hub cannot be reached.
    """
    try:
        import huggingface_hub  # noqa: F401
    except ImportError as error:
        raise EncoderError(
            f"the weights of {card.name} come from the hub, whose client is not installed: "
            f'pip install "dtcwsi[encoders]"; {_local(card)}'
        ) from error
    if card.hub is None:
        raise EncoderError(f"{card.name} is on no hub: get it from {card.page}; {_local(card)}")
    cached = cached_weights(card, revision)
    if cached is not None:
        return cached
    if card.gated and not has_token():
        raise EncoderError(_closed(card, "there is no token here"))
    return _downloaded(card, revision or card.revision or _MAIN)


def _downloaded(card: EncoderCard, revision: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    for file in card.files:
        try:
            with asking_the_hub():
                return Path(hf_hub_download(str(card.hub), file, revision=revision))
        except EntryNotFoundError as error:
            if isinstance(error, LocalEntryNotFoundError):  # the hub was not asked
                raise _failure(card, revision, error) from error
        except Exception as error:  # noqa: BLE001 - the hub client raises dozens of kinds
            raise _failure(card, revision, error) from error
    raise EncoderError(f"{card.hub} at {revision} has none of {', '.join(card.files)}; {_local(card)}")


@contextmanager
def asking_the_hub() -> Iterator[None]:
    """Keep the client's lines of each attempt to itself: what came of the last is told in one sentence.

    Where the hub's name leads nowhere the client looks in its cache alone, and does not try for half a minute.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils.logging import get_verbosity, set_verbosity

    before = get_verbosity(), constants.HF_HUB_OFFLINE
    set_verbosity(logging.ERROR)
    constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE or not _leads_somewhere(constants.ENDPOINT)
    try:
        yield
    finally:
        set_verbosity(before[0])
        constants.HF_HUB_OFFLINE = before[1]


def _leads_somewhere(address: str) -> bool:
    """Whether a name server knows the host; a proxy is left to ask its own."""
    if getproxies():
        return True
    try:
        socket.getaddrinfo(urlsplit(address).hostname, None)
    except OSError:
        return False
    return True


def why_not_fetched(error: Exception) -> str:
    """Say in words why the client brought nothing; by the error's own name where there are none."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    return "it cannot be reached" if isinstance(error, LocalEntryNotFoundError) else type(error).__name__


def _failure(card: EncoderCard, revision: str, error: Exception) -> EncoderError:
    from huggingface_hub.errors import (
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(error, GatedRepoError):
        return EncoderError(_closed(card, "the hub gave none" if not has_token() else "the token here was refused"))
    if isinstance(error, RevisionNotFoundError):
        return EncoderError(
            f"{card.hub} has no revision {revision}; name another: {card.name}@REVISION; {_local(card)}"
        )
    if isinstance(error, RepositoryNotFoundError):
        return EncoderError(
            f"the hub shows no {card.hub} to this machine: log in, or look at {card.page}; {_local(card)}"
        )
    if isinstance(error, LocalEntryNotFoundError):
        return EncoderError(
            f"the weights of {card.name} are not in the hub's cache, and the hub cannot be reached: download "
            f"{card.files[0]} from {card.page} elsewhere; {_local(card)}"
        )
    return EncoderError(
        f"the weights of {card.name} could not be fetched from the hub ({type(error).__name__}); {_local(card)}"
    )


def _closed(card: EncoderCard, why: str) -> str:
    return (
        f"the weights of {card.name} are gated ({card.licence}) and {why}: ask for access at {card.page}, then run "
        f"`hf auth login` or set HF_TOKEN; {_local(card)}"
    )


def _local(card: EncoderCard) -> str:
    return f"or give a local file: --encoder {card.name}:/path/to/weights"
