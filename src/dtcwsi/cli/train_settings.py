"""What `train` is asked for: options of the command line over those of a YAML file."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from dtcwsi.errors import OptionError, UsageError
from dtcwsi.options import one_of
from dtcwsi.registry import near

if TYPE_CHECKING:
    from dtcwsi.training.search import Search

__all__ = ["KNOWN", "assignments", "read_config", "required", "search_of", "texts", "trackers_of"]

_TEXTS = ("features", "labels", "model", "recipe", "group", "class_weights", "out", "device")
_NUMBERS: dict[str, type[int] | type[float]] = {
    "folds": int,
    "epochs": int,
    "seed": int,
    "batch_size": int,
    "retention": float,
    "lr": float,
    "weight_decay": float,
    "patience": int,
    "max_tokens": int,
    "pretrain_steps": int,
    "devices": int,
    "trials": int,
}
_OF_TRAIN = {*_TEXTS, *_NUMBERS} - {"retention", "seed"}  # these two are options of models too
KNOWN = (*_TEXTS, *_NUMBERS, "splits", "track", "set", "search")


def required(settings: dict[str, Any], name: str) -> Any:
    """Give a setting that nothing stands in for.  Raises: UsageError if it is not there."""
    if settings.get(name) is None:
        raise UsageError(f"--{name} is missing; expected a path, here or in the --config file")
    return settings[name]


def read_config(path: Path) -> dict[str, Any]:
    """Read options from YAML, each of its type.  Raises: UsageError or OptionError naming what is wrong."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"the config {path} cannot be read ({reason}); expected YAML such as 'epochs: 60'") from error
    if not isinstance(content, dict):
        raise UsageError(f"the config {path} holds {type(content).__name__}; expected options such as 'epochs: 60'")
    content = {str(name).replace("-", "_"): value for name, value in content.items()}
    for name in content:
        if name not in KNOWN:
            raise OptionError(
                f"the config {path} has the unknown option {name!r}; near options: {near(name, KNOWN)}; the model's "
                "own go under 'set:', such as 'set: {lam: 0.7}'"
            )
    return {name: _config_value(path, name, value) for name, value in content.items()}


def _config_value(path: Path, name: str, value: Any) -> Any:
    """Check a config entry's type, and turn text into a number where one belongs: to YAML 1e-3 is text."""
    if value is None:
        raise OptionError(f"the config {path} gives no value for {name!r}; fill it in or take the line out")
    if name in ("set", "search"):
        if not isinstance(value, dict):
            example = "{lam: 0.7}" if name == "set" else "{lam: '0:1'}"
            raise OptionError(f"the config {path} has {name}={value!r}; expected options such as '{name}: {example}'")
        return {str(option).replace("-", "_"): setting for option, setting in value.items()}
    if name in ("splits", "track"):
        return [str(entry) for entry in (value if isinstance(value, list) else [value])]
    if name in _TEXTS and not isinstance(value, str):
        raise OptionError(f"the config {path} has {name}={value!r}; expected text, in quotes if it looks like a number")
    return _config_number(path, name, value) if name in _NUMBERS else value


def _config_number(path: Path, name: str, value: Any) -> int | float:
    wanted = _NUMBERS[name]
    expected = "a whole number" if wanted is int else "a number"
    try:
        number = wanted(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise OptionError(f"the config {path} has {name}={value!r}; expected {expected}") from error
    if isinstance(value, bool) or (isinstance(value, float) and wanted is int):
        raise OptionError(f"the config {path} has {name}={value!r}; expected {expected}")
    return number


def assignments(flag: str, pairs: list[str]) -> dict[str, Any]:
    """Read OPTION=VALUE, the values as in YAML, or None as `dtcwsi models` prints it.

    Raises: OptionError naming a pair that is none.
    """
    options = {}
    for name, value in texts(flag, pairs).items():
        try:
            options[name] = None if value == "None" else yaml.safe_load(value)
        except (ValueError, yaml.YAMLError) as error:
            raise OptionError(
                f"got --{flag} {f'{name}={value}'!r}; expected a value as in YAML, such as --{flag} lam=0.7"
            ) from error
    return options


def texts(flag: str, pairs: list[str]) -> dict[str, str]:
    """Cut OPTION=VALUE in two.  Raises: OptionError naming a pair that is none."""
    options = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            example = (
                "OPTION=VALUE, such as --set lam=0.7" if flag == "set" else "OPTION=VALUES, such as --search lam=0:1"
            )
            raise OptionError(f"got --{flag} {pair!r}; expected {example}")
        name = name.strip().replace("-", "_")
        if name in options or not value.strip():
            what = f"{name} twice" if name in options else f"{name} without a value"
            raise OptionError(f"got --{flag} {what}; expected each option once, with its value")
        if flag == "set" and name in _OF_TRAIN:
            raise OptionError(f"got --set {name}; it is no option of a model but of train: --{name.replace('_', '-')}")
        options[name] = value
    return options


def trackers_of(names: list[str] | None) -> list[str]:
    """Name the trackers asked for: TensorBoard if none is.  Raises: OptionError for one that is none of them."""
    from dtcwsi.training.tracking import TRACKERS

    if names is None:
        return ["tensorboard"]
    for name in names:
        one_of("track", name, (*TRACKERS, "none"))
    if "none" in names and len(names) > 1:
        raise OptionError(f"got --track {' --track '.join(names)}; none goes with no other")
    return [name for name in names if name != "none"]


def search_of(space: dict[str, Any], trials: int | None) -> "Search | None":
    """Make a search of the spaces given, or none.  Raises: OptionError for a space or a number that is none."""
    from dtcwsi.training.search import Search, values_of

    if not space:
        if trials is not None:
            raise OptionError("got --trials without --search; expected what to search, such as --search lam=0:1")
        return None
    read = {name: values_of(name, text) for name, text in space.items()}
    return Search(read) if trials is None else Search(read, trials)
