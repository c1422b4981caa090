import math
import warnings

import jaxtyping
import pytest
import torch

import dtcwsi
from dtcwsi.aggregators import create_aggregator
from dtcwsi.bags.packing import pack
from dtcwsi.compressors import create_compressor
from dtcwsi.errors import FeaturesError, OptionError
from dtcwsi.nn import chunks
from dtcwsi.types import Bag

DIM, CLASSES = 5, 3


def fitted(**options):
    torch.manual_seed(0)
    model = create_aggregator("panther", in_dim=DIM, n_classes=CLASSES, **{"prototypes": 4, **options}).eval()
    model.fit_prototypes(torch.randn(60, DIM), seed=0)
    return model


def tokens_of(*features):
    return create_compressor("identity", dim=DIM)(pack([Bag(rows) for rows in features]))


def em_by_loops(rows, weights, centres, *, steps, tau, epsilon):
    """Expectation-maximisation with a Dirichlet and normal-inverse-Wishart prior, a number at a time, in float64."""
    count, dim = centres.shape
    share = [1 / count] * count
    mean = [[float(v) for v in centre] for centre in centres]
    variance = [[epsilon] * dim for _ in range(count)]
    for _ in range(steps):
        owner = []
        for row in rows.tolist():
            logs = [
                math.log(share[c])
                - 0.5 * sum((row[d] - mean[c][d]) ** 2 / variance[c][d] + math.log(variance[c][d]) for d in range(dim))
                for c in range(count)
            ]
            likely = [math.exp(log - max(logs)) for log in logs]
            owner.append([one / sum(likely) for one in likely])
        total = [sum(w * q[c] for w, q in zip(weights, owner, strict=True)) + tau for c in range(count)]
        first, second = ([[0.0] * dim for _ in range(count)] for _ in range(2))
        for c in range(count):
            for d in range(dim):
                centre = float(centres[c][d])
                pairs = list(zip(weights, owner, rows.tolist(), strict=True))
                first[c][d] = (sum(w * q[c] * x[d] for w, q, x in pairs) + tau * centre) / total[c]
                square = sum(w * q[c] * x[d] ** 2 for w, q, x in pairs) + tau * (epsilon + centre**2)
                second[c][d] = square / total[c] - first[c][d] ** 2
        share, mean, variance = [one / sum(total) for one in total], first, second
    return torch.tensor(share), torch.tensor(mean), torch.tensor(variance), torch.tensor(owner)


@pytest.mark.parametrize("iterations", [1, 3])
@pytest.mark.parametrize("head", ["linear", "per-prototype"])
def test_logits_are_those_of_em_by_loops(iterations, head):
    model = fitted(iterations=iterations, prior_weight=0.5, prior_variance=0.7, head=head, hidden=6).double()
    rows, sizes = torch.randn(9, DIM).double(), [1.0, 3.0, *[1.0] * 7]
    tokens = tokens_of(rows)
    tokens = type(tokens)(**{**vars(tokens), "log_size": torch.tensor(sizes).double().log()})
    share, mean, variance, _ = em_by_loops(rows, sizes, model.prototypes, steps=iterations, tau=0.5, epsilon=0.7)
    if head == "linear":
        expected = model.head.linear(torch.cat([share, mean.flatten(), variance.flatten()]).double())
    else:
        parts = torch.cat([share[:, None], mean, variance], dim=1).double()
        said = [network(part) for network, part in zip(model.head.each, parts, strict=True)]
        expected = model.head.linear(torch.cat(said))
    torch.testing.assert_close(model(tokens).logits[0], expected, atol=1e-5, rtol=1e-5)


def test_attention_deals_a_prototypes_evidence_out_by_responsibility():
    model = fitted()
    rows = torch.randn(12, DIM)
    out = model(tokens_of(rows))
    share, mean, variance, owner = em_by_loops(rows, [1.0] * 12, model.prototypes, steps=1, tau=0.001, epsilon=0.1)
    weight = model.head.linear.weight.detach()
    of_share, of_mean, of_variance = weight[:, :4], weight[:, 4:24].view(-1, 4, 5), weight[:, 24:].view(-1, 4, 5)
    evidence = share * of_share + (of_mean * mean).sum(2) + (of_variance * variance).sum(2)
    for number in range(CLASSES):
        above = (evidence[number] - evidence.mean(dim=0)).clamp_min(0)
        if above.sum() == 0:
            above = owner.sum(dim=0)
        expected = (owner / owner.sum(dim=0) * above / above.sum()).sum(dim=1)
        torch.testing.assert_close(out.attention_by_class[:, number], expected, atol=1e-5, rtol=1e-3)
    assert torch.equal(out.attention, out.attention_by_class[:, int(out.logits.argmax())])


def test_prototypes_are_centres_of_the_training_patches():
    centres = torch.eye(4, DIM) * 10
    patches = (centres[:, None] + 0.1 * torch.randn(4, 30, DIM)).flatten(0, 1)
    bags = [dtcwsi.Bag(patches[start::3]) for start in range(3)]
    model = dtcwsi.create_model("panther", in_dim=DIM, n_classes=2, prototypes=4)
    model.fit_prototypes(bags)
    found = model.aggregator.prototypes
    assert torch.cdist(centres, found).min(dim=1).values.max() < 0.1
    assert int(model.aggregator.fitted_on) == 120
    again = dtcwsi.create_model("panther", in_dim=DIM, n_classes=2, prototypes=4)
    again.fit_prototypes([dtcwsi.pack(bags)], patches=50_000)
    assert torch.cdist(found, again.aggregator.prototypes).min(dim=1).values.max() < 0.1


def test_a_sample_takes_as_many_patches_of_every_bag():
    model = dtcwsi.create_model("panther", in_dim=DIM, n_classes=2, prototypes=4)
    bags = [dtcwsi.Bag(torch.randn(size, DIM)) for size in (500, 3, 0, 500)]
    model.fit_prototypes(bags, patches=40)
    assert int(model.aggregator.fitted_on) == 10 + 3 + 0 + 10


def test_fewer_patches_than_prototypes_repeat():
    model = dtcwsi.create_model("panther", in_dim=DIM, n_classes=2)
    bag = dtcwsi.Bag(torch.randn(3, DIM))
    with pytest.warns(UserWarning, match="panther has 3 patches for 16 prototypes, which repeat; give it more patches"):
        model.fit_prototypes([bag])
    assert torch.equal(model.aggregator.prototypes[:3].sort(0).values, model.aggregator.prototypes[3:6].sort(0).values)
    assert torch.isfinite(model(bag).logits).all()


def test_random_prototypes_are_told_and_fitted_ones_are_saved(tmp_path):
    model = dtcwsi.create_model("dtc-panther", in_dim=DIM, n_classes=2)
    bag = dtcwsi.Bag(torch.randn(30, DIM))
    with pytest.warns(UserWarning, match=r"panther's prototypes are random; call model.fit_prototypes"):
        model(bag)
    assert model.needs_prototypes
    model.fit_prototypes([bag])
    assert not model.needs_prototypes
    model.save(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = dtcwsi.load(tmp_path)
        assert not again.needs_prototypes
        torch.testing.assert_close(again(bag).logits, model.eval()(bag).logits)


def test_what_cannot_be_fitted_is_told():
    with pytest.raises(OptionError, match="abmil has no prototypes to fit"):
        dtcwsi.create_model("abmil", in_dim=DIM, n_classes=2).fit_prototypes([])
    model = dtcwsi.create_model("panther", in_dim=DIM, n_classes=2)
    with pytest.raises(FeaturesError, match="got 1 bags without a patch; expected patches to fit prototypes to"):
        model.fit_prototypes([dtcwsi.Bag(torch.zeros(0, DIM))])
    with pytest.raises(FeaturesError, match=rf"got bags of widths \[{DIM}, {DIM + 1}\]; expected one width"):
        model.fit_prototypes([dtcwsi.Bag(torch.zeros(2, DIM + extra)) for extra in (0, 1)])


@pytest.mark.parametrize(("options", "count"), [({}, 65_568), ({"head": "per-prototype"}, 4_202_496)])
def test_published_sizes_have_the_published_number_of_parameters(options, count):
    model = create_aggregator("panther", in_dim=1024, n_classes=2, **options)
    assert sum(parameter.numel() for parameter in model.parameters()) == count


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"prior_weight": 0.0}, "got prior_weight=0.0; expected"),
        ({"prior_variance": -1.0}, "got prior_variance=-1.0; expected"),
        ({"iterations": 0}, "got iterations=0; expected"),
        ({"head": "mlp"}, "got head='mlp'; expected"),
    ],
)
def test_bad_options_are_told(options, told):
    with pytest.raises(OptionError, match=told):
        create_aggregator("panther", in_dim=DIM, n_classes=CLASSES, **options)


@pytest.mark.parametrize("iterations", [1, 2, 3])
def test_constant_features_and_means_far_from_zero_leave_no_nan(iterations):
    rows = 100 + torch.randn(40, DIM)
    rows[:, 0] = 30.0
    model = create_aggregator("panther", in_dim=DIM, n_classes=CLASSES, prototypes=3, iterations=iterations).eval()
    model.fit_prototypes(rows, seed=0)
    found = model(tokens_of(rows)).logits
    expected = model.double()(tokens_of(rows.double())).logits
    torch.testing.assert_close(found.double(), expected, atol=2e-3, rtol=1e-4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.isfinite(model.float()(tokens_of(rows)).logits).all()


def test_patches_of_another_width_and_bad_seeds_are_told():
    model = dtcwsi.create_model("panther", in_dim=DIM, n_classes=2)
    with pytest.raises(FeaturesError, match="features have width 8; panther was built for 5"):
        model.fit_prototypes([dtcwsi.Bag(torch.randn(50, 8))])
    with pytest.raises(OptionError, match="got seed=-1; expected"):
        model.fit_prototypes([dtcwsi.Bag(torch.randn(50, DIM))], seed=-1)


def test_bare_tensors_are_no_bags(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # which would speak first
    model = dtcwsi.create_model("panther", in_dim=DIM, n_classes=2)
    with pytest.raises(OptionError, match="got a list with Tensor; expected dtcwsi.Bag or packed batches"):
        model.fit_prototypes([torch.randn(50, DIM)])


@pytest.mark.filterwarnings("ignore:panther's prototypes are random")
def test_attention_of_few_patches_is_finite_in_float16():
    torch.manual_seed(0)
    model = dtcwsi.create_model("panther", in_dim=16, n_classes=3).half().eval()
    for count in (1, 2):
        attention = model(3 * torch.randn(count, 16)).attention
        assert float(attention.sum()) == pytest.approx(1, abs=0.01)


def test_a_16_bit_model_adds_up_large_slides():
    generator = torch.Generator().manual_seed(2)
    rows = (torch.randn(9000, DIM, generator=generator) + 4).half()
    model = fitted()
    expected = model(tokens_of(rows.float()))
    made = model.half()(tokens_of(rows))
    assert made.logits.dtype == torch.float16
    torch.testing.assert_close(made.logits.float(), expected.logits, atol=0.02, rtol=0.02)
    torch.testing.assert_close(made.attention.float(), expected.attention, atol=1e-5, rtol=0.1)


@pytest.mark.parametrize("learns", [True, False])
@pytest.mark.parametrize("alike", [True, False])
def test_chunks_are_added_up_whether_their_room_is_kept_or_used_again(monkeypatch, learns, alike):
    model = fitted(iterations=2).double()
    if not alike:
        model.raw_variance.copy_(torch.rand_like(model.raw_variance))
    rows = torch.randn(37, DIM, dtype=torch.float64, requires_grad=learns)

    def found():
        logits = model(tokens_of(rows, rows[:5])).logits
        return [logits.detach(), *(torch.autograd.grad(logits.square().sum(), rows) if learns else ())]

    with torch.set_grad_enabled(learns):
        whole = found()
        monkeypatch.setattr(chunks, "_CACHED", 20)  # ten rows
        torch.testing.assert_close(found(), whole, rtol=1e-10, atol=1e-12)
        with torch.no_grad():
            torch.testing.assert_close(model(tokens_of(rows, rows[:5])).logits, whole[0], rtol=1e-10, atol=1e-12)


def test_maps_are_those_of_the_pass_under_the_autocast_of_who_reads_them():
    model, rows = fitted(), torch.randn(37, DIM)
    out, wanted = model(tokens_of(rows)), model(tokens_of(rows)).attention
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(out.attention, wanted, rtol=0, atol=0)
