"""The files of a training run; each is whole or absent."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from dtcwsi.bags.cohort import Cohort
from dtcwsi.bags.splits import Split
from dtcwsi.errors import UsageError
from dtcwsi.models import load
from dtcwsi.store.atomic import plain, write_json
from dtcwsi.store.checksums import write_checksums
from dtcwsi.store.digest import digest
from dtcwsi.store.tables import write_table
from dtcwsi.training.environment import this_start
from dtcwsi.training.module import Epoch

__all__ = ["RunFolder", "plain"]

_SETTINGS, _FOLD, _STARTS = "settings.json", "fold.json", "environment.json"


class RunFolder:
    """A run's folder: ``settings.json``, ``folds.csv``, ``predictions.csv``, ``metrics.json`` and one folder a fold.

    ``environment.json`` tells of every start that trained folds: command, versions, commit; ``checksums.csv`` of the
    files of the cohort's slides.

    A fold is finished when its ``fold.json``, written last, bears the digest of the run's settings
    and its model can be loaded.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path, self.settings = path, dict(settings)
        self.digest = digest(**self.settings)

    def begin(self) -> None:
        """Note the settings.

        Raises: UsageError if the folder is a run of other settings, or no run and not empty.
        """
        known = _read_json(self.path / _SETTINGS)
        # Dot files are the lock, the desktop's, or what a killed process left half-written.
        if known is None:
            if self.path.exists() and any(not entry.name.startswith(".") for entry in self.path.iterdir()):
                raise UsageError(f"{self.path} is not empty and no training run; use a new folder")
            write_json(self.path / _SETTINGS, {"digest": self.digest, **self.settings})
        elif known.get("digest") != self.digest:
            names = (known.keys() | self.settings.keys()) - {"digest"}
            changed = sorted(
                name for name in names if digest(value=self.settings.get(name)) != digest(value=known.get(name))
            )
            raise UsageError(
                f"{self.path} is a run of other settings (changed: {', '.join(changed) or 'unknown'}); "
                "use a new folder, or the same settings to go on with it"
            )

    def note_start(self) -> None:
        """Add this process to those that worked on the run."""
        write_json(self.path / _STARTS, {"starts": [*_starts(self.path), this_start()]})

    @staticmethod
    def shared_machine(path: Path) -> bool:
        """Tell whether a start of the run trained beside others, so that its seconds are of a busy machine."""
        return any(start.get("jobs", 1) > 1 for start in _starts(path))

    @staticmethod
    def trained_by(path: Path) -> set[str]:
        """Name the source code and torch of every start that trained folds of a run."""
        return {
            f"{start.get('commit') or 'dtcwsi ' + start['packages']['dtcwsi']}, torch {start['packages']['torch']}"
            for start in _starts(path)
        }

    @staticmethod
    def ended(path: Path) -> bool:
        """Tell whether a run came to its end and no fold of it failed."""
        try:
            metrics = _read_json(path / "metrics.json")
        except UsageError:
            return False
        return metrics is not None and not metrics.get("failed_folds")

    def whole(self, folds: int) -> bool:
        """Tell whether the run is one of these settings and all its ``folds`` are finished."""
        known = _read_json(self.path / _SETTINGS)
        return (known or {}).get("digest") == self.digest and all(map(self.finished, range(folds)))

    def fold(self, number: int) -> Path:
        """Name a fold's folder."""
        return self.path / f"fold{number}"

    def finished(self, number: int) -> dict[str, Any] | None:
        """Read a finished fold's record, or None if the fold is to be trained: also where its model is gone."""
        record = _read_json(self.fold(number) / _FOLD)
        if record is None or record.get("digest") != self.digest:
            return None
        try:
            load(self.fold(number))
        except UsageError:
            return None
        return record

    def versions(self, folds: Iterable[int]) -> dict[str, str]:
        """Name the packages' versions that trained folds, by their cards: several where they differ."""
        cards = [(_read_json(self.fold(number) / "card.json") or {}).get("versions", {}) for number in folds]
        names = dict.fromkeys(name for card in cards for name in card)
        return {name: ", ".join(sorted({card[name] for card in cards if name in card})) for name in names}

    def finish(self, number: int, record: Mapping[str, Any]) -> None:
        """Mark a fold as finished."""
        write_json(self.fold(number) / _FOLD, plain({"digest": self.digest, **record}))

    def write_split(self, number: int, cohort: Cohort, split: Split) -> None:
        """Write ``split.csv``: slide_id, part."""
        parts = split.part_of()
        rows = [(slide.slide_id, parts[index]) for index, slide in enumerate(cohort.slides) if index in parts]
        write_table(self.fold(number) / "split.csv", ("slide_id", "part"), rows)

    def write_history(self, number: int, epochs: Sequence[Epoch]) -> None:
        """Write ``history.csv``: one row an epoch."""
        columns = [column.name for column in fields(Epoch)]
        write_table(self.fold(number) / "history.csv", columns, [list(asdict(row).values()) for row in epochs])

    def write_folds(self, cohort: Cohort, tested_in: Mapping[int, int]) -> None:
        """Write ``folds.csv``: slide_id, patient_id, label, and the fold that tests the slide first, if one does.

        Beside it the slides' checksums, see `dtcwsi.store.checksums`.
        """
        rows = [
            (slide.slide_id, slide.patient_id, slide.label, tested_in.get(row, ""))
            for row, slide in enumerate(cohort.slides)
        ]
        write_table(self.path / "folds.csv", ("slide_id", "patient_id", "label", "fold"), rows)
        write_checksums(self.path, cohort.headers)

    def write_predictions(self, class_names: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
        """Write ``predictions.csv``: slide_id, label, fold, prediction, prob_<class>... out of fold."""
        columns = ["slide_id", "label", "fold", "prediction", *(f"prob_{name}" for name in class_names)]
        table = [[row["slide_id"], row["label"], row["fold"], row["prediction"], *row["probabilities"]] for row in rows]
        write_table(self.path / "predictions.csv", columns, table)

    def write_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Write ``metrics.json``."""
        write_json(self.path / "metrics.json", metrics)


def _starts(path: Path) -> list[dict[str, Any]]:
    starts: list[dict[str, Any]] = (_read_json(path / _STARTS) or {}).get("starts", [])
    return starts


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read ({error}); delete it or use a new folder") from error
    return content
