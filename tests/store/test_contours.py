import json

import numpy as np
import pytest

from dtcwsi.store.contours import peek_provenance, read_contours, read_provenance, write_contours
from dtcwsi.types import Polygon, TissueMask

SQUARE = np.array([(0.0, 0.0), (800.25, 0.0), (800.25, 800.0), (0.0, 800.0)])
MASK = TissueMask((Polygon(SQUARE, (SQUARE / 4 + 100,)), Polygon(SQUARE + 2000)), 640_000.0)


def test_contours_come_back_and_are_geojson_that_others_open(tmp_path):
    path = tmp_path / "tissue" / "a.geojson"
    write_contours(path, MASK, {"digest": "d", "parameters": {"x": 1}})
    back = read_contours(path)
    assert back.area_um2 == MASK.area_um2
    np.testing.assert_allclose(back.polygons[0].holes[0], SQUARE / 4 + 100, atol=0.01)
    np.testing.assert_allclose(back.polygons[1].outer, SQUARE + 2000)
    content = json.loads(path.read_text())
    assert content["type"] == "FeatureCollection"
    for feature in content["features"]:
        assert feature["geometry"]["type"] == "Polygon"
        assert all(ring[0] == ring[-1] for ring in feature["geometry"]["coordinates"])
    assert read_provenance(path) == {"digest": "d", "parameters": {"x": 1}, "area_um2": 640_000.0}


def test_whether_polygons_may_overlap_comes_back(tmp_path):
    for apart in (True, False):
        write_contours(tmp_path / "a", TissueMask(MASK.polygons, 1.0, may_overlap=apart), {})
        assert read_contours(tmp_path / "a").may_overlap is apart


def test_no_tissue_comes_back_as_no_tissue(tmp_path):
    write_contours(tmp_path / "a", TissueMask((), 0.0), {})
    assert read_contours(tmp_path / "a") == TissueMask((), 0.0)


@pytest.mark.parametrize("text", [None, "", "{", "[1]", "3", '{"dtcwsi": 4}', '{"features": []}', "\x00" * 40])
def test_a_damaged_file_has_no_provenance(tmp_path, text):
    if text is not None:
        (tmp_path / "a").write_text(text)
    assert read_provenance(tmp_path / "a") == {}


@pytest.mark.parametrize("text", ["", "{", '{"dtcwsi": 4}', '{"dtcwsi": {"a": ', '{"features": []}', "\x00" * 40, None])
def test_a_peek_at_a_damaged_beginning_finds_no_provenance(tmp_path, text):
    if text is not None:
        (tmp_path / "a").write_text(text)
    assert peek_provenance(tmp_path / "a") == {}


def test_a_peek_finds_what_a_whole_reading_finds(tmp_path):
    many = TissueMask(tuple(Polygon(SQUARE + 10 * number) for number in range(300)), 1.0)
    for name, provenance in (("short", {"parameters": {"x": 1}}), ("long", {"note": "é" * 20_000})):
        write_contours(tmp_path / name, many, provenance)
        assert peek_provenance(tmp_path / name) == read_provenance(tmp_path / name) != {}
    laid_out_anew = json.dumps(json.loads((tmp_path / "short").read_text()), indent=2)
    (tmp_path / "short").write_text(laid_out_anew)
    assert peek_provenance(tmp_path / "short")["parameters"] == {"x": 1}
    (tmp_path / "short").write_text(laid_out_anew[:-9])
    assert peek_provenance(tmp_path / "short") == {}
