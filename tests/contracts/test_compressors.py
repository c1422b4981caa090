"""What holds of every compressor, whatever its options and the bags."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dtcwsi.bags.packing import pack
from dtcwsi.compressors import COMPRESSORS, create_compressor
from dtcwsi.errors import FeaturesError, OptionError
from dtcwsi.types import Bag

DIM = 6

VARIANTS = {
    **{name: (name, {}) for name in COMPRESSORS.names()},
    "dtc, only merge": ("dtc", {"merge_share": 1.0}),
    "dtc, half merge": ("dtc", {"merge_share": 0.5, "lam": 1.0}),
    "dtc, window": ("dtc", {"matching": "window", "window": 4, "merge_share": 0.5}),
    "dtc, full": ("dtc", {"matching": "full", "merge_share": 0.5}),
    "dtc, scorer's view": ("dtc", {"similarity": "scorer", "merge_share": 0.5}),
    "dtc, by size": ("dtc", {"merge_by": "size"}),
    "dtc, by mass": ("dtc", {"merge_by": "mass", "merge_share": 0.5}),
    "dtc, rank mass": ("dtc", {"ranking": "mass"}),
    "dtc, rank random": ("dtc", {"ranking": "random"}),
    "dtc, no gate": ("dtc", {"gate": "none", "size_bias": False}),
    "dtc, raster": ("dtc", {"order": "raster", "position": "paper"}),
    "dtc, wide": ("dtc", {"scorer_width": 3, "scorer_norm": False, "flat_start": False}),
    "dtc, threshold": ("dtc", {"budget": "threshold"}),
    "dtc, all pairs": ("dtc", {"pairs": "all"}),
    "dtc, given": ("dtc", {"order": "given"}),
    "dtc, paper": ("dtc", {"preset": "paper", "schedule": None}),
}
OWN_COUNT = ("identity", "dtc, threshold", "dtc, all pairs")

each_variant = pytest.mark.parametrize("variant", VARIANTS)
sizes = st.lists(st.integers(0, 40), min_size=1, max_size=4)
retentions = st.sampled_from([0.02, 0.1, 0.4, 0.7, 0.97, 1.0])
seeds = st.integers(0, 10_000)
some = settings(deadline=None, max_examples=20)


def build(variant, seed=0, dim=DIM, **options):
    name, own = VARIANTS[variant]
    if name == "identity":
        options = {}
    torch.manual_seed(seed)
    made = create_compressor(name, dim=dim, **{**own, **options})
    if hasattr(made, "importance"):
        torch.nn.init.normal_(made.importance.last.weight, std=2.0)
    return made.eval()


def rows_of(offsets, bag):
    return slice(int(offsets[bag]), int(offsets[bag + 1]))


@each_variant
@some
@given(sizes=sizes, retention=retentions, seed=seeds)
def test_token_counts_are_exact_after_every_stage(variant, sizes, retention, seed, make_bags):
    made = build(variant, seed, retention=retention)
    tokens = made(pack(make_bags(sizes, seed)))
    for bag, size in enumerate(sizes):
        for stage, within in enumerate(tokens.tokens_by_stage[:, rows_of(tokens.patch_offsets, bag)]):
            left = len(within[within >= 0].unique())
            assert left == (int(within.max()) + 1 if size else 0), "indices have a gap"
            if variant not in OWN_COUNT:
                assert left == (max(1, math.ceil(size * made.shares[stage] - 1e-6)) if size else 0)
        assert int(tokens.offsets.diff()[bag]) == left
    assert len(tokens.features) == int(tokens.offsets[-1]) == len(tokens.log_size) == len(tokens.mass)


@each_variant
@some
@given(sizes=sizes, retention=retentions, seed=seeds)
def test_provenance_partitions_the_patches(variant, sizes, retention, seed, make_bags):
    tokens = build(variant, seed, retention=retention)(pack(make_bags(sizes, seed)))
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


@each_variant
@some
@given(sizes=sizes, retention=retentions, seed=seeds)
def test_merged_stays_merged(variant, sizes, retention, seed, make_bags):
    stages = build(variant, seed, retention=retention)(pack(make_bags(sizes, seed))).tokens_by_stage
    offsets = torch.tensor([0, *sizes]).cumsum(0)
    for bag in range(len(sizes)):
        before, after = stages[:-1, rows_of(offsets, bag)], stages[1:, rows_of(offsets, bag)]
        for old, new in zip(before, after, strict=True):
            for token in old[old >= 0].unique():
                assert len(new[old == token].unique()) == 1, "patches of one token went different ways"


@each_variant
@some
@given(sizes=sizes, retention=retentions, seed=seeds)
def test_tokens_are_the_weighted_patches_they_name(variant, sizes, retention, seed, make_bags):
    packed = pack(make_bags(sizes, seed))
    tokens = build(variant, seed, retention=retention)(packed)
    for bag in range(len(sizes)):
        patches, own = rows_of(tokens.patch_offsets, bag), rows_of(tokens.offsets, bag)
        token = tokens.patch_to_token[patches]
        kept = token >= 0
        weighted = packed.features[patches][kept] * tokens.patch_weight[patches][kept, None]
        rebuilt = torch.zeros(own.stop - own.start, DIM).index_add(0, token[kept], weighted)
        torch.testing.assert_close(tokens.features[own], rebuilt, atol=1e-5, rtol=1e-5)


@each_variant
@some
@given(sizes=sizes, retention=retentions, seed=seeds)
def test_a_bag_alone_gives_what_it_gives_in_a_batch(variant, sizes, retention, seed, make_bags):
    bags = make_bags(sizes, seed)
    made = build(variant, seed, retention=retention)
    batch = made(pack(bags))
    for number, bag in enumerate(bags):
        alone = made(pack([bag]))
        own, patches = rows_of(batch.offsets, number), rows_of(batch.patch_offsets, number)
        assert torch.equal(alone.tokens_by_stage, batch.tokens_by_stage[:, patches])
        torch.testing.assert_close(alone.features, batch.features[own], atol=1e-5, rtol=0)
        torch.testing.assert_close(alone.bias, batch.bias[own], atol=1e-5, rtol=0)
        assert torch.equal(alone.coords, batch.coords[own])


@each_variant
def test_near_ties_fall_the_same_way_in_any_batch(variant, make_bags):
    bags = make_bags([700, 301, 5], seed=3, dim=96, coords=False)
    near = [Bag(1 + 1e-4 * bag.features) for bag in bags]
    made = build(variant, dim=96, retention=0.1)
    batch = made(pack(near))
    for number, bag in enumerate(near):
        patches = rows_of(batch.patch_offsets, number)
        assert torch.equal(made(pack([bag])).tokens_by_stage, batch.tokens_by_stage[:, patches])


@each_variant
def test_equal_patches_fall_the_same_way_in_any_batch_and_order(variant, make_bags):
    generator = torch.Generator().manual_seed(0)
    for seed in range(30):
        bag, other = make_bags([120, 3 + seed], seed=seed, dim=64)
        blank = torch.randperm(120, generator=generator)[:60]
        bag = Bag(bag.features.index_copy(0, blank, bag.features[:1].expand(60, -1)), bag.coords)
        made, mixed = build(variant, seed, dim=64, retention=0.1), torch.randperm(120, generator=generator)
        alone, batch = made(pack([bag])), made(pack([other, bag]))
        own = rows_of(batch.offsets, 1)
        assert torch.equal(alone.tokens_by_stage, batch.tokens_by_stage[:, rows_of(batch.patch_offsets, 1)])
        assert torch.equal(alone.coords, batch.coords[own])
        torch.testing.assert_close(alone.features, batch.features[own], atol=1e-5, rtol=0)
        if variant != "dtc, given":
            again = made(pack([Bag(bag.features[mixed], bag.coords[mixed])]))
            assert torch.equal(alone.tokens_by_stage[:, mixed], again.tokens_by_stage)


@each_variant
def test_one_thread_and_two_give_the_same(variant, make_bags):
    packed = pack(make_bags([900, 500], dim=64))
    made = build(variant, dim=64, retention=0.2)
    one = made(packed)
    torch.set_num_threads(2)
    try:
        two = made(packed)
    finally:
        torch.set_num_threads(1)
    assert torch.equal(one.tokens_by_stage, two.tokens_by_stage)
    torch.testing.assert_close(one.features, two.features, atol=1e-6, rtol=0)


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name != "dtc, given"])
@some
@given(size=st.integers(1, 60), retention=retentions, seed=seeds)
def test_permuting_patches_with_their_coords_changes_nothing(variant, size, retention, seed, make_bags):
    (bag,) = make_bags([size], seed)
    mixed = torch.randperm(size, generator=torch.Generator().manual_seed(seed + 1))
    made = build(variant, seed, retention=retention)
    first, second = made(pack([bag])), made(pack([Bag(bag.features[mixed], bag.coords[mixed])]))
    assert torch.equal(first.tokens_by_stage[:, mixed], second.tokens_by_stage)
    torch.testing.assert_close(first.features, second.features, atol=1e-5, rtol=0)
    torch.testing.assert_close(first.bias, second.bias, atol=1e-5, rtol=0)


@pytest.mark.parametrize("coords", [True, False])
@pytest.mark.parametrize("variant", [n for n in VARIANTS if n not in (*OWN_COUNT, "dtc, raster", "dtc, given")])
def test_keeping_all_returns_the_patches_untouched(variant, coords, make_bags):
    order = {} if VARIANTS[variant][1].get("preset") != "paper" else {"order": "hilbert"}
    packed = pack(make_bags([9, 1, 0, 30], coords=coords))
    tokens = build(variant, retention=1.0, **order)(packed)
    plain = create_compressor("identity", dim=DIM)(packed)
    for name in ("features", "offsets", "log_size", "gate", "patch_to_token", "patch_weight"):
        assert torch.equal(getattr(tokens, name), getattr(plain, name)), name
    if not coords:
        assert tokens.features is packed.features


@each_variant
@some
@given(sizes=sizes.filter(any), retention=retentions, seed=seeds)
def test_pruned_patches_have_no_gradient_and_the_others_have(variant, sizes, retention, seed, make_bags):
    bags = make_bags(sizes, seed)
    packed = pack([Bag(bag.features.requires_grad_(), bag.coords) for bag in bags])
    tokens = build(variant, seed, retention=retention)(packed)
    ((tokens.features * torch.linspace(1, 2, DIM)).sum() + tokens.bias.sum()).backward()
    slopes = torch.cat([bag.features.grad for bag in bags if len(bag)])
    pruned = tokens.patch_to_token < 0
    assert slopes[pruned].eq(0).all()
    counts = tokens.patch_weight > 1e-6  # beside a partner of a million times the importance it is lost to float32
    assert slopes[~pruned & counts].abs().sum(dim=1).gt(0).all()


@each_variant
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_compressed_without_loss_of_range(variant, dtype, make_bags):
    bags = [Bag(bag.features.to(dtype), bag.coords) for bag in make_bags([3000, 40, 1])]
    tokens = build(variant, retention=0.1)(pack(bags))
    assert tokens.features.dtype == dtype
    assert tokens.mass.dtype == tokens.log_size.dtype == torch.float32
    assert tokens.mass.gt(0).all()
    for values in (tokens.features, tokens.bias, tokens.mass, tokens.score):
        assert torch.isfinite(values).all()


@each_variant
def test_constant_and_repeated_features_are_compressed_without_nan(variant):
    repeated = torch.randn(4, DIM).repeat(9, 1)
    tokens = build(variant, retention=0.1)(pack([Bag(torch.zeros(33, DIM)), Bag(torch.ones(5, DIM)), Bag(repeated)]))
    for values in (tokens.features, tokens.bias, tokens.mass, tokens.score):
        assert torch.isfinite(values).all()


@each_variant
def test_empty_and_tiny_bags(variant, make_bags):
    made = build(variant)
    for sizes in ([0], [1], [2], [3], [0, 1, 0, 2, 3]):
        tokens = made(pack(make_bags(sizes)))
        assert tokens.offsets.diff().gt(0).tolist() == [size > 0 for size in sizes]
        assert tokens.patch_offsets.diff().tolist() == sizes
        assert torch.isfinite(tokens.features).all()


@each_variant
def test_coords_are_those_of_a_patch_inside(variant, make_bags):
    bags = make_bags([50])
    tokens = build(variant, retention=0.2)(pack(bags))
    for number, place in enumerate(tokens.coords):
        inside = bags[0].coords[tokens.patch_to_token == number]
        assert (inside == place).all(dim=1).any()


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name.startswith("dtc")])
def test_extreme_scores_stay_finite(variant, make_bags):
    made = build(variant, retention=0.2)
    torch.nn.init.normal_(made.importance.last.weight, std=1e4)
    bags = [Bag(bag.features.requires_grad_(), bag.coords) for bag in make_bags([60, 2])]
    tokens = made(pack(bags))
    (tokens.features.sum() + tokens.gate.sum()).backward()
    slope = made.importance.first.weight.grad
    assert (slope is None) == (VARIANTS[variant][1].get("gate") == "none")  # then attention alone teaches the scorer
    for values in (tokens.features, tokens.bias, tokens.mass, tokens.score, *([] if slope is None else [slope])):
        assert torch.isfinite(values).all()


@each_variant
def test_widths_that_do_not_fit_are_told(variant):
    with pytest.raises(
        FeaturesError, match=r"features have width 9; the compressor was built for 6; use features of that"
    ):
        build(variant)(pack([Bag(torch.zeros(3, 9))]))
    name, own = VARIANTS[variant]
    with pytest.raises(OptionError, match="got dim=0; expected a whole number from 1 on"):
        create_compressor(name, dim=0, **own)


@each_variant
def test_the_largest_features_that_a_bag_takes_stay_finite(variant):
    tokens = build(variant, dim=1536, retention=0.4)(pack([Bag(torch.full((9, 1536), 1e17))]))
    for values in (tokens.features, tokens.bias, tokens.mass, tokens.score):
        assert torch.isfinite(values).all()
