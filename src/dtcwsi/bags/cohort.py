"""The labels table, and the slides of it that can be trained on."""

import math
from collections import Counter
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path

from dtcwsi.barcodes import barcode_of, patient_of
from dtcwsi.errors import CohortError, FeaturesError
from dtcwsi.store.features import FeaturesHeader, feature_files, read_header
from dtcwsi.store.tables import read_table

__all__ = ["Cohort", "LabelledSlide", "class_names_of", "overlooked_columns", "read_cohort", "read_labels"]

_REQUIRED = ("slide_id", "label")
_OPTIONAL = ("patient_id", "path", "spacing_um", "fold", "site")
_ALSO_CALLED = {
    "patient_id": ("patient", "case"),
    "spacing_um": ("spacing", "mpp", "umpx", "umperpx", "umperpixel", "micronsperpixel", "pixelsize", "pixelsizeum"),
}
_ALIKE = 0.85


@dataclass(frozen=True)
class LabelledSlide:
    """One row of the labels table.

    ``patient_id`` is that of the column of this name, or of CLAM's ``case_id``; without either that of the slide's TCGA
    barcode, or else the slide's own id; ``path`` is the slide file, taken from the table's folder if relative;
    ``spacing_um`` is um per level-0 pixel; ``fold`` tests the slide; ``site`` is where
    it comes from, by its column or its TCGA barcode.
    """

    slide_id: str
    label: str
    patient_id: str
    path: Path | None = None
    spacing_um: float | None = None
    fold: int | None = None
    site: str | None = None


@dataclass(frozen=True)
class Cohort:
    """Labelled slides that have features of one kind, and what became of the others.

    ``headers`` describe the feature files of ``slides``, in their order. ``without_features`` and ``without_label``
    are slide ids on one side of the join only; ``no_tissue`` have a file without patches; ``refused`` gives a slide's
    reason. ``in_dim`` is the width of the features.
    """

    slides: tuple[LabelledSlide, ...]
    headers: tuple[FeaturesHeader, ...]
    in_dim: int
    without_features: tuple[str, ...] = ()
    without_label: tuple[str, ...] = ()
    no_tissue: tuple[str, ...] = ()
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def labels(self) -> tuple[str, ...]:
        """The slides' labels."""
        return tuple(slide.label for slide in self.slides)

    @property
    def patients(self) -> tuple[str, ...]:
        """The slides' patients."""
        return tuple(slide.patient_id for slide in self.slides)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The distinct labels in their natural order."""
        return class_names_of(self.labels)

    @property
    def patients_of_several_classes(self) -> tuple[str, ...]:
        """Patients whose slides have different labels."""
        classes: dict[str, set[str]] = {}
        for slide in self.slides:
            classes.setdefault(slide.patient_id, set()).add(slide.label)
        return tuple(patient for patient, labels in classes.items() if len(labels) > 1)

    @property
    def classes_alike(self) -> tuple[tuple[str, ...], ...]:
        """Classes whose names are the same but for case and spaces."""
        alike: dict[str, list[str]] = {}
        for name in self.class_names:
            alike.setdefault("".join(name.casefold().split()), []).append(name)
        return tuple(tuple(names) for names in alike.values() if len(names) > 1)

    @property
    def renamed(self) -> dict[str, str]:
        """The slide that a file records, by its name, where that is another."""
        recorded = {header.slide_id: header.recorded_id for header in self.headers}
        return {name: str(other) for name, other in recorded.items() if other not in (None, name)}

    @property
    def sites(self) -> tuple[str, ...]:
        """The slides' sites.  Raises: CohortError if one is unknown."""
        unknown = [slide.slide_id for slide in self.slides if slide.site is None]
        if unknown:
            raise CohortError(
                f"{len(unknown)} slides have no site, such as {unknown[0]!r}; add a column 'site' to the labels, or "
                "group by patient"
            )
        return tuple(str(slide.site) for slide in self.slides)

    @property
    def made_by(self) -> dict[str, str | int | float | None]:
        """How most slides' features were made, entry by entry."""
        made = [header.made_by for header in self.headers]
        names = dict.fromkeys(name for entry in made for name in entry)
        return {name: Counter(entry.get(name) for entry in made).most_common(1)[0][0] for name in names}

    @property
    def fixed_folds(self) -> tuple[int, ...] | None:
        """The table's folds, if it has any."""
        folds = [slide.fold for slide in self.slides if slide.fold is not None]
        return tuple(folds) if self.slides and len(folds) == len(self.slides) else None

    def without(self, refused: dict[str, str]) -> "Cohort":
        """Leave further slides out, each for its reason.  Raises: CohortError if none is left."""
        kept = [i for i, slide in enumerate(self.slides) if slide.slide_id not in refused]
        if not kept:
            raise CohortError(f"none of the {len(self.slides)} slides can be used; the first: {_first_reason(refused)}")
        return replace(
            self,
            slides=tuple(self.slides[i] for i in kept),
            headers=tuple(self.headers[i] for i in kept),
            refused={**self.refused, **refused},
        )


def read_labels(path: str | Path, *, labelled: bool = True) -> tuple[LabelledSlide, ...]:
    """Read a labels table: ``slide_id,label`` and optional ``patient_id,case_id,site,path,spacing_um,fold``, in commas.

    Everything is text, so that an id such as 007 stays one; a byte-order mark and other columns are ignored. If slides
    need not be ``labelled``, a label that is missing is empty. Messages count rows as an editor counts lines.
    Raises: CohortError if the file is missing or empty, is no CSV, is separated otherwise, lacks a column, or a row
    lacks its label or patient, repeats a slide, or holds no number where one belongs.
    """
    path, needed = Path(path), _REQUIRED if labelled else _REQUIRED[:1]
    slides = tuple(_slide(path, number, row, needed) for number, row in _rows(path, needed))
    repeated = [slide for slide, count in Counter(slide.slide_id for slide in slides).items() if count > 1]
    if repeated:
        raise CohortError(f"{path} lists slide {repeated[0]!r} more than once; keep one row a slide")
    with_fold = sum(slide.fold is not None for slide in slides)
    if with_fold not in (0, len(slides)):
        raise CohortError(f"{path} gives a fold in {with_fold} of {len(slides)} rows; give it in all rows or in none")
    return slides


def overlooked_columns(path: str | Path) -> dict[str, str]:
    """Name the columns of a labels table that are ignored and look like one that would not be, with its name.

    What the table has by its name is not looked for under another.  Raises: CohortError as `read_labels` does.
    """
    header = read_table(Path(path), expected="slide_id and one row a slide").header
    there = {*header, *(("patient_id",) if "case_id" in header else ())}
    found = {}
    for column in header:
        bare = "".join(letter for letter in column.lower() if letter.isalnum())
        for meant in _OPTIONAL:
            names = (meant.replace("_", ""), *_ALSO_CALLED.get(meant, ()))
            if meant not in there and get_close_matches(bare, names, 1, _ALIKE):
                found[column] = meant
    return found


def read_cohort(labels: str | Path, features: str | Path) -> Cohort:
    """Join a labels table with a folder of feature files by slide id.

    Files of another width, encoder, patch size or magnification than most are refused; slides without patches are set
    apart. Numbers are not loaded here, so that NaN shows only later.
    Raises: CohortError if the table cannot be used or no slide is left; UsageError if the folder cannot.
    """
    table = {slide.slide_id: slide for slide in read_labels(labels)}
    files = feature_files(Path(features))
    there = [slide for slide in table if slide in files]
    if not there:
        raise CohortError(
            f"none of the {len(table)} slides of {labels} has a file in {features}, which holds {len(files)} "
            f"such as {_example(files)}; the ids must be the files' names without .h5"
        )
    headers, refused = _headers({slide: files[slide] for slide in there})
    no_tissue = tuple(slide for slide, header in headers.items() if header.n_patches == 0)
    usable = {slide: header for slide, header in headers.items() if header.n_patches > 0}
    kind, others = _most_common_kind(usable)
    refused |= others
    kept = [slide for slide in usable if slide not in others]
    if not kept:
        raise CohortError(
            f"none of the {len(there)} slides with features can be used: {len(no_tissue)} without tissue, "
            f"{len(refused)} refused ({_first_reason(refused)})"
        )
    return Cohort(
        slides=tuple(table[slide] for slide in kept),
        headers=tuple(usable[slide] for slide in kept),
        in_dim=kind.dim,
        without_features=tuple(slide for slide in table if slide not in files),
        without_label=tuple(slide for slide in files if slide not in table),
        no_tissue=no_tissue,
        refused=refused,
    )


def class_names_of(labels: tuple[str, ...]) -> tuple[str, ...]:
    """Order the distinct labels: as whole numbers if all are, else as text."""
    names = set(labels)
    if all(name.lstrip("-").isdecimal() for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def _rows(path: Path, needed: tuple[str, ...]) -> list[tuple[int, dict[str, str]]]:
    """Read the table: the number of each row's first line, and its cells by column."""
    table = read_table(path, expected=f"{','.join(needed)} and one row a slide")
    _check_header(path, table.header, needed)
    return table.rows


def _check_header(path: Path, header: list[str], needed: tuple[str, ...]) -> None:
    missing = [column for column in needed if column not in header]
    if missing:
        other = next((mark for mark in (";", "\t", "|") if len(header) == 1 and mark in header[0]), None)
        if other:
            raise CohortError(f"{path} is separated by {other!r}; expected commas; export it as comma-separated")
        raise CohortError(
            f"{path} lacks the column {missing[0]!r}; got {', '.join(header)}; expected {','.join(needed)} "
            f"and optional {','.join(_OPTIONAL)}"
        )
    repeated = [column for column, count in Counter(header).items() if count > 1]
    if repeated:
        raise CohortError(f"{path} has the column {repeated[0]!r} more than once; keep one")


def _slide(path: Path, number: int, row: dict[str, str], needed: tuple[str, ...]) -> LabelledSlide:
    owner = "case_id" if "patient_id" not in row else "patient_id"
    for column in (*needed, owner):
        if column in row and _missing(row[column]):
            raise CohortError(
                f"{path} row {number} has no {column} (got {row[column]!r}); fill it in or take the row out"
            )
    slide_file = Path(row["path"]) if row.get("path") else None
    fold = _number(path, number, row, "fold")
    if fold is not None and fold != int(fold):
        raise CohortError(f"{path} row {number} has fold {row['fold']!r}; expected a whole number")
    return LabelledSlide(
        slide_id=row["slide_id"],
        label=row.get("label", ""),
        patient_id=row.get(owner) or patient_of(row["slide_id"]),
        path=None if slide_file is None else path.parent / slide_file,
        spacing_um=_spacing(path, number, row),
        fold=None if fold is None else int(fold),
        site=_site(row),
    )


def _site(row: dict[str, str]) -> str | None:
    told, barcode = row.get("site", ""), barcode_of(row["slide_id"])
    if not _missing(told):
        return told
    return None if barcode is None else barcode.site


def _spacing(path: Path, number: int, row: dict[str, str]) -> float | None:
    value = _number(path, number, row, "spacing_um")
    if value is not None and value <= 0:
        raise CohortError(f"{path} row {number} has spacing_um {row['spacing_um']!r}; expected um/px above 0")
    return value


def _number(path: Path, number: int, row: dict[str, str], column: str) -> float | None:
    cell = row.get(column, "")
    if _missing(cell):
        return None
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise CohortError(f"{path} row {number} has {column} {cell!r}; expected a number")
    return value


def _missing(cell: str) -> bool:
    return cell.lower() in ("", "nan", "na", "n/a", "none", "null")


def _headers(files: dict[str, Path]) -> tuple[dict[str, FeaturesHeader], dict[str, str]]:
    headers: dict[str, FeaturesHeader] = {}
    refused: dict[str, str] = {}
    for slide, path in files.items():
        try:
            headers[slide] = read_header(path)
        except FeaturesError as error:
            refused[slide] = str(error)
    return headers, refused


@dataclass(frozen=True)
class _Kind:
    """What features must share to be compared."""

    dim: int
    encoder: str | None
    encoder_digest: str | None
    patch_size_px: int | None
    patch_spacing_um: float | None
    magnification: float | None

    def differences(self, common: "_Kind", who: str = "most") -> str:
        """Name what is otherwise than in others."""
        pairs = [(word, getattr(self, name), getattr(common, name)) for name, word in _KIND_WORDS.items()]
        return ", ".join(f"{word} {mine}, {who} have {theirs}" for word, mine, theirs in pairs if mine != theirs)


_KIND_WORDS = {
    "dim": "width",
    "encoder": "encoder",
    "encoder_digest": "weights",
    "patch_size_px": "patch side in px",
    "patch_spacing_um": "um/px of patches",
    "magnification": "magnification",
}


def _kind(header: FeaturesHeader) -> _Kind:
    return _Kind(**{name: getattr(header, name) for name in _KIND_WORDS})


def _filled(kinds: dict[str, _Kind]) -> dict[str, _Kind]:
    """Take files that note no magnification for those that note the most frequent one."""
    noted = Counter(kind.magnification for kind in kinds.values() if kind.magnification is not None)
    most = noted.most_common(1)[0][0] if noted else None
    return {
        slide: replace(kind, magnification=most) if kind.magnification is None else kind
        for slide, kind in kinds.items()
    }


def _most_common_kind(headers: dict[str, FeaturesHeader]) -> tuple[_Kind, dict[str, str]]:
    kinds = _filled({slide: _kind(header) for slide, header in headers.items()})
    counts = Counter(kinds.values())
    if not counts:
        return _Kind(0, None, None, None, None, None), {}
    (common, most), *others = counts.most_common()
    if others and others[0][1] > most / 2:  # nobody knows which was meant
        other, number = others[0]
        raise CohortError(
            f"{number} of {len(headers)} feature files are of another kind than {most} "
            f"({other.differences(common, 'those')}); expected one kind: keep each in a folder of its own and name one"
        )
    refused = {
        slide: f"other features than most ({kind.differences(common)})"
        + ("; extract again" if headers[slide].encoder else "")
        for slide, kind in kinds.items()
        if kind != common
    }
    return common, refused


def _example(files: dict[str, Path]) -> str:
    return repr(next(iter(files))) if files else "none"


def _first_reason(reasons: dict[str, str]) -> str:
    return next(iter(reasons.values()), "no slide was refused")
