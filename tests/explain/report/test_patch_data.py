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


def test_the_first_models_budgets_go_down_and_the_mean_of_all_comes_last(explained):
    data = patch_data(explained)
    stops = data["budgets"]
    assert [(stop["short"], stop["firstAlone"]) for stop in stops] == [
        *((short, True) for short in ("1", "0.7", "0.5", "0.4")),
        ("mean", False),
    ]
    chance = f"{explained.prediction} {explained.probability:.2f}"
    assert (data["trained"], stops[4]["told"]) == (4, f"as trained: {chance}, mean of 2 models")
    for stop, budget, share in zip(stops, explained.budgets, (1, 0.7, 0.5, 0.4), strict=False):
        assert stop["told"] == f"r = {share}: {budget.told}, first model alone"
        check(stop, budget.fates)
    assert explained.budgets[3].told.startswith("as trained, ")
    assert (explained.budgets[3].fates.attention != explained.fates.attention).any()


def test_one_models_own_budget_stands_among_the_others(make_model, sample, tmp_path):
    from dtcwsi.explain import explain_slide
    from dtcwsi.explain.figures.drawing import Wanted

    few = Wanted(figures=("attention",), retentions=(0.7, 0.2, 0.7))
    explained = explain_slide(
        [make_model()], sample.features, None, tmp_path, wanted=few, class_names=["normal", "tumour"]
    )
    data = patch_data(explained)
    assert (data["trained"], [stop["short"] for stop in data["budgets"]]) == (1, ["0.7", "0.4", "0.2"])
    assert all("normal" in stop["told"] or "tumour" in stop["told"] for stop in data["budgets"])
    check(data["budgets"][1], explained.fates)


@pytest.mark.parametrize(("name", "options"), [("abmil", {}), ("dtc-abmil", {"budget": "threshold"})])
def test_a_model_without_retention_has_its_own_alone(name, options, make_model, sample, tmp_path):
    from dtcwsi.explain import explain_slide

    explained = explain_slide([make_model(name, **options)], sample.features, None, tmp_path)
    data = patch_data(explained)
    assert [budget["told"] for budget in data["budgets"]] == [
        f"as trained: {explained.prediction} {explained.probability:.2f}"
    ]
    check(data["budgets"][0], explained.fates)
