"""DSMIL's network (binli123/dsmil-wsi)."""

from typing import Any

from dtcwsi.official.published import Published, State, sizes_of

__all__ = ["DSMIL"]

_DSMIL_NAMES = (
    (r"i_classifier\.fc\.(?:0\.)?(weight|bias)", r"instance_head.\1"),
    (r"b_classifier\.q\.([02])\.(weight|bias)", r"query.\1.\2"),
    (r"b_classifier\.v\.1\.(weight|bias)", r"value.1.\1"),
    (r"b_classifier\.fcc\.(weight|bias)", r"head.\1"),
)


def _dsmil_options(state: State) -> dict[str, Any]:
    n_classes, in_dim = sizes_of(state, "aggregator.instance_head.weight")
    return {
        "in_dim": in_dim,
        "n_classes": n_classes,
        "queries": sizes_of(state, "aggregator.query.0.weight")[0],
        "values": any(key.startswith("aggregator.value.") for key in state),
    }


DSMIL = Published(
    "DSMIL",
    r"b_classifier\.fcc\.weight",
    _DSMIL_NAMES,
    _dsmil_options,
    r"i_classifier\.feature_extractor\..*",
    foreign=((r"b_classifier\.q\.(weight|bias)", "queries by a linear map (nonlinear=False)"),),
)
