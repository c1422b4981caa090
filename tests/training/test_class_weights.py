import json
import re

import numpy as np
import pytest
import torch

from dtcwsi.bags.cohort import read_cohort
from dtcwsi.errors import OptionError
from dtcwsi.training.crossval import cross_validate
from dtcwsi.training.data import SlideFeatures
from dtcwsi.training.evaluation import evaluate

from .conftest import write_slide


@pytest.fixture
def blank_cohort(tmp_path):
    """24 slides that all look the same, one in four of class b: all there is to learn is how frequent it is."""
    (tmp_path / "features").mkdir()
    rows = ["slide_id,label"]
    for number in range(24):
        write_slide(tmp_path / "features" / f"s{number:02d}.h5", np.ones((4, 8)))
        rows.append(f"s{number:02d},{'b' if number % 4 == 0 else 'a'}")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    return read_cohort(tmp_path / "labels.csv", tmp_path / "features")


@pytest.mark.slow
def test_classes_count_alike_whatever_their_share(blank_cohort, tmp_path):
    given = {"model": "mean", "folds": 2, "epochs": 40, "lr": 0.02, "seed": 1}
    shares = {}
    for weights in ("none", "balanced", "sampled"):
        record = cross_validate(blank_cohort, out=tmp_path / weights, class_weights=weights, **given)
        predictions = np.loadtxt(record.folder / "predictions.csv", delimiter=",", skiprows=1, usecols=5)
        shares[weights] = predictions.mean()
    assert shares["none"] == pytest.approx(0.25, abs=0.1)
    assert shares["balanced"] == pytest.approx(0.5, abs=0.1)
    assert shares["sampled"] == pytest.approx(0.5, abs=0.1)
    told = [json.loads((tmp_path / weights / "settings.json").read_text()) for weights in ("none", "balanced")]
    assert "class_weights" not in told[0]
    assert told[1]["class_weights"] == "balanced"
    with pytest.raises(OptionError, match="got class_weights='rare'; expected one of: balanced, none, sampled"):
        cross_validate(blank_cohort, out=tmp_path / "other", class_weights="rare", **given)


def test_a_batch_of_drawn_slides_must_fit_if_it_is_the_largest_throughout(blank_cohort, tmp_path):
    for number, header in enumerate(blank_cohort.headers):
        write_slide(header.path, np.ones((4 + number, 8)))
    cohort = read_cohort(tmp_path / "labels.csv", tmp_path / "features")

    def needed(weights):
        how = {"model": "patchgd", "folds": 2, "batch_size": 3, "max_tokens": 9, "class_weights": weights}
        with pytest.raises(OptionError) as told:
            cross_validate(cohort, out=tmp_path / weights, **how)
        return int(re.search("raise max_tokens to ([0-9]+)", str(told.value))[1])

    assert needed("sampled") > needed("none")
    assert needed("sampled") % 3 == 0


def test_the_loss_that_chooses_is_weighted_alike(blank_cohort):
    from dtcwsi.models import create_model

    files, labels = [header.path for header in blank_cohort.headers], [int(x == "b") for x in blank_cohort.labels]
    features = SlideFeatures(files, labels, [4] * 24)
    torch.manual_seed(0)
    model, how = create_model("mean", in_dim=8, n_classes=2), {"max_tokens": 100, "device": torch.device("cpu")}
    plain = evaluate(model, features, range(8), **how)
    found = evaluate(model, features, range(8), class_weights=torch.tensor([0.5, 2.0]), **how)
    each = -np.log(plain.probabilities[np.arange(8), plain.labels])
    assert plain.loss == pytest.approx(each.mean())
    assert found.loss == pytest.approx(np.average(each, weights=np.where(plain.labels == 1, 2.0, 0.5)))
