import numpy as np

from dtcwsi.encoders import load_encoder

ENCODER = load_encoder("colour-texture")


def _patches(count=6, side=64):
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)


def test_equal_patches_get_equal_bytes_in_any_batch():
    patches = _patches()
    whole = ENCODER.encode(patches)
    assert (whole.shape, whole.dtype) == ((6, 48), np.float32)
    assert (
        whole.tobytes()
        == np.concatenate([ENCODER.encode(patches[:1]), load_encoder("colour-texture").encode(patches[1:])]).tobytes()
    )


def test_a_patch_of_one_colour_by_hand():
    row = ENCODER.encode(np.full((1, 32, 32, 3), (255, 127, 31), np.uint8))[0]
    density = -np.log(np.array([256, 128, 32]) / 256)
    np.testing.assert_allclose(row[:3], density, atol=1e-6)
    np.testing.assert_allclose(row[3:6], 0, atol=1e-3)
    histogram = row[6:30].reshape(3, 8)
    np.testing.assert_array_equal(histogram.argmax(axis=1), np.minimum(density * 4, 7).astype(int))
    np.testing.assert_allclose(histogram.sum(axis=1), 1)
    np.testing.assert_allclose(row[30:42], 0, atol=1e-5)


def test_texture_is_told_at_its_scale():
    stripes = [np.repeat(np.tile(np.repeat([60, 200], width), 64 // width)[None, :64], 64, axis=0) for width in (1, 8)]
    rows = ENCODER.encode(np.repeat(np.stack(stripes)[..., None], 3, axis=-1).astype(np.uint8))
    fine, coarse = rows[:, 30:42].reshape(2, 4, 3)[..., 0]
    assert fine[0] > 2 * coarse[0]
    assert coarse[3] > 2 * coarse[0]


def test_no_patches():
    assert ENCODER.encode(_patches(0)).shape == (0, 48)
