"""Files that say who is trained on and who is tested: a run's own, CLAM's, Patho-Bench's."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from dtcwsi.barcodes import barcode_of, patient_of
from dtcwsi.errors import CohortError
from dtcwsi.store.tables import Table, read_table

__all__ = ["PARTS", "Partition", "Splits", "read_splits"]

PARTS = ("train", "val", "test")
_EXPECTED = (
    "slide_id,part (split.csv of a fold), slide_id,...,fold (folds.csv of a run), train,val,test (CLAM) or "
    "slide_id,...,fold_0,fold_1,... (Patho-Bench)"
)
_PATIENT = ("patient_id", "case_id")
_NOTHING = ("", "nan", "none")
_BESIDE = ("_bool", "_descriptor")


@dataclass(frozen=True)
class Partition:
    """One training with its test: the slides listed in each of `PARTS`, in the file's order, repeated if listed twice.

    ``name`` says where it comes from. ``chosen`` tells whether the file names a validation part; where it gives folds
    alone, whoever trains draws one from the training slides.
    """

    name: str
    parts: dict[str, tuple[str, ...]]
    chosen: bool = True


@dataclass(frozen=True)
class Splits:
    """All partitions of some files, with the slides' patients, labels and sites as far as they are told."""

    partitions: tuple[Partition, ...]
    patients: dict[str, str]
    labels: dict[str, str]
    sites: dict[str, str] = field(default_factory=dict)

    @property
    def slides(self) -> tuple[str, ...]:
        """Every slide in the order in which the files name it first."""
        listed = (s for one in self.partitions for part in PARTS for s in one.parts[part])
        return tuple(dict.fromkeys(listed))

    def site(self, slide: str) -> str | None:
        """Name a slide's site: as told, else by its TCGA barcode, else None."""
        code = barcode_of(slide)
        return self.sites.get(slide) or (None if code is None else code.site)

    def patient(self, slide: str) -> str:
        """Name a slide's patient: as told, else by its TCGA barcode, else the slide itself."""
        return self.patients.get(slide) or patient_of(slide)


def read_splits(paths: Iterable[Path]) -> Splits:
    """Read split files, run folders of `dtcwsi train` or folders of CLAM's splits, in the order given.

    Raises: CohortError if a file is none of these, names an unknown part, or two files disagree on a slide's patient
    or label.
    """
    paths = tuple(paths)
    found = [one for path in paths if not _said_beside(path, paths) for one in _read(path)]
    if not found:
        raise CohortError("no split file was named; expected " + _EXPECTED)
    patients: dict[str, str] = {}
    labels: dict[str, str] = {}
    for one in found:
        _join(patients, one.patients, "patient", one)
        _join(labels, one.labels, "label", one)
    return Splits(tuple(part for one in found for part in one.partitions), patients, labels)


def _said_beside(path: Path, others: tuple[Path, ...]) -> bool:
    """Whether CLAM wrote a file beside another one: its slides once more, or counted."""
    ends = [end for end in _BESIDE if path.stem.endswith(end)]
    return any(path.with_name(path.stem.removesuffix(end) + path.suffix) in others for end in ends)


def _join(known: dict[str, str], told: dict[str, str], what: str, source: Splits) -> None:
    for slide, value in told.items():
        if known.setdefault(slide, value) != value:
            where = source.partitions[0].name if source.partitions else "a file"
            raise CohortError(
                f"slide {slide!r} has the {what} {known[slide]!r} in one file and {value!r} in another ({where}); "
                "correct one of them"
            )


def _read(path: Path) -> list[Splits]:
    if not path.is_dir():
        return [_read_file(path)]
    folds = sorted(path.glob("fold*/split.csv"), key=lambda file: (len(file.parent.name), file.parent.name))
    table = path / "folds.csv"
    if not folds:
        return [_read_file(file) for file in _clam_files(path)]
    told = [_read_file(table)] if table.exists() else []
    return [*(Splits((), one.patients, one.labels) for one in told), *(_read_file(file) for file in folds)]


def _clam_files(folder: Path) -> list[Path]:
    """List the splits_0.csv, splits_1.csv, ... of a folder; what CLAM writes beside them says the same otherwise."""
    numbered = {file: file.stem.removeprefix("splits_") for file in folder.glob("splits_*.csv")}
    files = sorted((file for file, number in numbered.items() if number.isdecimal()), key=lambda f: int(numbered[f]))
    if not files:
        raise CohortError(
            f"{folder} holds neither fold*/split.csv nor splits_<number>.csv; expected a run folder of `dtcwsi train`, "
            "a folder of CLAM's splits, or a split file"
        )
    return files


def _read_file(path: Path) -> Splits:
    if path.stem.endswith("_descriptor"):
        raise CohortError(f"{path} counts slides and names none; expected the splits_<number>.csv beside it: name that")
    table = read_table(path, expected=_EXPECTED, separator="\t" if path.suffix.lower() == ".tsv" else ",")
    columns = table.header
    if {"train", "test"} <= set(columns):
        return Splits((_of_clam(path, table),), {}, {})
    if "slide_id" not in columns:
        raise CohortError(f"{path} has the columns {', '.join(columns)}; expected {_EXPECTED}")
    if "part" not in columns or "fold" in columns:  # a slide in two parts is a leak, for an audit to tell
        _check_once(path, table)
    numbered = [column for column in columns if column.startswith("fold_") and column[5:].isdecimal()]
    if "part" in columns:
        partitions = [_of_parts(str(path), path, table, "part")]
    elif numbered:
        partitions = [_of_parts(f"{path} {column}", path, table, column) for column in numbered]
    elif "fold" in columns:
        partitions = _of_folds(path, table)
    else:
        raise CohortError(f"{path} has the columns {', '.join(columns)}; expected {_EXPECTED}")
    patient = next((column for column in _PATIENT if column in columns), None)
    label = _label_column(columns, numbered)
    return Splits(tuple(partitions), _column(path, table, patient), _column(path, table, label))


def _check_once(path: Path, table: Table) -> None:
    slide, count = Counter(row["slide_id"] for _, row in table.rows).most_common(1)[0]
    if count > 1:
        raise CohortError(f"{path} lists slide {slide!r} more than once; keep one row a slide")


def _label_column(columns: list[str], numbered: list[str]) -> str | None:
    """Find the column of labels: of this name, or the only one that Patho-Bench's files name after their task."""
    if "label" in columns:
        return "label"
    other = [column for column in columns if column not in (*numbered, *_PATIENT, "slide_id")]
    return other[0] if numbered and len(other) == 1 else None


def _column(path: Path, table: Table, column: str | None) -> dict[str, str]:
    """Give what a column tells of slides.  Raises: CohortError if it tells two things of one."""
    told: dict[str, str] = {}
    for number, row in table.rows if column is not None else ():
        slide, value = row["slide_id"], row[str(column)]
        if value.lower() not in ("", "nan") and told.setdefault(slide, value) != value:
            raise CohortError(
                f"{path} row {number} gives slide {slide!r} the {column} {value!r}, another row {told[slide]!r}; "
                "correct one"
            )
    return told


def _of_parts(name: str, path: Path, table: Table, column: str) -> Partition:
    parts: dict[str, list[str]] = {part: [] for part in PARTS}
    for number, row in table.rows:
        part = row[column].lower()
        if part in _NOTHING:
            continue
        if part not in parts:
            raise CohortError(f"{path} row {number} has the part {row[column]!r}; expected train, val or test")
        parts[part].append(row["slide_id"])
    return Partition(name, {part: tuple(slides) for part, slides in parts.items()}, chosen=bool(parts["val"]))


def _of_folds(path: Path, table: Table) -> list[Partition]:
    """Test each fold in turn; slides without one, as `train --splits` leaves them, take no part."""
    fold_of = {row["slide_id"]: row["fold"] for _, row in table.rows if row["fold"].lower() not in _NOTHING}
    if not fold_of:
        raise CohortError(f"{path} gives no slide a fold; expected {_EXPECTED}")
    partitions = []
    for fold in sorted(set(fold_of.values()), key=lambda fold: (len(fold), fold)):
        parts: dict[str, tuple[str, ...]] = {
            "train": tuple(slide for slide, own in fold_of.items() if own != fold),
            "val": (),
            "test": tuple(slide for slide, own in fold_of.items() if own == fold),
        }
        partitions.append(Partition(f"{path} fold {fold}", parts, chosen=False))
    return partitions


def _of_clam(path: Path, table: Table) -> Partition:
    """Read three lists side by side, or a row a slide with True in the column of its part."""
    there = [part for part in PARTS if part in table.header]
    cells = {row[part].lower() for _, row in table.rows for part in there}
    if cells <= {"true", "false"}:
        slide = next((column for column in table.header if column not in PARTS), None)
        if slide is None:
            raise CohortError(f"{path} has True and False but no column of slides; expected the slides' names first")
        lists = {part: [row[slide] for _, row in table.rows if row[part].lower() == "true"] for part in there}
    else:
        lists = {part: [row[part] for _, row in table.rows if row[part].lower() not in _NOTHING] for part in there}
    parts = {part: tuple(lists.get(part, ())) for part in PARTS}
    return Partition(str(path), parts, chosen=bool(parts["val"]))
