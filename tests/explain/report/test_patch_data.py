"""What the page's script gets is what the model said."""

import base64

import numpy as np

from dtcwsi.explain.report.patch_data import patch_data


def test_arrays_come_back_as_they_were(explained):
    data = patch_data(explained.patches, explained.fates)
    read = {
        name: np.frombuffer(base64.b64decode(one["base64"]), one["type"].lower())
        for name, one in data["arrays"].items()
    }
    fates = explained.fates
    assert data["count"] == len(fates) == 60
    np.testing.assert_array_equal(np.stack([read["x"], read["y"]], axis=1), explained.patches.coords)
    np.testing.assert_array_equal(read["tokens"].reshape(data["stages"], -1), fates.by_stage)
    np.testing.assert_array_equal(read["fate"], fates.fate)
    np.testing.assert_array_equal(read["stage"], fates.stage)
    np.testing.assert_allclose(read["attention"], fates.attention, rtol=1e-6)
    np.testing.assert_allclose(read["importance"], fates.importance, rtol=1e-6)
    np.testing.assert_allclose(read["percentile"] / 100, fates.percentile, atol=0.005)
    assert sum(len(one["base64"]) for one in data["arrays"].values()) < 60 * 46
