"""Encoders that have a card: weights from the hub or from this machine, into the network that the card describes."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from dtcwsi.encoders.cards import EncoderCard, cards
from dtcwsi.encoders.network import NetworkEncoder
from dtcwsi.errors import EncoderError

__all__ = ["load_card"]


def load_card(
    card: EncoderCard, weights: Path | None = None, *, revision: str | None = None, device: str = "cpu"
) -> NetworkEncoder:
    """Load a card's encoder; ``weights`` is a local file or folder, None for the hub's at ``revision``.

    Raises: EncoderError if packages or weights are missing, or the weights are another model's.
    """
    from dtcwsi.encoders.hub import fetch_weights
    from dtcwsi.encoders.weights import find_weights, read_weights

    try:
        from dtcwsi.encoders.building import fill
    except ImportError as error:
        raise EncoderError(
            f'the encoder {card.name} needs {error.name}, which is not installed: pip install "dtcwsi[encoders]"'
        ) from error
    path = fetch_weights(card, revision) if weights is None else find_weights(weights, card.files)
    return NetworkEncoder(
        card.name,
        fill(card, read_weights(path), str(path)),
        input_px=card.input_px,
        mean=card.mean,
        std=card.std,
        resize=card.resize,
        resize_px=card.resize_px,
        precision=card.precision,
        spacing_um=card.spacing_um,
        dim=card.dim,
        device=device,
    )


def __getattr__(name: str) -> Callable[..., NetworkEncoder]:
    """Give the loader of a card by the card's name, for the registry's lazy targets."""
    if name not in cards():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return partial(load_card, cards()[name])
