"""patches.csv and patches.geojson, as readers of them will take them."""

import csv
import json
import uuid

import numpy as np
import pytest

from dtcwsi.explain.fates import KEPT, MERGED, PRUNED, PatchFates, attention_percentile
from dtcwsi.explain.patch_table import write_patch_table
from dtcwsi.explain.qupath import write_patches_geojson

COORDS = np.array([[0, 0], [257, 0], [514, 257]])
ATTENTION = np.array([0.75, 0.25, 0.0])
FATES = PatchFates(
    np.array([KEPT, MERGED, PRUNED], np.int8),
    np.array([0, 1, 2]),
    np.array([0, 1, -1]),
    np.array([0, 1, 2]),
    ATTENTION,
    attention_percentile(ATTENTION),
)


def test_csv(tmp_path):
    write_patch_table(tmp_path / "patches.csv", COORDS, 257.0, FATES)
    rows = list(csv.DictReader((tmp_path / "patches.csv").open()))
    assert rows[0] == {
        "patch": "0",
        "x": "0",
        "y": "0",
        "size": "257",
        "attention": "0.75",
        "attention_percentile": "100",
        "fate": "kept",
        "stage": "0",
        "token": "0",
    }
    assert [(row["fate"], row["stage"], row["token"]) for row in rows[1:]] == [
        ("merged", "1", "1"),
        ("pruned", "2", "-1"),
    ]
    assert [(int(row["x"]), int(row["y"])) for row in rows] == [tuple(place) for place in COORDS.tolist()]


def test_geojson_follows_qupaths_rules(tmp_path):
    write_patches_geojson(tmp_path / "p.geojson", "S1", COORDS, 257.0, FATES)
    content = json.loads((tmp_path / "p.geojson").read_text())
    assert content["type"] == "FeatureCollection"
    assert len(content["features"]) == 3
    for feature, (x, y), name in zip(content["features"], COORDS.tolist(), ("kept", "merged", "pruned"), strict=True):
        assert feature["type"] == "Feature"
        assert str(uuid.UUID(feature["id"])) == feature["id"]
        (ring,) = feature["geometry"]["coordinates"]
        assert feature["geometry"]["type"] == "Polygon"
        assert ring[0] == ring[-1] == [x, y]
        assert [max(axis) - min(axis) for axis in zip(*ring, strict=True)] == [257, 257]
        told = feature["properties"]
        assert told["objectType"] == "detection"
        assert told["classification"]["name"] == name
        assert len(told["classification"]["color"]) == 3
        assert all(isinstance(part, int) and 0 <= part <= 255 for part in told["classification"]["color"])
        assert all(isinstance(value, int | float) for value in told["measurements"].values())
    assert content["features"][0]["properties"]["measurements"]["attention"] == 0.75


def test_ids_depend_on_the_slide_and_the_place_alone(tmp_path):
    def ids(slide_id: str, fates: PatchFates) -> list[str]:
        write_patches_geojson(tmp_path / "p.geojson", slide_id, COORDS, 257.0, fates)
        return [feature["id"] for feature in json.loads((tmp_path / "p.geojson").read_text())["features"]]

    first = ids("S1", FATES)
    assert first == ids("S1", FATES.with_attention(ATTENTION[::-1]))
    assert len({*first, *ids("S2", FATES)}) == 6


def test_a_slide_without_patches_gives_empty_tables(tmp_path):
    nothing = PatchFates(np.zeros(0, np.int8), *[np.zeros(0, np.int64)] * 3, np.zeros(0), np.zeros(0))
    write_patch_table(tmp_path / "patches.csv", np.zeros((0, 2), np.int64), 1.0, nothing)
    write_patches_geojson(tmp_path / "p.geojson", "S1", np.zeros((0, 2), np.int64), 1.0, nothing)
    assert len((tmp_path / "patches.csv").read_text().splitlines()) == 1
    assert json.loads((tmp_path / "p.geojson").read_text())["features"] == []


def test_nothing_half_written_stays(tmp_path):
    write_patch_table(tmp_path / "patches.csv", COORDS, 257.0, FATES)
    before = (tmp_path / "patches.csv").read_text()
    broken = PatchFates(FATES.fate, FATES.stage[:2], FATES.token, FATES.group, FATES.attention, FATES.percentile)
    with pytest.raises(ValueError, match="shorter"):
        write_patch_table(tmp_path / "patches.csv", COORDS, 257.0, broken)
    assert (tmp_path / "patches.csv").read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["patches.csv"]
