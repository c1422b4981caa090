"""The options of dynamic token compression, and the two presets that decide those not given."""

from collections.abc import Mapping
from typing import Any

from dtcwsi.compressors.matching import MATCHINGS
from dtcwsi.compressors.ordering import ORDERS
from dtcwsi.compressors.position import POSITIONS
from dtcwsi.compressors.schedule import budget_of
from dtcwsi.errors import OptionError
from dtcwsi.options import check_number, check_switch, check_whole_number, one_of

__all__ = ["DEFAULT", "MERGING", "PRESETS", "settle"]

DEFAULT: dict[str, Any] = {
    "merge_share": 0.25,
    "lam": 0.5,
    "gamma": 4.0,
    "tau": 0.0,
    "beta": 1.0,
    "pairs": "budget",
    "matching": "aligned",
    "window": 4,
    "merge_by": "score",
    "learn_merge": False,
    "gap": "sigmoid",
    "similarity": "features",
    "ranking": "score",
    "gate": "survivors",
    "size_bias": True,
    "budget": "ratio",
    "order": "hilbert",
    "position": "none",
    "curriculum": 0.5,
    "scorer_width": 64,
    "scorer_norm": True,
    "flat_start": True,
    "exact_ranking": True,
    "teach": 0.1,
    "second_look": True,
}

PAPER: dict[str, Any] = {
    **DEFAULT,
    "schedule": [0.74, 0.74, 0.74],
    "merge_share": 1.0,
    "gamma": 10.0,
    "beta": 0.01,
    "learn_merge": True,
    "gap": "softmax",
    "ranking": "printed",
    "gate": "printed",
    "size_bias": False,
    "order": "raster",
    "curriculum": 0.0,
    "scorer_norm": False,
    "flat_start": False,
    "teach": 0.0,
    "second_look": False,
}

PRESETS = {"default": DEFAULT, "paper": PAPER}

_CHOICES = {
    "pairs": ("budget", "all"),
    "matching": MATCHINGS,
    "merge_by": ("score", "size", "mass"),
    "gap": ("sigmoid", "softmax"),
    "similarity": ("features", "scorer"),
    "ranking": ("score", "mass", "random", "printed"),
    "gate": ("survivors", "printed", "none"),
    "budget": ("ratio", "threshold"),
    "order": ORDERS,
    "position": POSITIONS,
}
MERGING = ("merge_share", "lam", "pairs", "matching", "window", "merge_by", "learn_merge", "gap", "similarity")
_SHARES = ("merge_share", "lam", "curriculum")
_AMOUNTS = ("gamma", "beta", "teach")
_SWITCHES = ("learn_merge", "size_bias", "scorer_norm", "flat_start", "exact_ranking", "second_look")


def settle(preset: str, given: Mapping[str, Any], fixed: Mapping[str, Any]) -> dict[str, Any]:
    """Decide every option: what a compressor has ``fixed``, else what was given, else the preset's.

    ``given`` holds None for options not given. Raises: OptionError if a value is out of range or unknown.
    """
    values = dict(PRESETS[one_of("preset", preset, PRESETS)])
    schedule = values.pop("schedule", None)
    budget = {name: given[name] for name in ("retention", "schedule", "stages")}
    if all(value is None for value in budget.values()):
        budget["schedule"] = schedule
    budget = budget_of(**budget)
    before = dict(values)
    values |= {name: given[name] for name in values if given.get(name) is not None} | dict(fixed)
    _check(values)
    _refuse_idle(values, before)
    return {"preset": preset, **budget, **values}


def _refuse_idle(values: Mapping[str, Any], preset: Mapping[str, Any]) -> None:
    """Refuse options that others leave without effect, unless they are as in the preset."""
    if values["window"] != preset["window"] and values["matching"] != "window":
        raise OptionError(
            f"got window={values['window']} with matching={values['matching']!r}; add matching='window' or leave it out"
        )
    for name in ("gamma", "tau", "beta"):
        if values[name] != preset[name] and values["budget"] != "threshold" and values["gate"] != "printed":
            raise OptionError(f"got {name}={values[name]} with budget='ratio'; add budget='threshold' or leave it out")


def _check(values: Mapping[str, Any]) -> None:
    for name, known in _CHOICES.items():
        one_of(name, values[name], known)
    for name in _SHARES:
        check_number(name, values[name], lambda share: 0 <= share <= 1, "a number from 0 to 1")
    for name in _AMOUNTS:
        check_number(name, values[name], lambda amount: amount >= 0, "a number from 0 on")
    check_number("tau", values["tau"], lambda tau: True, "a number")
    for name in _SWITCHES:
        check_switch(name, values[name])
    check_whole_number("window", values["window"], least=2)
    check_whole_number("scorer_width", values["scorer_width"])
