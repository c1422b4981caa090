"""What models there are: the parts, options and words of each name."""

import inspect
from typing import Any

from dtcwsi.aggregators import AGGREGATORS
from dtcwsi.compressors import COMPRESSORS, PLAIN, create_compressor
from dtcwsi.errors import UnknownNameError
from dtcwsi.options import options_of
from dtcwsi.recipe import TrainingRecipe
from dtcwsi.registry import near

__all__ = [
    "compressor_options",
    "list_models",
    "model_options",
    "model_recipe",
    "model_text",
    "needs_whole_batches",
    "only",
    "parts_of",
]


def list_models() -> list[str]:
    """Name every model, plain and compressed, sorted."""
    prefixed = [f"{compressor}-{name}" for compressor in COMPRESSORS if compressor != PLAIN for name in AGGREGATORS]
    return sorted([*AGGREGATORS, *prefixed])


def model_options(name: str) -> dict[str, Any]:
    """List the options that a model takes and their defaults.  Raises: UnknownNameError if there is no such model."""
    compressor_name, aggregator_name = parts_of(name)
    return {**compressor_options(compressor_name), **options_of(AGGREGATORS.get(aggregator_name))}


def compressor_options(name: str) -> dict[str, Any]:
    """List the options that a compressor adds to those of the model behind it, and their defaults.

    Raises: UnknownNameError if there is no such compressor.
    """
    taken = options_of(COMPRESSORS.get(name))
    return {**taken, **only(create_compressor(name, dim=1).settings, taken)}


def model_text(name: str) -> str:
    """Say what a model is and what its options mean: the words of its compressor and of its aggregator.

    Raises: UnknownNameError if there is no such model.
    """
    compressor_name, aggregator_name = parts_of(name)
    compressor = [] if compressor_name == PLAIN else [COMPRESSORS.get(compressor_name)]
    told = [kind for part in (*compressor, AGGREGATORS.get(aggregator_name)) for kind in _options_told_by(part)]
    return "\n\n".join(inspect.cleandoc(kind.__doc__ or "") for kind in told)


def model_recipe(name: str) -> TrainingRecipe | None:
    """Give the recipe that a model's aggregator was published with, None if there is none.

    Raises: UnknownNameError if there is no such model.
    """
    recipe: TrainingRecipe | None = getattr(AGGREGATORS.get(parts_of(name)[1]), "recipe", None)
    return recipe


def needs_whole_batches(name: str) -> bool:
    """Tell whether a model's slides depend on each other in training.  Raises: UnknownNameError if there is none."""
    return bool(getattr(AGGREGATORS.get(parts_of(name)[1]), "whole_batches", False))


def _options_told_by(part: type) -> list[type]:
    """List a part and the parents whose options it takes over."""
    own = options_of(part).keys()
    parents = (kind for kind in part.__mro__[1:] if "__init__" in vars(kind) and kind.__module__.startswith("dtcwsi."))
    return [part, *(kind for kind in parents if own & options_of(kind).keys())]


def parts_of(name: str) -> tuple[str, str]:
    """Split a model's name; compressors' names are tried longest first, since one may begin like another."""
    if name in AGGREGATORS:
        return PLAIN, name
    for compressor in sorted(COMPRESSORS, key=len, reverse=True):
        rest = name.removeprefix(f"{compressor}-")
        if compressor != PLAIN and rest != name and rest in AGGREGATORS:
            return compressor, rest
    raise UnknownNameError(f"no model is called {name!r}; near names: {near(name, list_models())}")


def only(options: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    """Keep the options that are known."""
    return {name: value for name, value in options.items() if name in known}
