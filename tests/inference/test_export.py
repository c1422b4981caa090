"""The exported graph gives what the model gives."""

import subprocess
import sys

import pytest
import torch

import dtcwsi
from dtcwsi.errors import OptionError
from dtcwsi.inference.export import SlideGraph

DIM = 16


def build(name, **options):
    torch.manual_seed(0)
    model = dtcwsi.create_model(name, in_dim=DIM, n_classes=3, **options).eval()
    if hasattr(model.compressor, "importance"):
        torch.nn.init.normal_(model.compressor.importance.last.weight)
    return model


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("abmil", {}),
        ("dtc-abmil", {}),
        ("dtc-mean", {"retention": 0.1, "merge_share": 1.0}),
        ("dtc-abmil", {"schedule": (0.3, 0.9), "merge_share": 0.5, "lam": 1.0}),
        ("dtc-abmil", {"gate": "none", "size_bias": False, "scorer_norm": False}),
        ("prune-only-abmil", {}),
        ("merge-only-abmil", {"retention": 0.05}),
    ],
)
def test_the_graph_is_the_model(name, options):
    model = build(name, **options)
    graph = SlideGraph(model)
    for patches in (16, 17, 100, 331):
        features = torch.randn(patches, DIM)
        logits, token = graph(features)
        out = model(features)
        assert torch.equal(token, out.patch_to_token)
        torch.testing.assert_close(logits, out.logits[0], atol=1e-5, rtol=1e-5)


RUNTIME = """
import sys, torch, dtcwsi, onnxruntime
from dtcwsi.inference.export import export_onnx

model = dtcwsi.load(sys.argv[1])
export_onnx(model.train(), sys.argv[1] + "/model.onnx")
assert model.training
model.eval()
session = onnxruntime.InferenceSession(sys.argv[1] + "/model.onnx")
for patches in (16, 100, 777, 200, 1000, 5000, 13900):
    features = torch.randn(patches, 16)
    logits, token = session.run(None, {"features": features.numpy()})
    out = model(features)
    assert token.max() + 1 == out.tokens_out, patches
    if patches > 1000:  # so many that a near tie may fall the other way
        continue
    assert token.tolist() == out.patch_to_token.tolist(), patches
    assert abs(logits - out.logits[0].detach().numpy()).max() < 1e-4, patches
print("agrees")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [("abmil", {}), ("dtc-abmil", {}), ("dtc-abmil", {"retention": 0.2, "merge_share": 0.3, "lam": 0.7})],
)
def test_a_runtime_without_torch_agrees_at_any_number_of_patches(name, options, tmp_path):
    pytest.importorskip("onnxruntime")
    build(name, **options).save(tmp_path)
    command = [sys.executable, "-c", RUNTIME, str(tmp_path)]  # the exporter cannot see through checked shapes
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.endswith("agrees\n"), done.stderr[-2000:]


def test_what_the_graph_does_not_have_is_told():
    with pytest.raises(OptionError, match="got matching='full'; an exported model needs matching='aligned'"):
        SlideGraph(build("dtc-abmil", matching="full"))
    for name in ("tome-abmil", "clam-mb", "dtc-dsmil", "max", "transmil"):
        with pytest.raises(OptionError, match=f"{name} cannot be exported"):
            SlideGraph(build(name))
