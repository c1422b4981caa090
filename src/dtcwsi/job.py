"""One slide's job: where its files go, how they are made, and which digests they must carry."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from dtcwsi.encoders import Encoder
from dtcwsi.errors import SlideError
from dtcwsi.patches import GridParameters, QualityParameters, RegionChoice
from dtcwsi.store.contours import peek_provenance, read_provenance
from dtcwsi.store.digest import digest, fingerprint
from dtcwsi.store.hdf5 import read_attributes, read_digest
from dtcwsi.store.outlines import OutlineFile, find_outline
from dtcwsi.tissue import TISSUE_SUFFIXES, TissueParameters

__all__ = ["SlideJob"]

_VERSION = {"tissue": 1, "patches": 2, "features": 1}
"""Raised when a step's algorithm changes, so that the files of the older one are made anew."""


_QUALITY_VERSION = 1


@dataclass(frozen=True)
class SlideJob:
    """One slide, where its files go, and how they are made.

    ``spacing_um`` stands in for a missing um/px, or replaces the recorded one with ``override_spacing``. Without
    ``grid`` the job ends after the tissue, without ``encoder`` after the patches. Unless ``any_spacing``, an encoder
    that was trained at another um/px than that of the patches is refused. ``on_step`` hears what begins (open, tissue,
    patches, features), ``on_patches`` how many more patches are encoded. ``tissue_from`` is a folder of outlines or
    masks named after slides, or this slide's file, which stand in for the segmentation; ``regions`` says where on the
    tissue patches are cut, ``quality`` that they are scored, and which are kept. ``workers`` processes read patches,
    0 this one; a script of its own needs the usual ``if __name__ == "__main__":`` for them.
    """

    path: Path
    out: Path
    tissue: TissueParameters = field(default_factory=TissueParameters)
    grid: GridParameters | None = field(default_factory=GridParameters)
    encoder: Encoder | None = None
    spacing_um: float | None = None
    override_spacing: bool = False
    any_spacing: bool = True
    workers: int = 0
    on_step: Callable[[str], None] | None = None
    on_patches: Callable[[int], None] | None = None
    tissue_from: Path | OutlineFile | None = None
    regions: RegionChoice | None = None
    quality: QualityParameters | None = None

    @property
    def slide_id(self) -> str:
        """The file's stem; every file of the slide is named after it."""
        return self.path.stem

    @property
    def contours_file(self) -> Path:
        """GeoJSON of the tissue; the overlay picture lies beside it as .jpg."""
        return self.out / "tissue" / f"{self.slide_id}.geojson"

    @property
    def patches_file(self) -> Path:
        """HDF5 of the patch grid."""
        return self.out / "patches" / f"{self.slide_id}.h5"

    @property
    def features_file(self) -> Path:
        """HDF5 of the embeddings, in a folder named after the encoder."""
        name = self.encoder.name if self.encoder else "none"
        return self.out / "features" / name / f"{self.slide_id}.h5"

    @property
    def outline(self) -> OutlineFile | None:
        """The file that gives the slide's tissue, if one does.  Raises: SlideError if the slide has none."""
        if isinstance(self.tissue_from, Path):
            return find_outline(self.tissue_from, self.slide_id, TISSUE_SUFFIXES)
        return self.tissue_from

    def digests(self, spacing_um: float, seen_as: str | None = None) -> dict[str, str]:
        """The digest that the file of each step must carry if the slide has this um/px, in the order of the steps.

        ``seen_as`` is the slide's fingerprint where it is known already; else the slide is read for it. What is not
        used leaves no trace in them. Files of outlines count by their content.
        Raises: SlideError if a file of outlines is not there.
        """
        slide, outline = [seen_as or fingerprint(self.path), spacing_um], self.outline
        tissue = {"parameters": asdict(self.tissue)} if outline is None else {"outline": outline.digest}
        made = {"tissue": digest(slide=slide, **tissue, version=_VERSION["tissue"])}
        if self.grid is not None:
            patches = {"parameters": asdict(self.grid), **self._asked_of_patches()}
            made["patches"] = digest(made["tissue"], **patches, version=_VERSION["patches"])
            if self.encoder is not None:
                encoder = [self.encoder.name, self.encoder.digest]
                made["features"] = digest(made["patches"], encoder=encoder, version=_VERSION["features"])
        return made

    def _asked_of_patches(self) -> dict[str, Any]:
        asked: dict[str, Any] = {}
        if self.regions is not None:
            names = [sorted(name.casefold() for name in each) for each in (self.regions.classes, self.regions.without)]
            asked["regions"] = [self.regions.file(self.slide_id).digest, *names]
        if self.quality is not None:
            asked["quality"] = [_QUALITY_VERSION, asdict(self.quality)]
        return asked

    def provenance(self) -> dict[str, str]:
        """What the files of patches and features say of outlines and quality, where they were asked for."""
        said: dict[str, str] = {}
        if (outline := self.outline) is not None:
            said |= {"tissue_source": "outlines", "tissue_from": _json(file=outline)}
        if self.regions is not None:
            said["region_classes"] = _json(classes=self.regions.classes, without=self.regions.without)
            said["regions_from"] = _json(file=self.regions.file(self.slide_id))
        if self.quality is not None:
            said["quality"] = json.dumps(asdict(self.quality), sort_keys=True)
        return said

    def stored_digests(self) -> dict[str, str | None]:
        """The digests that the files on disk carry; None where a file is absent or damaged."""
        return {
            "tissue": read_provenance(self.contours_file).get("digest"),
            "patches": read_digest(self.patches_file),
            "features": read_digest(self.features_file),
        }

    def likely_spacing(self, seen: dict[str, Any]) -> float | None:
        """The um/px that the slide will turn out to have, by what an earlier run noted; None if only opening tells.

        A given um/px that the slide does not need changes nothing, so that naming one for some slides of a cohort
        leaves the others as they are.
        """
        if self.override_spacing:
            return self.spacing_um
        recorded, given = seen.get("spacing_um"), seen.get("given_spacing_um")
        came_from_file = not seen.get("override_spacing") and recorded != given
        return recorded if came_from_file else self.spacing_um

    def begin(self, step: str) -> None:
        """Tell whoever listens that a step begins."""
        if self.on_step is not None:
            self.on_step(step)

    @property
    def without_patches(self) -> str:
        """The sentence with which a slide fails that is to be encoded and was never cut."""
        return f"{self.path.name!r} has no patches in {self.out}; run `dtcwsi patch` (or extract) first"

    def as_recorded(self) -> "SlideJob":
        """The same job with the parameters that the slide's patches on disk were made with.

        Raises: SlideError if the slide has no patches yet.
        """
        seen, cut = peek_provenance(self.contours_file), read_attributes(self.patches_file)
        if not seen or not cut:
            raise SlideError(self.without_patches)
        regions = None
        if "regions_from" in cut:
            chosen = json.loads(cut["region_classes"])
            regions = RegionChoice(
                _outline_file(cut["regions_from"]), tuple(chosen["classes"]), tuple(chosen["without"])
            )
        return replace(
            self,
            tissue=TissueParameters(**seen["parameters"]),
            grid=GridParameters(cut["patch_size_px"], cut["patch_spacing_um"], cut["min_tissue_fraction"]),
            spacing_um=seen["given_spacing_um"],
            override_spacing=seen["override_spacing"],
            tissue_from=_outline_file(cut["tissue_from"]) if "tissue_from" in cut else None,
            regions=regions,
            quality=QualityParameters(**json.loads(cut["quality"])) if "quality" in cut else None,
        )


def _json(**values: Any) -> str:
    return json.dumps(
        values, sort_keys=True, default=lambda file: {"path": str(file.path.absolute()), "digest": file.digest}
    )


def _outline_file(text: str) -> OutlineFile:
    file = json.loads(text)["file"]
    return OutlineFile(Path(file["path"]), file["digest"])
