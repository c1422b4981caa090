"""What the page's script gets is what the model said, at every retention."""

import base64
import zlib

import numpy as np
import pytest

from dtcwsi.explain.report.patch_data import patch_data


def read(arrays):
    return {
        name: np.frombuffer(zlib.decompress(base64.b64decode(one["base64"])), one["type"].lower())
        for name, one in arrays.items()
    }


def check(budget, fates):
    arrays = read(budget["arrays"])
    assert budget["stages"] == len(fates.by_stage)
    np.testing.assert_array_equal(arrays["tokens"].reshape(budget["stages"], -1), fates.by_stage)
    np.testing.assert_array_equal(arrays["fate"], fates.fate)
    np.testing.assert_array_equal(arrays["stage"], fates.stage)
    np.testing.assert_allclose(arrays["attention"], fates.attention, rtol=1e-6)
    np.testing.assert_allclose(arrays["percentile"] / 100, fates.percentile, atol=0.005)


def test_arrays_come_back_as_they_were(explained):
    data = patch_data(explained)
    arrays = read(data["arrays"])
    assert data["count"] == len(explained.fates) == 60
    np.testing.assert_array_equal(np.stack([arrays["x"], arrays["y"]], axis=1), explained.patches.coords)
    np.testing.assert_allclose(arrays["importance"], explained.fates.importance, rtol=1e-6)
    check(data["budgets"][data["trained"]], explained.fates)


def test_budgets_go_from_the_largest_to_the_smallest(explained):
    data = patch_data(explained)
    chance = f"{explained.prediction} {explained.probability:.2f}"
    words = [budget["told"] for budget in data["budgets"]]
    assert data["trained"] == 3
    assert words[3] == f"r = 0.4, as trained: {chance}, mean of 2 models"
    for place, (other, share) in enumerate(zip(explained.budgets, (1, 0.7, 0.5), strict=True)):
        assert words[place] == f"r = {share}: {other.told}, first model alone"
        check(data["budgets"][place], other.fates)


@pytest.mark.parametrize(("name", "options"), [("abmil", {}), ("dtc-abmil", {"budget": "threshold"})])
def test_a_model_without_retention_has_its_own_alone(name, options, make_model, sample, tmp_path):
    from dtcwsi.explain import explain_slide

    explained = explain_slide([make_model(name, **options)], sample.features, None, tmp_path)
    data = patch_data(explained)
    assert [budget["told"] for budget in data["budgets"]] == [
        f"as trained: {explained.prediction} {explained.probability:.2f}"
    ]
    check(data["budgets"][0], explained.fates)
