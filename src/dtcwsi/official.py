"""Weights of the methods' published implementations: their key names in, a model of this library out."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from dtcwsi.classifier import Classifier, create_model
from dtcwsi.errors import UnknownNameError, UsageError
from dtcwsi.registry import near

__all__ = ["load_official"]

State = dict[str, Tensor]


@dataclass(frozen=True)
class _Published:
    """How one implementation names things.

    ``title`` is what people call it; ``telltale`` matches a key that it alone has; ``names`` turn its keys into ours,
    the first match decides; keys that match ``ignored`` are left out; ``options`` reads sizes off our keys.
    """

    title: str
    telltale: str
    names: tuple[tuple[str, str], ...]
    options: Callable[[State], dict[str, Any]]
    ignored: str = r"$^"

    def owns(self, state: State) -> bool:
        """Say whether the keys look like this implementation's."""
        return any(re.fullmatch(self.telltale, key) for key in state)

    def renamed(self, key: str) -> str | None:
        """Give our name of a key, None if it has none."""
        for pattern, ours in self.names:
            found = re.fullmatch(pattern, key)
            if found:
                return f"aggregator.{found.expand(ours)}"
        return None


def _clam_options(state: State) -> dict[str, Any]:
    width, in_dim = state["aggregator.projection.0.weight"].shape
    return {
        "in_dim": in_dim,
        "n_classes": _classes_of_clam(state),
        "projection": width,
        "hidden": state["aggregator.attention.hidden.weight"].shape[0],
        "gated": "aggregator.attention.gate.weight" in state,
    }


def _classes_of_clam(state: State) -> int:
    if "aggregator.head.weight" in state:
        return state["aggregator.head.weight"].shape[0]
    return sum(bool(re.fullmatch(r"aggregator\.heads\.\d+\.weight", key)) for key in state)


def _abmil_options(state: State) -> dict[str, Any]:
    return {**_clam_options(state), "attention_bias": "aggregator.attention.hidden.bias" in state}


def _mhim_options(state: State) -> dict[str, Any]:
    return {**_abmil_options(state), "activation": "relu"}


def _transmil_options(state: State) -> dict[str, Any]:
    width, in_dim = state["aggregator.projection.0.weight"].shape
    return {
        "in_dim": in_dim,
        "n_classes": state["aggregator.head.weight"].shape[0],
        "width": width,
        "heads": state["aggregator.first.convolution.weight"].shape[0],
    }


def _dsmil_options(state: State) -> dict[str, Any]:
    n_classes, in_dim = state["aggregator.instance_head.weight"].shape
    return {
        "in_dim": in_dim,
        "n_classes": n_classes,
        "queries": state["aggregator.query.0.weight"].shape[0],
        "values": any(key.startswith("aggregator.value.") for key in state),
    }


_CLAM_NAMES = (
    (r"attention_net\.0\.(weight|bias)", r"projection.0.\1"),
    (r"attention_net\.[23]\.attention_a\.0\.(weight|bias)", r"attention.hidden.\1"),
    (r"attention_net\.[23]\.attention_b\.0\.(weight|bias)", r"attention.gate.\1"),
    (r"attention_net\.[23]\.attention_c\.(weight|bias)", r"attention.score.\1"),
    (r"attention_net\.[23]\.module\.0\.(weight|bias)", r"attention.hidden.\1"),
    (r"attention_net\.[23]\.module\.[23]\.(weight|bias)", r"attention.score.\1"),
    (r"classifiers\.(\d+)\.(weight|bias)", r"heads.\1.\2"),
    (r"classifiers\.(weight|bias)", r"head.\1"),
    (r"instance_classifiers\.(\d+)\.(weight|bias)", r"instance_heads.\1.\2"),
)

_MHIM_NAMES = (
    (r"patch_to_emb\.0\.(weight|bias)", r"projection.0.\1"),
    (r"online_encoder\.attention\.attention\.0\.weight", r"attention.hidden.weight"),
    (r"online_encoder\.attention\.attention\.2\.weight", r"attention.score.weight"),
    (r"online_encoder\.attention\.attention_a\.0\.weight", r"attention.hidden.weight"),
    (r"online_encoder\.attention\.attention_b\.0\.weight", r"attention.gate.weight"),
    (r"online_encoder\.attention\.attention_c\.weight", r"attention.score.weight"),
    (r"predictor\.(weight|bias)", r"head.\1"),
)

_DSMIL_NAMES = (
    (r"i_classifier\.fc\.(?:0\.)?(weight|bias)", r"instance_head.\1"),
    (r"b_classifier\.q\.([02])\.(weight|bias)", r"query.\1.\2"),
    (r"b_classifier\.v\.1\.(weight|bias)", r"value.1.\1"),
    (r"b_classifier\.fcc\.(weight|bias)", r"head.\1"),
)

_TRANSMIL_NAMES = (
    (r"_fc1\.0\.(weight|bias)", r"projection.0.\1"),
    (r"cls_token", r"class_token"),
    (r"pos_layer\.proj\.(weight|bias)", r"positions.0.\1"),
    (r"pos_layer\.proj([12])\.(weight|bias)", r"positions.\1.\2"),
    (r"layer1\.norm\.(weight|bias)", r"first_norm.\1"),
    (r"layer2\.norm\.(weight|bias)", r"second_norm.\1"),
    (r"layer1\.attn\.to_qkv\.weight", r"first.qkv.weight"),
    (r"layer2\.attn\.to_qkv\.weight", r"second.qkv.weight"),
    (r"layer1\.attn\.to_out\.0\.(weight|bias)", r"first.out.\1"),
    (r"layer2\.attn\.to_out\.0\.(weight|bias)", r"second.out.\1"),
    (r"layer1\.attn\.res_conv\.weight", r"first.convolution.weight"),
    (r"layer2\.attn\.res_conv\.weight", r"second.convolution.weight"),
    (r"norm\.(weight|bias)", r"norm.\1"),
    (r"_fc2\.(weight|bias)", r"head.\1"),
)

_LOSS, _INSTANCES = r"instance_loss_fn\..*", r"instance_(classifiers|loss_fn)\..*"
_PUBLISHED = {
    "clam-sb": (_Published("CLAM-SB", r"classifiers\.weight", _CLAM_NAMES, _clam_options, _LOSS),),
    "clam-mb": (_Published("CLAM-MB", r"classifiers\.\d+\.weight", _CLAM_NAMES, _clam_options, _LOSS),),
    "dsmil": (
        _Published(
            "DSMIL", r"b_classifier\.fcc\.weight", _DSMIL_NAMES, _dsmil_options, r"i_classifier\.feature_extractor\..*"
        ),
    ),
    "transmil": (_Published("TransMIL", r"pos_layer\.proj2\.weight", _TRANSMIL_NAMES, _transmil_options),),
    "abmil": (
        _Published("CLAM's ABMIL", r"classifiers\.weight", _CLAM_NAMES, _abmil_options, _INSTANCES),
        _Published("MHIM's ABMIL", r"online_encoder\.attention\..*", _MHIM_NAMES, _mhim_options),
    ),
}


def load_official(name: str, state_dict: Mapping[str, Tensor], **settings: Any) -> Classifier:
    """Build a model with the weights of its published implementation, in evaluation mode.

    ``state_dict`` has the published key names, with or without the ``module.`` of parallel training; sizes are read
    from its shapes, other ``settings`` are options of the model. A classifier of one class (a single sigmoid) has no
    counterpart here.
    Raises: UnknownNameError if no published names are known for the model; UsageError if it is no state dict, the keys
    are another method's, or some are missing or unexpected; OptionError if a setting is unknown.
    """
    if name not in _PUBLISHED:
        raise UnknownNameError(f"no published weights are known for {name!r}; near names: {near(name, _PUBLISHED)}")
    _check_state(state_dict)
    given = {key.removeprefix("module."): tensor for key, tensor in state_dict.items()}
    published = _kind(name, given)
    kept = {key: tensor for key, tensor in given.items() if not re.fullmatch(published.ignored, key)}
    names = {key: published.renamed(key) for key in kept}
    state = {ours: kept[key] for key, ours in names.items() if ours is not None}
    unexpected = sorted(key for key, ours in names.items() if ours is None)
    try:
        options = published.options(state)
    except (KeyError, ValueError) as error:
        raise UsageError(
            f"the state dict of {published.title} lacks weights or has them in another shape ({error}); expected all"
        ) from error
    if options["n_classes"] < 2:
        raise UsageError(
            f"the state dict of {published.title} is of {options['n_classes']} classes; expected 2 or more"
        )
    model = create_model(name, **{**options, **settings})
    wanted = model.state_dict()
    missing = sorted(set(wanted) - set(state))
    unexpected += sorted(set(state) - set(wanted))
    if missing or unexpected:
        raise UsageError(
            f"the state dict does not fit {name}: missing {', '.join(missing) or 'nothing'}; "
            f"unexpected {', '.join(unexpected) or 'nothing'}"
        )
    shapes = {key: (tuple(state[key].shape), tuple(wanted[key].shape)) for key in state}
    wrong = [f"{key} {got} for {expected}" for key, (got, expected) in shapes.items() if got != expected]
    if wrong:
        raise UsageError(f"the state dict does not fit {name}: {'; '.join(wrong)}")
    model.load_state_dict(state)
    return model.eval()


def _check_state(state_dict: object) -> None:
    """Refuse what is no mapping of names to tensors.  Raises: UsageError."""
    if not isinstance(state_dict, Mapping):
        raise UsageError(f"got {type(state_dict).__name__}; expected a state dict, such as torch.load(path) gives")
    for key, tensor in state_dict.items():
        if not isinstance(key, str) or not isinstance(tensor, Tensor):
            raise UsageError(
                f"got {type(tensor).__name__} under {key!r}; expected a tensor under every name of the state dict"
            )


def _kind(name: str, state: State) -> _Published:
    """Tell which implementation the weights are of.  Raises: UsageError naming the one of another method."""
    for published in _PUBLISHED[name]:
        if published.owns(state):
            return published
    others = [published for several in _PUBLISHED.values() for published in several if published.owns(state)]
    looks = f"this looks like a {others[0].title} checkpoint" if others else f"got keys such as {sorted(state)[:3]}"
    wanted = " or ".join(published.title for published in _PUBLISHED[name])
    raise UsageError(f"the state dict is not one of {wanted}: {looks}")
