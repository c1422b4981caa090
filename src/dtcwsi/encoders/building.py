"""From a card to its network, and from published weights into it."""

from collections.abc import Mapping
from typing import Any

import timm
import torch
from torch import Tensor, nn

from dtcwsi.encoders.cards import EncoderCard
from dtcwsi.encoders.conv_stem import ConvStem
from dtcwsi.encoders.layouts import LAYOUTS, State
from dtcwsi.encoders.pooling import AttentionPooling, Pooled
from dtcwsi.encoders.positions import resampled
from dtcwsi.encoders.weights import mismatch
from dtcwsi.errors import EncoderError

__all__ = ["build", "fill"]

_LAYERS = {"SwiGLUPacked": timm.layers.SwiGLUPacked, "SiLU": nn.SiLU}
_POSITIONS = "trunk.pos_embed"


def build(card: EncoderCard, **changes: Any) -> nn.Module:
    """Build a card's network; ``changes`` replace options of its timm architecture, such as ``depth``.

    Raises: EncoderError if the installed timm does not know the architecture.
    """
    if not timm.is_model(card.timm):
        raise EncoderError(
            f"the encoder {card.name} needs {card.timm}, which timm {timm.__version__} has not: pip install -U timm"
        )
    options = {name: _LAYERS.get(value, value) for name, value in {**card.options, **changes}.items()}
    sized = {} if card.network == "resnet50-clam" else {"img_size": card.input_px}
    trunk = timm.create_model(card.timm, pretrained=False, num_classes=0, **sized, **options)
    if card.network == "conch":
        return AttentionPooling(trunk, card.dim, bias=card.layout == "conch")
    if card.network == "ctranspath":
        trunk.patch_embed = ConvStem()
    if card.network == "resnet50-clam":
        trunk.layer4 = nn.Identity()
    return Pooled(trunk, card.pooling)


def fill(card: EncoderCard, published: State, origin: str, **changes: Any) -> nn.Module:
    """Build a card's network with weights in their published layout; float32, without making random ones first.

    Raises: EncoderError if they are weights of another model; ``origin`` says where they are from.
    """
    network = _unfilled(card, changes)
    wanted = network.state_dict()
    state = _resized(card, LAYOUTS[card.layout](published), wanted)
    counters = {
        n: torch.zeros_like(t) for n, t in wanted.items() if n.endswith("num_batches_tracked") and n not in state
    }
    state = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    _check(card, {**counters, **state}, wanted, origin)
    network.load_state_dict({**counters, **state}, assign=True)
    return network.eval()


def _unfilled(card: EncoderCard, changes: dict[str, Any]) -> nn.Module:
    """Build a network without memory for its weights, where all that it holds is in its file."""
    if card.network == "vit" or card.network == "conch":
        try:
            with torch.device("meta"):
                return build(card, **changes)
        except (RuntimeError, NotImplementedError):  # older timm computes with tensors while it builds
            pass
    return build(card, **changes)


def _resized(card: EncoderCard, state: dict[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Bring positions of another input size to the card's."""
    if _POSITIONS not in state or _POSITIONS not in wanted or state[_POSITIONS].ndim != 3:
        return state
    rows = wanted[_POSITIONS].shape[1]
    side = int(rows**0.5)
    fitted = resampled(state[_POSITIONS], side=side, prefix=rows - side * side, how=card.positions)
    return {**state, _POSITIONS: fitted}


def _check(card: EncoderCard, state: State, wanted: Mapping[str, Tensor], origin: str) -> None:
    told = mismatch(state, wanted)
    if not told:
        return
    raise EncoderError(
        f"{origin} holds weights of another model than {card.name}: {told}; "
        f"name the encoder that they belong to, or get those of {card.name} at {card.page}"
    )
