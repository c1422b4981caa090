import numpy as np
import pytest
import torch
from torch import nn

from dtcwsi.encoders import load_encoder
from dtcwsi.encoders.backends import BACKENDS, on_backend
from dtcwsi.encoders.network import NetworkEncoder
from dtcwsi.encoders.onnx_network import OnnxNetwork
from dtcwsi.encoders.preparation import Resize
from dtcwsi.errors import EncoderError


def encoder():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.SiLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
    )
    return NetworkEncoder("small", network, input_px=32, mean=(0.5,) * 3, std=(0.5,) * 3)


def patches(count):
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), np.uint8)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.filterwarnings("ignore")
def test_every_back_end_gives_the_rows_of_torch_in_batches_of_any_size(backend):
    pytest.importorskip(backend)
    usual, other = encoder(), encoder().run_on(backend)
    assert (other.dim, other.digest) == (usual.dim, usual.digest)
    for count in (1, 5, 8):
        wanted = usual.encode(patches(count))
        np.testing.assert_allclose(other.encode(patches(count)), wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())


def test_what_a_back_end_cannot_run_is_told():
    class Odd(nn.Module):
        def forward(self, images):
            return images.flatten(1)[:, : 1 + int(images.sum() > 1e9)]

    pytest.importorskip("onnxruntime")
    odd = NetworkEncoder("odd", Odd(), input_px=8, mean=(0.5,) * 3, std=(0.5,) * 3)
    with pytest.raises(EncoderError, match=r"^the back end onnxruntime cannot run this network \(.*\); use eager$"):
        odd.run_on("onnxruntime")


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_files_that_bring_their_own_code_are_told_what_runs_them():
    onnx = OnnxNetwork.__new__(OnnxNetwork)
    with pytest.raises(EncoderError, match="an ONNX file is run by onnxruntime and the back end is openvino; leave"):
        on_backend(onnx, "openvino", 8, "cpu")
    script = torch.jit.script(nn.Flatten())
    with pytest.raises(EncoderError, match="onnxruntime cannot run a TorchScript file; leave the back end out"):
        on_backend(script, "onnxruntime", 8, "cpu")


def test_back_ends_that_are_none_or_are_missing_are_refused(monkeypatch):
    with pytest.raises(EncoderError, match="got back end 'tensorrt'; expected one of eager, compile, onnxruntime"):
        encoder().run_on("tensorrt")
    with pytest.raises(EncoderError, match="got back end 'onnxruntime' and colour-texture is no network"):
        load_encoder("colour-texture", backend="onnxruntime")
    monkeypatch.setattr("dtcwsi.encoders.backends.find_spec", lambda _: None)
    with pytest.raises(EncoderError, match=r'needs openvino, which is not installed: pip install "dtcwsi\[openvino\]"'):
        encoder().run_on("openvino")
    with pytest.raises(EncoderError, match="the back end openvino is for a CPU and the device is cuda"):
        on_backend(nn.Identity(), BACKENDS[3], 8, "cuda")


def test_a_back_end_that_gives_other_features_is_refused(monkeypatch):
    monkeypatch.setattr("dtcwsi.encoders.network.on_backend", lambda network, *_: nn.Sequential(network, nn.Tanh()))
    with pytest.raises(EncoderError, match="the back end openvino gives 'small' other features than torch does"):
        encoder().run_on("openvino")


@pytest.mark.parametrize(("px", "how"), [(200, "bilinear"), (224, "nearest")])
def test_a_preparation_that_cannot_be_is_refused(px, how):
    with pytest.raises(EncoderError, match=f"got resize_px={px}, input_px=224 and resize='{how}'"):
        Resize(px, 224, how)
