import inspect
import math

import pytest
import torch

import dtcwsi
from dtcwsi import pretraining
from dtcwsi.errors import DtcwsiError, FeaturesError, OptionError

DIM = 6


def build(name="spt", **options):
    torch.manual_seed(0)
    return dtcwsi.create_model(name, in_dim=DIM, n_classes=2, width=16, heads=2, **options).eval()


def slide(number, side=12):
    """A slide with a colour of its own, and some noise."""
    generator = torch.Generator().manual_seed(number)
    coords = torch.cartesian_prod(torch.arange(side), torch.arange(side)) * 256
    features = torch.randn(1, DIM, generator=generator) + 0.3 * torch.randn(side * side, DIM, generator=generator)
    return dtcwsi.Bag(features, coords, 256.0, slide_id=f"s{number}")


def slides(count):
    return [slide(number) for number in range(count)]


class OneByOne:
    """Slides read when their turn comes."""

    def __init__(self, count):
        self.count, self.read = count, []

    def __len__(self):
        return self.count

    def __iter__(self):
        for number in range(self.count):
            self.read.append(number)
            yield dtcwsi.pack([slide(number)])


def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one, two):
    return all(torch.equal(tensor, two[name]) for name, tensor in one.items())


def test_it_lowers_its_loss_and_leaves_the_head_alone():
    model = build()
    before = weights(model)
    losses = model.pretrain(slides(12), steps=60, batch=12, learning_rate=3e-3)
    assert len(losses) == 60
    assert sum(losses[-10:]) < 0.85 * sum(losses[:10])  # 128 numbers of 12 slides cannot all be independent
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {name for name in before if "head." not in name}
    assert not model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_views_of_one_slide_come_closer_than_other_slides():
    """What is learned holds for slides that were not there."""
    model = build()
    others = dtcwsi.pack([slide(number) for number in range(100, 110)])
    halves = dtcwsi.pack([half(slide(number), start) for start in (0, 72) for number in range(100, 110)])

    def found():
        vectors = model.aggregator.slide_vectors(model.compress(halves)).detach()
        one, two = (part - part.mean(dim=0) for part in vectors.chunk(2))
        return int((torch.cdist(one, two).argmin(dim=1) == torch.arange(10)).sum())

    before = found()
    model.pretrain(slides(40), steps=50, batch=16, learning_rate=3e-3)
    assert found() >= max(8, before)
    assert torch.isfinite(model(others).logits).all()


def half(bag, start):
    return dtcwsi.Bag(bag.features[start : start + 72], bag.coords[start : start + 72], 256.0)


def test_a_seed_repeats_whatever_was_drawn_before_and_draws_nothing_for_what_follows():
    made, drawn = [], []
    for seed in (1, 1, 2):
        model = build(dropout=0.2)
        torch.manual_seed(len(made))
        torch.rand(len(made))
        state = torch.get_rng_state()
        losses = model.pretrain(slides(5), steps=4, batch=4, seed=seed)
        drawn.append(torch.equal(torch.get_rng_state(), state))
        made.append((losses, weights(model)))
    assert made[0][0] == made[1][0] != made[2][0]
    assert same(made[0][1], made[1][1])
    assert not same(made[0][1], made[2][1])
    assert all(drawn)


def test_slides_read_one_by_one_packed_or_mixed_give_the_same():
    given = slides(5)
    mixed = [shuffled(bag) for bag in given]
    batches = [dtcwsi.pack(given[:2]), given[2], dtcwsi.pack(given[3:])]
    made = []
    for bags in (given, OneByOne(5), mixed, batches):
        model = build()
        model.pretrain(bags, steps=4, batch=4)
        made.append(weights(model))
    assert all(same(made[0], other) for other in made[1:])


def shuffled(bag):
    mixed = torch.randperm(len(bag), generator=torch.Generator().manual_seed(7))
    return dtcwsi.Bag(bag.features[mixed], bag.coords[mixed], 256.0)


def test_an_epoch_reads_every_slide_once():
    bags = OneByOne(7)
    build().pretrain(bags, steps=4, batch=4)  # two batches an epoch
    assert bags.read == [*range(7)] * 2


def test_the_compressed_model_pretrains_as_the_plain_one():
    plain, compressed = build(), build("dtc-spt")
    for model in (plain, compressed):
        model.pretrain(slides(4), steps=3, batch=4)
    assert same(weights(plain.aggregator), weights(compressed.aggregator))


@pytest.mark.parametrize(("count", "batch"), [(2, 2), (3, 2), (7, 4), (16, 16), (17, 16), (75, 2), (100, 3)])
def test_every_slide_is_in_one_batch_an_epoch_and_none_is_alone(count, batch):
    bags, sizes = [slide(number, side=2) for number in range(count)], []
    generator = torch.Generator().manual_seed(0)
    seen = []
    for pairs in pretraining._batches(bags, batch, generator, lambda _: None):
        sizes.append(len(pairs))
        seen += [tuple(sorted([*one.features[:, 0].tolist(), *two.features[:, 0].tolist()])) for one, two in pairs]
        if len(seen) >= count:
            break
    assert len(seen) == count
    assert min(sizes) >= 2
    assert max(sizes) <= max(batch, 3)
    owners = [{float(value): number for value in bag.features[:, 0]} for number, bag in enumerate(bags)]
    found = [{number for owner in owners for value in values for number in [owner.get(value)]} for values in seen]
    assert sorted(min(numbers - {None}) for numbers in found) == list(range(count))


def test_views_keep_the_places_and_the_step_of_the_slide():
    bag = dtcwsi.Bag(torch.randn(400, DIM), torch.cartesian_prod(torch.arange(20), torch.arange(20)) * 300 + 1000)
    ((one, two),) = pretraining._pairs(bag, torch.Generator().manual_seed(0))
    where = {tuple(row): place for row, place in zip(bag.features.tolist(), bag.coords.tolist(), strict=True)}
    for view in (one, two):
        assert [where[tuple(row)] for row in view.features.tolist()] == view.coords.tolist()
        assert view.step_level0.tolist() == [300]
    assert not {*map(tuple, one.coords.tolist())} & {*map(tuple, two.coords.tolist())}


def test_the_rate_warms_up_and_falls_to_nothing():
    optimizer, schedule = pretraining._optimizer([torch.nn.Parameter(torch.zeros(1))], 100, 1.0)
    rates = []
    for _ in range(100):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert rates[10:] == pytest.approx([0.5 * (1 + math.cos(math.pi * step / 90)) for step in range(90)])


def test_empty_slides_are_passed_over_and_too_few_are_refused():
    none = dtcwsi.Bag(torch.zeros(0, DIM))
    single = dtcwsi.Bag(torch.zeros(1, DIM), torch.zeros(1, 2))
    assert len(build().pretrain([none, slide(0), single, slide(1)], steps=1)) == 1
    for bags in ([], [none, single], [slide(0), single]):
        with pytest.raises(FeaturesError, match="slides of two patches or more; expected at least two"):
            build().pretrain(bags, steps=1)


def test_every_python_sees_that_a_model_has_the_phase():
    spt = build().aggregator
    for member in [*pretraining.SelfSupervised.__annotations__, "named_parameters", "train", "slide_vectors"]:
        inspect.getattr_static(spt, member)  # as `isinstance` looks from Python 3.12 on


def test_models_without_the_phase_and_bad_numbers_are_refused():
    for name in ("abmil", "dtc-transmil"):
        model = dtcwsi.create_model(name, in_dim=DIM, n_classes=2)
        with pytest.raises(OptionError, match=f"{name} has no self-supervised phase; spt has"):
            model.pretrain(slides(2))
    for options, told in [
        ({"batch": 1}, "got batch=1; expected a whole number from 2 on: VICReg's variance"),
        ({"steps": 0}, "got steps=0; expected"),
        ({"seed": -1}, "got seed=-1; expected"),
        ({"learning_rate": 0.0}, "got learning_rate=0.0; expected a number above 0"),
    ]:
        with pytest.raises(OptionError, match=told):
            build().pretrain(slides(2), **options)


def test_unfit_slides_are_refused_and_the_model_stays_in_its_mode():
    wide, nowhere = dtcwsi.Bag(torch.randn(4, 9), torch.zeros(4, 2)), dtcwsi.Bag(torch.randn(4, DIM))
    for bag, told in ((wide, "features have width 9; spt was built for 6"), (nowhere, "needs the coordinates")):
        model = build()
        with pytest.raises(FeaturesError, match=told):
            model.pretrain([slide(0), bag])
        assert not model.training
    with pytest.raises(DtcwsiError, match="use a lower learning rate"):
        build().pretrain(slides(3), steps=50, learning_rate=1e30)
