"""Classifiers from names and from folders."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from dtcwsi.aggregators import AGGREGATORS, create_aggregator
from dtcwsi.catalog import only, parts_of
from dtcwsi.classifier import Classifier
from dtcwsi.compressors import COMPRESSORS, PLAIN, create_compressor
from dtcwsi.compressors.stages import StagedCompressor
from dtcwsi.errors import OptionError, UsageError
from dtcwsi.model_folder import WEIGHTS, package_versions, read_card, read_weights, written_by
from dtcwsi.options import check_options, check_whole_number, options_of, plain

__all__ = ["create_model", "load", "with_retention"]


def create_model(name: str, *, in_dim: int, n_classes: int, **options: Any) -> Classifier:
    """Build a model by name: an aggregator, or a compressor's name, a hyphen and an aggregator's.

    The aggregator's weights are drawn first, so that under one seed ``X`` and ``dtc-X`` start from the same ones.
    Raises: UnknownNameError if there is no such model; OptionError if it does not take an option.
    """
    options = plain(options)
    if not isinstance(name, str):
        raise OptionError(
            f"got a model name of type {type(name).__name__}; expected a string, see dtcwsi.list_models()"
        )
    compressor_name, aggregator_name = parts_of(name)
    for_compressor = options_of(COMPRESSORS.get(compressor_name))
    for_aggregator = options_of(AGGREGATORS.get(aggregator_name))
    if compressor_name == PLAIN:
        _refuse_compression(name, options, for_aggregator)
    check_options(f"model {name!r}", options, {**for_compressor, **for_aggregator})
    check_whole_number("in_dim", in_dim)
    check_whole_number("n_classes", n_classes, least=2)
    aggregator = create_aggregator(aggregator_name, in_dim=in_dim, n_classes=n_classes, **only(options, for_aggregator))
    compressor = create_compressor(compressor_name, dim=in_dim, **only(options, for_compressor))
    given = {**for_aggregator, **options, **only(compressor.settings, for_compressor)}
    return Classifier(name, compressor, aggregator, in_dim=in_dim, n_classes=n_classes, options=given)


def load(folder: str | Path) -> Classifier:
    """Read a model that `Classifier.save` wrote, in evaluation mode on the CPU; nothing in it is executed.

    Raises: UsageError if the folder holds no model, or one that this version cannot build.
    """
    folder = Path(folder)
    card = read_card(folder)
    try:
        model = create_model(card["name"], in_dim=card["in_dim"], n_classes=card["n_classes"], **card["options"])
    except UsageError as error:
        raise UsageError(f"{folder} cannot be built ({error}); {_remedy(card)}") from error
    try:
        model.load_state_dict(read_weights(folder))
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"{folder / WEIGHTS} cannot be loaded ({reason}); {_remedy(card)}") from error
    model.describe_classes(card["class_names"], card["class_shares"])
    return model.eval()


def _remedy(card: dict[str, Any]) -> str:
    written, here = written_by(card), package_versions()["dtcwsi"]
    if written in (None, here):
        return "train or copy the model again"
    return f"it was saved by dtcwsi {written} and this is {here}: load it with dtcwsi {written}, or train again"


def with_retention(model: Classifier, retention: float) -> Classifier:
    """Copy a model with another final share of tokens and the same weights.

    Stages are as many, evenly spaced; more where a stage at most halves the tokens (merging) and the share asks for it.

    Returns: a model in evaluation mode on the device of the other.
    Raises: OptionError if the model does not compress, follows a threshold, or the share is not above 0 and at most 1.
    """
    compressor = model.compressor
    if not isinstance(compressor, StagedCompressor):
        raise OptionError(f"{model.name} does not compress, so it has no other retention; use 'dtc-{model.name}'")
    if compressor.settings.get("budget") == "threshold":
        raise OptionError(f"this {model.name} keeps what is above its threshold, so a retention changes nothing")
    options = {**model.options, "retention": retention, "schedule": None, "stages": len(compressor.shares)}
    with torch.random.fork_rng(devices=[]):  # weights are drawn and thrown away
        other = create_model(model.name, in_dim=model.in_dim, n_classes=model.n_classes, **options)
    other.load_state_dict(model.state_dict())
    other.describe_classes(model.class_names, model.class_shares)
    return other.to(next(model.parameters()).device).eval()


def _refuse_compression(name: str, options: dict[str, Any], own: dict[str, Any]) -> None:
    for compressor in COMPRESSORS:
        taken = [
            option for option in options if option not in own and option in options_of(COMPRESSORS.get(compressor))
        ]
        if taken:
            raise OptionError(
                f"model {name!r} does not compress and takes no option {taken[0]!r}; use '{compressor}-{name}'"
            )
