"""Options that several commands share."""

import os
from pathlib import Path
from typing import Annotated

import typer

from dtcwsi.errors import UsageError

__all__ = [
    "BatchSize",
    "ClassWeights",
    "DEFAULT_ENCODER",
    "DEFAULT_WORKERS",
    "Device",
    "EncoderName",
    "Epochs",
    "Folds",
    "Group",
    "Gzip",
    "Json",
    "MaxTokens",
    "Out",
    "Recipe",
    "RunEncoder",
    "Search",
    "Spacing",
    "Splits",
    "Table",
    "Trials",
    "Workers",
    "pick_device",
]


def _believed(spacing_um: float | None) -> float | None:
    from dtcwsi.slides.spacing import SPACING_LIMITS_UM, believable

    if spacing_um is not None and not believable(spacing_um):
        low, high = SPACING_LIMITS_UM
        raise UsageError(f"got --spacing {spacing_um:g}; expected {low:g} to {high:g} um per level-0 pixel")
    return spacing_um


DEFAULT_ENCODER = "efficientnet-lite0"
DEFAULT_WORKERS = max(1, min(4, (os.cpu_count() or 1) - 1))

Out = Annotated[Path, typer.Option("--out", help="Folder for everything that is written.", show_default=False)]
EncoderName = Annotated[
    str,
    typer.Option(
        "--encoder",
        metavar="NAME|PATH",
        help="A name of `dtcwsi encoders`, any timm model, NAME:/path/to/weights, NAME@REVISION of the hub, a "
        "TorchScript or ONNX file, or a folder with config.json.",
    ),
]
RunEncoder = Annotated[
    str | None,
    typer.Option(
        "--encoder",
        metavar="NAME|PATH",
        help="Where the run's encoder is, if its name does not say.",
        show_default=False,
    ),
]
Spacing = Annotated[
    float | None,
    typer.Option(
        "--spacing",
        metavar="UM",
        help="um per level-0 pixel of slides that record none (never the target).",
        callback=_believed,
    ),
]
Workers = Annotated[int, typer.Option("--workers", min=0, help="Processes that read patches; 0 reads in this one.")]
Device = Annotated[
    str | None,
    typer.Option("--device", help="cpu, cuda, cuda:1 ...; the first GPU if there is one.", show_default=False),
]
Folds = Annotated[int | None, typer.Option("--folds", help="How many folds (5, or the CSV's fold column).")]
Splits = Annotated[
    list[Path] | None,
    typer.Option("--splits", help="Split file, run or folder of CLAM's splits instead of folds."),
]
Group = Annotated[str | None, typer.Option("--group", help="patient, or site: what one fold keeps whole.")]
Recipe = Annotated[
    str | None, typer.Option("--recipe", help="common: one protocol for all models; published: the model's own.")
]
Epochs = Annotated[int | None, typer.Option("--epochs", help="Most epochs a fold.")]
BatchSize = Annotated[int | None, typer.Option("--batch-size", help="Slides an optimiser step.")]
ClassWeights = Annotated[
    str | None,
    typer.Option("--class-weights", help="none; balanced: rare classes count as much; sampled: they come as often."),
]
Search = Annotated[
    list[str] | None,
    typer.Option("--search", metavar="OPTION=VALUES", help="Choose by validation: lam=0:1, lr=1e-4:1e-2:log, k=4,8."),
]
Trials = Annotated[int | None, typer.Option("--trials", help="Trainings a fold to search with (20).")]
MaxTokens = Annotated[int | None, typer.Option("--max-tokens", help="Patches computed at once.")]
Table = Annotated[str, typer.Option("--table", help="csv or parquet: the table of patches.")]
Gzip = Annotated[bool, typer.Option("--gzip", help="Compress GeoJSON; QuPath reads it as it is.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def pick_device(device: str | None) -> str:
    """The device asked for, else a GPU if there is one.  Raises: UsageError if it cannot be had."""
    import torch

    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(
            f"the device {device!r} cannot be had here; expected cpu, or cuda or cuda:N of a GPU that PyTorch sees "
            "(`dtcwsi doctor` says)"
        ) from error
    return device
