"""The sanity check: a map that training made must change when the weights are drawn anew."""

import torch

from dtcwsi.classifier import Classifier
from dtcwsi.models import create_model

__all__ = ["groups_of", "reinitialised"]


def groups_of(model: Classifier) -> tuple[str, ...]:
    """Name the layers that can be drawn anew: ``aggregator``, and ``compressor`` and ``both`` if it learns."""
    learns = any(True for _ in model.compressor.parameters())
    return ("aggregator", "compressor", "both") if learns else ("aggregator",)


def reinitialised(model: Classifier, group: str, *, seed: int) -> Classifier:
    """Make the same model with the weights of one group drawn anew by ``seed``, as before training; the rest stay.

    A scorer that starts flat gets random weights in its last layer too: a flat one makes no map to compare with.
    Source: Adebayo et al. 2018, "Sanity Checks for Saliency Maps".
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        options = {**model.options, **({"flat_start": False} if "flat_start" in model.options else {})}
        fresh = create_model(model.name, in_dim=model.in_dim, n_classes=model.n_classes, **options)
    if group == "aggregator":
        fresh.compressor.load_state_dict(model.compressor.state_dict())
    elif group == "compressor":
        fresh.aggregator.load_state_dict(model.aggregator.state_dict())
    fresh.describe_classes(model.class_names, model.class_shares)
    return fresh.eval().to(next(model.parameters()).device)
