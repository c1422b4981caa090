"""How much work is left, judged by what the same folder has counted and timed before."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import stdev

from dtcwsi.encoders import Encoder
from dtcwsi.extraction.looks import Look
from dtcwsi.extraction.standing import Standing
from dtcwsi.patches import GridParameters

__all__ = ["Estimate", "estimate_left"]

_ROW_BYTES = 20
"""A patch in its patch file: two coordinates and a share of tissue."""


@dataclass(frozen=True)
class Estimate:
    """What the slides left will take; None where nothing tells.

    ``patches`` of all slides left: ``counted`` slides have theirs cut, ``by_area`` have their tissue outlined, and for
    ``by_mean`` the mean of ``like`` slides stands, which puts the sum off by ``give_or_take`` patches (one standard
    error; None of fewer than two slides). ``seconds`` are of one process such as did the ``timed`` slides;
    ``written_bytes`` go to the disk.
    """

    patches: int | None
    seconds: float | None
    written_bytes: int | None
    counted: int = 0
    by_area: int = 0
    by_mean: int = 0
    like: int = 0
    give_or_take: int | None = None
    timed: int = 0
    looked_at: int = 0


def estimate_left(
    standing: Mapping[str, Standing],
    rows: Mapping[str, dict[str, str]],
    grid: GridParameters | None,
    encoder: Encoder | None,
    looks: Sequence[Look] = (),
) -> Estimate:
    """Estimate the work left on slides.

    ``standing`` and ``rows`` (of ``slides.csv``) are by slide id; without ``grid`` no patches are cut, without
    ``encoder`` none encoded; ``looks`` are at slides that were tried out.
    """
    left = {slide_id: at for slide_id, at in standing.items() if at.todo and not at.refusal}
    done = [rows[slide_id] for slide_id, at in standing.items() if not at.todo and slide_id in rows]
    patches = _Patches.none() if grid is None else _patches(left, rows, done, grid, looks)
    seconds, timed = _seconds(left, patches, rows, encoder, looks)
    total = None if grid is None else patches.of(left)
    by_mean = 0 if grid is None else len(left) - len(patches.counted) - len(patches.by_area)
    return Estimate(
        patches=None if total is None else round(total),
        seconds=seconds,
        written_bytes=None if grid is None else _written(left, patches, encoder),
        counted=len(patches.counted),
        by_area=len(patches.by_area),
        by_mean=by_mean,
        like=len(patches.known),
        give_or_take=None if len(patches.known) < 2 else round(by_mean * patches.error),
        timed=timed,
        looked_at=len(looks),
    )


@dataclass(frozen=True)
class _Patches:
    """The patches of each slide left: counted, by the area of its tissue, or the mean of those ``known``."""

    counted: dict[str, float]
    by_area: dict[str, float]
    known: list[float]

    @classmethod
    def none(cls) -> "_Patches":
        """Where no patches are cut."""
        return cls({}, {}, [])

    @property
    def error(self) -> float:
        """The standard error of the mean of at least two known slides."""
        return stdev(self.known) / math.sqrt(len(self.known))

    def of(self, slide_ids: Iterable[str]) -> float | None:
        """The patches of some slides together; None if nothing tells."""
        mean = sum(self.known) / len(self.known) if self.known else None
        each = [self.counted.get(slide_id, self.by_area.get(slide_id, mean)) for slide_id in slide_ids]
        told = [count for count in each if count is not None]
        return sum(told) if len(told) == len(each) else None


def _patches(
    left: Mapping[str, Standing],
    rows: Mapping[str, dict[str, str]],
    done: Sequence[dict[str, str]],
    grid: GridParameters,
    looks: Sequence[Look],
) -> _Patches:
    counted = {slide_id: float(at.n_patches) for slide_id, at in left.items() if at.n_patches is not None}
    each_mm2 = _patches_per_mm2(done, (grid.patch_size_px * grid.patch_spacing_um) ** 2)
    areas = {slide_id: _number(rows[slide_id], "tissue_mm2") for slide_id in left if slide_id in rows}
    by_area = {
        slide_id: area * each_mm2 for slide_id, area in areas.items() if area is not None and slide_id not in counted
    }
    known = [count for row in done if (count := _number(row, "patches")) is not None]
    known += [*counted.values(), *by_area.values()]
    known += [float(look.patches) for look in looks if look.patches is not None]
    return _Patches(counted, by_area, known)


def _seconds(
    left: Mapping[str, Standing],
    patches: _Patches,
    rows: Mapping[str, dict[str, str]],
    encoder: Encoder | None,
    looks: Sequence[Look],
) -> tuple[float | None, int]:
    """The seconds that slides left will take, and by how many timed slides."""
    tissue_s, found = _seconds_by_slide(left, rows, "tissue", [look.tissue_s for look in looks])
    cut_s, cut = _seconds_by_slide(left, rows, "patches", [look.cut_s for look in looks])
    encode_s, encoded = (0.0, 0) if encoder is None else _seconds_by_patch(left, patches, rows, encoder.name, looks)
    if tissue_s is None or cut_s is None or encode_s is None:
        return None, 0
    return tissue_s + cut_s + encode_s, encoded or cut or found


def _seconds_by_slide(
    left: Mapping[str, Standing], rows: Mapping[str, dict[str, str]], step: str, tried: Sequence[float]
) -> tuple[float | None, int]:
    """The seconds of a step that takes about as long on each slide; None if it was never timed."""
    to_do = sum(step in at.todo for at in left.values())
    if not to_do:
        return 0.0, 0
    timed = [took for row in rows.values() if (took := _number(row, f"seconds_{step}")) is not None] or list(tried)
    return (to_do * sum(timed) / len(timed) if timed else None), len(timed)


def _seconds_by_patch(
    left: Mapping[str, Standing],
    patches: _Patches,
    rows: Mapping[str, dict[str, str]],
    encoder: str,
    looks: Sequence[Look],
) -> tuple[float | None, int]:
    """The seconds of reading and encoding; None if the patches are unknown or none was ever timed."""
    to_do = patches.of(slide_id for slide_id, at in left.items() if "features" in at.todo)
    each_s, timed = _seconds_per_patch(rows, encoder, looks)
    if to_do == 0:
        return 0.0, timed
    return (None if to_do is None or each_s is None else to_do * each_s), timed


def _seconds_per_patch(
    rows: Mapping[str, dict[str, str]], encoder: str, looks: Sequence[Look]
) -> tuple[float | None, int]:
    """Seconds of reading and encoding a patch, and by how many slides; trials count only where no slide was timed."""
    told = [
        (count, read + encode)
        for row in rows.values()
        if row.get("encoder") == encoder
        and (count := _number(row, "patches"))
        and (read := _number(row, "seconds_read")) is not None
        and (encode := _number(row, "seconds_encode")) is not None
    ]
    if told:
        return sum(took for _, took in told) / sum(count for count, _ in told), len(told)
    tried = [look.encode_s for look in looks if look.encode_s is not None]
    return (sum(tried) / len(tried) if tried else None), len(tried)


def _written(left: Mapping[str, Standing], patches: _Patches, encoder: Encoder | None) -> int | None:
    """The bytes of the patch and feature files that are yet to be written."""
    cut = patches.of(slide_id for slide_id, at in left.items() if "patches" in at.todo)
    encoded = patches.of(slide_id for slide_id, at in left.items() if "features" in at.todo)
    if cut is None or encoded is None:
        return None
    return round(cut * _ROW_BYTES + encoded * (0 if encoder is None else encoder.dim * 4 + 16))


def _patches_per_mm2(done: Sequence[dict[str, str]], patch_um2: float) -> float:
    """Patches a mm2 of tissue as finished slides had them, else as if tissue were tiled without a rest."""
    told = [(_number(row, "patches"), _number(row, "tissue_mm2")) for row in done]
    pairs = [(count, area) for count, area in told if count is not None and area]
    return sum(count for count, _ in pairs) / sum(area for _, area in pairs) if pairs else 1e6 / patch_um2


def _number(row: dict[str, str], name: str) -> float | None:
    """A cell as a number; None if it is empty, or was edited into something else."""
    try:
        value = float(row.get(name) or "nan")
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None
