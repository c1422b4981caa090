"""Predictions of a trained model on slides, with tokens and seconds of each step."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from dtcwsi.bags.sampler import PassSampler
from dtcwsi.classifier import Classifier
from dtcwsi.nn.segment import segment_ids
from dtcwsi.training.data import SlideFeatures
from dtcwsi.types import CompressedBags

__all__ = ["Evaluation", "evaluate"]


@dataclass(frozen=True)
class Evaluation:
    """What a model says of slides, in their order.

    ``probabilities`` (slides, classes); ``loss`` mean cross-entropy; ``tokens_in`` and ``tokens_out`` (slides,);
    ``merged`` patches (slides,) share a token with others, ``pruned`` ones (slides,) are in none;
    ``compress_seconds`` and ``aggregate_seconds`` of all slides together.
    """

    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    loss: float
    tokens_in: NDArray[np.int64]
    tokens_out: NDArray[np.int64]
    merged: NDArray[np.int64]
    pruned: NDArray[np.int64]
    compress_seconds: float
    aggregate_seconds: float


def evaluate(
    model: Classifier,
    features: SlideFeatures,
    slides: Sequence[int],
    *,
    max_tokens: int,
    device: torch.device,
    class_weights: Float[Tensor, "classes"] | None = None,
) -> Evaluation:
    """Predict slides in passes of at most ``max_tokens`` patches; the model's mode is given back as it was.

    With ``class_weights`` the loss is a mean weighted by each slide's class.
    """
    was_training = model.training
    model.eval()
    told, counts, compress_seconds, aggregate_seconds = [], [], 0.0, 0.0
    passes = PassSampler(slides, features.sizes, batch_size=max(1, len(slides)), max_tokens=max_tokens)
    for part in passes:
        bags = features[part].bags.to(device)  # outside inference mode: what is kept in memory is trained on later
        with torch.inference_mode():
            began = _now(device)
            tokens = model.compress(bags)
            between = _now(device)
            aggregated = model.aggregate(tokens)
            ended = _now(device)
            out = model.predict(tokens, aggregated)  # not kept: its attention, never read, would hold on to the tokens
            told.append(out.logits)
            counts.append(torch.cat([torch.stack([out.tokens_in, out.tokens_out]), _fates(tokens)]))
        compress_seconds += between - began
        aggregate_seconds += ended - between
    model.train(was_training)
    logits = torch.cat(told).double().cpu()
    labels = torch.tensor([features.labels[index] for index in slides])
    weights = None if class_weights is None else class_weights.double()
    tokens_in, tokens_out, merged, pruned = torch.cat(counts, dim=1).cpu().numpy()
    return Evaluation(
        labels=labels.numpy(),
        probabilities=logits.softmax(dim=1).numpy(),
        loss=float(torch.nn.functional.cross_entropy(logits, labels, weight=weights)),
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        merged=merged,
        pruned=pruned,
        compress_seconds=compress_seconds,
        aggregate_seconds=aggregate_seconds,
    )


def _fates(tokens: CompressedBags) -> Int[Tensor, "2 bags"]:
    """Count each bag's patches that share a token with others, and those that are in none."""
    bag = segment_ids(tokens.patch_offsets, len(tokens.patch_to_token))
    there = tokens.patch_to_token >= 0
    token = (tokens.patch_to_token + tokens.offsets[bag])[there]
    shared = token.bincount(minlength=len(tokens.features))[token] > 1
    return torch.stack([part.bincount(minlength=tokens.n_bags) for part in (bag[there][shared], bag[~there])])


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
