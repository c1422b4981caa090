import pytest
import torch

from dtcwsi.aggregators import AGGREGATORS, create_aggregator
from dtcwsi.bags.packing import pack
from dtcwsi.compressors import create_compressor
from dtcwsi.errors import OptionError, UnknownNameError
from dtcwsi.models import create_model
from dtcwsi.nn import nystrom
from dtcwsi.types import Bag

DIM, CLASSES = 5, 3
SMALL = {
    "hipt": {"width": 12, "heads": 2, "slide_heads": 2, "depth": 2, "layers": 1},
    "longformer": {"width": 16, "heads": 2, "attention_window": 5},
    "mamba2d": {"width": 16, "states": 4},
    "patchgd": {"width": 16, "hidden": 8},
    "spt": {"width": 16, "heads": 2},
    **dict.fromkeys(["mhim-transmil", "transmil"], {"width": 16, "heads": 2}),
}


def aggregator(name, **options):
    torch.manual_seed(0)
    return create_aggregator(name, in_dim=DIM, n_classes=CLASSES, **SMALL.get(name, {}) | options).eval()


def tokens_of(*features):
    """A row of patches a bag, as some models need to know where they lie."""
    bags = [Bag(rows, torch.arange(len(rows))[:, None] * torch.tensor([256, 0])) for rows in features]
    return create_compressor("identity", dim=DIM)(pack(bags))


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
    hidden = torch.tanh(rows @ state["attention.hidden.weight"].T)
    if gated:
        hidden = hidden * torch.sigmoid(rows @ state["attention.gate.weight"].T)
    attention = (hidden @ state["attention.score.weight"].T).squeeze(1).softmax(0)
    logits = attention @ rows @ state["head.weight"].T + state["head.bias"]
    torch.testing.assert_close(out.attention, attention)
    torch.testing.assert_close(out.logits, logits[None])


def test_abmil_has_the_parameters_of_its_formula():
    def count(**options):
        model = create_aggregator("abmil", in_dim=1024, n_classes=2, **options)
        return sum(parameter.numel() for parameter in model.parameters())

    assert count() == 1024 * 512 + 512 + 512 * 128 + 128 + 512 * 2 + 2
    assert count(gated=True) == count() + 512 * 128
    assert count(attention_bias=True) == count() + 129
    assert count(projection=None, hidden=64) == 1024 * 64 + 64 + 1024 * 2 + 2


def test_mean_is_the_mean():
    model = aggregator("mean", projection=None)
    features = torch.randn(6, DIM)
    out = model(tokens_of(features))
    torch.testing.assert_close(out.logits, model.head(features.mean(dim=0, keepdim=True)))
    assert out.attention.tolist() == pytest.approx([1 / 6] * 6)


PLACED = (
    "hipt",
    "longformer",
    "mamba2d",
    "mhim-transmil",
    "patchgd",
    "spt",
    "transmil",
)  # copies of a token lie elsewhere than it does


@pytest.mark.parametrize("name", [name for name in AGGREGATORS.names() if name not in PLACED])
def test_a_token_of_n_patches_weighs_as_n_patches(name):
    model = aggregator(name)
    one, two = torch.randn(1, DIM), torch.randn(1, DIM)
    apart = model(tokens_of(torch.cat([one, two, two, two])))
    together = model(with_bias(tokens_of(torch.cat([one, two])), [0.0, 1.0986123], [0.0, 0.0]))
    torch.testing.assert_close(together.logits, apart.logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(together.attention[1], apart.attention[1:].sum())


@pytest.mark.parametrize("name", ["abmil", "clam-mb", "clam-sb", "mean"])
def test_the_gate_lowers_attention_but_not_the_teachers(name):
    def maps_of(out):
        return out.attention[:, None] if out.attention_by_class is None else out.attention_by_class

    model, tokens = aggregator(name), tokens_of(torch.randn(2, DIM))
    free = model(tokens)
    gated = model(with_bias(tokens, [0.0, 0.0], [0.0, -0.69314718]))
    odds, halved = (maps_of(out)[1] / maps_of(out)[0] for out in (free, gated))
    torch.testing.assert_close(halved, odds / 2)
    torch.testing.assert_close(gated.teacher, maps_of(free).mean(dim=1))
    assert not gated.teacher.requires_grad


@pytest.mark.parametrize("name", ["dsmil", "max"])
def test_the_gate_scales_tokens_that_are_chosen_one_by_one(name):
    model, rows = aggregator(name), torch.randn(9, DIM)
    gates = torch.linspace(-0.7, 0, 9)
    out = model.train()(with_bias(tokens_of(rows), [0.0] * 9, gates.tolist()))
    scaled = gates.exp()[:, None]
    if name == "max":
        pooled = (model.projection(rows) * scaled).amax(dim=0)
        torch.testing.assert_close(out.logits[0], model.head(pooled))
    else:
        best, wanted = model.instance_head(rows * scaled).amax(dim=0), torch.tensor([1.0, 0.0, 0.0])
        entropy = torch.nn.functional.binary_cross_entropy_with_logits
        both = 0.5 * (entropy(out.logits[0], wanted) + entropy(best, wanted))
        torch.testing.assert_close(out.objective(out.logits, torch.tensor([0])), both[None])


@pytest.mark.parametrize("name", ["clam-mb", "dsmil"])
def test_attention_is_the_predicted_classes_map(name):
    out = aggregator(name)(tokens_of(torch.randn(20, DIM), torch.randn(30, DIM)))
    one, two = out.logits.argmax(dim=1).tolist()
    assert torch.equal(out.attention[:20], out.attention_by_class[:20, one])
    assert torch.equal(out.attention[20:], out.attention_by_class[20:, two])


def test_max_is_the_max_and_attention_its_share():
    model = aggregator("max", projection=None)
    features = torch.tensor([[1.0, 0, 0, 5, 5], [0, 2, 2, 5, 0]])
    out = model(tokens_of(features))
    torch.testing.assert_close(out.logits, model.head(features.amax(dim=0, keepdim=True)))
    assert out.attention.tolist() == pytest.approx([0.6, 0.4])


def test_dsmil_is_its_formulas():
    model = aggregator("dsmil", queries=4)
    features = torch.randn(7, DIM)
    scores, queries = model.instance_head(features), model.query(features)
    critical = scores.argmax(dim=0)
    maps = (queries @ queries[critical].T / 2.0).softmax(dim=0)
    pooled = maps.T @ features
    logits = torch.einsum("cbd,bd->c", model.head.weight, pooled) + model.head.bias
    out = model.train()(tokens_of(features))
    torch.testing.assert_close(out.logits[0], logits)
    torch.testing.assert_close(out.attention_by_class, maps)
    wanted = torch.tensor([0.0, 1.0, 0.0])
    entropy = torch.nn.functional.binary_cross_entropy_with_logits
    both = 0.5 * (entropy(logits, wanted) + entropy(scores.amax(dim=0), wanted))
    torch.testing.assert_close(out.objective(out.logits, torch.tensor([1])), both[None])


@pytest.mark.parametrize("name", ["clam-sb", "clam-mb"])
@pytest.mark.parametrize("subtyping", [True, False])
def test_clams_instance_loss_is_that_of_each_bag_alone(name, subtyping):
    """Bags with fewer than k tokens use all of them; the top ones of the bag's class count as evidence."""
    model = aggregator(name, subtyping=subtyping, k=4, instance_loss="ce", bag_weight=0.0, dropout=0.0).train()
    bags, labels = [torch.randn(size, DIM) for size in (3, 20, 1)], torch.tensor([1, 0, 2])
    out = model(tokens_of(*bags))
    for bag, label, found in zip(bags, labels, out.objective(out.logits, labels), strict=True):
        rows = model.projection(bag)
        maps = model.attention(rows).softmax(dim=0)
        terms = []
        for number, head in enumerate(model.instance_heads):
            order = maps[:, number if name == "clam-mb" else 0].argsort(descending=True)
            top, bottom = rows[order[:4]], rows[order[-4:]]
            targets = torch.tensor([1] * len(top) + [0] * len(bottom))
            if number == label:
                terms.append(torch.nn.functional.cross_entropy(head(torch.cat([top, bottom])), targets))
            elif subtyping:
                terms.append(torch.nn.functional.cross_entropy(head(top), torch.zeros(len(top), dtype=torch.int64)))
        torch.testing.assert_close(found, sum(terms) / (3 if subtyping else 1))


@pytest.mark.parametrize(
    ("name", "dim", "count"),
    [("clam-sb", 1024, 790_791), ("clam-mb", 1024, 791_048), ("dsmil", 512, 85_252), ("transmil", 1024, 2_672_146)],
)
def test_published_sizes_have_the_published_number_of_parameters(name, dim, count):
    model = create_aggregator(name, in_dim=dim, n_classes=2)
    assert sum(parameter.numel() for parameter in model.parameters()) == count


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


@pytest.mark.parametrize("name", ["clam-mb", "clam-sb", "dsmil"])
def test_objectives_do_not_see_other_bags(name):
    model = aggregator(name, **({} if name == "dsmil" else {"dropout": 0.0})).train()
    bags, labels = [torch.randn(size, DIM) for size in (4, 0, 12)], torch.tensor([0, 1, 2])
    out = model(tokens_of(*bags))
    for bag, label, found in zip(bags, labels, out.objective(out.logits, labels), strict=True):
        alone = model(tokens_of(bag))
        torch.testing.assert_close(alone.objective(alone.logits, label[None])[0], found)


@pytest.mark.parametrize("name", AGGREGATORS.names())
def test_dropout_acts_in_training_only(name):
    options = {"values": True} if name == "dsmil" else {}
    model, tokens = aggregator(name, dropout=0.5, **options), tokens_of(torch.randn(6, DIM))
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
    if option == "projection":
        option = {"dsmil": "queries", "panther": "prototypes"}.get(name, "width" if name in SMALL else option)
        options = {option: 0}
    with pytest.raises(OptionError, match=f"got {option}={value}; expected"):
        aggregator(name, **options)


def test_where_the_class_token_takes_from_no_token_transmils_attention_goes_by_the_bias(monkeypatch):
    model, gate = aggregator("transmil"), [0.0, -1.0, 0.5]
    of_first = model.second.of_first

    def negative(rows, bias):
        found, shares = of_first(rows, bias)
        return found, -shares.abs()

    monkeypatch.setattr(model.second, "of_first", negative)
    out = model(with_bias(tokens_of(torch.randn(3, DIM)), [0.0] * 3, gate))
    torch.testing.assert_close(out.attention, torch.tensor(gate).softmax(dim=0))


def test_dsmils_slopes_are_those_of_its_formulas():
    model, sizes = aggregator("dsmil", queries=4).double().train(), (6, 1, 9)
    bags = [torch.randn(size, DIM, dtype=torch.float64) for size in sizes]
    count = sum(sizes)
    tokens = tokens_of(*bags)
    rows = tokens.features.clone().requires_grad_()
    gate, log_size = torch.randn(count, dtype=torch.float64).requires_grad_(), torch.rand(count, dtype=torch.float64)
    labels, given = torch.tensor([0, 2, 1]), {"features": rows, "gate": gate, "log_size": log_size}
    out = model(type(tokens)(**{**vars(tokens), **given}))
    weights = [rows, gate, *model.parameters()]
    found = torch.autograd.grad(out.objective(out.logits, labels).sum(), weights)
    losses, wanted = [], torch.nn.functional.one_hot(labels, CLASSES).double()
    for bag, part in enumerate(torch.split(torch.arange(count), sizes)):
        scores = model.instance_head.weight @ rows[part].T * gate[part].exp() + model.instance_head.bias[:, None]
        queries = model.query(rows[part])
        likeness = queries @ queries[scores.argmax(dim=1)].T / 2
        maps = (likeness + (log_size + gate)[part, None]).softmax(dim=0)
        logits = model.head((maps.T @ rows[part])[None])[0, :, 0]
        for stream in (logits, scores.amax(dim=1)):
            losses.append(torch.nn.functional.binary_cross_entropy_with_logits(stream, wanted[bag]) / 2)
    for one, other in zip(found, torch.autograd.grad(sum(losses), weights), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["transmil", "mhim-transmil"])
def test_attention_that_is_read_later_is_of_the_weights_of_the_pass(name):
    rows = torch.randn(7, DIM)
    at_once = aggregator(name)(tokens_of(rows)).attention
    model = aggregator(name)
    with torch.inference_mode():
        out = model(tokens_of(rows))
    for weights in model.parameters():
        weights.detach().mul_(2)
    torch.testing.assert_close(out.attention, at_once)


def test_attention_of_a_pass_in_lower_precision_can_be_read_behind_it():
    model, rows = aggregator("transmil"), torch.randn(7, DIM)
    with torch.autocast("cpu", torch.bfloat16):
        out = model(tokens_of(rows))
    torch.testing.assert_close(out.attention.float(), model(tokens_of(rows)).attention, atol=0.02, rtol=0)


def test_a_training_step_works_no_rollout_out(monkeypatch):
    monkeypatch.setattr(nystrom.NystromAttention, "_taken_from", lambda *_: pytest.fail("worked out"))
    for name, options in (("transmil", {}), ("tome-transmil", {}), ("dtc-transmil", {"teach": 0.0})):
        torch.manual_seed(0)
        model = create_model(name, in_dim=DIM, n_classes=2, **options).train()
        bag = torch.randn(9, DIM)
        label = model(bag).logits.argmin(dim=1)  # a loss above that of a guess, so that doubt stands
        for progress in (0.2, 0.3):
            model.set_progress(progress)
            out = model(bag)
            model.loss(out, label).backward()
        assert (out.whole_logits is not None) == (name == "dtc-transmil")


def test_transmils_rollout_goes_through_both_layers(monkeypatch):
    model, rows, seen = aggregator("transmil"), torch.randn(7, DIM), {}
    for layer, name in ((model.first, "looked"), (model.second, "of_first")):
        usual = getattr(layer, name)
        monkeypatch.setattr(
            layer,
            name,
            lambda *given, usual=usual, name=name: seen.update({name: (given, usual(*given))}) or seen[name][1],
        )
    rolled = model(tokens_of(rows))
    model.rolls_out = False
    last = model(tokens_of(rows))
    torch.testing.assert_close(last.logits, rolled.logits)
    (_, (_, taken_from)), shares = seen["looked"], seen["of_first"][1][1]
    wanted = (shares + taken_from(shares + torch.eye(len(shares))[0]))[1:].clamp_min(0)
    wanted = wanted[:7] + torch.cat([wanted[7:], torch.zeros(5)])
    torch.testing.assert_close(rolled.attention, wanted / wanted.sum())
    assert (rolled.attention - last.attention).abs().max() > 1e-3
    with pytest.raises(OptionError, match="got attention='all'; expected one of: last, rollout"):
        aggregator("transmil", attention="all")
