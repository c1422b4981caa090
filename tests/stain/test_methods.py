import pickle
import re

import cv2
import numpy as np
import pytest

from dtcwsi.errors import OptionError, UnknownNameError, UsageError
from dtcwsi.stain import METHODS, StainNormaliser, stain_as_recorded, stain_like
from dtcwsi.stain.density import density, tissue_pixels
from dtcwsi.stain.macenko import Macenko
from dtcwsi.stain.reinhard import Reinhard, _opponent

HE = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]])
OTHER = np.array([[0.55, 0.75, 0.36], [0.20, 0.90, 0.38]])


def _amounts(side=64, seed=0):
    """Nuclei with little or no eosin among eosin, and a corner of glass."""
    rng = np.random.default_rng(seed)
    nuclei = cv2.GaussianBlur(rng.random((side, side)), (0, 0), 2)
    nuclei = (nuclei > np.quantile(nuclei, 0.7)) * rng.uniform(0.5, 1.5, (side, side))
    eosin = np.where(nuclei > 0, rng.uniform(0.0, 0.3, (side, side)), rng.uniform(0.3, 0.8, (side, side)))
    amounts = np.stack([nuclei, eosin], axis=-1)
    amounts[: side // 4, : side // 4] = 0
    return amounts


def _stained(vectors, amounts, strength=(1.0, 1.0)):
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.clip(np.rint(240 * np.exp(-(amounts * strength) @ unit)), 0, 255).astype(np.uint8)


def _error(one, other):
    return float(np.abs(one.astype(float) - other).mean())


def _between(tiles):
    """How far the mean colours of patches' tissue are apart, of red, green, blue."""
    return np.std([tile.reshape(-1, 3)[tissue_pixels(density(tile))].mean(axis=0) for tile in tiles], axis=0)


@pytest.mark.parametrize(("kind", "share"), [(Macenko, 0.35), (Reinhard, 0.6)])
def test_a_patch_gets_the_stain_of_the_target(kind, share):
    """The same tissue in two laboratories looks the same once either is normalised to the other."""
    ours, theirs = _stained(HE, _amounts()), _stained(OTHER, _amounts(), (0.6, 1.4))
    made = kind.fitted(theirs).one(ours)
    assert _error(made, theirs) < share * _error(ours, theirs)
    assert _error(kind.fitted(ours).one(ours), ours) < 3


def test_macenko_finds_the_vectors_that_a_picture_was_drawn_with():
    found = np.array(Macenko.fitted(_stained(HE, _amounts(256))).vectors)
    unit = HE / np.linalg.norm(HE, axis=1, keepdims=True)
    angles = np.degrees(np.arccos(np.clip((found * unit).sum(axis=1), -1, 1)))
    assert angles.max() < 4


def test_reinhard_gives_tissue_the_mean_and_spread_of_its_target_and_leaves_glass():
    patch = _stained(HE, _amounts())
    target = Reinhard((8.6, -0.15, 0.04), (0.35, 0.06, 0.02))
    made = target.one(patch)
    tissue = tissue_pixels(density(patch))
    colours = _opponent(made)[tissue]
    np.testing.assert_allclose(colours.mean(axis=0), target.mean, atol=0.02)
    np.testing.assert_allclose(colours.std(axis=0), target.spread, rtol=0.1)
    glass = density(patch).max(axis=1) < 0.05
    assert glass.sum() >= 200
    np.testing.assert_array_equal(made.reshape(-1, 3)[glass], patch.reshape(-1, 3)[glass])


def test_reinhards_space_is_the_published_one():
    """White: cone responses are the rows' sums, and their logarithms are turned by the published matrix."""
    cones = np.log(255 * np.array([0.3811 + 0.5783 + 0.0402, 0.1967 + 0.7244 + 0.0782, 0.0241 + 0.1288 + 0.8444]))
    expected = [cones.sum() / 3**0.5, (cones[0] + cones[1] - 2 * cones[2]) / 6**0.5, (cones[0] - cones[1]) / 2**0.5]
    np.testing.assert_allclose(_opponent(np.full((1, 1, 3), 255, np.uint8))[0], expected, atol=1e-4)


@pytest.mark.parametrize("name", METHODS.names())
def test_patches_that_tell_no_stain_are_left_as_they_are_and_counted(name):
    glass = np.full((64, 64, 3), 243, np.uint8)
    crumb = glass.copy()
    crumb[:8, :8] = _stained(HE, _amounts())[30:38, 30:38]
    single = np.full((64, 64, 3), (150, 80, 120), np.uint8)
    black = np.zeros((64, 64, 3), np.uint8)
    good = _stained(HE, _amounts())
    normaliser = stain_like(name)
    batch = np.stack([glass, crumb, single, black, good])
    made = normaliser(batch)
    np.testing.assert_array_equal(made[:4], batch[:4])
    assert not np.array_equal(made[4], good)
    assert (made.dtype, made.shape, normaliser.left) == (np.uint8, batch.shape, 4)
    np.testing.assert_array_equal(batch[4], good)


@pytest.mark.parametrize("name", METHODS.names())
def test_a_copy_for_another_process_does_the_same_and_counts_together(name):
    normaliser = stain_like(name)
    copy = pickle.loads(pickle.dumps(normaliser))
    batch = np.stack([_stained(HE, _amounts()), np.full((64, 64, 3), 243, np.uint8)])
    np.testing.assert_array_equal(copy(batch), normaliser(batch))
    assert normaliser.left == 2
    del copy
    assert normaliser.left == 2


@pytest.mark.parametrize("name", METHODS.names())
def test_what_is_recorded_makes_the_same_normaliser(tmp_path, name):
    cv2.imwrite(str(tmp_path / "target.png"), _stained(OTHER, _amounts(128))[..., ::-1])
    batch = _stained(HE, _amounts())[None]
    for made in (stain_like(name), stain_like(name, tmp_path / "target.png")):
        again = stain_as_recorded(made.facts)
        assert again.facts == made.facts
        np.testing.assert_array_equal(again(batch), made(batch))
    assert stain_like(name).facts != stain_like(name, tmp_path / "target.png").facts
    assert stain_like(name).name == name
    assert re.fullmatch(rf"{name}-[0-9a-f]{{8}}", stain_like(name, tmp_path / "target.png").name)


def test_targets_that_cannot_be_used_are_refused(tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    cv2.imwrite(str(tmp_path / "glass.png"), np.full((64, 64, 3), 243, np.uint8))
    with pytest.raises(UsageError, match="is no picture that can be decoded"):
        stain_like("macenko", tmp_path / "text.png")
    with pytest.raises(UsageError, match=r"cannot be read \(No such file or directory\); expected a picture"):
        stain_like("macenko", tmp_path / "nowhere.png")
    for name in METHODS:
        with pytest.raises(UsageError, match="glass.png: the stain target shows too little tissue"):
            stain_like(name, tmp_path / "glass.png")
    with pytest.raises(UnknownNameError, match="near names: macenko"):
        stain_like("macenco")
    with pytest.raises(OptionError, match="a single"):
        Macenko.fitted(np.full((64, 64, 3), (150, 80, 120), np.uint8))


def test_the_tally_ends_with_its_normaliser():
    normaliser = StainNormaliser(Macenko())
    path = normaliser.tally._path
    assert path.is_file()
    del normaliser
    assert not path.exists()


def test_real_tiles_come_closer_to_each_other(shared_data):
    paths = sorted((shared_data / "tissue").glob("*/*.jpeg"))[::40]
    tiles = np.stack([cv2.resize(cv2.imread(str(path))[..., ::-1], (256, 256)) for path in paths])
    for name in METHODS:
        made = stain_like(name)(tiles)
        assert (made != tiles).any(axis=(1, 2, 3)).all()
        before, after = (_between(each) for each in (tiles, made))
        assert after.sum() < 0.95 * before.sum()
