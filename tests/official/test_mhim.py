"""Logits and attention recorded from DearCaat/MHIM-MIL, branch v1 (modules/satten.py), TransMIL as its encoder.

Weights are 0.1 times normal numbers from seed 0 in the order of the sorted keys, features normal ones from seed 1.
"""

import pytest
import torch

import dtcwsi
from dtcwsi.errors import UsageError

from .conftest import check_that_each_missing_key_is_named


def shapes():
    attention = {"to_qkv.weight": (1536, 512), "to_out.0.weight": (512, 512), "to_out.0.bias": (512,)}
    layer = {"norm.weight": (512,), "norm.bias": (512,), "attn.res_conv.weight": (8, 1, 33, 1)} | {
        f"attn.{key}": shape for key, shape in attention.items()
    }
    places = {f"proj{name}.weight": (512, 1, size, size) for name, size in (("", 7), ("1", 5), ("2", 3))}
    biases = {f"proj{name}.bias": (512,) for name in ("", "1", "2")}
    encoder = {
        "cls_token": (1, 1, 512),
        "norm.weight": (512,),
        "norm.bias": (512,),
        **{f"layer{number}.{key}": shape for number in (1, 2) for key, shape in layer.items()},
        **{f"pos_embedding.{key}": shape for key, shape in (places | biases).items()},
    }
    ends = {"patch_to_emb.0.weight": (512, 1024), "patch_to_emb.0.bias": (512,)}
    ends |= {"predictor.weight": (2, 512), "predictor.bias": (2,)}
    return {f"online_encoder.{key}": shape for key, shape in encoder.items()} | ends


@pytest.fixture(scope="module")
def state():
    generator = torch.Generator().manual_seed(0)
    wanted = shapes()
    return {key: 0.1 * torch.randn(wanted[key], generator=generator) for key in sorted(wanted)}


@pytest.mark.parametrize(
    ("patches", "logits", "of_first_patch"),
    [
        (1, [0.072361, 0.286352], [0.003908, 0.003903]),
        (7, [-0.085899, 0.290856], [0.003921, 0.0039]),
        (40, [0.226338, 0.222106], [0.00397, 0.003884]),
        (255, [0.116077, 0.619932], [0.004139, 0.003719]),
        (300, [0.169006, 0.463864], [0.002007, 0.001919]),
        (700, [0.18446, 0.591469], [0.001358, 0.001253]),
    ],
)
def test_mhims_transmil_has_the_published_logits_and_first_look(state, patches, logits, of_first_patch):
    model = dtcwsi.load_official("mhim-transmil", state)
    features = torch.randn(patches, 1024, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(model(features).logits[0], torch.tensor(logits), atol=1e-5, rtol=0)
    part = model.aggregator
    looked = part.first_look(part.projection(features), torch.zeros(patches), torch.tensor([0, patches]))
    torch.testing.assert_close(looked[0, :2], torch.tensor(of_first_patch), atol=2e-6, rtol=0)


def test_each_missing_key_is_named(state):
    check_that_each_missing_key_is_named("mhim-transmil", state)


def test_weights_of_the_other_encoder_are_refused_by_name(state):
    with pytest.raises(UsageError, match=r"not one of MHIM-MIL on ABMIL: this looks like a MHIM-MIL on TransMIL"):
        dtcwsi.load_official("mhim-abmil", state)
    with pytest.raises(UsageError, match=r"not one of TransMIL: this looks like a MHIM-MIL on TransMIL"):
        dtcwsi.load_official("transmil", state)
