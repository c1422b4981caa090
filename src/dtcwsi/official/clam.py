"""CLAM's networks (mahmoodlab/CLAM): single branch, multi branch, and its plain ABMIL."""

from typing import Any

from dtcwsi.official.published import Published, State, sizes_of

__all__ = ["ABMIL", "CLAM_MB", "CLAM_SB", "attention_options"]

_CLAM_NAMES = (
    (r"attention_net\.0\.(weight|bias)", r"projection.0.\1"),
    (r"attention_net\.[32]\.attention_a\.0\.(weight|bias)", r"attention.hidden.\1"),
    (r"attention_net\.[32]\.attention_b\.0\.(weight|bias)", r"attention.gate.\1"),
    (r"attention_net\.[32]\.attention_c\.(weight|bias)", r"attention.score.\1"),
    (r"attention_net\.[32]\.module\.0\.(weight|bias)", r"attention.hidden.\1"),
    (r"attention_net\.[32]\.module\.[32]\.(weight|bias)", r"attention.score.\1"),
    (r"classifiers\.(\d+)\.(weight|bias)", r"heads.\1.\2"),
    (r"classifiers\.(weight|bias)", r"head.\1"),
    (r"instance_classifiers\.(\d+)\.(weight|bias)", r"instance_heads.\1.\2"),
)


_LAYERS = ("a.0.weight", "a.0.bias", "b.0.weight", "b.0.bias", "c.weight", "c.bias")
_TOGETHER = ((r"(attention_net\.[32])\.attention_[abc]\..*", tuple(rf"\1.attention_{layer}" for layer in _LAYERS)),)


def attention_options(state: State) -> dict[str, Any]:
    """Read the sizes of a projection and its attention off our keys."""
    width, in_dim = sizes_of(state, "aggregator.projection.0.weight")
    return {
        "in_dim": in_dim,
        "projection": width,
        "hidden": sizes_of(state, "aggregator.attention.hidden.weight")[0],
        "gated": any(key.startswith("aggregator.attention.gate.") for key in state),
    }


def _single(state: State) -> dict[str, Any]:
    return {**attention_options(state), "n_classes": sizes_of(state, "aggregator.head.weight")[0]}


def _many(state: State) -> dict[str, Any]:
    return {**attention_options(state), "n_classes": sizes_of(state, "aggregator.attention.score.weight")[0]}


def _abmil(state: State) -> dict[str, Any]:
    return {**_single(state), "attention_bias": True}


_LOSS, _INSTANCES = r"instance_loss_fn\..*", r"instance_(classifiers|loss_fn)\..*"
CLAM_SB = Published("CLAM-SB", r"classifiers\.weight", _CLAM_NAMES, _single, _LOSS, together=_TOGETHER)
CLAM_MB = Published("CLAM-MB", r"classifiers\.\d+\.weight", _CLAM_NAMES, _many, _LOSS, together=_TOGETHER)
ABMIL = Published("CLAM's ABMIL", r"classifiers\.weight", _CLAM_NAMES, _abmil, _INSTANCES, together=_TOGETHER)
