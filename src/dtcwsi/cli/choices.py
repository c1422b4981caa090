"""Options of ``extract`` and its steps that say where tissue comes from and which patches of it count."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dtcwsi.errors import UsageError

if TYPE_CHECKING:
    from dtcwsi.patches import RegionChoice

__all__ = ["RegionClass", "RegionWithout", "Regions", "TissueFrom", "pick_regions", "pick_tissue"]

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


def _folder(option: str, folder: Path) -> Path:
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise UsageError(f"got {option} {folder}, which {what}; expected a folder with a file a slide")
    return folder
