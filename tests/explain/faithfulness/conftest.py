"""A model whose attention is right by construction, and a bag for it."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from dtcwsi.classifier import Classifier
from dtcwsi.models import create_model
from dtcwsi.types import Bag, Features

DIM = 6


@dataclass(frozen=True)
class Right:
    """A model that looks at column 0 alone and decides by it, and a bag of 40 patches whose needles are at 5 and 31."""

    model: Classifier
    bag: Bag
    needles: tuple[int, int] = (5, 31)


@pytest.fixture(scope="session")
def right() -> Right:
    model = create_model("abmil", in_dim=DIM, n_classes=2, projection=None, hidden=1).eval()
    weights = dict.fromkeys(model.state_dict())
    weights = {name: torch.zeros_like(tensor) for name, tensor in model.state_dict().items()}
    first, last = [name for name in weights if "attention" in name]
    weights[first][0, 0] = 1.0
    weights[last][0, 0] = 6.0
    weights["aggregator.head.weight"][1, 0] = 8.0
    weights["aggregator.head.bias"][0] = 4.0
    model.load_state_dict(weights)
    features = 0.1 * torch.randn(40, DIM, generator=torch.Generator().manual_seed(0))
    features[[5, 31], 0] = 3.0
    return Right(model, Bag(features, _grid(40)))


@pytest.fixture(scope="session")
def draw_model():
    def draw(name: str = "dtc-abmil", seed: int = 0, **options: object) -> Classifier:
        torch.manual_seed(seed)
        model = create_model(name, in_dim=DIM, n_classes=2, **options)
        if hasattr(model.compressor, "importance"):
            torch.nn.init.normal_(model.compressor.importance.last.weight)
        return model.eval()

    return draw


@pytest.fixture(scope="session")
def slide() -> Features:
    rows = np.random.default_rng(3).normal(size=(30, DIM)).astype(np.float32)
    return Features("s1", rows, _grid(30).numpy(), 256.0, None)


def _grid(count: int) -> torch.Tensor:
    return torch.cartesian_prod(torch.arange(8), torch.arange(8))[:count] * 256
