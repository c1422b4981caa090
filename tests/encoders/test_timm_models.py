import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dtcwsi.encoders import load_encoder
from dtcwsi.errors import EncoderError

timm = pytest.importorskip("timm")
NAME = "test_resnet"


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return timm.create_model(NAME, pretrained=False).eval()


@pytest.fixture(scope="module")
def patches():
    return np.random.default_rng(0).integers(0, 256, (2, 160, 160, 3), np.uint8)


@pytest.fixture(scope="module")
def expected(network, patches):
    config = timm.data.resolve_model_data_config(network)
    mean, std = (torch.tensor(config[key]).view(3, 1, 1) for key in ("mean", "std"))
    assert config["input_size"] == (3, 160, 160)
    with torch.inference_mode():
        images = (torch.from_numpy(patches).permute(0, 3, 1, 2) / 255 - mean) / std
        return network.forward_head(network.forward_features(images), pre_logits=True).numpy()


def _saved(tmp_path, network, kind):
    state = network.state_dict()
    path = tmp_path / f"mine.{kind}"
    if kind == "safetensors":
        save_file(state, path)
    elif kind == "pth":
        torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}, "epoch": 3}, path)
    else:
        torch.save({name: tensor for name, tensor in state.items() if "num_batches" not in name}, path)
    return path


@pytest.mark.parametrize("kind", ["safetensors", "pth", "pt"])
def test_local_weights_of_every_kind_give_timms_own_features(tmp_path, network, patches, expected, kind):
    encoder = load_encoder(f"{NAME}:{_saved(tmp_path, network, kind)}")
    assert encoder.name == f"{NAME}-mine"
    np.testing.assert_allclose(encoder.encode(patches), expected, rtol=1e-4, atol=1e-5)


def test_a_folder_as_the_hub_stores_it(tmp_path, monkeypatch, network, patches, expected):
    folder = tmp_path / "my-model"
    folder.mkdir()
    save_file(network.state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"architecture": NAME, "pretrained_cfg": network.pretrained_cfg}))
    encoder = load_encoder(str(folder))
    np.testing.assert_allclose(encoder.encode(patches), expected, rtol=1e-4, atol=1e-5)
    monkeypatch.chdir(folder)
    assert load_encoder(".").name == encoder.name == "my-model"


def test_other_weights_have_another_digest(tmp_path, network):
    one = load_encoder(f"{NAME}:{_saved(tmp_path, network, 'pth')}").digest
    state = {name: tensor + (tensor.ndim == 4) * 1e-3 for name, tensor in network.state_dict().items()}
    save_file(state, tmp_path / "other.safetensors")
    assert load_encoder(f"{NAME}:{tmp_path / 'other.safetensors'}").digest != one


def _no_file(path):
    return "do not exist; expected a .safetensors, .pt, .pth or .bin file"


def _other_model(path):
    save_file({"blocks.0.weight": torch.zeros(3)}, path)
    return r"weights of another model: of \d+ tensors \d+ missing \(first: conv1.0.weight\), 1 unknown .*; name"


def _other_shape(path):
    state = timm.create_model(NAME, pretrained=False).state_dict()
    save_file({**state, "conv1.0.weight": torch.zeros(1, 3, 3, 3)}, path)
    return r"1 of another shape \(first: conv1.0.weight, got \(1, 3, 3, 3\), expected \(\d+, 3, 3, 3\)\)"


def _text(path):
    path.write_text("not weights")
    return "cannot be read .*expected a plain state dict"


def _pointer(path):
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n")
    return r"is a Git LFS pointer \(\d+ bytes\) and no weights; .*git lfs pull"


@pytest.mark.parametrize("spoil", [_no_file, _other_model, _other_shape, _text, _pointer])
def test_weights_that_do_not_do_are_one_sentence(tmp_path, spoil):
    message = spoil(tmp_path / "w.safetensors")
    with pytest.raises(EncoderError, match=message) as caught:
        load_encoder(f"{NAME}:{tmp_path / 'w.safetensors'}")
    assert "\n" not in str(caught.value)


def test_a_pickle_of_anything_else_is_refused(tmp_path):
    torch.save([1, 2, 3], tmp_path / "list.pth")
    with pytest.raises(EncoderError, match="hold no table of tensors; expected a plain state dict"):
        load_encoder(f"{NAME}:{tmp_path / 'list.pth'}")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pth")
    with pytest.raises(EncoderError, match="cannot be read .*expected a plain state dict"):
        load_encoder(f"{NAME}:{tmp_path / 'module.pth'}")


def test_nobody_is_told_to_run_a_pickle(tmp_path):
    (tmp_path / "graph.bin").write_bytes(b"\x08\x0a\x12\x07pytorch")
    with pytest.raises(EncoderError, match=r"cannot be read .*is cut off, copy or download it again") as caught:
        load_encoder(f"{NAME}:{tmp_path / 'graph.bin'}")
    assert "weights_only" not in str(caught.value)


def test_folders_that_do_not_do(tmp_path):
    with pytest.raises(EncoderError, match="has no config.json; expected a folder as timm saves it"):
        load_encoder(str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(EncoderError, match=r"cannot be loaded \(.+\); expected a folder as timm saves it"):
        load_encoder(str(tmp_path))


@pytest.mark.parametrize(("asked", "done"), [("bicubic", "bicubic"), ("bilinear", "bilinear"), ("nearest", "bilinear")])
def test_patches_are_resized_as_the_model_asks(tmp_path, network, asked, done):
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    config = {"architecture": NAME, "pretrained_cfg": {**network.pretrained_cfg, "interpolation": asked}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    encoder = load_encoder(str(tmp_path))
    assert (encoder.prepare.how, encoder.prepare.px, encoder.prepare.crop_px) == (done, 160, 160)
