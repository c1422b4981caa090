"""2DMambaMIL: logits recorded from AtlasAnalyticsLab/2DMamba at 9fe12aa (PyTorch scan, trainable pad token).

Weights are 0.2 times normal numbers from seed 0 in the order of the sorted keys, features normal numbers from seed 1,
cells drawn from seed 2 with two corners of the grid among them. The published scan is right on up to two rows; the last
three are recorded with the plain recurrence in its place.
"""

import pytest
import torch

import dtcwsi
from dtcwsi.errors import UsageError

from .conftest import check_that_each_missing_key_is_named

DIM = 24
RECORDED = [
    (1, 1, 1, 1, [-0.504787, 1.052366]),
    (1, 9, 1, 5, [-0.496230, 1.002139]),
    (1, 1, 2, 2, [-0.271016, 0.629357]),
    (1, 23, 2, 46, [-0.538141, 0.726640]),
    (1, 23, 2, 30, [-0.463942, 0.819279]),
    (2, 23, 2, 30, [-0.384950, 0.306235]),
    (1, 7, 5, 20, [-0.452852, 0.813011]),
    (2, 7, 5, 20, [-0.409053, 0.321566]),
    (2, 30, 41, 700, [-0.337916, 0.243423]),
]


def shapes_of(layers):
    shapes = {"_fc1.0.weight": (128, DIM), "_fc1.0.bias": (128,), "layers.pad_token": (128,)}
    shapes |= {"norm.weight": (128,), "norm.bias": (128,), "classifier.weight": (2, 128), "classifier.bias": (2,)}
    shapes |= {"attention.0.weight": (128, 128), "attention.0.bias": (128,)}
    shapes |= {"attention.2.weight": (1, 128), "attention.2.bias": (1,)}
    for number in range(layers):
        mixer = {
            "mixer.in_proj.weight": (512, 128),
            "mixer.conv1d.weight": (256, 1, 4),
            "mixer.conv1d.bias": (256,),
            "mixer.x_proj.weight": (40, 256),
            "mixer.dt_proj.weight": (256, 8),
            "mixer.dt_proj.bias": (256,),
            "mixer.A_log": (256, 16),
            "mixer.D": (256,),
            "mixer.out_proj.weight": (128, 256),
            "norm.weight": (128,),
        }
        shapes |= {f"layers.layers.{number}.{key}": shape for key, shape in mixer.items()}
    return shapes


def drawn(layers):
    generator, shapes = torch.Generator().manual_seed(0), shapes_of(layers)
    return {key: 0.2 * torch.randn(shapes[key], generator=generator) for key in sorted(shapes)}


def bag_of(columns, rows, patches):
    place = torch.randperm(columns * rows, generator=torch.Generator().manual_seed(2))[:patches]
    for corner in (0, columns * rows - 1):
        if corner not in place.tolist():
            place[min(corner, 1)] = corner
    features = torch.randn(patches, DIM, generator=torch.Generator().manual_seed(1))
    return dtcwsi.Bag(features, torch.stack([place % columns, place // columns], dim=1) * 512, 512.0)


@pytest.mark.parametrize(("layers", "columns", "rows", "patches", "logits"), RECORDED)
def test_published_weights_give_the_published_logits(layers, columns, rows, patches, logits):
    model = dtcwsi.load_official("mamba2d", drawn(layers))
    out = model(bag_of(columns, rows, patches))
    torch.testing.assert_close(out.logits[0], torch.tensor(logits), atol=2e-6, rtol=0)


def test_other_sizes_are_read_off_the_shapes():
    model = dtcwsi.load_official("mamba2d", drawn(2), cell_size=512)
    sizes = {"width": 128, "layers": 2, "states": 16, "hidden": 128, "cell_size": 512, "grid": None, "dropout": 0.25}
    assert model.options == sizes


def test_weights_that_are_missing_are_told():
    state = drawn(1)
    del state["layers.layers.0.mixer.D"]
    with pytest.raises(UsageError, match=r"missing layers.layers.0.mixer.D; unexpected nothing"):
        dtcwsi.load_official("mamba2d", state)
    check_that_each_missing_key_is_named("mamba2d", drawn(2))
    del state["layers.layers.0.mixer.A_log"]
    with pytest.raises(UsageError, match=r"the state dict of 2DMambaMIL lacks layers.layers.0.mixer.A_log; expected"):
        dtcwsi.load_official("mamba2d", state)
