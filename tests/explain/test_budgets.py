"""A model's other budgets are those of its very weights, and its own is what it says as it is."""

import pytest

from dtcwsi.ensemble import ask
from dtcwsi.explain.budgets import at_retentions, own_budget
from dtcwsi.models import with_retention

SHARES = (1.0, 0.4, 0.2)
NAMES = ("one", "other")


@pytest.mark.parametrize("name", ["dtc-abmil", "merge-only-abmil", "random-abmil", "tome-abmil"])
def test_the_trained_budget_is_the_models_own(name, make_model, sample):
    model = make_model(name)
    own = ask([model], sample.features).predictions[0]
    found, why = at_retentions(model, sample.features, own, (*SHARES, SHARES[0]), NAMES)
    assert (why, own_budget(model, own, NAMES).retention, len(found)) == ("", 0.4, 3)
    assert [budget.trained for budget in found] == [False, True, False]
    for budget, share in zip(found, SHARES, strict=True):
        said = ask([with_retention(model, share)], sample.features)
        assert (budget.fates.token == said.predictions[0].patch_to_token.numpy()).all()
        words = f"{NAMES[said.probabilities.argmax()]} {said.probabilities.max():.2f}"
        assert budget.told == (f"as trained, {words}" if budget.trained else words)


def test_another_schedule_with_the_same_end_is_not_the_trained_one(make_model, sample):
    model = make_model(schedule=(0.5, 0.8))
    own = ask([model], sample.features).predictions[0]
    found, _ = at_retentions(model, sample.features, own, (0.4, 0.5), NAMES)
    assert [(budget.name, budget.trained) for budget in found] == [("r = 0.4, even stages", False), ("r = 0.5", False)]
    assert own_budget(model, own, NAMES).told.startswith("as trained, ")


@pytest.mark.parametrize("model", [{"name": "abmil"}, {"budget": "threshold"}])
def test_without_a_retention_there_is_the_models_own_alone(model, make_model, sample):
    classifier = make_model(**model)
    own = ask([classifier], sample.features).predictions[0]
    found, why = at_retentions(classifier, sample.features, own, SHARES, NAMES)
    assert [(budget.name, budget.trained) for budget in found] == [("as it is", True)]
    assert why.endswith(".")
