"""``dtcwsi models`` and ``dtcwsi encoders``: what can be named elsewhere."""

from dtcwsi.cli.console import print_json, print_table
from dtcwsi.cli.options import Json

__all__ = ["encoders", "models"]


def models(as_json: Json = False) -> None:
    """List every model that `train --model` knows, and the options of each."""
    from dtcwsi.classifier import list_models, model_options

    options = {name: model_options(name) for name in list_models()}
    if as_json:
        print_json(options)
        return
    rows = [(name, ", ".join(f"{key}={value}" for key, value in taken.items())) for name, taken in options.items()]
    print_table(("model", "options (--set NAME=VALUE)"), rows)


def encoders(as_json: Json = False) -> None:
    """List the encoders that `extract --encoder` knows by name; any timm model works too."""
    from dtcwsi.encoders import ENCODERS

    if as_json:
        print_json(ENCODERS.names())
        return
    print_table(("encoder",), [(name,) for name in [*ENCODERS, "any timm model", "NAME:/path/to/weights"]])
