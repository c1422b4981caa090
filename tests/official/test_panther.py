"""Logits recorded from mahmoodlab/PANTHER at 15531d3 (its EM and prior; its heads are one linear map each).

Weights are 0.2 times normal numbers from seed 0 in the order of the sorted keys, features normal ones from seed 1.
"""

import pytest
import torch

import dtcwsi
from dtcwsi.errors import UsageError

from .conftest import check_that_each_missing_key_is_named

DIM, COUNT, CLASSES, HIDDEN = 24, 4, 3, 5


def shapes(head):
    prior = {"panther.priors.m": (COUNT, DIM), "panther.priors.V_": (COUNT, DIM)}
    if head == "linear":
        return {**prior, "classifier.weight": (CLASSES, COUNT * (1 + 2 * DIM))}
    each = {f"indiv_mlps.{i}.0.weight": (HIDDEN, 1 + 2 * DIM) for i in range(COUNT)}
    biases = {f"indiv_mlps.{i}.0.bias": (HIDDEN,) for i in range(COUNT)}
    return {**prior, **each, **biases, "classifier.weight": (CLASSES, COUNT * HIDDEN)}


def drawn(head):
    generator, wanted = torch.Generator().manual_seed(0), shapes(head)
    return {key: 0.2 * torch.randn(wanted[key], generator=generator) for key in sorted(wanted)}


@pytest.mark.parametrize(
    ("head", "iterations", "logits"),
    [
        ("linear", 1, [-0.57102, 3.24111, 2.65308]),
        ("linear", 3, [-0.38332, 3.56029, 2.78567]),
        ("per-prototype", 1, [-1.22892, 1.19629, -0.22093]),
        ("per-prototype", 3, [-1.14283, 1.02651, -0.27343]),
    ],
)
def test_panther_has_the_published_logits(head, iterations, logits):
    model = dtcwsi.load_official("panther", drawn(head), iterations=iterations)
    features = torch.randn(50, DIM, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(model(features).logits[0], torch.tensor(logits), atol=2e-5, rtol=0)


@pytest.mark.parametrize("head", ["linear", "per-prototype"])
def test_each_missing_key_is_named(head):
    check_that_each_missing_key_is_named("panther", drawn(head))


def test_a_part_of_the_weights_and_other_kinds_of_output_are_told():
    state = drawn("linear")
    joined = "expected the prior's and the head's weights in one: join their two state dicts"
    prior = {key: tensor for key, tensor in state.items() if key.startswith("panther")}
    with pytest.raises(UsageError, match=f"of PANTHER lacks classifier.weight; {joined}"):
        dtcwsi.load_official("panther", prior)
    with pytest.raises(UsageError, match=f"of PANTHER lacks panther.priors.m; {joined}"):
        dtcwsi.load_official("panther", {"classifier.weight": state["classifier.weight"]})
    others = state | {"classifier.weight": torch.zeros(CLASSES, COUNT * (2 + 2 * DIM))}
    with pytest.raises(UsageError, match="a head over 200 numbers a slide; expected 196, which are out_type='allcat'"):
        dtcwsi.load_official("panther", others)
    shared = prior | {"classifier.weight": torch.zeros(2, 20), "shared_mlp.0.weight": torch.zeros(HIDDEN, 1 + 2 * DIM)}
    with pytest.raises(UsageError, match=r"has networks for all prototypes \(shared_mlp, postcat_mlp\), which have no"):
        dtcwsi.load_official("panther", shared)
    deep = drawn("per-prototype") | {"indiv_mlps.0.3.weight": torch.zeros(HIDDEN, HIDDEN)}
    with pytest.raises(UsageError, match=r"has networks of several layers \(n_fc_layers\), which have no counterpart"):
        dtcwsi.load_official("panther", deep)
