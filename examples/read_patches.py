"""Read the patches that `dtcwsi heatmap` or `explain` wrote for QuPath, and say where the model looked.

    python examples/read_patches.py heatmaps/S1.geojson [heatmaps/S1.outlines.geojson]

Needs shapely alone; geopandas reads the same files with `geopandas.read_file`.
"""

import gzip
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import shapely
from shapely.geometry import shape


def read(path: Path) -> list[dict[str, Any]]:
    """Read the features of a GeoJSON file, plain or compressed."""
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    features: list[dict[str, Any]] = json.loads(content)["features"]
    return features


def main(patches_file: str, outlines_file: str | None = None) -> None:
    """Print how many patches had which fate, and the pieces that the top tenth of them form."""
    patches = read(Path(patches_file))
    fates = Counter(patch["properties"]["classification"]["name"] for patch in patches)
    print(f"{len(patches)} patches: " + ", ".join(f"{count} {name}" for name, count in sorted(fates.items())))
    measured = [patch["properties"]["measurements"] for patch in patches]
    is_hot = [told["attention percentile"] >= 90 for told in measured]
    hot = [shape(patch["geometry"]) for patch, chosen in zip(patches, is_hot, strict=True) if chosen]
    held = sum(told["attention"] for told, chosen in zip(measured, is_hot, strict=True) if chosen)
    pieces = shapely.get_parts(shapely.union_all(hot))
    print(f"the {len(hot)} at percentile 90 or more hold {held:.1%} of attention and lie in {len(pieces)} pieces:")
    for piece in sorted(pieces, key=lambda each: -each.area)[:3]:
        x, y = piece.centroid.coords[0]
        print(f"  {piece.area:,.0f} level-0 pixels around ({x:,.0f}, {y:,.0f})")
    if outlines_file is not None:
        groups = [one for one in read(Path(outlines_file)) if one["properties"]["name"].startswith("merge group")]
        largest = max((one["properties"]["measurements"]["patches"] for one in groups), default=0)
        print(f"{len(groups)} merge groups are outlined, the largest of {largest} patches")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(f"usage: {sys.argv[0]} PATCHES.geojson[.gz] [OUTLINES.geojson[.gz]]")
    main(*sys.argv[1:])
