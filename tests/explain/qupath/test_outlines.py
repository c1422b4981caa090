"""outlines.geojson: few annotations, whatever the slide."""

import gzip
import json
import uuid

import numpy as np
import pytest
import shapely

from dtcwsi.explain.exports import Exports, write_exports
from dtcwsi.explain.fates import KEPT, MERGED, PRUNED, PatchFates, attention_percentile
from dtcwsi.explain.qupath import MOST_GROUPS, outlines, write_outlines_geojson
from dtcwsi.types import Polygon, TissueMask

SIZE = 99.6  # places are rounded to whole pixels, 100 and 99 apart
TISSUE = TissueMask(
    (
        Polygon(np.array([[0.0, 0], [900, 0], [900, 900], [0, 900]]), (np.array([[10.0, 10], [50, 10], [50, 50]]),)),
        Polygon(np.array([[2000.0, 0], [2100, 0], [2100, 100]])),
    ),
    area_um2=1.0,
)


def fates_of(group: list[int], token: list[int]) -> PatchFates:
    count = len(group)
    attention = np.full(count, 1 / max(1, count))
    several = np.bincount(group)[group] > 1
    fate = np.where(np.array(token) < 0, PRUNED, np.where(several, MERGED, KEPT)).astype(np.int8)
    return PatchFates(
        fate, np.zeros(count, np.int64), np.array(token), np.array(group), attention, attention_percentile(attention)
    )


def read(path) -> tuple[dict, list[dict]]:
    packed = path.suffix == ".gz"
    content = json.loads(gzip.decompress(path.read_bytes()) if packed else path.read_bytes())
    return content, content["features"]


def test_groups_are_merged_outlines_and_follow_qupaths_rules(tmp_path):
    coords = np.array([[0, 0], [100, 0], [199, 0], [600, 600], [700, 600], [300, 300]])
    path = tmp_path / "o.geojson"
    write_outlines_geojson(path, "S1", coords, SIZE, fates_of([0, 0, 0, 1, 1, 2], [0, 0, 0, -1, -1, 1]), TISSUE)
    content, (tissue, first, second) = read(path)
    assert content["dtcwsi"] == {"merge_groups": 2, "merge_groups_drawn": 2}
    for feature in (tissue, first, second):
        assert str(uuid.UUID(feature["id"])) == feature["id"]
        assert feature["properties"]["objectType"] == "annotation"
        assert all(0 <= part <= 255 for part in feature["properties"]["classification"]["color"])
        assert shapely.geometry.shape(feature["geometry"]).is_valid
    assert shapely.geometry.shape(tissue["geometry"]).area == pytest.approx(900**2 - 40 * 40 / 2 + 100 * 100 / 2)
    outline = shapely.geometry.shape(first["geometry"])
    assert outline.geom_type == "Polygon"
    assert outline.bounds == pytest.approx((-0.5, -0.5, 199 + SIZE + 0.5, SIZE + 0.5))
    assert len(outline.exterior.coords) == 5
    told = first["properties"]
    assert told["measurements"] == {"patches": 3, "attention": 0.5}
    assert told["classification"]["name"] == "merge group"
    assert told["metadata"]["groups"] == "1 of 2, by patches; the 2 largest are drawn"
    assert second["properties"]["name"] == "merge group 2, pruned"


def test_only_the_largest_groups_are_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(outlines, "MOST_GROUPS", 2)
    coords = np.stack([np.arange(9) * 100, np.zeros(9, int)], axis=1)
    group = [0, 0, 1, 1, 1, 2, 2, 2, 2]
    write_outlines_geojson(tmp_path / "o.geojson", "S1", coords, 100.0, fates_of(group, group))
    content, features = read(tmp_path / "o.geojson")
    assert [feature["properties"]["measurements"]["patches"] for feature in features] == [4, 3]
    assert content["dtcwsi"] == {"merge_groups": 3, "merge_groups_drawn": 2}
    assert features[1]["properties"]["metadata"]["groups"] == "2 of 3, by patches; the 2 largest are drawn"
    assert MOST_GROUPS == 200


def test_a_slide_without_patches_or_groups(tmp_path):
    empty = fates_of([], [])
    for coords, fates in ((np.zeros((0, 2), np.int64), empty), (np.zeros((1, 2), np.int64), fates_of([0], [0]))):
        write_outlines_geojson(tmp_path / "o.geojson", "S1", coords, 1.0, fates)
        assert read(tmp_path / "o.geojson")[1] == []


def test_compressed_files_hold_the_same_and_have_the_names_that_qupath_reads(tmp_path):
    coords, fates = np.array([[0, 0], [100, 0]]), fates_of([0, 0], [0, 0])
    where = (tmp_path / "S1", tmp_path / "S1.outlines", "S1", coords, 100.0, fates)
    plain = write_exports(*where)
    packed = write_exports(*where, exports=Exports(compressed=True))
    assert list(plain) == ["S1.csv", "S1.geojson", "S1.outlines.geojson"]
    assert list(packed) == ["S1.csv", "S1.geojson.gz", "S1.outlines.geojson.gz"]
    for name in ("S1.geojson", "S1.outlines.geojson"):
        assert gzip.decompress(packed[f"{name}.gz"].read_bytes()) == plain[name].read_bytes()
    again = packed["S1.geojson.gz"].read_bytes()
    write_exports(*where, exports=Exports(compressed=True))
    assert packed["S1.geojson.gz"].read_bytes() == again


def test_tissue_is_areas_alone_whatever_was_drawn(tmp_path):
    spike = np.array([[0.0, 0], [100, 0], [100, 100], [0, 100], [0, 0], [-50, 0], [0, 0]])
    flat, short = np.array([[0.0, 0], [9, 0], [4, 0]]), np.array([[0.0, 0], [9, 0]])
    tissue = TissueMask((Polygon(spike), Polygon(flat), Polygon(short)), area_um2=1.0)
    path = tmp_path / "o.geojson"
    write_outlines_geojson(path, "S1", np.zeros((0, 2), np.int64), SIZE, fates_of([], []), tissue)
    (drawn,) = read(path)[1]
    assert drawn["geometry"]["type"] == "Polygon"
    assert shapely.geometry.shape(drawn["geometry"]).area == 10_000
    write_outlines_geojson(
        path, "S1", np.zeros((0, 2), np.int64), SIZE, fates_of([], []), TissueMask(tissue.polygons[1:], 1.0)
    )
    assert read(path)[1] == []
