"""A folder of pictures knows the slide and the models, whatever these differ in."""

import json

import pytest

from dtcwsi.errors import UsageError
from dtcwsi.explain.record import check_free, models_digest, write_record
from dtcwsi.models import with_retention


def test_the_same_models_may_write_again_and_an_empty_folder_is_free(tmp_path, make_model):
    check_free(tmp_path, "S1", [make_model()])
    write_record(tmp_path, "S1", [make_model()], "dtc-abmil")
    check_free(tmp_path, "S1", [make_model()])


@pytest.mark.parametrize("change", ["weights", "retention", "name", "number"])
def test_other_models_are_refused(tmp_path, make_model, change):
    model = make_model()
    write_record(tmp_path, "S1", [model], "dtc-abmil")
    other = {
        "weights": [make_model(seed=1)],
        "retention": [with_retention(model, 0.1)],
        "name": [make_model("tome-abmil")],
        "number": [model, model],
    }[change]
    with pytest.raises(UsageError, match=r"explanation of 'S1' by other models \(dtc-abmil\); name another --out"):
        check_free(tmp_path, "S1", other)


def test_every_number_of_the_weights_counts(make_model):
    model = make_model()
    before = models_digest([model])
    last = list(model.state_dict().values())[-1]
    last.view(-1)[-1] += 1
    assert models_digest([model]) != before
    assert len(models_digest([model.bfloat16()])) == 16


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"slide_id": "S1"}, "explanation of 'S1' and does not say by which models"),
        ({"slide_id": "S2"}, "explanation of 'S2'; name another --out for 'S1'"),
        ({}, "does not say of which slide"),
        ([], "does not say of which slide"),
    ],
)
def test_folders_that_say_less_are_left_alone(tmp_path, make_model, content, told):
    (tmp_path / "slide.json").write_text(json.dumps(content))
    with pytest.raises(UsageError, match=told):
        check_free(tmp_path, "S1", [make_model()])
