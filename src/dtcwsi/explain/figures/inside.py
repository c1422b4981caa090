"""One model's way with one slide: what its scorer thinks of the patches, and attention before anything is pruned."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dtcwsi.bags.packing import bag_of, pack
from dtcwsi.classifier import Classifier
from dtcwsi.compressors.stages import StagedCompressor, State
from dtcwsi.explain.fates import PatchFates, fates_of
from dtcwsi.types import CompressedBags, Features, PackedBags, Prediction

__all__ = ["Inside", "look_inside"]


@dataclass(frozen=True)
class Inside:
    """What one model made of a slide of N patches.

    ``importance`` (N,) is each patch's share of the importance that the scorer saw before the first stage, in sum 1;
    None if the model has no scorer. ``unpruned`` (N,) is the attention if all is merged as it was and nothing pruned;
    ``part`` (N,) each patch's part in its token, 0 once pruned.
    """

    prediction: Prediction
    importance: NDArray[np.float64] | None
    unpruned: NDArray[np.float64]
    part: NDArray[np.float64]

    @cached_property
    def fates(self) -> PatchFates:
        """What became of the patches in the end."""
        return fates_of(self.prediction)

    @cached_property
    def stages(self) -> list[PatchFates]:
        """What had become of the patches after each stage; its attention and percentiles are the end's."""
        by_stage = self.prediction.tokens_by_stage
        return [
            fates_of(replace(self.prediction, tokens_by_stage=by_stage[:stage], patch_to_token=by_stage[stage - 1]))
            for stage in range(1, len(by_stage) + 1)
        ]

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """The model's own probabilities (classes,)."""
        return _array(self.prediction.logits[0].double().softmax(dim=0))


def look_inside(model: Classifier, features: Features) -> Inside:
    """Ask a model about one slide, in evaluation mode, and watch its stages.

    Raises: FeaturesError as the model does.
    """
    with _evaluating(model):
        return _looked_inside(model, _packed(model, features))


def _looked_inside(model: Classifier, bags: PackedBags) -> Inside:
    tokens = model.compress(bags)
    prediction = model.predict(tokens, model.aggregate(tokens))
    part, compressor = _array(tokens.patch_weight), model.compressor
    if not isinstance(compressor, StagedCompressor) or not len(bags.features):
        return Inside(prediction, None, _array(prediction.attention), part)
    importance = None if prediction.importance is None else _array(prediction.importance)
    merged = _unpruned(bags, list(compressor.steps(bags)), tokens)
    return Inside(prediction, importance, _array(model.predict(merged, model.aggregate(merged)).attention), part)


@contextmanager
def _evaluating(model: Classifier) -> Iterator[None]:
    was_training = model.training
    model.eval()
    with torch.no_grad():
        yield
    model.train(was_training)


def _packed(model: Classifier, features: Features) -> PackedBags:
    return pack([bag_of(features)]).to(next(model.parameters()).device)


def _unpruned(bags: PackedBags, states: Sequence[State], end: CompressedBags) -> CompressedBags:
    """Make one bag's tokens of what is left and of what was pruned, as it was when last seen; without a gate."""
    part, token = states[-1].trace.weight.clone(), torch.full_like(states[-1].trace.token, -1)
    rows: list[tuple[State, Tensor]] = []
    seen = 0
    for state, after in [*pairwise(states), (states[-1], None)]:
        here = state.trace.token >= 0
        lost = here if after is None else here & (after.trace.token < 0)
        row, within = torch.unique(state.trace.token[lost], return_inverse=True)
        token[lost] = within + seen
        part[lost] = state.trace.weight[lost]
        seen += len(row)
        rows.append((state, row))

    def all_of(name: str) -> Tensor:
        return torch.cat([getattr(state.tokens, name)[row] for state, row in rows])

    anchor = all_of("anchor")
    order = torch.argsort(states[0].tokens.place[anchor])
    features = torch.cat([state.tokens.features(row) for state, row in rows])[order]
    place = torch.empty_like(order).index_copy(0, order, torch.arange(len(order), device=order.device))
    size = all_of("size")[order]
    return replace(
        end,
        features=features[:, : bags.features.shape[1]].to(end.features.dtype),
        offsets=torch.tensor([0, len(order)], device=order.device),
        log_size=size.log(),
        gate=torch.zeros_like(size),
        mass=all_of("mass")[order].float(),
        score=all_of("score")[order].float(),
        coords=None if bags.coords is None else bags.coords[anchor[order]],
        patch_to_token=place[token],
        tokens_by_stage=place[token][None],
        patch_weight=part,
    )


def _array(tensor: Tensor) -> NDArray[np.float64]:
    return tensor.detach().double().cpu().numpy()
