import inspect
import json
import pickle
import subprocess
import sys
from dataclasses import replace
from functools import partial

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import dtcwsi
from dtcwsi.aggregators import AGGREGATORS
from dtcwsi.bags.packing import join
from dtcwsi.errors import FeaturesError, OptionError, UnknownNameError, UsageError
from dtcwsi.models import with_retention

DIM = 6
SMALL = {
    "hipt": {"width": 12, "heads": 2, "slide_heads": 2, "depth": 2, "layers": 1},
    "longformer": {"width": 16, "heads": 2, "attention_window": 5},
    "mamba2d": {"width": 16, "states": 4},
    "mhim-transmil": {"width": 16, "heads": 2, "projection_dropout": 0.0},
    "patchgd": {"width": 16, "hidden": 8},
    "spt": {"width": 16, "heads": 2},
    "transmil": {"width": 16, "heads": 2},
}


def build(name, seed=0, **options):
    torch.manual_seed(seed)
    small = next((small for end, small in SMALL.items() if name.endswith(end)), {})
    model = dtcwsi.create_model(name, in_dim=DIM, n_classes=3, **small, **options)
    importance = getattr(model.compressor, "importance", None)
    if importance is not None:
        torch.nn.init.normal_(importance.last.weight, std=2.0)
    return model.eval()


def bags_of(*sizes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [dtcwsi.Bag(torch.randn(size, DIM, generator=generator), places(size)) for size in sizes]


def places(size):
    """Rows of seven patches: some models need to know where patches lie."""
    number = torch.arange(size)
    return torch.stack([number % 7, number // 7], dim=1) * 256


def compresses(name):
    return name not in AGGREGATORS


def learns(name):
    return name.startswith(("dtc-", "merge-only-", "prune-only-"))


@pytest.fixture(params=dtcwsi.list_models())
def name(request):
    return request.param


def test_models_are_listed_plain_and_compressed():
    assert {"abmil", "mean", "dtc-abmil", "dtc-mean"} <= set(dtcwsi.list_models())


def test_the_whole_record_comes_back(name):
    out = build(name)(dtcwsi.pack(bags_of(20, 0, 7)))
    assert out.logits.shape == (3, 3)
    assert out.tokens_in.tolist() == [20, 0, 7]
    assert out.tokens_out.tolist() == ([8, 0, 3] if compresses(name) else [20, 0, 7])
    assert out.offsets.tolist() == [0, 20, 20, 27]
    assert out.attention.shape == out.patch_to_token.shape == out.patch_stage.shape == (27,)
    assert out.tokens_by_stage.shape[1] == 27
    assert torch.equal(out.tokens_by_stage[-1], out.patch_to_token)
    assert out.losses == {}


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=4), st.sampled_from([0.1, 0.4, 1.0]), st.integers(0, 999))
def test_attention_is_a_share_of_each_bag_and_none_of_the_pruned(sizes, retention, seed):
    out = build("dtc-abmil", seed, retention=retention)(dtcwsi.pack(bags_of(*sizes, seed=seed)))
    for start, end in zip(out.offsets[:-1], out.offsets[1:], strict=True):
        share = out.attention[start:end]
        assert float(share.sum().detach()) == pytest.approx(float(end > start), abs=1e-5)
        assert share.ge(0).all()
    assert out.attention[out.patch_to_token < 0].eq(0).all()
    assert out.patch_stage[out.patch_to_token < 0].gt(0).all()


def test_a_tensor_a_bag_and_a_batch_agree(name):
    model, (one, two) = build(name), bags_of(30, 11)
    batch = model(dtcwsi.pack([one, two]))
    for number, bag in enumerate((one, two)):
        for alone in (model(bag.features, coords=bag.coords), model(bag)):
            torch.testing.assert_close(alone.logits[0], batch.logits[number], atol=1e-5, rtol=0)


def test_patchwise_outputs_follow_the_order_given(name):
    model, (bag,) = build(name), bags_of(49)
    coords = torch.cartesian_prod(torch.arange(7), torch.arange(7)) * 256
    mixed = torch.randperm(49, generator=torch.Generator().manual_seed(1))
    first, second = model(bag.features, coords=coords), model(bag.features[mixed], coords=coords[mixed])
    torch.testing.assert_close(first.logits, second.logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(first.attention[mixed], second.attention, atol=1e-6, rtol=0)
    assert torch.equal(first.patch_stage[mixed], second.patch_stage)
    if compresses(name) or model.compressor.in_order:
        assert torch.equal(first.patch_to_token[mixed], second.patch_to_token)
    else:
        assert first.patch_to_token.tolist() == second.patch_to_token.tolist() == list(range(49))


@pytest.mark.parametrize("name", [name for name in dtcwsi.list_models() if not compresses(name)])
def test_equal_patches_follow_the_order_of_none(name):
    """Features of a few values, in bfloat16: whose score is largest is a tie, which places must decide."""
    model, generator = build(name).to(torch.bfloat16), torch.Generator().manual_seed(3)
    rows = torch.randint(2, (49, DIM), generator=generator).bfloat16()
    if name == "dsmil":  # patches that are unlike tie as well
        model.aggregator.instance_head.weight.data[:, 1:] = 0
        model.aggregator.query[0].weight.data *= 50
    coords, back = torch.cartesian_prod(torch.arange(7), torch.arange(7)) * 256, torch.arange(48, -1, -1)
    first, second = model(rows, coords=coords), model(rows[back], coords=coords[back])
    torch.testing.assert_close(first.logits.float(), second.logits.float(), atol=1e-2, rtol=1e-2)
    torch.testing.assert_close(first.attention[back], second.attention, atol=2e-3, rtol=0.05)


@pytest.mark.parametrize("options", [{"position": "paper"}, {"budget": "threshold"}])
def test_what_says_where_a_patch_stands_in_the_order_follows_no_file(options):
    model, (bag,) = build("dtc-abmil", retention=1.0, **options), bags_of(49)
    torch.nn.init.normal_(model.compressor.importance.first.weight)
    mixed = torch.randperm(49, generator=torch.Generator().manual_seed(1))
    first, second = model(bag), model(dtcwsi.Bag(bag.features[mixed], bag.coords[mixed]))
    torch.testing.assert_close(first.importance[mixed], second.importance)
    torch.testing.assert_close(first.logits, second.logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["abmil", "clam-mb", "patchgd"])
def test_keeping_all_is_exactly_the_plain_model(name):
    plain, compressed = build(name), build(f"dtc-{name}", retention=1.0)
    packed = dtcwsi.pack(bags_of(30, 2, 17))
    assert torch.equal(plain(packed).logits, compressed(packed).logits)
    assert torch.equal(plain(packed).attention, compressed(packed).attention)
    assert torch.equal(plain(packed).patch_to_token, compressed(packed).patch_to_token)


@pytest.mark.parametrize("name", ["abmil", "patchgd", "dtc-abmil"])
def test_patches_that_are_all_kept_are_copied_only_for_who_looks_at_their_order(name):
    model = build(name, **({"retention": 1.0} if name.startswith("dtc") else {}))
    packed = dtcwsi.pack(bags_of(30, 17))
    assert packed.order is not None
    assert model.compress(packed).features.data_ptr() == packed.features.data_ptr()
    spatial = build("transmil").compress(packed)
    assert torch.equal(spatial.features, packed.features[packed.order])


@pytest.mark.parametrize("name", ["dtc-abmil", "dtc-mean", "dtc-clam-sb", "dtc-clam-mb", "dtc-dsmil"])
def test_merging_identical_patches_changes_nothing(name):
    features = torch.randn(40, DIM).repeat_interleave(2, dim=0)
    compressed = build(name, schedule=(0.5,), merge_share=1.0)
    plain = build(name.removeprefix("dtc-"))
    out, whole = compressed(features), plain(features)
    assert out.tokens_out.tolist() == [40]
    torch.testing.assert_close(out.logits, whole.logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(out.attention, whole.attention, atol=1e-6, rtol=0)


def test_logits_depend_on_no_pruned_patch_and_on_every_other():
    model = build("dtc-abmil", retention=0.2)
    features = torch.randn(60, DIM, requires_grad=True)
    out = model(features)
    slopes = torch.autograd.grad(out.logits[0, 0], features)[0]
    pruned = out.patch_to_token < 0
    assert 0 < int(pruned.sum()) < 60
    assert slopes[pruned].eq(0).all()
    assert slopes[~pruned].abs().sum(dim=1).gt(0).all()


def test_training_at_full_budget_equals_evaluation(name):
    if name.startswith("random-") or "mhim" in name:
        pytest.skip("draws anew at each training step")
    if name.endswith("patchgd"):
        pytest.skip("normalises by the batch in training")
    model, packed = build(name, dropout=0.0), dtcwsi.pack(bags_of(60, 9))
    evaluated = model(packed).logits
    model.train()
    model.set_progress(0.5)
    torch.testing.assert_close(model(packed).logits, evaluated, atol=1e-6, rtol=0)
    model.set_progress(0.1)
    changed = not torch.allclose(model(packed).logits, evaluated, atol=1e-6)
    assert changed == learns(name)


def test_the_loss_is_cross_entropy_plus_weighted_terms():
    model, packed, labels = build("dtc-abmil"), dtcwsi.pack(bags_of(30, 9)), torch.tensor([2, 0])
    out = model.train()(packed)
    assert set(out.losses) == {"attention_taught"}
    expected = torch.nn.functional.cross_entropy(out.logits, labels) + out.losses["attention_taught"]
    torch.testing.assert_close(model.loss(out, labels), expected)
    plain = build("abmil").train()
    assert plain(packed).losses == {}


def test_one_step_lowers_the_loss_of_every_model(name):
    kept = {"retention": 1.0} if name.startswith("random-") else {}  # draws anew at each training step
    model, packed = build(name, dropout=0.0, **kept).train(), dtcwsi.pack(bags_of(30, 9))
    labels = torch.tensor([2, 0])
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    before = model.loss(model(packed), labels)
    before.backward()
    optimizer.step()
    assert model.loss(model(packed), labels).item() < before.item()


@pytest.mark.parametrize("name", ["clam-sb", "dtc-clam-mb", "dtc-dsmil"])
def test_the_loss_is_the_methods_own_objective(name):
    model, packed = build(name, dropout=0.0).train(), dtcwsi.pack(bags_of(30, 9))
    labels = torch.tensor([2, 0])
    out = model(packed)
    own = out.objective(out.logits, labels).mean() + sum(out.losses.values())
    assert not torch.isclose(own, torch.nn.functional.cross_entropy(out.logits, labels) + sum(out.losses.values()))
    torch.testing.assert_close(model.loss(out, labels), own)


@pytest.mark.parametrize("name", ["clam-sb", "dtc-abmil"])
def test_weights_multiply_each_bags_objective_and_no_auxiliary_term(name):
    model, packed = build(name, dropout=0.0).train(), dtcwsi.pack(bags_of(30, 9))
    labels, weights = torch.tensor([2, 0]), torch.tensor([0.5, 3.0])
    out = model(packed)
    objective = out.objective or partial(torch.nn.functional.cross_entropy, reduction="none")
    tokens, terms = (objective(out.logits, labels) * weights).mean(), sum(out.losses.values())
    torch.testing.assert_close(model.loss(out, labels, weights=weights), tokens + terms)
    both = replace(out, whole_logits=out.logits + torch.tensor([0.0, 1.0, 2.0]), whole_objective=out.objective)
    whole = (objective(both.whole_logits, labels) * weights).mean()
    found = model.loss(both, labels, weights=weights)
    believed = model.doubt.tokens_weight(model.compressor.progress)
    torch.testing.assert_close(found, believed * tokens + whole + terms)


@pytest.mark.parametrize(("labels", "told"), [([0, 3], r"\[3\]"), ([-1, 7], r"\[-1, 7\]")])
def test_labels_that_are_no_class_are_told(labels, told):
    model = build("abmil")
    with pytest.raises(UsageError, match=f"got labels {told}; expected class numbers 0 to 2"):
        model.loss(model(dtcwsi.pack(bags_of(4, 5))), torch.tensor(labels))


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (torch.tensor([0.0, 1.0]), r"got labels of torch.float32 and shape \(2,\); expected torch.int64 and \(2,\)"),
        (torch.tensor([0]), r"got labels of torch.int64 and shape \(1,\); expected torch.int64 and \(2,\)"),
        (torch.tensor([[0], [1]]), r"shape \(2, 1\); expected torch.int64 and \(2,\), one class number a bag"),
    ],
)
def test_labels_of_another_type_or_shape_are_told(labels, told, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # which would speak first
    model = build("abmil")
    with pytest.raises(UsageError, match=told):
        model.loss(model(dtcwsi.pack(bags_of(4, 5))), labels)


def test_accumulated_passes_have_the_gradient_of_one_batch(name):
    if name.startswith("random-"):
        pytest.skip("draws anew at each training step")
    model, labels = build(name, dropout=0.0).train(), torch.arange(16) % 3
    if model.whole_batches:
        pytest.skip("refuses to be split")
    bags = [dtcwsi.pack([bag]) for bag in bags_of(*range(1, 160, 10))]
    model.set_progress(0.4)

    def gradient(passes):
        model.zero_grad()
        for part in passes:
            batch = join([bags[index] for index in part])
            (model.loss(model(batch), labels[part]) * len(part) / 16).backward()
        return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]

    whole, parts = gradient([list(range(16))]), gradient([[0, 1, 2], [3, 4, 5, 6, 7], list(range(8, 16))])
    torch.testing.assert_close(parts, whole, atol=1e-6, rtol=1e-4)


def doubting(name, packed, labels, **options):
    """A model in training whose first step told it nothing."""
    model = build(name, **options).train()
    model.set_progress(0.4)
    model.loss(model(packed), labels)
    model.set_progress(0.41)
    return model


def objectives(out, labels):
    own = (out.objective or cross_entropies)(out.logits, labels).mean()
    return own, (out.whole_objective or cross_entropies)(out.whole_logits, labels).mean()


def cross_entropies(logits, labels):
    return torch.nn.functional.cross_entropy(logits, labels, reduction="none")


@pytest.mark.parametrize("name", ["dtc-abmil", "dtc-dsmil"])
def test_tokens_count_nothing_until_whole_bags_are_understood_or_the_last_tenth(name):
    packed, labels = dtcwsi.pack(bags_of(60, 9)), torch.tensor([2, 0])
    model = doubting(name, packed, labels)
    out = model(packed)
    tokens, whole = objectives(out, labels)
    extra = sum(out.losses.values())
    torch.testing.assert_close(model.loss(out, labels), whole + extra)
    model.set_progress(0.9)
    torch.testing.assert_close(model.loss(out, labels), 0.3 * tokens + whole + extra)


def test_tokens_count_once_whole_bags_are_understood():
    packed, labels = dtcwsi.pack(bags_of(60, 9)), torch.tensor([2, 0])
    model = doubting("dtc-abmil", packed, labels)
    out = model(packed)
    model.loss(replace(out, whole_logits=torch.tensor([[0.0, 0.0, 5.0], [5.0, 0.0, 0.0]])), labels)
    model.set_progress(0.5)
    tokens, whole = objectives(out, labels)
    torch.testing.assert_close(model.loss(out, labels), 0.3 * tokens + whole + sum(out.losses.values()))


def test_a_model_in_doubt_also_looks_at_whole_bags():
    packed, labels = dtcwsi.pack([*bags_of(60, 9), dtcwsi.Bag(torch.zeros(0, DIM))]), torch.tensor([2, 0, 1])
    model = doubting("dtc-abmil", packed, labels)
    out = model(packed)
    plain = build("abmil")
    plain.load_state_dict({key: value for key, value in model.state_dict().items() if "compressor" not in key})
    torch.testing.assert_close(out.whole_logits, plain(packed).logits, atol=1e-6, rtol=0)
    assert set(out.losses) == {"attention_taught", "whole_attention_taught"}
    model.loss(out, labels).backward()
    assert model.compressor.importance.last.weight.grad.abs().sum() > 0


def test_the_second_look_leaves_the_logits_alone_and_ends_with_training():
    packed, labels = dtcwsi.pack(bags_of(60, 9)), torch.tensor([2, 0])
    model = doubting("dtc-abmil", packed, labels)
    model.set_progress(0.6)
    out = model(packed)
    assert out.whole_logits is not None
    torch.testing.assert_close(out.logits, model.eval()(packed).logits, atol=1e-6, rtol=0)
    assert model(packed).whole_logits is None
    model.train().set_progress(1.0)
    assert model(packed).whole_logits is None


@pytest.mark.parametrize(
    ("name", "options"),
    [("dtc-abmil", {"second_look": False}), ("dtc-abmil", {"preset": "paper"}), ("random-abmil", {}), ("abmil", {})],
)
def test_models_without_a_second_look_never_take_one(name, options):
    packed, labels = dtcwsi.pack(bags_of(60, 9)), torch.tensor([2, 0])
    assert doubting(name, packed, labels, **options)(packed).whole_logits is None


def test_a_model_that_has_learned_from_tokens_looks_at_nothing_else():
    packed, labels = dtcwsi.pack(bags_of(60, 9)), torch.tensor([2, 0])
    model = build("dtc-abmil").train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    looks = []
    for step in range(60):
        model.set_progress(0.5 + step / 200)
        optimizer.zero_grad()
        out = model(packed)
        looks.append(out.whole_logits is not None)
        model.loss(out, labels).backward()
        optimizer.step()
    assert not looks[0]
    assert looks[1]
    assert not any(looks[-10:])


@pytest.mark.parametrize(("evenly", "bound"), [(False, 0.6 * 0.1347), (True, 0.6 * 0.6931)])
def test_doubt_is_held_against_guessing_what_comes(evenly, bound):
    for loss, doubts in ((bound - 0.005, False), (bound + 0.005, True)):
        model = dtcwsi.create_model("dtc-abmil", in_dim=4, n_classes=2)
        model.describe_classes(("a", "b"), (0.97, 0.03))
        model.drawn_evenly = evenly
        model.doubt.observe(torch.tensor([loss]))
        model.set_progress(1.0)
        model.compressor.progress = 0.0
        model.set_progress(0.5)
        assert model.doubt.stands == doubts


def test_weights_of_a_loss_are_one_a_bag():
    model = dtcwsi.create_model("abmil", in_dim=4, n_classes=2)
    out, labels = model(dtcwsi.pack([dtcwsi.Bag(torch.randn(3, 4))] * 2)), torch.tensor([0, 1])
    model.loss(out, labels, weights=torch.tensor([1.0, 2.0]))
    unchecked = inspect.unwrap(type(model).loss)  # the tests' check of shapes would be first
    with pytest.raises(UsageError, match=r"got weights of shape \(1,\); expected \(2,\), one a bag"):
        unchecked(model, out, labels, weights=torch.ones(1))
    with pytest.raises(UsageError, match=r"got weights in a list; expected a tensor of shape \(2,\), one a bag"):
        unchecked(model, out, labels, weights=[1.0, 2.0])
    for wrong in (-1.0, float("nan"), float("inf")):
        with pytest.raises(UsageError, match=r"got weights \[1.0, .*\]; expected finite numbers, 0 or more"):
            unchecked(model, out, labels, weights=torch.tensor([1.0, wrong]))


@pytest.mark.parametrize(("name", "prepare"), [("panther", "fit_prototypes"), ("spt", "pretrain")])
def test_what_prepares_a_model_takes_a_list_of_bags(name, prepare):
    model = dtcwsi.create_model(name, in_dim=4, n_classes=2)
    with pytest.raises(OptionError, match="got Tensor; expected a list of bags or of packed batches"):
        getattr(model, prepare)(torch.randn(9, 4))


def test_accumulated_passes_in_doubt_have_the_gradient_of_one_batch():
    bags = [dtcwsi.pack([bag]) for bag in bags_of(1, 0, 60, 17)]
    labels = torch.tensor([0, 1, 2, 0])
    model = doubting("dtc-abmil", join(bags), labels)

    def gradient(passes):
        model.zero_grad()
        for part in passes:
            out = model(join([bags[index] for index in part]))
            assert out.whole_logits is not None
            (model.loss(out, labels[part]) * len(part) / 4).backward()
        return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]

    torch.testing.assert_close(gradient([[0], [1], [2, 3]]), gradient([[0, 1, 2, 3]]), atol=1e-6, rtol=1e-4)


def test_a_new_training_begins_without_doubt():
    packed, labels = dtcwsi.pack(bags_of(60, 9)), torch.tensor([2, 0])
    model = doubting("dtc-abmil", packed, labels)
    model.set_progress(0.0)
    model.set_progress(0.1)
    assert model(packed).whole_logits is None


def test_a_model_survives_pickling(name):
    model, packed = build(name), dtcwsi.pack(bags_of(30, 9))
    again = pickle.loads(pickle.dumps(model))
    assert torch.equal(again(packed).logits, model(packed).logits)


def test_a_bag_without_patches_gets_the_training_shares(name):
    model = build(name)
    model.describe_classes(["a", "b", "c"], [0.5, 0.3, 0.2])
    for packed in (dtcwsi.pack(bags_of(0)), dtcwsi.pack(bags_of(0, 5))):
        out = model(packed)
        assert out.logits[0].softmax(0).tolist() == pytest.approx([0.5, 0.3, 0.2])
        assert out.tokens_out[0] == 0
        assert torch.isfinite(out.logits).all()


@pytest.mark.parametrize("size", [1, 2, 3])
def test_tiny_bags_keep_a_token(name, size):
    out = build(name, **({"retention": 0.01} if compresses(name) else {}))(bags_of(size)[0])
    assert torch.isfinite(out.logits).all()
    assert out.tokens_out.item() == (1 if compresses(name) else size)
    assert out.attention.sum().item() == pytest.approx(1)


def test_weights_go_from_plain_to_compressed_and_back(name):
    plain_name = next(plain for plain in AGGREGATORS if name.endswith(plain))
    plain, other = build(plain_name), build(name, seed=5)
    shared = {key: tensor for key, tensor in other.state_dict().items() if not key.startswith("compressor.")}
    assert list(shared) == list(plain.state_dict())
    plain.load_state_dict(shared)
    missing = other.load_state_dict(build(plain_name).state_dict(), strict=False)
    assert all(key.startswith("compressor.") for key in missing.missing_keys)
    assert missing.unexpected_keys == []


@pytest.mark.parametrize("name", AGGREGATORS.names())
def test_weights_of_16_bits_give_about_the_same_and_learn(name):
    model = build(name)
    packed = dtcwsi.pack(bags_of(20, 0, 1, 7))
    exact = model(packed).logits
    for dtype in (torch.float16, torch.bfloat16):
        found = model.to(dtype)(packed)
        torch.testing.assert_close(found.logits.float(), exact, atol=0.1, rtol=0.1)
        assert [float(part.sum()) for part in found.attention.detach().split([20, 0, 1, 7])] == pytest.approx(
            [1, 0, 1, 1], abs=0.01
        )
    loss = model.loss(model.train()(packed), torch.tensor([2, 0, 1, 1]))
    loss.backward()
    assert all(weight.grad.isfinite().all() for weight in model.parameters() if weight.grad is not None)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_features_are_taken_as_stored(name, dtype):
    model, (bag,) = build(name), bags_of(200)
    stored, coords = bag.features.to(dtype), torch.arange(200)[:, None] * torch.tensor([256, 0])
    half, whole = (model(rows, coords=coords) for rows in (stored, stored.float()))
    assert half.logits.dtype == torch.float32
    torch.testing.assert_close(half.logits, whole.logits, atol=0.02, rtol=0.02)


def test_autocast_changes_no_token(name):
    model, packed = build(name), dtcwsi.pack(bags_of(200, 31))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = model(packed)
    assert torch.equal(out.tokens_by_stage, model(packed).tokens_by_stage)
    torch.testing.assert_close(out.logits.float(), model(packed).logits, atol=0.1, rtol=0.1)
    model.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        objective = model.loss(model(packed), torch.tensor([0, 1]))
    objective.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_models_of_another_precision_say_nearly_the_same(name, dtype):
    model, (bag,) = build(name), bags_of(60)
    wanted, model = model(bag), model.to(dtype)
    for rows in (bag.features, bag.features.to(dtype)):
        out = model(rows, coords=bag.coords)
        assert out.logits.dtype == dtype
        torch.testing.assert_close(out.logits.float(), wanted.logits, atol=0.1, rtol=0.1)
        assert float(out.attention.detach().sum()) == pytest.approx(1, abs=1e-4)


def test_one_seed_gives_plain_and_compressed_models_the_same_start():
    plain, compressed = build("abmil", seed=3).state_dict(), build("dtc-abmil", seed=3).state_dict()
    assert all(torch.equal(tensor, compressed[key]) for key, tensor in plain.items())


def test_a_saved_model_comes_back_the_same(name, tmp_path):
    given = {"dropout": 0.1, **({"schedule": (0.6, 0.5)} if compresses(name) else {})}
    if name.endswith("dsmil"):
        given |= {"values": True}
    if name.startswith("dtc-"):
        given |= {"preset": "paper", "merge_share": 0.25, "position": "paper"}
    model = build(name, **given)
    model.describe_classes(["a", "b", "c"], [0.5, 0.3, 0.2])
    model.save(tmp_path / "model", seed=7)
    again = dtcwsi.load(tmp_path / "model")
    packed = dtcwsi.pack(bags_of(40, 0))
    assert not again.training
    assert torch.equal(again(packed).logits, model(packed).logits)
    assert (again.class_names, again.class_shares) == (model.class_names, model.class_shares)
    card = json.loads((tmp_path / "model" / "card.json").read_text())
    assert card["seed"] == 7
    assert card["options"]["dropout"] == 0.1
    assert card["versions"]["torch"] == str(torch.__version__)
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["card.json", "model.safetensors"]


@pytest.mark.parametrize("name", ["dtc-abmil", "prune-only-transmil", "tome-abmil", "random-mean"])
def test_another_retention_is_another_budget_of_the_same_weights(name):
    model, packed = build(name, retention=0.3, stages=2), dtcwsi.pack(bags_of(40, 7))
    before = torch.get_rng_state()
    other = with_retention(model, 0.6)
    assert torch.equal(torch.get_rng_state(), before)
    assert other(packed).tokens_out.tolist() == [24, 5]
    assert (len(other.compressor.shares), other.compressor.settings["retention"]) == (2, 0.6)
    assert all(torch.equal(tensor, model.state_dict()[key]) for key, tensor in other.state_dict().items())
    assert torch.equal(with_retention(other, 0.3)(packed).logits, model(packed).logits)
    assert with_retention(model, 1.0)(packed).tokens_out.tolist() == [40, 7]


def test_a_schedule_gives_way_to_a_retention():
    model = build("dtc-abmil", preset="paper")
    assert with_retention(model, 0.5)(dtcwsi.pack(bags_of(40))).tokens_out.tolist() == [20]


def test_what_has_no_retention_has_no_other():
    with pytest.raises(OptionError, match="abmil does not compress, so it has no other retention; use 'dtc-abmil'"):
        with_retention(build("abmil"), 0.5)
    with pytest.raises(OptionError, match="keeps what is above its threshold"):
        with_retention(build("dtc-abmil", budget="threshold"), 0.5)
    with pytest.raises(OptionError, match="got retention=2.0; expected a number above 0 and at most 1"):
        with_retention(build("dtc-abmil"), 2.0)


def test_what_is_no_model_cannot_be_loaded(tmp_path):
    with pytest.raises(UsageError, match="holds no readable card.json"):
        dtcwsi.load(tmp_path)
    build("mean").save(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"short")
    with pytest.raises(UsageError, match=r"model\.safetensors cannot be loaded"):
        dtcwsi.load(tmp_path)
    card = tmp_path / "card.json"
    later = {**json.loads(card.read_text()), "options": {"novel": 1}, "versions": {"dtcwsi": "9.0"}}
    card.write_text(json.dumps(later))
    with pytest.raises(UsageError, match=r"cannot be built \(.+'novel'.+ saved by dtcwsi 9.0 and this is .+ load it"):
        dtcwsi.load(tmp_path)
    card.write_text('{"format": "other"}')
    with pytest.raises(
        UsageError, match="has format 'other'; this version reads .+ the dtcwsi that wrote it, or train"
    ):
        dtcwsi.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("dtc-abmi", {}, UnknownNameError, "no model is called 'dtc-abmi'; near names: .*dtc-abmil"),
        ("identity-abmil", {}, UnknownNameError, "no model is called 'identity-abmil'"),
        (
            "abmil",
            {"retention": 0.4},
            OptionError,
            "does not compress and takes no option 'retention'; use 'dtc-abmil'",
        ),
        ("abmil", {"gaetd": True}, OptionError, "takes no option 'gaetd'; near options: gated"),
        ("dtc-abmil", {"retentoin": 0.4}, OptionError, "takes no option 'retentoin'; near options: retention"),
    ],
)
def test_what_cannot_be_built_is_told(name, options, error, message):
    with pytest.raises(error, match=message):
        dtcwsi.create_model(name, in_dim=DIM, n_classes=2, **options)


def test_features_that_do_not_fit_are_told(name):
    model = build(name)
    with pytest.raises(FeaturesError, match=f"features have width 9; {name} was built for 6"):
        model(torch.randn(4, 9))
    with pytest.raises(FeaturesError, match="NaN or infinite features in 1 of 4 patches"):
        model(torch.tensor([[0.0] * DIM] * 3 + [[float("inf")] * DIM]))
    with pytest.raises(OptionError, match="a Bag carries its own"):
        model(bags_of(3)[0], coords=torch.zeros(3, 2))


def test_wrong_class_counts_and_progress_are_told():
    model = build("abmil")
    with pytest.raises(OptionError, match="got 2 names and 2 shares; expected 3 of each"):
        model.describe_classes(["a", "b"], [0.5, 0.5])
    with pytest.raises(OptionError, match=r"got share=nan; expected each class's share of the slides, 0 to 1"):
        model.describe_classes(["a", "b", "c"], [0.5, float("nan"), 0.5])
    with pytest.raises(OptionError, match=r"got progress=1.5; expected 0 to 1, the share of training that is done"):
        model.set_progress(1.5)


def test_numbers_of_numpy_are_taken_as_options(tmp_path):
    options = {"retention": np.float32(0.5), "stages": np.int64(2)}
    model = dtcwsi.create_model("dtc-abmil", in_dim=DIM, n_classes=2, **options)
    model.save(tmp_path)
    assert dtcwsi.load(tmp_path).options["stages"] == 2
    with pytest.raises(OptionError, match=r"got schedule\[1\]=0.0"):
        dtcwsi.create_model("dtc-abmil", in_dim=DIM, n_classes=2, schedule=(0.5, 0.0))


def test_importing_the_package_imports_nothing_heavy():
    code = (
        "import sys, dtcwsi; dtcwsi.list_models; print([m for m in ('lightning', 'timm', 'cv2') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
