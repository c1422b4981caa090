import csv
import subprocess
import sys

import pytest

from dtcwsi.extraction import Shard


def _ids(path, key="slide_id"):
    with path.open(newline="") as file:
        return [row[key] for row in csv.DictReader(file)]


@pytest.mark.slow
def test_shards_at_once_leave_the_tables_of_one_run(make_slide, write_slide, tissue_picture, tmp_path):
    """Three shards, the first one twice: every slide is done once, and every list is whole."""
    for number in range(8):
        make_slide(f"s{number}.tif")
    for number in range(3):
        write_slide(tmp_path / "slides" / f"glass{number}.tif", tissue_picture(1024, []))
        (tmp_path / "slides" / f"bad{number}.svs").write_text("no slide")
    names = [path.stem for path in (tmp_path / "slides").iterdir()]
    assert all(any(Shard(number, 3).holds(name) for name in names) for number in (1, 2, 3))
    command = [sys.executable, "-m", "dtcwsi", "extract", tmp_path / "slides", "--out", tmp_path / "out"]
    command += ["--encoder", "colour-texture", "--workers", "0", "--patch-size", "64", "--json", "--shard"]
    shards = [
        subprocess.Popen([*map(str, command), f"{number}/3"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for number in (1, 1, 2, 3)
    ]
    told = [shard.communicate(timeout=200) for shard in shards]
    assert {shard.returncode for shard in shards} <= {0, 1}, told
    out = tmp_path / "out"
    good = sorted(name for name in names if not name.startswith("bad"))
    assert _ids(out / "slides.csv") == good
    assert _ids(out / "empty.csv") == ["glass0", "glass1", "glass2"]
    assert _ids(out / "failed.csv", "slide") == ["bad0", "bad1", "bad2"]
    assert sorted(path.stem for path in (out / "features").rglob("*.h5")) == good
    encoded = sum(err.count("mm2 tissue") for _, err in told)
    assert encoded == len(good)
