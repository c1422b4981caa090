import sys

import pytest
import torch

from dtcwsi.encoders import ENCODERS, load_encoder
from dtcwsi.errors import EncoderError


def test_the_names_are_listed_without_loading_weights():
    assert {"efficientnet-lite0", "colour-texture"} <= set(ENCODERS.names())


@pytest.mark.parametrize(
    ("name", "near"),
    [("efficientnet-lite", "efficientnet-lite0"), ("color-texture", "colour-texture"), ("resnet-18", "resnet18")],
)
def test_an_unknown_name_lists_the_near_ones(name, near):
    pytest.importorskip("timm")
    with pytest.raises(EncoderError, match=rf"no encoder is called '{name}'; near names: .*{near}"):
        load_encoder(name)


def test_capital_letters_and_paths_that_lead_nowhere_are_understood(tmp_path):
    pytest.importorskip("timm")
    with pytest.raises(EncoderError, match="no encoder is called 'UNI'; near names: uni; `dtcwsi"):
        load_encoder("UNI:/weights")
    with pytest.raises(EncoderError, match=r"there is no file or folder .*nowhere.onnx, and no encoder of that name"):
        load_encoder(str(tmp_path / "nowhere.onnx"))


def test_without_timm_the_install_line_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    monkeypatch.delitem(sys.modules, "dtcwsi.encoders.timm_models", raising=False)
    monkeypatch.delattr("dtcwsi.encoders.timm_models", raising=False)
    with pytest.raises(EncoderError, match=r'near names: .*for timm models: pip install "dtcwsi\[encoders\]"'):
        load_encoder("resnet18")


def test_a_file_of_weights_alone_is_told_how_to_be_named(tmp_path):
    pytest.importorskip("timm")
    (tmp_path / "w.pth").write_bytes(b"x")
    with pytest.raises(EncoderError, match=r"is a file of weights; name its timm model too, as in resnet18:/"):
        load_encoder(str(tmp_path / "w.pth"))


@pytest.mark.parametrize("device", ["warp", "cuda:99"])
def test_a_device_that_is_not_there(device):
    pytest.importorskip("timm")
    with pytest.raises(EncoderError, match=rf"the device '{device}' cannot be used \(.+\); choose another --device"):
        load_encoder("efficientnet-lite0", device=device)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_gpu_gives_the_features_of_the_cpu():
    import numpy as np

    patches = np.random.default_rng(0).integers(0, 256, (4, 256, 256, 3), np.uint8)
    one, other = (load_encoder("efficientnet-lite0", device=device).encode(patches) for device in ("cpu", "cuda"))
    np.testing.assert_allclose(one, other, rtol=1e-2, atol=1e-2)
