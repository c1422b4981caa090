"""``dtcwsi models`` and ``dtcwsi encoders``: what can be named elsewhere."""

from dataclasses import asdict
from typing import Annotated

import typer

from dtcwsi.cli.console import print_json, print_table
from dtcwsi.cli.options import Json

__all__ = ["encoders", "models"]


def models(
    name: Annotated[str | None, typer.Argument(help="Only this model, and what its options mean.")] = None,
    as_json: Json = False,
) -> None:
    """List every model that `train --model` knows, and the options of each."""
    from dtcwsi.catalog import list_models, model_options, model_recipe, model_text

    options = {known: model_options(known) for known in ([name] if name else list_models())}
    if as_json:
        print_json(options)
        return
    if name:
        print(model_text(name), end="\n\n")
        print_table(("option (--set NAME=VALUE)", "default"), list(options[name].items()))
        published = model_recipe(name)
        if published is not None:
            print()
            print_table(("train --recipe published", "value"), list(asdict(published).items()))
        return
    rows = [(known, ", ".join(f"{key}={value}" for key, value in taken.items())) for known, taken in options.items()]
    print_table(("model", "options (--set NAME=VALUE)"), rows)


def encoders(as_json: Json = False) -> None:
    """List the encoders that `extract --encoder` knows by name; any timm model works too."""
    from dtcwsi.encoders import ENCODERS

    if as_json:
        print_json(ENCODERS.names())
        return
    print_table(("encoder",), [(name,) for name in [*ENCODERS, "any timm model", "NAME:/path/to/weights"]])
