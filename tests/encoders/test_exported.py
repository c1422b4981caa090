import json
import sys

import numpy as np
import pytest
import torch
from torch import nn

from dtcwsi.encoders import load_encoder
from dtcwsi.encoders.onnx_network import OnnxNetwork
from dtcwsi.errors import EncoderError

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
PATCHES = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)


class _Mean(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(2, 3))


def _torchscript(path, module=None):
    torch.jit.save(torch.jit.script(module or _Mean()), path)
    return path


def _onnx(path, batch="n", px="px"):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    info, kind = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    axes = onnx.helper.make_tensor("axes", onnx.TensorProto.INT64, [2], [2, 3])
    node = onnx.helper.make_node("ReduceMean", ["images", "axes"], ["rows"], keepdims=0)
    images, rows = info("images", kind, [batch, 3, px, px]), info("rows", kind, [batch, 3])
    graph = onnx.helper.make_graph([node], "mean", [images], [rows], [axes])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9), path)
    return path


@pytest.mark.parametrize("write", [_torchscript, _onnx])
def test_a_file_with_its_code_embeds_as_its_settings_say(tmp_path, write):
    path = write(tmp_path / ("mine.onnx" if write is _onnx else "mine.pt"))
    usual = load_encoder(str(path))
    assert (usual.name, usual.dim, usual.input_px, usual.spacing_um) == ("mine", 3, 224, ())
    settings = {"input_px": 32, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "spacing_um": [1.0]}
    (tmp_path / "mine.json").write_text(json.dumps(settings))
    told = load_encoder(str(path))
    np.testing.assert_allclose(told.encode(PATCHES), PATCHES.mean(axis=(1, 2)) / 127.5 - 1, atol=1e-5)
    assert told.spacing_um == (1.0,)
    assert told.digest != usual.digest


def test_an_onnx_graph_of_one_size_and_batch_gets_them(tmp_path):
    encoder = load_encoder(str(_onnx(tmp_path / "fixed.onnx", batch=2, px=32)))
    assert encoder.input_px == 32
    expected = (PATCHES.mean(axis=(1, 2)) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(encoder.encode(PATCHES), expected, atol=1e-5)


def test_without_the_runtime_the_install_line_is_named(tmp_path, monkeypatch):
    (tmp_path / "mine.onnx").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EncoderError, match=r'needs onnxruntime, which is not installed: pip install "dtcwsi\[onnx\]"'):
        load_encoder(str(tmp_path / "mine.onnx"))


class _Pair(nn.Module):
    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return images, images


class _Flat(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.reshape(-1, 7).reshape(len(images), 3, 32, 32)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (
            lambda folder: (folder / "a.onnx").write_bytes(b"not a graph"),
            r"a.onnx cannot be read \(.+expected an ONNX file",
        ),
        (
            lambda folder: _torchscript(folder / "a.pt", nn.Identity()),
            r"gave shape \(1, 3, 224, 224\); expected one vector",
        ),
        (lambda folder: _torchscript(folder / "a.pt", _Pair()), r"gave tuple; expected one tensor, a vector a patch"),
        (
            lambda folder: _torchscript(folder / "a.pt", _Flat()),
            r"does not take images of 224 px \(.+give input_px in a.json",
        ),
    ],
)
def test_a_file_that_does_not_do_is_one_sentence(tmp_path, spoil, told):
    spoil(tmp_path)
    path = next(tmp_path.iterdir())
    if path.suffix == ".onnx":
        pytest.importorskip("onnxruntime")
    with pytest.raises(EncoderError, match=told) as caught:
        load_encoder(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "a.json is no JSON"),
        ('{"px": 1}', "a.json holds px; expected any of input_px"),
        ('{"spacing_um": 0.25}', r"a.json has spacing_um 0.25; expected a list of numbers, such as \[0.5\]"),
        ('{"mean": 0.5}', "a.json has mean 0.5; expected a list of numbers"),
        ('{"input_px": "224"}', "a.json has input_px '224'; expected a whole number"),
        ('{"input_px": 0}', "a.json has input_px 0; expected a whole number of pixels, 1 to 4,096"),
        ('{"resize_px": 1000000}', "a.json has resize_px 1000000; expected a whole number of pixels, 1 to 4,096"),
        ('{"mean": [0.5]}', r"a.json has mean \[0.5\]; expected 3 numbers, a colour each, such as \[0.485"),
        ('{"mean": [NaN, 0, 0]}', r"a.json has mean \[nan, 0, 0\]; expected finite numbers"),
        ('{"std": [0, 0, 0]}', r"a.json has std \[0, 0, 0\]; expected numbers above 0"),
        ('{"spacing_um": [-1]}', r"a.json has spacing_um \[-1\]; expected numbers above 0, such as \[0.5\]"),
    ],
)
def test_settings_that_say_nothing_are_refused(tmp_path, text, told):
    _torchscript(tmp_path / "a.pt")
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(EncoderError, match=told):
        load_encoder(str(tmp_path / "a.pt"))


def test_waiting_threads_leave_their_core_to_readers(tmp_path):
    options = OnnxNetwork(_onnx(tmp_path / "one.onnx"))._session.get_session_options()
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert options.get_session_config_entry("session.dynamic_block_base") == "4"
