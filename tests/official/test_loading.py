"""Published weights: logits recorded from the published code.

mahmoodlab/CLAM at 53e2409, szc19990412/TransMIL at 9d6aee5 with nystrom-attention 0.0.14, binli123/dsmil-wsi at
80465ed, DearCaat/MHIM-MIL branch v1 (modules/datten.py).

Weights are 0.2 (MHIM 0.05, TransMIL 0.1) times normal numbers drawn in the order of the sorted
keys, features normal numbers from seed 1.
"""

import pytest
import torch

import dtcwsi
from dtcwsi.errors import OptionError, UnknownNameError, UsageError

from .conftest import check_that_each_missing_key_is_named

DIM = 24


def clam_shapes(classes, *, many):
    shapes = {"attention_net.0.weight": (512, DIM), "attention_net.0.bias": (512,)}
    for branch in "ab":
        shapes |= {f"attention_net.3.attention_{branch}.0.weight": (256, 512)}
        shapes |= {f"attention_net.3.attention_{branch}.0.bias": (256,)}
    maps = classes if many else 1
    shapes |= {"attention_net.3.attention_c.weight": (maps, 256), "attention_net.3.attention_c.bias": (maps,)}
    for number in range(classes):
        shapes |= {f"instance_classifiers.{number}.weight": (2, 512), f"instance_classifiers.{number}.bias": (2,)}
        if many:
            shapes |= {f"classifiers.{number}.weight": (1, 512), f"classifiers.{number}.bias": (1,)}
    return shapes if many else shapes | {"classifiers.weight": (classes, 512), "classifiers.bias": (classes,)}


def dsmil_shapes(classes, *, values):
    shapes = {
        "i_classifier.fc.0.weight": (classes, DIM),
        "i_classifier.fc.0.bias": (classes,),
        "b_classifier.q.0.weight": (128, DIM),
        "b_classifier.q.0.bias": (128,),
        "b_classifier.q.2.weight": (128, 128),
        "b_classifier.q.2.bias": (128,),
        "b_classifier.fcc.weight": (classes, classes, DIM),
        "b_classifier.fcc.bias": (classes,),
    }
    return shapes | ({"b_classifier.v.1.weight": (DIM, DIM), "b_classifier.v.1.bias": (DIM,)} if values else {})


def mhim_shapes(*, gated, biases=False):
    shapes = {"patch_to_emb.0.weight": (512, 1024), "patch_to_emb.0.bias": (512,)}
    shapes |= {"predictor.weight": (2, 512), "predictor.bias": (2,)}
    names = ("attention_a.0", "attention_b.0", "attention_c") if gated else ("attention.0", "attention.2")
    ends = {name: (1, 128) if name in ("attention_c", "attention.2") else (128, 512) for name in names}
    for name, shape in ends.items():
        shapes |= {f"online_encoder.attention.{name}.weight": shape}
        shapes |= {f"online_encoder.attention.{name}.bias": shape[:1]} if biases else {}
    return shapes


def transmil_shapes():
    shapes = {"_fc1.0.weight": (512, 1024), "_fc1.0.bias": (512,), "cls_token": (1, 1, 512)}
    shapes |= {"_fc2.weight": (2, 512), "_fc2.bias": (2,)}
    for name, size in (("proj", 7), ("proj1", 5), ("proj2", 3)):
        shapes |= {f"pos_layer.{name}.weight": (512, 1, size, size), f"pos_layer.{name}.bias": (512,)}
    for name in ("norm", "layer1.norm", "layer2.norm"):
        shapes |= {f"{name}.weight": (512,), f"{name}.bias": (512,)}
    for layer in ("layer1.attn", "layer2.attn"):
        shapes |= {f"{layer}.to_qkv.weight": (1536, 512), f"{layer}.to_out.0.weight": (512, 512)}
        shapes |= {f"{layer}.to_out.0.bias": (512,), f"{layer}.res_conv.weight": (8, 1, 33, 1)}
    return shapes


def drawn(shapes, scale=0.2):
    generator = torch.Generator().manual_seed(0)
    return {key: scale * torch.randn(shapes[key], generator=generator) for key in sorted(shapes)}


@pytest.fixture
def features():
    return torch.randn(50, DIM, generator=torch.Generator().manual_seed(1))


RECORDED = {
    "clam-sb, 2": ("clam-sb", clam_shapes(2, many=False), [5.894353, -1.430717], [0.01104, 0.010364, 0.01064]),
    "clam-sb, 3": (
        "clam-sb",
        clam_shapes(3, many=False),
        [5.894353, -1.430717, -0.587759],
        [0.01104, 0.010364, 0.01064],
    ),
    "clam-mb, 2": ("clam-mb", clam_shapes(2, many=True), [3.644063, -2.066365], [0.01104, 0.010364, 0.01064]),
    "clam-mb, 3": (
        "clam-mb",
        clam_shapes(3, many=True),
        [1.561661, -2.938248, -2.427666],
        [0.004163, 0.004129, 0.002734],
    ),
    "dsmil, 2": ("dsmil", dsmil_shapes(2, values=False), [2.248926, 1.916902], [0.005628, 0.001975, 0.004062]),
    "dsmil, 3": (
        "dsmil",
        dsmil_shapes(3, values=True),
        [0.779808, 1.428554, -1.588179],
        [0.001761, 0.007202, 0.004572],
    ),
}


@pytest.mark.parametrize("case", RECORDED)
@pytest.mark.parametrize("prefix", ["", "module.", "model."])
def test_published_weights_give_the_published_logits_and_attention(case, prefix, features):
    name, shapes, logits, attention = RECORDED[case]
    model = dtcwsi.load_official(name, {prefix + key: tensor for key, tensor in drawn(shapes).items()})
    out = model(features)
    torch.testing.assert_close(out.logits[0], torch.tensor(logits), atol=1e-4, rtol=0)
    torch.testing.assert_close(out.attention[:3], torch.tensor(attention), atol=1e-6, rtol=0)


def test_wrappers_of_training_are_taken_off(features):
    shapes = clam_shapes(2, many=False)
    plain = dtcwsi.load_official("clam-sb", drawn(shapes))(features).logits
    several = {key.replace("attention_net.", "attention_net.module."): one for key, one in drawn(shapes).items()}
    checkpoint = {"epoch": 3, "state_dict": {f"model.{key}": one for key, one in drawn(shapes).items()}}
    for given in (several, checkpoint):
        torch.testing.assert_close(dtcwsi.load_official("clam-sb", given)(features).logits, plain)


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize(
    ("many", "last", "logits"),
    [(False, "module.3", [2.8817, 3.6999]), (True, "module.2", [0.3507, 3.9024])],
    ids=["clam-sb with dropout", "clam-mb without"],
)
def test_clams_without_a_gate_have_the_published_logits(many, last, logits, prefix, features):
    gated = {key: shape for key, shape in clam_shapes(2, many=many).items() if "attention_b" not in key}
    names = {"attention_a.0": "module.0", "attention_c": last}
    for ours, theirs in names.items():
        gated = {key.replace(ours, theirs): shape for key, shape in gated.items()}
    state = {prefix + key: tensor for key, tensor in drawn(gated).items()}
    model = dtcwsi.load_official("clam-mb" if many else "clam-sb", state)
    torch.testing.assert_close(model(features).logits[0], torch.tensor(logits), atol=1e-4, rtol=0)


def test_a_compressed_models_weights_come_from_the_plain_one():
    with pytest.raises(UnknownNameError, match="load 'mhim-abmil' and give its weights to the other: create_model"):
        dtcwsi.load_official("dtc-mhim-abmil", {})
    model = dtcwsi.load_official("clam-sb", drawn(clam_shapes(2, many=False)))
    other = dtcwsi.create_model("dtc-clam-sb", in_dim=DIM, n_classes=2)
    other.aggregator.load_state_dict(model.aggregator.state_dict())
    assert {key for key in other.state_dict() if key not in model.state_dict()} == {
        f"compressor.{key}" for key in other.compressor.state_dict()
    }


def test_clams_network_without_its_instance_branch_is_abmil(features):
    model = dtcwsi.load_official("abmil", drawn(clam_shapes(2, many=False)))
    torch.testing.assert_close(model(features).logits[0], torch.tensor([5.894353, -1.430717]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["abmil", "mhim-abmil"])
@pytest.mark.parametrize(
    ("gated", "logits", "attention"),
    [
        (False, [-0.631601, -0.343936], [0.030363, 0.016330, 0.014502]),
        (True, [1.290900, 0.497659], [0.019710, 0.020261, 0.014061]),
    ],
)
def test_mhims_networks_are_abmil_the_gated_one_too(name, gated, logits, attention):
    """Published MHIM drops gated weights in silence; here they are read."""
    model = dtcwsi.load_official(name, drawn(mhim_shapes(gated=gated), 0.05))
    out = model(torch.randn(50, 1024, generator=torch.Generator().manual_seed(1)))
    torch.testing.assert_close(out.logits[0], torch.tensor(logits), atol=1e-4, rtol=0)
    torch.testing.assert_close(out.attention[:3], torch.tensor(attention), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("patches", "logits"),
    [
        (1, [-0.050184, -0.098864]),
        (7, [-0.022828, -0.183647]),
        (255, [-0.197913, -0.071226]),
        (256, [-0.198430, -0.071831]),
        (300, [-0.226812, -0.003834]),
        (700, [-0.323826, -0.046747]),
    ],
)
def test_transmil_pads_squares_and_takes_landmarks_as_published(patches, logits):
    model = dtcwsi.load_official("transmil", drawn(transmil_shapes(), 0.1))
    bag = dtcwsi.Bag(torch.randn(patches, 1024, generator=torch.Generator().manual_seed(1)))
    for batch in ([bag], [dtcwsi.Bag(torch.randn(40, 1024)), bag]):
        out = model(dtcwsi.pack(batch))
        torch.testing.assert_close(out.logits[-1], torch.tensor(logits), atol=2e-6, rtol=0)


INSTANCE = {
    ("clam-sb", 2, "ce"): [2.048414, 1.317814],
    ("clam-sb", 2, "svm"): [2.674734, 1.792444],
    ("clam-sb", 3, "ce"): [3.077298, 2.800894, 2.314056],
    ("clam-sb", 3, "svm"): [3.633276, 3.492784, 3.055615],
    ("clam-mb", 2, "ce"): [0.687155, 1.986632],
    ("clam-mb", 2, "svm"): [0.973141, 2.453028],
    ("clam-mb", 3, "ce"): [2.239466, 2.349321, 1.235399],
    ("clam-mb", 3, "svm"): [2.964589, 2.862788, 1.777278],
}


@pytest.mark.parametrize(("name", "classes", "kind"), INSTANCE)
def test_the_instance_loss_is_the_published_one(name, classes, kind, features):
    """With subtyping for two classes, without for three; dropout off."""
    state = drawn(clam_shapes(classes, many=name == "clam-mb"))
    model = dtcwsi.load_official(
        name, state, subtyping=classes == 2, instance_loss=kind, bag_weight=0.0, dropout=0.0
    ).train()
    out = model(dtcwsi.pack([dtcwsi.Bag(features)] * classes))
    each = out.objective(out.logits, torch.arange(classes))
    torch.testing.assert_close(each, torch.tensor(INSTANCE[name, classes, kind]), atol=1e-4, rtol=0)


def test_another_methods_weights_are_refused_by_name():
    with pytest.raises(UsageError, match="not one of CLAM-SB: this looks like a DSMIL checkpoint, .*'dsmil'"):
        dtcwsi.load_official("clam-sb", drawn(dsmil_shapes(2, values=False)))
    with pytest.raises(UsageError, match="not one of CLAM-SB: this looks like a CLAM-MB checkpoint"):
        dtcwsi.load_official("clam-sb", drawn(clam_shapes(2, many=True)))
    with pytest.raises(UsageError, match="not one of DSMIL: got keys such as"):
        dtcwsi.load_official("dsmil", {"encoder.weight": torch.zeros(2)})
    state = drawn(clam_shapes(2, many=False))
    with pytest.raises(UsageError, match=r"not one of CLAM-SB: got keys such as .*; take 'net.' off all of them"):
        dtcwsi.load_official("clam-sb", {f"net.{key}": tensor for key, tensor in state.items()})
    with pytest.raises(UsageError, match=r"dtcwsi's own names: create_model\(...\).load_state_dict takes them"):
        dtcwsi.load_official("clam-sb", dtcwsi.load_official("clam-sb", state).state_dict())
    with pytest.raises(UnknownNameError, match="no published weights are known for 'mean'"):
        dtcwsi.load_official("mean", {})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("weights.pt", "got str; expected a state dict, such as torch.load"),
        (torch.nn.Linear(2, 2), r"got the module Linear; expected its state dict: pass .state_dict\(\)"),
        ({"state_dict": {}}, "got a state dict without a key"),
        ({"weights": {}}, "got dict under 'weights'; expected a tensor .*; pass what is under 'weights'"),
        ({3: torch.zeros(1)}, "got Tensor under 3"),
    ],
)
def test_what_is_no_state_dict_is_told(given, message):
    with pytest.raises(UsageError, match=message):
        dtcwsi.load_official("clam-sb", given)


def test_a_classifier_of_one_class_has_no_counterpart():
    with pytest.raises(UsageError, match="of DSMIL has one class, a single sigmoid; expected two or more"):
        dtcwsi.load_official("dsmil", drawn(dsmil_shapes(1, values=False)))


def test_keys_that_do_not_fit_are_listed():
    state = drawn(clam_shapes(2, many=False))
    del state["attention_net.3.attention_c.bias"]
    state["extra.weight"] = torch.zeros(1)
    with pytest.raises(UsageError, match=r"missing attention_net.3.attention_c.bias; unexpected extra.weight"):
        dtcwsi.load_official("clam-sb", state)
    with pytest.raises(OptionError, match="got n_classes=3; the weights of CLAM-SB have 2, and it is read from them"):
        dtcwsi.load_official("clam-sb", drawn(clam_shapes(2, many=False)), n_classes=3)
    turned = drawn(clam_shapes(2, many=False))
    turned["classifiers.weight"] = turned["classifiers.weight"].T
    with pytest.raises(UsageError, match=r"missing instance_classifiers\..* and \d+ more; unexpected nothing") as told:
        dtcwsi.load_official("clam-sb", turned)
    assert len(str(told.value)) < 1000
    del state["attention_net.0.weight"]
    with pytest.raises(UsageError, match=r"of CLAM-SB lacks attention_net.0.weight; expected the whole of a trained"):
        dtcwsi.load_official("clam-sb", state)
    state = drawn(dsmil_shapes(2, values=False)) | {"b_classifier.fcc.bias": torch.zeros(5)}
    with pytest.raises(UsageError, match=r"b_classifier.fcc.bias \(5,\) for \(2,\)"):
        dtcwsi.load_official("dsmil", state)
    state = drawn(dsmil_shapes(2, values=False))
    lacking = {key: tensor for key, tensor in state.items() if "fcc" not in key}
    with pytest.raises(UsageError, match=r"missing b_classifier.fcc.bias, b_classifier.fcc.weight; unexpected nothing"):
        dtcwsi.load_official("dsmil", lacking)
    with pytest.raises(UsageError, match=r"of DSMIL has i_classifier.fc.0.weight of other dimensions: \(\)"):
        dtcwsi.load_official("dsmil", state | {"i_classifier.fc.0.weight": torch.tensor(1.0)})
    linear = {key.replace(".q.0.", ".q."): one for key, one in state.items() if ".q.2." not in key}
    with pytest.raises(
        UsageError, match=r"of DSMIL has queries by a linear map \(nonlinear=False\), which have no count"
    ):
        dtcwsi.load_official("dsmil", linear)


def without_gate(shapes):
    """Name the layers of CLAM's attention as it does without a gate, and without dropout."""
    kept = {key: shape for key, shape in shapes.items() if "attention_b" not in key}
    names = {"3.attention_a.0": "2.module.0", "3.attention_c": "2.module.2"}
    return {next((key.replace(*pair) for pair in names.items() if pair[0] in key), key): kept[key] for key in kept}


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("clam-sb", clam_shapes(3, many=False)),
        ("clam-sb", without_gate(clam_shapes(2, many=False))),
        ("clam-mb", clam_shapes(2, many=True)),
        ("clam-mb", without_gate(clam_shapes(3, many=True))),
        ("abmil", {key: shape for key, shape in clam_shapes(2, many=False).items() if "instance" not in key}),
        ("dsmil", dsmil_shapes(3, values=True)),
        ("dsmil", {key.replace("fc.0", "fc"): shape for key, shape in dsmil_shapes(2, values=False).items()}),
        ("transmil", transmil_shapes()),
        ("abmil", mhim_shapes(gated=True)),
        ("mhim-abmil", mhim_shapes(gated=True)),
        ("mhim-abmil", mhim_shapes(gated=False)),
        ("mhim-abmil", mhim_shapes(gated=True, biases=True)),
    ],
)
def test_each_missing_key_is_named(name, shapes):
    check_that_each_missing_key_is_named(name, drawn(shapes))


def test_what_a_network_has_too_much_is_told_as_that():
    state = drawn(clam_shapes(2, many=True)) | {"instance_classifiers.5.weight": torch.zeros(2, 512)}
    with pytest.raises(UsageError, match="missing nothing; unexpected instance_classifiers.5.weight"):
        dtcwsi.load_official("clam-mb", state)


def test_keys_that_are_left_out_do_not_hide_whose_weights_they_are():
    state = drawn(clam_shapes(6, many=False))
    del state["classifiers.weight"]
    with pytest.raises(UsageError, match="of CLAM's ABMIL lacks classifiers.weight; expected the whole"):
        dtcwsi.load_official("abmil", state)


@pytest.mark.parametrize("name", ["clam-sb", "clam-mb", "abmil"])
def test_a_gate_that_is_gone_is_not_taken_for_a_network_without(name):
    state = drawn(clam_shapes(2, many=name == "clam-mb"))
    ungated = {key: tensor for key, tensor in state.items() if "attention_b" not in key}
    lost = r"attention_net.3.attention_b.0.bias, attention_net.3.attention_b.0.weight"
    with pytest.raises(UsageError, match=f"missing {lost}; unexpected nothing"):
        dtcwsi.load_official(name, ungated)
    if name == "abmil":
        plain = {key: tensor for key, tensor in state.items() if not ("attention_" in key and "bias" in key)}
        with pytest.raises(UsageError, match=r"missing .*, attention_net.3.attention_a.0.bias, .*; unexpected nothing"):
            dtcwsi.load_official(name, plain)


def test_weights_that_are_no_state_dict_of_numbers_are_told():
    state = drawn(dsmil_shapes(2, values=False))
    whole = {key: one.int() if "fcc.bias" in key else one for key, one in state.items()}
    with pytest.raises(UsageError, match="does not fit dsmil: b_classifier.fcc.bias of torch.int32"):
        dtcwsi.load_official("dsmil", whole)
    broken = {**state, "b_classifier.fcc.bias": torch.tensor([0.0, float("nan")])}
    with pytest.raises(UsageError, match=r"NaN or infinite numbers in b_classifier.fcc.bias; expected finite weights"):
        dtcwsi.load_official("dsmil", broken)


@pytest.mark.parametrize("strange", [torch.zeros(2, 2).to_sparse(), torch.zeros(2, device="meta")])
def test_tensors_without_plain_numbers_are_refused(strange):
    state = drawn(dsmil_shapes(2, values=False)) | {"b_classifier.fcc.bias": strange}
    with pytest.raises(UsageError, match=r"quantised, sparse or empty .*b_classifier.fcc.bias; expected dense numbers"):
        dtcwsi.load_official("dsmil", state)


@pytest.mark.parametrize("name", ["clam-sb", "clam-mb", "dsmil", "transmil"])
@pytest.mark.parametrize("number", [torch.tensor(1.0), torch.zeros(3, dtype=torch.float8_e4m3fn)])
def test_weights_of_any_shape_are_refused_in_words(name, number):
    shapes = {"dsmil": dsmil_shapes(2, values=False), "transmil": transmil_shapes()}
    state = drawn(shapes.get(name, clam_shapes(2, many=name == "clam-mb")))
    for key in state:
        with pytest.raises(UsageError, match="the state dict"):
            dtcwsi.load_official(name, {**state, key: number})


def test_two_weights_for_one_layer_are_refused():
    state = drawn(clam_shapes(2, many=False))
    with pytest.raises(
        UsageError, match=r"several weights for one layer: classifiers.bias and module.classifiers.bias"
    ):
        dtcwsi.load_official("clam-sb", {**state, "module.classifiers.bias": torch.zeros(2)})
    state = drawn(dsmil_shapes(2, values=False))
    twice = {**state, "i_classifier.fc.weight": torch.zeros(2, DIM)}
    with pytest.raises(UsageError, match=r"one layer: i_classifier.fc.0.weight and i_classifier.fc.weight"):
        dtcwsi.load_official("dsmil", twice)


def test_what_lies_beside_a_model_in_a_checkpoint_is_listed():
    state = {f"model.{key}": tensor for key, tensor in drawn(transmil_shapes()).items()}
    with pytest.raises(UsageError, match="missing nothing; unexpected loss.weight"):
        dtcwsi.load_official("transmil", {**state, "loss.weight": torch.ones(2)})
    with pytest.raises(UnknownNameError, match="no published weights are known for"):
        dtcwsi.load_official(["transmil"], state)


@pytest.mark.parametrize("name", ["clam-mb", "dsmil", "transmil"])
def test_the_method_whose_keys_fit_best_is_named(name):
    with pytest.raises(UsageError, match="this looks like a CLAM-SB checkpoint"):
        dtcwsi.load_official(name, drawn(clam_shapes(2, many=False)))
