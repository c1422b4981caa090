import json
from pathlib import Path

import numpy as np
import pytest

from dtcwsi.errors import SlideError
from dtcwsi.store.outlines import find_outline, read_outlines
from dtcwsi.types import SlideInfo

INFO = SlideInfo("a", Path("a.svs"), 1000, 800, 0.5, (1.0,), "test")
BOX = [[10, 10], [110, 10], [110, 60], [10, 60], [10, 10]]
HOLE = [[20, 20], [30, 20], [30, 30], [20, 20]]


def _feature(geometry, **properties):
    return {"type": "Feature", "id": "6f", "geometry": geometry, "properties": properties}


def _polygon(*rings):
    return {"type": "Polygon", "coordinates": list(rings)}


@pytest.fixture
def read(tmp_path):
    def call(content):
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / "a.geojson").write_text(text)
        return read_outlines(find_outline(tmp_path, "a", (".geojson",)), INFO)

    return call


def test_the_layouts_that_tools_write_give_the_same_polygon(read):
    feature = _feature(
        _polygon(BOX, HOLE), objectType="annotation", classification={"name": "Tumor", "color": [1, 2, 3]}
    )
    for content in (
        [feature],
        feature,
        {"type": "FeatureCollection", "features": [feature], "crs": {"name": "EPSG:3857"}},
    ):
        (found,) = read(content)
        np.testing.assert_array_equal(found.polygon.outer, BOX[:-1])
        np.testing.assert_array_equal(found.polygon.holes[0], HOLE[:-1])
        assert found.classes == ("Tumor",)


def test_several_polygons_lines_points_and_heights(read):
    many = {"type": "MultiPolygon", "coordinates": [[BOX], [[[x, y, 0.0] for x, y in BOX], HOLE]]}
    line = {"type": "LineString", "coordinates": BOX}
    both = {"type": "GeometryCollection", "geometries": [_polygon(BOX), line]}
    found = read([_feature(many, classification={"names": ["Tumor", "Necrosis"]}), _feature(line), _feature(both)])
    assert [len(one.polygon.holes) for one in found] == [0, 1, 0]
    assert [one.classes for one in found] == [("Tumor", "Necrosis"), ("Tumor", "Necrosis"), ()]
    assert all(one.polygon.outer.shape == (4, 2) for one in found)


def test_an_empty_collection_has_no_outlines_and_a_bare_geometry_has_one(read):
    assert read({"type": "FeatureCollection", "features": []}) == []
    assert len(read(_polygon(BOX))) == 1
    assert read(_feature(_polygon(BOX), classification="Tumor"))[0].classes == ("Tumor",)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "'a.geojson' is no GeoJSON of polygons"),
        ("[1]", "'a.geojson' is no GeoJSON of polygons"),
        ({"type": "FeatureCollection"}, "is no GeoJSON of polygons .KeyError: 'features'"),
        (_polygon([[0, 0], [1, float("nan")], [1, 1]]), "a coordinate is not finite"),
        (_polygon([["a", "b"], [0, 1], [1, 1]]), "is no GeoJSON of polygons"),
        (
            [_feature({"type": "Point", "coordinates": [1, 1]})],
            r"has no polygon among its entries \(1\); expected areas",
        ),
        (
            _polygon([[x * 20, y] for x, y in BOX]),
            r"reaches from \(200, 10\) to \(2200, 60\), beyond the slide's \(1000,",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_sentence(read, content, sentence):
    with pytest.raises(SlideError, match=sentence):
        read(content)


def test_a_slide_has_one_file(tmp_path):
    with pytest.raises(SlideError, match=r"'a' has no file in .*; expected a with the suffix .json or .png"):
        find_outline(tmp_path, "a", (".json", ".png"))
    for suffix in (".json", ".png"):
        (tmp_path / f"a{suffix}").write_text("x")
    with pytest.raises(SlideError, match=r"'a' has 2 files in .* \(a.json, a.png\); expected one: remove the others"):
        find_outline(tmp_path, "a", (".json", ".png"))


def test_a_file_that_changed_since_is_not_read_as_what_it_was(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(_polygon(BOX)))
    found = find_outline(tmp_path, "a", (".json",))
    assert len(read_outlines(found, INFO)) == 1
    (tmp_path / "a.json").write_text(json.dumps(_polygon(HOLE)))
    with pytest.raises(SlideError, match="is not what the slide was cut with; run `dtcwsi patch`"):
        read_outlines(found, INFO)
    found.path.unlink()
    with pytest.raises(SlideError, match="cannot be read .*; put it back"):
        read_outlines(found, INFO)
