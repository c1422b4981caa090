"""Patches to embeddings: encoders by name, none loaded until used."""

from dtcwsi.encoders.base import Encoder
from dtcwsi.encoders.cards import EncoderCard, cards
from dtcwsi.encoders.loading import ENCODERS, load_encoder
from dtcwsi.encoders.repeats import encode_once
from dtcwsi.encoders.spacing import check_spacing
from dtcwsi.encoders.stained import StainedEncoder

__all__ = [
    "ENCODERS",
    "Encoder",
    "EncoderCard",
    "StainedEncoder",
    "cards",
    "check_spacing",
    "encode_once",
    "load_encoder",
]
