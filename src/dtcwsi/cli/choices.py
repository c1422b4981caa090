"""Options of ``extract`` and its steps that say where tissue comes from and which patches of it count."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dtcwsi.errors import OptionError, UsageError

if TYPE_CHECKING:
    from dtcwsi.patches import GridParameters, QualityParameters, RegionChoice
    from dtcwsi.stain import StainNormaliser
    from dtcwsi.tissue import TissueParameters

__all__ = [
    "MaxPen",
    "MinSharpness",
    "Quality",
    "RegionClass",
    "RegionWithout",
    "Regions",
    "Stain",
    "StainTarget",
    "TissueFrom",
    "grid_parameters",
    "pick_quality",
    "pick_regions",
    "pick_stain",
    "pick_tissue",
    "tissue_parameters",
]

_OPTION_OF = {
    "seg_spacing_um": "--seg-spacing",
    "saturation_threshold": "--saturation",
    "median_um": "--median",
    "closing_um": "--closing",
    "min_tissue_um2": "--min-area",
    "min_hole_um2": "--min-hole",
    "patch_size_px": "--patch-size",
    "patch_spacing_um": "--patch-spacing",
    "min_tissue_fraction": "--min-tissue",
    "min_sharpness": "--min-sharpness",
    "max_pen": "--max-pen",
}

TissueFrom = Annotated[
    Path | None,
    typer.Option(
        "--tissue-from",
        metavar="FOLDER",
        help="Tissue from ID.geojson, or a mask of the whole slide ID.png or ID.tif, instead of the segmentation.",
        show_default=False,
    ),
]
Regions = Annotated[
    Path | None,
    typer.Option(
        "--regions",
        metavar="FOLDER",
        help="Cut patches only inside the outlines of ID.geojson.",
        show_default=False,
    ),
]
RegionClass = Annotated[
    list[str] | None,
    typer.Option("--region-class", metavar="NAME", help="Only outlines of this class; repeatable.", show_default=False),
]
RegionWithout = Annotated[
    list[str] | None,
    typer.Option(
        "--region-without",
        metavar="NAME",
        help="Nothing inside outlines of this class; repeatable.",
        show_default=False,
    ),
]


Quality = Annotated[
    bool,
    typer.Option("--quality", help="Score the sharpness and pen of every patch; reads them once more, at 1 um/px."),
]
MinSharpness = Annotated[
    float | None,
    typer.Option("--min-sharpness", help="Drop patches of less variance of the Laplacian.", show_default=False),
]
MaxPen = Annotated[
    float | None,
    typer.Option("--max-pen", metavar="SHARE", help="Drop patches with more marker ink, 0 to 1.", show_default=False),
]


Stain = Annotated[
    str | None,
    typer.Option("--stain", metavar="METHOD", help="Normalise stain: macenko or reinhard.", show_default=False),
]
StainTarget = Annotated[
    Path | None,
    typer.Option(
        "--stain-target", metavar="PICTURE", help="Whose stain patches get; published constants.", show_default=False
    ),
]


def pick_tissue(folder: Path | None) -> Path | None:
    """The folder of outlines.  Raises: UsageError if it is not there."""
    return None if folder is None else _folder("--tissue-from", folder)


def pick_regions(folder: Path | None, classes: list[str] | None, without: list[str] | None) -> "RegionChoice | None":
    """Which outlines count.  Raises: UsageError if the folder is not there, or classes are named without one."""
    from dtcwsi.patches import RegionChoice

    if folder is None:
        if classes or without:
            raise UsageError("got a class of regions and no regions; expected --regions FOLDER: add it")
        return None
    return RegionChoice(_folder("--regions", folder), tuple(classes or ()), tuple(without or ()))


def pick_quality(measure: bool, min_sharpness: float | None, max_pen: float | None) -> "QualityParameters | None":
    """What is asked of patches; None if nothing is.  Raises: OptionError if a threshold makes no sense."""
    from dtcwsi.patches import QualityParameters

    if not measure and min_sharpness is None and max_pen is None:
        return None
    least, most = 0.0 if min_sharpness is None else min_sharpness, 1.0 if max_pen is None else max_pen
    with _called_as_typed():
        return QualityParameters(min_sharpness=least, max_pen=most)


def pick_stain(method: str | None, target: Path | None) -> "StainNormaliser | None":
    """The normaliser asked for.  Raises: UsageError if a target has no method, or cannot be used."""
    from dtcwsi.stain import stain_like

    if method is None and target is not None:
        raise UsageError("got --stain-target and no method; expected --stain macenko or --stain reinhard: add it")
    return None if method is None else stain_like(method, target)


def tissue_parameters(
    seg_spacing: float, saturation: int, median: float, closing: float, min_area: float, min_hole: float
) -> "TissueParameters":
    """The segmentation that the options ask for.  Raises: OptionError if a value makes no sense."""
    from dtcwsi.tissue import TissueParameters

    with _called_as_typed():
        return TissueParameters(seg_spacing, saturation, median, closing, min_area, min_hole)


def grid_parameters(patch_size: int, patch_spacing: float, min_tissue: float) -> "GridParameters":
    """The grid that the options ask for.  Raises: OptionError if a value makes no sense."""
    from dtcwsi.patches import GridParameters

    with _called_as_typed():
        return GridParameters(patch_size, patch_spacing, min_tissue)


@contextmanager
def _called_as_typed() -> Iterator[None]:
    """Let errors of parameters name the options that set them."""
    try:
        yield
    except OptionError as error:
        text = str(error)
        for parameter, option in _OPTION_OF.items():
            text = text.replace(parameter, option)
        raise OptionError(text) from error


def _folder(option: str, folder: Path) -> Path:
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise UsageError(f"got {option} {folder}, which {what}; expected a folder with a file a slide")
    return folder
