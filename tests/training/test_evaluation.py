import gc
import weakref

import numpy as np
import pytest
import torch

from dtcwsi.models import create_model
from dtcwsi.training.data import SlideFeatures
from dtcwsi.training.evaluation import evaluate

from .conftest import write_slide


@pytest.mark.parametrize("name", ["transmil", "patchgd", "tome-transmil", "panther"])
def test_tokens_of_passes_are_let_go(name, tmp_path, monkeypatch):
    paths = [tmp_path / f"s{number}.h5" for number in range(4)]
    for number, path in enumerate(paths):
        write_slide(path, np.random.default_rng(number).normal(size=(9, 8)))
    features = SlideFeatures(paths, [0, 1, 0, 1], [9] * 4)
    model, held = create_model(name, in_dim=8, n_classes=2), []
    usual = model.compress

    def compress(bags):
        gc.collect()
        assert all(tokens() is None for tokens in held[:-1])  # the last is let go when the next is there
        made = usual(bags)
        held.append(weakref.ref(made))
        return made

    monkeypatch.setattr(model, "compress", compress)
    found = evaluate(model, features, range(4), max_tokens=9, device=torch.device("cpu"))
    assert len(held) == 4
    assert found.tokens_in.tolist() == [9] * 4
