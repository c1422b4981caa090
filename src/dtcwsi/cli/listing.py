"""``dtcwsi models`` and ``dtcwsi encoders``: what can be named elsewhere."""

import textwrap
from dataclasses import asdict
from typing import Annotated, Any

import typer

from dtcwsi.cli.console import print_json, print_table
from dtcwsi.cli.options import Json
from dtcwsi.errors import UnknownNameError
from dtcwsi.registry import near

__all__ = ["ENCODER_COLUMNS", "encoder_rows", "encoders", "models"]


def models(
    name: Annotated[str | None, typer.Argument(help="Only this model, and what its options mean.")] = None,
    as_json: Json = False,
) -> None:
    """List every model that `train --model` knows, and the options of each."""
    from dtcwsi.catalog import list_models, model_options, model_recipe, model_text

    if as_json:
        print_json({known: model_options(known) for known in ([name] if name else list_models())})
    elif name is None:
        _print_models()
    else:
        print(model_text(name), end="\n\n")
        print_table(("option (--set NAME=VALUE)", "default"), list(model_options(name).items()))
        published = model_recipe(name)
        if published is not None:
            print()
            print_table(("train --recipe published", "value"), list(asdict(published).items()))


def _print_models() -> None:
    """Tell the options of each aggregator and of each compressor once, then every name that they make together."""
    from dtcwsi.aggregators import AGGREGATORS
    from dtcwsi.catalog import compressor_options, list_models, model_options
    from dtcwsi.compressors import COMPRESSORS, PLAIN

    print_table(("model", "options (--set NAME=VALUE)"), [(one, _pairs(model_options(one))) for one in AGGREGATORS])
    prefixes = [(f"{one}-", _pairs(compressor_options(one))) for one in COMPRESSORS if one != PLAIN]
    print()
    print_table(("before any of them", "options, beside those of the model behind"), prefixes)
    print("\nAll names (`dtcwsi models NAME` says what one is and what its options mean):")
    print(textwrap.fill(", ".join(list_models()), 100, break_on_hyphens=False))


def encoders(
    name: Annotated[str | None, typer.Argument(help="Only this encoder, and all that its card says.")] = None,
    as_json: Json = False,
) -> None:
    """List the encoders that `extract --encoder` knows by name, and the facts of each; nothing is loaded."""
    from dtcwsi.encoders import ENCODERS, cards

    if name is not None and name not in ENCODERS:
        raise UnknownNameError(f"no encoder is called {name!r}; near names: {near(name, ENCODERS)}")
    facts = {known: asdict(cards()[known]) if known in cards() else {} for known in ([name] if name else ENCODERS)}
    if as_json:
        print_json(facts)
    elif name is None:
        print_table(ENCODER_COLUMNS, encoder_rows())
        print("\nAlso: any timm model, NAME:/path/to/weights, NAME@REVISION of the hub, a TorchScript or ONNX file.")
    elif name in cards():
        print_table(("fact", "value"), [(key, _written(value)) for key, value in facts[name].items()])
        print(f"\nWeights: {cards()[name].page}; a local file or folder of them: --encoder {name}:/path/to/weights")
    else:
        print_table(ENCODER_COLUMNS, [row for row in encoder_rows() if row[0] == name])
        print(f"\n{name} comes with dtcwsi or a package, weights included; it has no card of an author's")


ENCODER_COLUMNS = (
    "encoder",
    "licence",
    "access",
    "trained at um/px",
    "input px",
    "features",
    "pooling",
    "GPU precision",
)


_WITHOUT_CARD = {
    "colour-texture": ("Apache-2.0", "with dtcwsi", "", "any", "48", "statistics of pixels", "none"),
    "efficientnet-lite0": ("Apache-2.0", "with a package", "", "224", "1,280", "mean of the last map", "float32"),
}


def encoder_rows() -> list[tuple[str, ...]]:
    """Describe each encoder in the columns of the table; those that other packages add by their names alone."""
    from dtcwsi.encoders import ENCODERS, cards
    from dtcwsi.encoders.cards import POOLINGS

    bare = ("",) * (len(ENCODER_COLUMNS) - 1)
    rows = [(name, *_WITHOUT_CARD.get(name, bare)) for name in ENCODERS if name not in cards()]
    for card in cards().values():
        access = "gated" if card.gated else "open" if card.hub else "download"
        spacing = ", ".join(f"{um:g}" for um in card.spacing_um)
        size, dim = str(card.input_px), f"{card.dim:,}"
        rows.append((card.name, card.licence, access, spacing, size, dim, POOLINGS[card.pooling], card.precision))
    return rows


def _pairs(options: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in options.items())


def _written(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "", True: "yes", False: "no"}[value]
    if isinstance(value, dict):
        return _pairs(value)
    return "; ".join(str(part) for part in value) if isinstance(value, tuple) else str(value)
