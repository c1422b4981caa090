import warnings

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
    teacher = model.aggregator.teaching.teacher
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
    assert hidden == [50, 47, 1]  # 50 x (1 + cos(pi (progress - 0.4) / 0.6)) / 2, rounded up


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


def transmil_in_training(**options):
    torch.manual_seed(0)
    given = {"width": 16, "heads": 2, "landmarks": 4, "dropout": 0.0, "projection_dropout": 0.0, "warm_up": 0.4}
    return dtcwsi.create_model("mhim-transmil", in_dim=DIM, n_classes=2, **given, **options).train()


def test_transmils_student_sees_what_most_heads_look_at_and_is_compared_with_its_teacher():
    model, packed = transmil_in_training(hide_low=0.5, hide_high=0.0), bags_of(20, 1)
    model.set_progress(0.0)
    model.set_progress(0.4)
    out = model(packed)
    part = model.aggregator
    rows = part.projection(packed.features)
    looked = part.first_look(rows, torch.zeros(21), packed.offsets)[:20]
    votes = sum((head[:, None] > head[None]).sum(dim=1) < 10 for head in looked.unbind(dim=1)).int()
    hidden = votes.argsort(descending=True, stable=True)[:10]
    seen = torch.tensor([row for row in range(20) if row not in hidden.tolist()])
    alone = model.eval()(packed.features[seen])
    torch.testing.assert_close(out.logits[0], alone.logits[0], atol=1e-6, rtol=0)
    torch.testing.assert_close(out.attention[seen], alone.attention, atol=1e-6, rtol=0)
    assert out.attention[hidden].eq(0).all()
    with torch.random.fork_rng():
        taught = model.train().aggregate(model.compress(packed)).teacher
    torch.testing.assert_close(taught[:20], model.eval()(packed.features[:20]).attention, atol=1e-6, rtol=0)
    zeros, whole = torch.zeros(21), packed.offsets
    wanted, _ = part.attended(rows, zeros, zeros, whole)
    kept = torch.cat([seen, torch.tensor([20])])
    ours, _ = part.attended(rows[kept], zeros[kept], zeros[kept], torch.tensor([0, 10, 11]))
    expected = -((wanted / 0.1).softmax(1) * ours.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(out.losses["teacher_disagreement"], 0.1 * expected)


def test_transmils_warm_up_is_plain_and_its_size_the_published_one():
    model, packed = transmil_in_training(), bags_of(20, 5)
    model.set_progress(0.0)
    out = model(packed)
    assert out.losses == {}
    torch.testing.assert_close(out.logits, model.eval()(packed).logits, atol=1e-6, rtol=0)
    full = create_aggregator("mhim-transmil", in_dim=1024, n_classes=2)
    assert sum(parameter.numel() for parameter in full.parameters()) == 2_672_146


@pytest.mark.parametrize("make", [model_in_training, transmil_in_training])
def test_a_batch_of_empty_bags_has_the_prior_with_a_teacher_too(make):
    model = make()
    model.set_progress(0.0)
    model.set_progress(0.4)
    out = model(torch.zeros(0, DIM))
    torch.testing.assert_close(out.logits.softmax(1), torch.tensor([[0.5, 0.5]]))


def test_the_teacher_goes_where_its_student_goes_and_leaves_with_training():
    model = model_in_training()
    model.set_progress(0.0)
    model.set_progress(0.4)
    assert torch.isfinite(model.double()(torch.randn(9, DIM).double()).logits).all()
    model.set_progress(1.0)
    assert model.aggregator.teaching.teacher is None
    model.eval().set_progress(0.2)
    model.set_progress(0.6)
    assert model.aggregator.teaching.teacher is None


def test_the_teachers_dropout_is_on():
    model = model_in_training(dropout=0.5, hide_random=0.0, hide_high=0.0)
    model.set_progress(0.0)
    model.set_progress(0.4)
    packed, part = bags_of(30), model.aggregator
    one, two = (
        part.teaching.teacher_of(part).attended(packed.features, torch.zeros(30), packed.offsets)[2] for _ in "12"
    )
    assert not torch.equal(one, two)


def test_more_of_the_highest_than_its_candidates_hold_is_told():
    with pytest.raises(
        OptionError, match="got hide_high=0.8 and high_drawn=0.5; expected hide_high at most high_drawn"
    ):
        model_in_training(hide_high=0.8)


@pytest.mark.parametrize("name", ["mhim-abmil", "mhim-transmil"])
def test_training_that_never_says_how_far_it_is_is_told_once(name):
    def made():
        return dtcwsi.create_model(name, in_dim=DIM, n_classes=2).train()

    silent, told, packed = made(), made(), bags_of(30, 9)
    with pytest.warns(UserWarning, match="mhim trains as its baseline, .*; call model.set_progress"):
        silent(packed)
    told.set_progress(0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        silent(packed)
        told(packed)
        made().eval()(packed)
