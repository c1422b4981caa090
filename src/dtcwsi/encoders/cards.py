"""What is known of each published encoder: cards, read from ``cards.toml`` without loading any network."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["POOLINGS", "EncoderCard", "cards"]

POOLINGS = {
    "class": "class token",
    "class+mean": "class token and mean of patch tokens",
    "attention": "attention over all tokens",
    "mean": "mean of the last map",
}


@dataclass(frozen=True)
class EncoderCard:
    """One encoder: facts about it, how its input is prepared, how its published weights are read.

    ``spacing_um`` are the um/px it was trained at, none if it knows none; a patch is resized to ``resize_px`` (else
    ``input_px``) and its middle taken. ``dim`` is the width of a feature, ``precision`` what a GPU computes in.
    ``network``, ``timm`` and ``options`` are for `dtcwsi.encoders.building`, ``layout`` for `dtcwsi.encoders.layouts`,
    ``positions`` for `dtcwsi.encoders.positions`. ``notes`` says what could not be verified.
    """

    name: str
    title: str
    licence: str
    input_px: int
    spacing_um: tuple[float, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    dim: int
    timm: str
    citation: str
    sources: tuple[str, ...]
    hub: str | None = None
    revision: str | None = None
    files: tuple[str, ...] = ("model.safetensors", "pytorch_model.bin")
    download: str | None = None
    gated: bool = False
    resize: str = "bilinear"
    resize_px: int | None = None
    pooling: str = "class"
    precision: str = "float32"
    network: str = "vit"
    layout: str = "vit"
    positions: str = "bicubic"
    options: Mapping[str, Any] = field(default_factory=dict)
    notes: str = ""

    @property
    def page(self) -> str:
        """Where the weights are to be had."""
        return self.download or f"https://huggingface.co/{self.hub}"


@cache
def cards() -> Mapping[str, EncoderCard]:
    """Read every card, by name."""
    written = tomllib.loads(Path(__file__).with_name("cards.toml").read_text(encoding="utf-8"))
    return {name: EncoderCard(name=name, **_frozen(facts)) for name, facts in written.items()}


def _frozen(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in facts.items()}
