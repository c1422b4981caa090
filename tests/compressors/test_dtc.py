"""What dynamic token compression does beyond what holds of every compressor."""

import math
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from dtcwsi.bags.packing import pack
from dtcwsi.compressors import create_compressor
from dtcwsi.errors import FeaturesError, OptionError, UnknownNameError
from dtcwsi.types import Bag

DIM = 6


def compressor(seed=0, dim=DIM, trained=True, name="dtc", **options):
    torch.manual_seed(seed)
    made = create_compressor(name, dim=dim, **options)
    if trained:
        torch.nn.init.normal_(made.importance.last.weight, std=2.0)
    return made.eval()


def test_training_equals_evaluation_once_the_curriculum_has_ended(make_bags):
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


def test_the_budget_tightens_over_the_first_half_and_evaluation_ignores_it(make_bags):
    packed = pack(make_bags([100]))
    made = compressor(retention=0.25).train()
    counts = []
    for progress in (0.0, 0.25, 0.5, 1.0):
        made.progress = progress
        counts.append(int(made(packed).offsets[-1]))
    assert counts == [100, 50, 25, 25]
    made.progress = 0.0
    assert int(made.eval()(packed).offsets[-1]) == 25


def test_a_flat_scorer_thins_the_whole_slide(make_bags):
    size = 1024
    made = compressor(trained=False, retention=0.25, merge_share=0.0)
    kept = made(pack(make_bags([size], coords=False))).patch_to_token >= 0
    assert kept.reshape(8, -1).sum(dim=1).tolist() == [32] * 8


def test_the_scorer_learns_from_the_first_pruned_step_on(make_bags):
    made = compressor(trained=False, retention=0.5, merge_share=0.0).train()
    made.progress = 0.1
    tokens = made(pack(make_bags([40])))
    (tokens.gate * torch.arange(len(tokens.gate))).sum().backward()
    assert made.importance.last.weight.grad.abs().sum() > 0


def test_attention_teaches_the_scorer_before_anything_is_pruned(make_bags):
    made = compressor(trained=False).train()
    made.progress = 0.0
    tokens = made(pack(make_bags([12, 0, 4])))
    teacher = torch.cat([torch.arange(12.0).softmax(0), torch.full((4,), 0.25)])
    loss = made.auxiliary(tokens, teacher)["attention_taught"]
    assert loss.item() == pytest.approx(0.1 * (math.log(12) + math.log(4)) / 3, rel=1e-5)
    loss.backward()
    assert made.importance.last.weight.grad.abs().sum() > 0
    assert made.taught
    assert not compressor(teach=0.0).taught


def test_the_scorer_is_done_when_it_says_what_attention_says(make_bags):
    made = compressor(retention=0.3, merge_share=0.7).train()
    tokens = made(pack(make_bags([40])))
    assert tokens.log_size.max() > 0
    slopes = []
    for bias in (tokens.log_size, torch.zeros_like(tokens.log_size)):
        teacher = (tokens.score + bias).softmax(0).detach()
        loss = made.auxiliary(tokens, teacher)["attention_taught"]
        slopes.append(torch.autograd.grad(loss, made.importance.last.weight, retain_graph=True)[0].norm())
    assert slopes[0] < 1e-6 < slopes[1]


def test_merged_tokens_are_scored_anew(make_bags):
    made = compressor(retention=0.3, merge_share=0.7)
    tokens = made(pack(make_bags([40, 7])))
    assert tokens.log_size.max() > 0
    torch.testing.assert_close(tokens.score.double(), made.importance.values(tokens.features).score, atol=1e-5, rtol=0)


def test_what_merges_is_alike_and_what_goes_scores_least():
    torch.manual_seed(0)
    patterns = torch.randn(8, DIM)
    features = torch.cat([patterns.repeat_interleave(2, dim=0), torch.randn(16, DIM)])
    tokens = compressor(schedule=(0.75,), merge_share=1.0)(pack([Bag(features)]))
    token = tokens.patch_to_token
    assert token[:16].reshape(8, 2).diff(dim=1).eq(0).all()
    assert len(token[16:].unique()) == 16
    made = compressor(schedule=(0.5,), merge_share=0.0)
    score = made.importance.values(features).score
    kept = made(pack([Bag(features)])).patch_to_token >= 0
    assert score[kept].min() > score[~kept].max()


def test_pairs_of_equal_utility_merge_from_the_start_of_the_list():
    made = compressor(trained=False, schedule=(0.75,), merge_share=1.0)
    token = made(pack([Bag(torch.ones(8, DIM)), Bag(torch.ones(4, DIM))])).patch_to_token
    assert token.tolist() == [0, 0, 1, 1, 2, 3, 4, 5, 0, 0, 1, 2]


def test_merging_only_keeps_every_patch(make_bags):
    tokens = compressor(retention=0.2, merge_share=1.0)(pack(make_bags([64])))
    assert tokens.patch_to_token.ge(0).all()
    assert tokens.gate.eq(0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"merge_share": 1.5}, "got merge_share=1.5; expected a number from 0 to 1"),
        ({"lam": -0.1}, "got lam=-0.1"),
        ({"teach": -1.0}, "got teach=-1.0"),
        ({"matching": "alined"}, "got matching='alined'; expected one of: aligned, full, window"),
        ({"window": 8}, "got window=8 with matching='aligned'; add matching='window'"),
        ({"tau": 1.0}, "got tau=1.0 with budget='ratio'; add budget='threshold'"),
        ({"preset": "papers"}, "got preset='papers'; expected one of: default, paper"),
        ({"window": 1}, "got window=1; expected a whole number from 2 on"),
        ({"curriculum": 1.5}, "got curriculum=1.5; expected a number from 0 to 1"),
        ({"tau": float("nan")}, "got tau=nan; expected a number"),
        ({"ranking": "mas"}, "got ranking='mas'; expected one of: mass"),
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


STAGE = """
import torch
from dtcwsi.bags.packing import pack
from dtcwsi.compressors import create_compressor
from dtcwsi.compressors.stages import StagedCompressor
from dtcwsi.types import Bag

torch._dynamo.config.capture_dynamic_output_shape_ops = True
made = create_compressor("dtc", dim=16).eval()
torch.nn.init.normal_(made.importance.last.weight)
whole, calls = StagedCompressor.stage, []
StagedCompressor.stage = lambda self, *given: calls.append(given) or whole(self, *given)
with torch.no_grad():
    made(pack([Bag(torch.randn(size, 16)) for size in (90, 31)]))
    compiled = torch.compile(lambda *given: whole(made, *given), fullgraph=True, dynamic=True, backend="eager")
    for given in calls:
        (tokens, trace), (same, expected) = compiled(*given), whole(made, *given)
        assert torch.equal(trace.token, expected.token)
        assert torch.equal(tokens.features(), same.features())
print("one graph")
"""


@pytest.mark.slow
def test_a_stage_compiles_as_one_graph():
    done = subprocess.run([sys.executable, "-c", STAGE], capture_output=True, text=True, check=False)
    assert done.stdout.endswith("one graph\n"), done.stderr[-2000:]


@pytest.mark.parametrize("preset", ["default", "paper"])
def test_the_threshold_has_a_term_that_pulls_its_mean_down(preset, make_bags):
    made = compressor(preset=preset, schedule=None, retention=0.1, budget="threshold").train()
    packed = pack(make_bags([5000, 4000], 0))
    exact = made(packed).losses["sparsity"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = made(packed).losses["sparsity"]
    assert exact.item() > 1e-3
    assert rough.item() == pytest.approx(exact.item(), rel=0.05)
    rough.backward()
    assert made.importance.last.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("preset", ["default", "paper"])
def test_the_term_of_the_threshold_is_the_mean_of_each_bag_s_own(preset, make_bags):
    made = compressor(preset=preset, schedule=None, retention=0.05, budget="threshold").train()
    bags = make_bags([60, 9], 0)
    alone = [made(pack([bag])).losses["sparsity"] for bag in bags]
    assert alone[0].item() != pytest.approx(alone[1].item(), rel=0.01)
    torch.testing.assert_close(made(pack(bags)).losses["sparsity"], torch.stack(alone).mean())


def test_the_threshold_keeps_as_many_as_lie_above_it(make_bags):
    made = compressor(budget="threshold", stages=1, tau=0.3, gamma=50.0).eval()
    tokens = made(pack(make_bags([400], 0)))
    score = made.importance.values(make_bags([400], 0)[0].features).score
    assert len(tokens.features) == math.ceil(float(torch.sigmoid(50 * (score - 0.3)).mean()) * 400 - 1e-6)


def test_what_only_prunes_never_merges_and_what_only_merges_never_prunes(make_bags):
    packed = pack(make_bags([40, 7], 0))
    pruned = create_compressor("prune-only", dim=6, retention=0.1)(packed)
    assert pruned.log_size.eq(0).all()
    merged = create_compressor("merge-only", dim=6, retention=0.1)(packed)
    assert merged.patch_to_token.ge(0).all()
    for name, options in (("prune-only", {"pairs": "all"}), ("merge-only", {"budget": "threshold"})):
        with pytest.raises(OptionError, match=f"compressor '{name}' takes no option '{next(iter(options))}'"):
            create_compressor(name, dim=6, **options)


def test_the_printed_gate_scales_a_bag_that_loses_nothing(make_bags):
    bags = make_bags([1, 9], 0)
    made = compressor(preset="paper").train()
    torch.testing.assert_close(made(pack(bags[:1])).features[0], made(pack(bags)).features[0])


def test_the_teacher_reaches_tokens_of_the_lowest_scores(make_bags):
    made = compressor().train()
    tokens = replace(made(pack(make_bags([9], 0))), log_size=torch.zeros(4))
    score = torch.tensor([100.0, 0, 0, 0], requires_grad=True)
    teacher = torch.tensor([0.0, 0, 1, 0])
    made.auxiliary(replace(tokens, score=score), teacher)["attention_taught"].backward()
    torch.testing.assert_close(score.grad, torch.tensor([0.1, 0, -0.1, 0]), atol=1e-6, rtol=0)


def test_mass_is_the_share_of_all_patches_of_a_token_and_can_rank(make_bags):
    packed = pack(make_bags([64], 0))
    made = compressor(schedule=[0.5], merge_share=1.0)
    tokens = made.eval()(packed)
    share = torch.softmax(made.importance.values(packed.features).score, 0).float()
    summed = torch.zeros(len(tokens.mass)).index_add(0, tokens.patch_to_token, share)
    torch.testing.assert_close(tokens.mass, summed, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(tokens.importance, share, atol=1e-6, rtol=1e-4)
    kept = {}
    for ranking in ("score", "mass"):
        made = compressor(schedule=[0.6, 0.4], merge_share=0.5, ranking=ranking)
        with torch.no_grad():
            made.importance.last.weight.mul_(0.05)  # scores so even that two patches outweigh any one
        kept[ranking] = made(packed).log_size
    assert kept["mass"].exp().sum() > kept["score"].exp().sum()


@pytest.mark.parametrize(("merge_by", "even"), [("score", False), ("size", True), ("mass", True)])
def test_equal_scores_weigh_a_merge_by_tokens_or_by_their_patches(merge_by, even, make_bags):
    tokens = compressor(trained=False, merge_by=merge_by, schedule=[0.7, 0.5], merge_share=1.0)(
        pack(make_bags([64], 0))
    )
    share = (-tokens.log_size).exp()[tokens.patch_to_token]
    assert torch.allclose(tokens.patch_weight, share) == even


def test_a_merged_token_lies_where_its_heaviest_patch_lies(make_bags):
    packed = pack(make_bags([64], 0))
    tokens = compressor(schedule=[0.5], merge_share=1.0).eval()(packed)
    for token, where in enumerate(tokens.coords):
        patches = torch.nonzero(tokens.patch_to_token == token).squeeze(1)
        heaviest = patches[tokens.patch_weight[patches].argmax()]
        assert torch.equal(packed.coords[heaviest], where)


def test_tokens_stand_in_the_order_of_their_heaviest_patches(make_bags):
    packed = pack(make_bags([64, 40], 0))
    tokens = compressor(schedule=[0.6], merge_share=1.0, matching="full").eval()(packed)
    place = torch.empty(104, dtype=torch.int64).index_copy(0, packed.order, torch.arange(104))
    rows = tokens.patch_to_token + tokens.offsets[:-1].repeat_interleave(packed.offsets.diff())
    places = torch.zeros(len(tokens.features), dtype=torch.int64)
    for patch in tokens.patch_weight.argsort().tolist():
        places[rows[patch]] = place[patch]
    assert torch.equal(places, places.sort().values)


@pytest.mark.parametrize("name", ["dtc", "tome", "identity"])
def test_a_compressor_says_what_it_is_to_be_given(name):
    with pytest.raises(FeaturesError, match="a compressor got Tensor; expected packed bags: dtcwsi.pack"):
        create_compressor(name, dim=6)(torch.randn(9, 6))


@pytest.mark.parametrize("placed", [30, 1])
def test_raster_order_refuses_a_batch_that_lost_its_coordinates(placed, make_bags):
    bags = [*make_bags([placed], 0), *make_bags([9], 1, coords=False)]
    made = create_compressor("dtc", dim=6, order="raster")
    with pytest.raises(FeaturesError, match="mixes bags with and without coordinates; order='raster'"):
        made(pack(bags))
