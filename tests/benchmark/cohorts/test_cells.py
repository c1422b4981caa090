import cv2
import numpy as np

from dtcwsi.bags.cohort import read_cohort
from dtcwsi.benchmark.cohorts.cells import draw_smear, write_cell_cohort
from dtcwsi.encoders import load_encoder
from dtcwsi.store.features import read_features


def test_a_smear_is_drawn_from_its_numbers_alone():
    first, again, other = draw_smear(4, seed=1), draw_smear(4, seed=1), draw_smear(4, seed=2)
    np.testing.assert_array_equal(first.crops, again.crops)
    assert first.crops.shape != other.crops.shape or (first.crops != other.crops).any()
    assert first.crops.shape[1:] == (64, 64, 3)
    assert len(set(map(tuple, first.places.tolist()))) == len(first.crops)  # no two cells lie in one place


def test_two_to_five_percent_of_a_smear_tell_its_class_by_large_nuclei():
    lighter = {}
    for number in range(4):
        smear = draw_smear(number, seed=0)
        assert 200 <= len(smear.crops) <= 500
        assert 0.018 <= smear.telling.mean() <= 0.052
        red = smear.crops[..., 0].astype(int)
        nucleus = red < np.median(red, axis=(1, 2), keepdims=True) - 60
        size = nucleus.sum(axis=(1, 2))
        assert np.median(size[smear.telling]) > 1.5 * np.median(size[~smear.telling])
        shade = (red * nucleus).sum(axis=(1, 2)) / size.clip(1)
        lighter.setdefault(smear.label, []).append(np.median(shade[smear.telling]) - np.median(shade[~smear.telling]))
    assert sorted(lighter) == ["dysplastic", "reactive"]
    assert max(lighter["dysplastic"]) < min(lighter["reactive"])


def test_cells_become_bags_with_places_and_a_picture(tmp_path):
    write_cell_cohort(tmp_path, load_encoder("colour-texture"), smears=4)
    cohort = read_cohort(tmp_path / "labels.csv", tmp_path)
    assert list(cohort.labels) == ["dysplastic", "reactive"] * 2
    bag, smear = read_features(cohort.headers[1].path), draw_smear(1, seed=0)
    assert bag.patch_size_level0 == 64
    np.testing.assert_array_equal(bag.coords, smear.places)
    np.testing.assert_allclose(bag.features[7], load_encoder("colour-texture").encode(smear.crops[7:8])[0], rtol=1e-6)
    picture = cv2.imread(str(tmp_path / "cells.png"))
    assert picture.shape == (512, 2 * 512 + 16, 3)
    np.testing.assert_array_equal(picture[:64, 528:592, ::-1], smear.crops[np.flatnonzero(smear.telling)[0]])
