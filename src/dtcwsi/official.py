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
        "n_classes": sum(bool(re.fullmatch(r"aggregator\.instance_heads\.\d+\.weight", key)) for key in state),
        "projection": width,
        "hidden": state["aggregator.attention.tanh.weight"].shape[0],
        "gated": "aggregator.attention.gate.weight" in state,
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
    (r"attention_net\.[23]\.attention_a\.0\.(weight|bias)", r"attention.tanh.\1"),
    (r"attention_net\.[23]\.attention_b\.0\.(weight|bias)", r"attention.gate.\1"),
    (r"attention_net\.[23]\.attention_c\.(weight|bias)", r"attention.score.\1"),
    (r"attention_net\.[23]\.module\.0\.(weight|bias)", r"attention.tanh.\1"),
    (r"attention_net\.[23]\.module\.[23]\.(weight|bias)", r"attention.score.\1"),
    (r"classifiers\.(\d+)\.(weight|bias)", r"heads.\1.\2"),
    (r"classifiers\.(weight|bias)", r"head.\1"),
    (r"instance_classifiers\.(\d+)\.(weight|bias)", r"instance_heads.\1.\2"),
)

_PUBLISHED = {
    "clam-sb": _Published("CLAM-SB", r"classifiers\.weight", _CLAM_NAMES, _clam_options, r"instance_loss_fn\..*"),
    "clam-mb": _Published("CLAM-MB", r"classifiers\.\d+\.weight", _CLAM_NAMES, _clam_options, r"instance_loss_fn\..*"),
    "dsmil": _Published(
        "DSMIL",
        r"b_classifier\.fcc\.weight",
        (
            (r"i_classifier\.fc\.(?:0\.)?(weight|bias)", r"instance_head.\1"),
            (r"b_classifier\.q\.([02])\.(weight|bias)", r"query.\1.\2"),
            (r"b_classifier\.v\.1\.(weight|bias)", r"value.1.\1"),
            (r"b_classifier\.fcc\.(weight|bias)", r"head.\1"),
        ),
        _dsmil_options,
        r"i_classifier\.feature_extractor\..*",
    ),
}


def load_official(name: str, state_dict: Mapping[str, Tensor], **settings: Any) -> Classifier:
    """Build a model with the weights of its published implementation, in evaluation mode.

    ``state_dict`` has the published key names, with or without the ``module.`` of parallel training; sizes are read
    from its shapes, other ``settings`` are options of the model.
    Raises: UnknownNameError if no published names are known for the model; UsageError if the keys are another
    method's, or some are missing or unexpected.
    """
    if name not in _PUBLISHED:
        raise UnknownNameError(f"no published weights are known for {name!r}; near names: {near(name, _PUBLISHED)}")
    published = _PUBLISHED[name]
    given = {key.removeprefix("module."): tensor for key, tensor in state_dict.items()}
    _check_kind(name, given)
    kept = {key: tensor for key, tensor in given.items() if not re.fullmatch(published.ignored, key)}
    names = {key: published.renamed(key) for key in kept}
    state = {ours: kept[key] for key, ours in names.items() if ours is not None}
    unexpected = sorted(key for key, ours in names.items() if ours is None)
    try:
        options = published.options(state)
    except KeyError as error:
        raise UsageError(
            f"the state dict of {published.title} lacks the weights that are called {error} here; expected all of them"
        ) from error
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


def _check_kind(name: str, state: State) -> None:
    """Refuse the weights of another method by its name."""
    kinds = [
        (other, published.title)
        for other, published in _PUBLISHED.items()
        if any(re.fullmatch(published.telltale, key) for key in state)
    ]
    if name in [other for other, _ in kinds]:
        return
    looks = f"this looks like a {kinds[0][1]} checkpoint" if kinds else f"got keys such as {sorted(state)[:3]}"
    raise UsageError(f"the state dict is not one of {_PUBLISHED[name].title}: {looks}")
