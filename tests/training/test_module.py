import copy
import signal

import pytest
import torch

from dtcwsi.errors import DtcwsiError
from dtcwsi.models import create_model
from dtcwsi.training.data import SlideFeatures
from dtcwsi.training.fitting import device_of, fit
from dtcwsi.training.module import Recipe, TrainingModule


@pytest.fixture
def features(needle_cohort):
    cohort = needle_cohort(slides=12)
    labels = [int(label[-1]) for label in cohort.labels]
    return SlideFeatures(
        [header.path for header in cohort.headers], labels, [header.n_patches for header in cohort.headers]
    )


def trained(features, model, *, train=range(8), val=range(8, 12), **changes):
    recipe = {
        "epochs": 4,
        "steps_per_epoch": 2,
        "batch_size": 4,
        "lr": 1e-3,
        "weight_decay": 0.0,
        "patience": 10,
        "max_tokens": 10_000,
    }
    module = TrainingModule(copy.deepcopy(model), Recipe(**{**recipe, **changes}), features, val)
    fit(module, features, train, seed=0, device="cpu")
    return module


def model_of(name, seed=0, **options):
    torch.manual_seed(seed)
    return create_model(name, in_dim=64, n_classes=2, **options)


@pytest.mark.parametrize("name", ["abmil", "dtc-abmil"])
def test_passes_add_up_to_the_batch_they_are_cut_from(features, name):
    model = model_of(name)
    states = [
        trained(features, model, max_tokens=limit, epochs=2, lr=1e-2).model.state_dict() for limit in (10_000, 100, 1)
    ]
    for key, whole in states[0].items():
        for cut in states[1:]:
            torch.testing.assert_close(cut[key], whole, atol=2e-4, rtol=0)
    start = model.state_dict()["aggregator.head.weight"]
    assert (states[0]["aggregator.head.weight"] - start).abs().max() > 5e-3


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "lookahead-radam"])
def test_the_rate_follows_the_recipe(features, optimizer):
    rates = []

    class Watched(TrainingModule):
        def optimizers(self):
            built = super().optimizers()
            rates.append(built.param_groups[0]["lr"])
            return built

    recipe = Recipe(
        epochs=4, steps_per_epoch=2, batch_size=4, max_tokens=10_000, optimizer=optimizer, schedule="cosine", lr=0.01
    )
    module = Watched(model_of("abmil"), recipe, features, range(8, 12))
    start = copy.deepcopy(module.model.state_dict())
    fit(module, features, range(8), seed=0, device="cpu")
    assert rates[1:] == pytest.approx([recipe.rate_at(step / 8) for step in range(7)])
    assert any(not torch.equal(tensor, start[key]) for key, tensor in module.model.state_dict().items())


def test_one_seed_gives_the_same_weights(features):
    one, other = (trained(features, model_of("dtc-abmil")).best_model().state_dict() for _ in range(2))
    assert all(torch.equal(tensor, other[key]) for key, tensor in one.items())


def test_only_epochs_after_the_curriculum_are_chosen(features):
    module = trained(features, model_of("dtc-abmil"), epochs=6)
    assert [row.progress for row in module.history] == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1])
    assert not any(row.chosen for row in module.history[:2])
    late = module.history[2:]
    assert module.best_epoch == min(late, key=lambda row: row.val_loss).epoch
    assert late[0].chosen
    full = [row.train_tokens_out / row.train_tokens_in for row in module.history]
    assert full[0] > full[1] > full[2] > 0.4
    assert full[3:] == pytest.approx([0.4] * 3, abs=0.01)


def test_the_best_model_is_the_chosen_epochs(features):
    module = trained(features, model_of("abmil"), epochs=8, lr=3e-2)
    best = module.best_model()
    row = module.history[module.best_epoch - 1]
    packed = [features.slide(index) for index in range(8, 12)]
    logits = torch.cat([best(bags).logits for bags in packed])
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor(features.labels[8:]))
    assert loss.item() == pytest.approx(row.val_loss, abs=1e-5)


def test_patience_ends_training_after_the_curriculum(features):
    module = trained(features, model_of("abmil"), epochs=30, patience=2, lr=0.5)
    assert 15 <= len(module.history) < 30
    assert len(module.history) - module.best_epoch == 2


def test_a_loss_that_is_not_finite_ends_the_fold_with_a_reason(features):
    model = model_of("abmil")
    with torch.no_grad():
        model.aggregator.head.bias.fill_(float("nan"))
    with pytest.raises(DtcwsiError, match="the loss became nan at step 0; train with a lower learning rate"):
        trained(features, model)


def test_training_writes_nothing_and_says_nothing(features, tmp_path, monkeypatch, capfd, recwarn):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    trained(features, model_of("abmil"), epochs=1)
    assert list((tmp_path / "here").iterdir()) == []
    assert capfd.readouterr() == ("", "")
    assert [str(warning.message) for warning in recwarn] == []


def test_ctrl_c_stays_a_keyboard_interrupt_and_the_handler_stays(features):
    def interrupt(row):
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    recipe = Recipe(epochs=4, steps_per_epoch=2, batch_size=4, max_tokens=10_000)
    module = TrainingModule(model_of("abmil"), recipe, features, [0, 1], interrupt)
    with pytest.raises(KeyboardInterrupt):
        fit(module, features, range(8), seed=0, device="cpu")
    assert signal.getsignal(signal.SIGINT) is before


def test_unknown_devices_are_told():
    with pytest.raises(DtcwsiError, match="got device 'gpu'; expected one of auto, cpu, cuda, mps"):
        device_of("gpu")
    assert device_of("cpu") == torch.device("cpu")
