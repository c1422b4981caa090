"""What holds of the compressor whatever its options and bags."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dtcwsi.bags.packing import pack
from dtcwsi.compressors import COMPRESSORS, create_compressor
from dtcwsi.errors import OptionError, UnknownNameError
from dtcwsi.types import Bag

DIM = 6

bag_sizes = st.lists(st.integers(0, 40), min_size=1, max_size=4)
options = st.fixed_dictionaries(
    {
        "retention": st.sampled_from([0.02, 0.1, 0.4, 0.7, 0.97, 1.0]),
        "stages": st.integers(1, 4),
        "merge_share": st.sampled_from([0.0, 0.3, 0.5, 1.0]),
        "lam": st.sampled_from([0.0, 0.5, 1.0]),
    }
)
seeds = st.integers(0, 10_000)


def compressor(seed=0, dim=DIM, trained=True, **options):
    torch.manual_seed(seed)
    made = create_compressor("dtc", dim=dim, **options)
    if trained:
        torch.nn.init.normal_(made.importance.layers[-1].weight, std=2.0)
    return made.eval()


def make_bags(sizes, seed=0, dim=DIM, coords=True):
    generator = torch.Generator().manual_seed(seed)
    bags = []
    for size in sizes:
        side = math.isqrt(max(size - 1, 0)) + 1
        grid = torch.cartesian_prod(torch.arange(side), torch.arange(side))[:size] * 224
        shuffled = torch.randperm(size, generator=generator)
        features = torch.randn(size, dim, generator=generator)
        bags.append(Bag(features, grid[shuffled] if coords else None))
    return bags


def rows_of(offsets, bag):
    return slice(int(offsets[bag]), int(offsets[bag + 1]))


@settings(deadline=None, max_examples=60)
@given(bag_sizes, options, seeds)
def test_token_counts_are_exact_after_every_stage(sizes, options, seed):
    tokens = compressor(seed, **options)(pack(make_bags(sizes, seed)))
    for stage in range(options["stages"]):
        share = options["retention"] ** ((stage + 1) / options["stages"])
        for bag, size in enumerate(sizes):
            expected = max(1, math.ceil(size * share - 1e-6)) if size else 0
            within = tokens.tokens_by_stage[stage][rows_of(tokens.patch_offsets, bag)]
            assert len(within[within >= 0].unique()) == expected
            assert size == 0 or int(within.max()) == expected - 1
    assert len(tokens.features) == int(tokens.offsets[-1]) == len(tokens.log_size) == len(tokens.mass)


@settings(deadline=None, max_examples=60)
@given(bag_sizes, options, seeds)
def test_provenance_partitions_the_patches(sizes, options, seed):
    tokens = compressor(seed, **options)(pack(make_bags(sizes, seed)))
    assert torch.equal(tokens.patch_to_token, tokens.tokens_by_stage[-1])
    pruned = tokens.tokens_by_stage < 0
    assert bool((pruned[1:] | ~pruned[:-1]).all()), "a pruned patch came back"
    for bag, size in enumerate(sizes):
        patches, own = rows_of(tokens.patch_offsets, bag), rows_of(tokens.offsets, bag)
        token, weight = tokens.patch_to_token[patches], tokens.patch_weight[patches]
        kept = token >= 0
        count = torch.bincount(token[kept], minlength=own.stop - own.start)
        torch.testing.assert_close(tokens.log_size[own].exp(), count.float())
        share = torch.zeros(len(count)).index_add(0, token[kept], weight[kept])
        torch.testing.assert_close(share, torch.ones(len(count)))
        assert weight[~kept].eq(0).all()
        assert float(tokens.mass[own].sum()) <= 1 + 1e-5
        if size and bool(kept.all()):
            assert float(tokens.mass[own].sum()) == pytest.approx(1, abs=1e-5)


@settings(deadline=None, max_examples=40)
@given(bag_sizes, options, seeds)
def test_tokens_are_the_weighted_patches_they_name(sizes, options, seed):
    packed = pack(make_bags(sizes, seed))
    tokens = compressor(seed, **options)(packed)
    for bag in range(len(sizes)):
        patches, own = rows_of(tokens.patch_offsets, bag), rows_of(tokens.offsets, bag)
        token = tokens.patch_to_token[patches]
        kept = token >= 0
        weighted = packed.features[patches][kept] * tokens.patch_weight[patches][kept, None]
        rebuilt = torch.zeros(own.stop - own.start, DIM).index_add(0, token[kept], weighted)
        torch.testing.assert_close(tokens.features[own], rebuilt, atol=1e-5, rtol=1e-5)


@settings(deadline=None, max_examples=40)
@given(bag_sizes, options, seeds)
def test_a_bag_alone_gives_what_it_gives_in_a_batch(sizes, options, seed):
    bags = make_bags(sizes, seed)
    made = compressor(seed, **options)
    batch = made(pack(bags))
    for number, bag in enumerate(bags):
        alone = made(pack([bag]))
        own = rows_of(batch.offsets, number)
        patches = rows_of(batch.patch_offsets, number)
        assert torch.equal(alone.tokens_by_stage, batch.tokens_by_stage[:, patches])
        torch.testing.assert_close(alone.features, batch.features[own], atol=1e-5, rtol=0)
        torch.testing.assert_close(alone.bias, batch.bias[own], atol=1e-5, rtol=0)
        assert torch.equal(alone.coords, batch.coords[own])


def test_near_ties_fall_the_same_way_in_any_batch():
    bags = make_bags([700, 301, 5], seed=3, dim=96, coords=False)
    near = [Bag(1 + 1e-4 * bag.features) for bag in bags]
    made = compressor(dim=96, retention=0.1)
    batch = made(pack(near))
    for number, bag in enumerate(near):
        patches = rows_of(batch.patch_offsets, number)
        assert torch.equal(made(pack([bag])).tokens_by_stage, batch.tokens_by_stage[:, patches])


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 60), options, seeds)
def test_permuting_patches_with_their_coords_changes_nothing(size, options, seed):
    (bag,) = make_bags([size], seed)
    mixed = torch.randperm(size, generator=torch.Generator().manual_seed(seed + 1))
    made = compressor(seed, **options)
    first, second = made(pack([bag])), made(pack([Bag(bag.features[mixed], bag.coords[mixed])]))
    assert torch.equal(first.tokens_by_stage[:, mixed], second.tokens_by_stage)
    torch.testing.assert_close(first.features, second.features, atol=1e-5, rtol=0)
    torch.testing.assert_close(first.bias, second.bias, atol=1e-5, rtol=0)


@pytest.mark.parametrize("coords", [True, False])
def test_keeping_all_returns_the_patches_untouched(coords):
    packed = pack(make_bags([9, 1, 0, 30], coords=coords))
    tokens, plain = compressor(retention=1.0)(packed), create_compressor("identity", dim=DIM)(packed)
    for name in ("features", "offsets", "log_size", "gate", "patch_to_token", "patch_weight"):
        assert torch.equal(getattr(tokens, name), getattr(plain, name)), name
    if not coords:
        assert tokens.features is packed.features


@settings(deadline=None, max_examples=40)
@given(bag_sizes, options, seeds)
def test_pruned_patches_have_no_gradient_and_the_others_have(sizes, options, seed):
    bags = make_bags(sizes, seed)
    packed = pack([Bag(bag.features.requires_grad_(), bag.coords) for bag in bags])
    tokens = compressor(seed, **options)(packed)
    (tokens.features.square().sum() + tokens.bias.sum()).backward()
    slopes = torch.cat([bag.features.grad for bag in bags if len(bag)] or [torch.zeros(0, DIM)])
    pruned = tokens.patch_to_token < 0
    assert slopes[pruned].eq(0).all()
    assert slopes[~pruned].abs().sum(dim=1).gt(0).all()


def test_training_equals_evaluation_once_the_curriculum_has_ended():
    packed = pack(make_bags([50, 7, 120]))
    made = compressor(retention=0.2)
    evaluated = made(packed)
    made.train()
    for progress in (0.5, 0.8, 1.0):
        made.progress = progress
        trained = made(packed)
        assert torch.equal(trained.tokens_by_stage, evaluated.tokens_by_stage)
        torch.testing.assert_close(trained.features, evaluated.features, atol=1e-6, rtol=0)
        torch.testing.assert_close(trained.bias, evaluated.bias, atol=1e-6, rtol=0)


def test_the_budget_tightens_over_the_first_half_and_evaluation_ignores_it():
    packed = pack(make_bags([100]))
    made = compressor(retention=0.25).train()
    counts = []
    for progress in (0.0, 0.25, 0.5, 1.0):
        made.progress = progress
        counts.append(int(made(packed).offsets[-1]))
    assert counts == [100, 50, 25, 25]
    made.progress = 0.0
    assert int(made.eval()(packed).offsets[-1]) == 25


def test_a_flat_scorer_thins_the_whole_slide():
    size = 1024
    made = compressor(trained=False, retention=0.25, merge_share=0.0)
    kept = made(pack(make_bags([size], coords=False))).patch_to_token >= 0
    assert kept.reshape(8, -1).sum(dim=1).tolist() == [32] * 8


def test_the_scorer_learns_from_the_first_pruned_step_on():
    made = compressor(trained=False, retention=0.5, merge_share=0.0).train()
    made.progress = 0.1
    tokens = made(pack(make_bags([40])))
    (tokens.gate * torch.arange(len(tokens.gate))).sum().backward()
    assert made.importance.layers[-1].weight.grad.abs().sum() > 0


def test_attention_teaches_the_scorer_before_anything_is_pruned():
    made = compressor(trained=False).train()
    made.progress = 0.0
    tokens = made(pack(make_bags([12, 0, 4])))
    teacher = torch.cat([torch.arange(12.0).softmax(0), torch.full((4,), 0.25)])
    loss = made.auxiliary(tokens, teacher)["attention_taught"]
    assert loss.item() == pytest.approx(0.1 * (math.log(12) + math.log(4)) / 3, rel=1e-5)
    loss.backward()
    assert made.importance.layers[-1].weight.grad.abs().sum() > 0
    assert compressor(teach=0.0).auxiliary(tokens, teacher) == {}


def test_the_scorer_is_done_when_it_says_what_attention_says():
    made = compressor(retention=0.3, merge_share=0.7).train()
    tokens = made(pack(make_bags([40])))
    assert tokens.log_size.max() > 0
    slopes = []
    for bias in (tokens.log_size, torch.zeros_like(tokens.log_size)):
        teacher = (tokens.score + bias).softmax(0).detach()
        loss = made.auxiliary(tokens, teacher)["attention_taught"]
        slopes.append(torch.autograd.grad(loss, made.importance.layers[-1].weight, retain_graph=True)[0].norm())
    assert slopes[0] < 1e-6 < slopes[1]


def test_merged_tokens_are_scored_anew():
    made = compressor(retention=0.3, merge_share=0.7)
    tokens = made(pack(make_bags([40, 7])))
    assert tokens.log_size.max() > 0
    torch.testing.assert_close(tokens.score.double(), made.importance.values(tokens.features), atol=1e-5, rtol=0)


def test_what_merges_is_alike_and_what_goes_scores_least():
    torch.manual_seed(0)
    patterns = torch.randn(8, DIM)
    features = torch.cat([patterns.repeat_interleave(2, dim=0), torch.randn(16, DIM)])
    tokens = compressor(schedule=(0.75,), merge_share=1.0)(pack([Bag(features)]))
    token = tokens.patch_to_token
    assert token[:16].reshape(8, 2).diff(dim=1).eq(0).all()
    assert len(token[16:].unique()) == 16
    made = compressor(schedule=(0.5,), merge_share=0.0)
    score = made.importance.values(features)
    kept = made(pack([Bag(features)])).patch_to_token >= 0
    assert score[kept].min() > score[~kept].max()


def test_merging_only_keeps_every_patch():
    tokens = compressor(retention=0.2, merge_share=1.0)(pack(make_bags([64])))
    assert tokens.patch_to_token.ge(0).all()
    assert tokens.gate.eq(0).all()


def test_constant_features_are_compressed_without_nan():
    tokens = compressor(retention=0.1)(pack([Bag(torch.zeros(33, DIM)), Bag(torch.ones(5, DIM))]))
    assert tokens.offsets.tolist() == [0, 4, 5]
    for values in (tokens.features, tokens.bias, tokens.mass, tokens.score):
        assert torch.isfinite(values).all()


def test_coords_are_those_of_a_patch_inside():
    bags = make_bags([50])
    tokens = compressor(retention=0.2)(pack(bags))
    for number, place in enumerate(tokens.coords):
        inside = bags[0].coords[tokens.patch_to_token == number]
        assert (inside == place).all(dim=1).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"merge_share": 1.5}, "got merge_share=1.5; expected a number from 0 to 1"),
        ({"lam": -0.1}, "got lam=-0.1"),
        ({"teach": -1.0}, "got teach=-1.0"),
        ({"matching": "full"}, "got matching='full'; expected one of: aligned"),
        ({"preset": "paper"}, "got preset='paper'; expected one of: default"),
        ({"retention": 0.4, "schedule": (0.5,)}, "give one of them"),
        ({"merge_shares": 0.5}, "compressor 'dtc' takes no option 'merge_shares'; near options: merge_share"),
    ],
)
def test_options_that_cannot_be_are_told(options, message):
    with pytest.raises(OptionError, match=message):
        create_compressor("dtc", dim=DIM, **options)


def test_unknown_compressors_name_the_near_ones():
    with pytest.raises(UnknownNameError, match="no compressor is called 'dct'; near names: dtc"):
        create_compressor("dct", dim=DIM)


@pytest.mark.parametrize("name", COMPRESSORS.names())
def test_every_compressor_takes_empty_and_tiny_bags(name):
    made = create_compressor(name, dim=DIM).eval()
    for sizes in ([0], [1], [2], [3], [0, 1, 0, 2, 3]):
        tokens = made(pack(make_bags(sizes)))
        assert tokens.offsets.diff().gt(0).tolist() == [size > 0 for size in sizes]
        assert tokens.patch_offsets.diff().tolist() == sizes
        assert torch.isfinite(tokens.features).all()
