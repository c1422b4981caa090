"""Patches to embeddings: encoders by name, none loaded until used."""

from dtcwsi.encoders.base import Encoder
from dtcwsi.encoders.loading import ENCODERS, load_encoder

__all__ = ["ENCODERS", "Encoder", "load_encoder"]
