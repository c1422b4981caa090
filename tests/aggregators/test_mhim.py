import pytest
import torch

import dtcwsi
from dtcwsi.aggregators import create_aggregator
from dtcwsi.errors import OptionError

DIM = 6


def model_in_training(**options):
    torch.manual_seed(0)
    given = {"projection": 8, "hidden": 4, "dropout": 0.0, "warm_up": 0.4, **options}
    return dtcwsi.create_model("mhim-abmil", in_dim=DIM, n_classes=2, **given).train()


def bags_of(*sizes):
    generator = torch.Generator().manual_seed(1)
    return dtcwsi.pack([dtcwsi.Bag(torch.randn(size, DIM, generator=generator)) for size in sizes])


def test_prediction_and_the_warm_up_are_plain_abmil():
    model, packed = model_in_training(), bags_of(30, 9)
    plain = dtcwsi.create_model("abmil", in_dim=DIM, n_classes=2, projection=8, hidden=4, activation="relu")
    plain.load_state_dict(model.state_dict())
    expected = plain(packed)
    for progress in (0.0, 0.39):
        model.set_progress(progress)
        out = model(packed)
        torch.testing.assert_close(out.logits, expected.logits)
        assert out.losses == {}
    model.set_progress(0.4)
    torch.testing.assert_close(model.eval()(packed).logits, expected.logits)


def test_a_student_sees_what_is_not_hidden_and_is_compared_with_its_teacher():
    model, packed = model_in_training(hide_random=0.0, hide_low=0.5, hide_high=0.0), bags_of(8, 1)
    plain = model.eval()(packed)
    model.train().set_progress(0.0)
    model.set_progress(0.4)
    out = model(packed)
    assert [int((part > 0).sum()) for part in out.attention.split([8, 1])] == [4, 1]
    assert torch.equal((out.attention[:8] > 0).nonzero(), plain.attention[:8].topk(4).indices.sort().values[:, None])
    projected = model.aggregator.projection(packed.features)
    wanted = torch.stack([plain.attention[:8] @ projected[:8], projected[8]]) / 0.1
    ours = torch.stack([out.attention[:8] @ projected[:8], projected[8]])
    expected = -(wanted.softmax(1) * ours.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(out.losses["teacher_disagreement"], 0.1 * expected)
    torch.testing.assert_close(out.logits, model.aggregator.head(ours))


def test_the_teacher_follows_slowly_and_takes_no_gradient():
    model, packed, labels = model_in_training(ema=0.9), bags_of(30, 9), torch.tensor([0, 1])
    model.set_progress(0.0)
    model.set_progress(0.5)
    before = [parameter.clone() for parameter in model.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    model.loss(model(packed), labels).backward()
    optimizer.step()
    model.set_progress(0.6)
    teacher = model.aggregator._teacher[0]
    for was, now, follows in zip(before, model.parameters(), teacher.parameters(), strict=True):
        torch.testing.assert_close(follows, 0.9 * was + 0.1 * now)
        assert follows.grad is None
    model.set_progress(0.0)
    assert model(packed).losses == {}


def test_fewer_of_the_highest_are_hidden_towards_the_end():
    model, packed = model_in_training(hide_random=0.0, hide_high=0.5, high_drawn=1.0), bags_of(100)
    model.set_progress(0.0)
    hidden = []
    for progress in (0.4, 0.5, 0.99):
        model.set_progress(progress)
        hidden.append(int((model(packed).attention == 0).sum()))
    assert hidden == [33, 25, 1]  # 50 x (1 + cos(pi progress)) / 2, rounded up


def test_a_state_dict_has_no_teacher_and_the_published_number_of_parameters():
    model = model_in_training()
    model.set_progress(0.0)
    keys = set(model.state_dict())
    model.set_progress(0.5)
    assert set(model.state_dict()) == keys
    full = create_aggregator("mhim-abmil", in_dim=1024, n_classes=2)
    assert sum(parameter.numel() for parameter in full.parameters()) == 591_490


@pytest.mark.parametrize("option", ["warm_up", "ema", "hide_random", "hide_low", "hide_high"])
def test_shares_out_of_range_are_told(option):
    with pytest.raises(OptionError, match=f"got {option}=1.0; expected a share from 0 to below 1"):
        model_in_training(**{option: 1.0})


@pytest.mark.parametrize(("option", "value"), [("high_drawn", 0.0), ("agreement", -1.0), ("temperature", 0.0)])
def test_other_options_out_of_range_are_told(option, value):
    with pytest.raises(OptionError, match=f"got {option}={value}; expected"):
        model_in_training(**{option: value})
