import pytest
import torch

from dtcwsi.aggregators import AGGREGATORS, create_aggregator
from dtcwsi.bags.packing import pack
from dtcwsi.compressors import create_compressor
from dtcwsi.errors import OptionError, UnknownNameError
from dtcwsi.types import Bag

DIM, CLASSES = 5, 3


def aggregator(name, **options):
    torch.manual_seed(0)
    return create_aggregator(name, in_dim=DIM, n_classes=CLASSES, **options).eval()


def tokens_of(*features):
    return create_compressor("identity", dim=DIM)(pack([Bag(rows) for rows in features]))


def with_bias(tokens, log_size, gate):
    fields = {**vars(tokens), "log_size": torch.tensor(log_size), "gate": torch.tensor(gate)}
    return type(tokens)(**fields)


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("projection", [None, 7])
def test_abmil_is_the_formula_of_section_2_5(gated, projection):
    model = aggregator("abmil", projection=projection, hidden=4, gated=gated)
    features = torch.randn(6, DIM)
    out = model(tokens_of(features))
    state = model.state_dict()
    rows = features
    if projection is not None:
        rows = torch.relu(features @ state["projection.0.weight"].T + state["projection.0.bias"])
    hidden = torch.tanh(rows @ state["attention_tanh.weight"].T)
    if gated:
        hidden = hidden * torch.sigmoid(rows @ state["attention_gate.weight"].T)
    attention = (hidden @ state["attention_score.weight"].T).squeeze(1).softmax(0)
    logits = attention @ rows @ state["head.weight"].T + state["head.bias"]
    torch.testing.assert_close(out.attention, attention)
    torch.testing.assert_close(out.logits, logits[None])


def test_abmil_has_the_parameters_of_its_formula():
    def count(**options):
        model = create_aggregator("abmil", in_dim=1024, n_classes=2, **options)
        return sum(parameter.numel() for parameter in model.parameters())

    assert count() == 1024 * 512 + 512 + 512 * 128 + 128 + 512 * 2 + 2
    assert count(gated=True) == count() + 512 * 128
    assert count(projection=None, hidden=64) == 1024 * 64 + 64 + 1024 * 2 + 2


def test_mean_is_the_mean():
    model = aggregator("mean", projection=None)
    features = torch.randn(6, DIM)
    out = model(tokens_of(features))
    torch.testing.assert_close(out.logits, model.head(features.mean(dim=0, keepdim=True)))
    assert out.attention.tolist() == pytest.approx([1 / 6] * 6)


@pytest.mark.parametrize("name", AGGREGATORS.names())
def test_a_token_of_n_patches_weighs_as_n_patches(name):
    model = aggregator(name)
    one, two = torch.randn(1, DIM), torch.randn(1, DIM)
    apart = model(tokens_of(torch.cat([one, two, two, two])))
    together = model(with_bias(tokens_of(torch.cat([one, two])), [0.0, 1.0986123], [0.0, 0.0]))
    torch.testing.assert_close(together.logits, apart.logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(together.attention[1], apart.attention[1:].sum())


@pytest.mark.parametrize("name", AGGREGATORS.names())
def test_the_gate_lowers_attention_but_not_the_teachers(name):
    model, tokens = aggregator(name), tokens_of(torch.randn(2, DIM))
    free = model(tokens)
    gated = model(with_bias(tokens, [0.0, 0.0], [0.0, -0.69314718]))
    odds = free.attention[1] / free.attention[0]
    torch.testing.assert_close(gated.attention[1] / gated.attention[0], odds / 2)
    torch.testing.assert_close(gated.teacher, free.attention)
    assert not gated.teacher.requires_grad


@pytest.mark.parametrize("name", AGGREGATORS.names())
def test_bags_do_not_see_each_other(name):
    model = aggregator(name)
    bags = [torch.randn(size, DIM) for size in (4, 0, 1, 30)]
    batch = model(tokens_of(*bags))
    assert torch.isfinite(batch.logits).all()
    sums = [float(part.sum().detach()) for part in batch.attention.split([4, 0, 1, 30])]
    assert sums == pytest.approx([1, 0, 1, 1])
    for number, bag in enumerate(bags):
        torch.testing.assert_close(model(tokens_of(bag)).logits[0], batch.logits[number], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", AGGREGATORS.names())
def test_dropout_acts_in_training_only(name):
    model, tokens = aggregator(name, dropout=0.5), tokens_of(torch.randn(6, DIM))
    assert torch.equal(model(tokens).logits, model(tokens).logits)
    model.train()
    assert not torch.equal(model(tokens).logits, model(tokens).logits)


def test_unknown_names_and_options_name_the_near_ones():
    with pytest.raises(UnknownNameError, match="no aggregator is called 'abmill'; near names: abmil"):
        aggregator("abmill")
    with pytest.raises(OptionError, match="model 'abmil' takes no option 'gate'; near options: gated"):
        aggregator("abmil", gate=True)


@pytest.mark.parametrize("name", AGGREGATORS.names())
@pytest.mark.parametrize("options", [{"dropout": 1.0}, {"dropout": -0.1}, {"dropout": float("nan")}, {"projection": 0}])
def test_options_out_of_range_are_told(name, options):
    option, value = next(iter(options.items()))
    with pytest.raises(OptionError, match=f"got {option}={value}; expected"):
        aggregator(name, **options)
