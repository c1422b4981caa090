import csv
import os
import re

import numpy as np
import pytest

from dtcwsi.patches import GridParameters

GRID = GridParameters(patch_size_px=64)


def _cut_in_tiles(path, whole):
    """The directory of the full-size level is there; some of its tiles and the other levels are not."""
    path.write_bytes(whole[: len(whole) // 3])


def _cut_early(path, whole):
    path.write_bytes(whole[:150])


def _cut_at_the_end(path, whole):
    path.write_bytes(whole[:-3000])


def _empty(path, whole):
    path.write_bytes(b"")


def _text(path, whole):
    path.write_text("slide_id,label\na,1\n")


def _random(path, whole):
    path.write_bytes(np.random.default_rng(0).bytes(50_000))


def _tiff_magic_then_random(path, whole):
    path.write_bytes(b"II*\0" + np.random.default_rng(0).bytes(50_000))


def _spoilt_tiles(path, whole):
    middle = len(whole) // 3
    path.write_bytes(whole[:middle] + bytes(len(whole) // 4) + whole[middle + len(whole) // 4 :])


def _folder(path, whole):
    path.mkdir()


def _dangling(path, whole):
    path.symlink_to(path.with_name("gone"))


def _absent(path, whole):
    pass


BAD = {
    "cut_in_tiles.tif": (_cut_in_tiles, "copy it again$"),
    "cut_early.tif": (_cut_early, "copy it again"),
    "cut_at_the_end.tif": (_cut_at_the_end, "copy it again$"),
    "cut.svs": (_cut_in_tiles, "copy it again$"),
    "empty.svs": (_empty, r"^'empty.svs' is empty \(0 bytes\); expected a whole slide: copy it again$"),
    "text.svs": (_text, "^'text.svs' is no slide that OpenSlide or tifffile can read; expected a whole file"),
    "random.ndpi": (_random, "^'random.ndpi' is no slide that OpenSlide or tifffile can read"),
    "magic.tif": (_tiff_magic_then_random, r"^'magic.tif' .*copy it again"),
    "spoilt.tif": (_spoilt_tiles, r"^'spoilt.tif' .*copy it again"),
    "folder.svs": (_folder, "is a folder; expected a slide file"),
    "dangling.svs": (_dangling, "is a link to a file that does not exist; expected a slide file"),
    "absent.svs": (_absent, "absent.svs does not exist; expected a slide file"),
}


@pytest.fixture
def bad_slides(tmp_path, slide_bytes, write_slide, tissue_picture):
    folder = tmp_path / "bad"
    folder.mkdir()
    for name, (spoil, _) in BAD.items():
        spoil(folder / name, slide_bytes)
    picture = tissue_picture(1024, [(500, 500, 400)])
    write_slide(folder / "bare.tif", picture, spacing_um=None)
    write_slide(folder / "print.tif", picture, spacing_um=25_400 / 300)
    expected = {name: message for name, (_, message) in BAD.items()}
    expected["bare.tif"] = (
        "^'bare.tif' records no um/px; pass --spacing or add a spacing_um column to the cohort table$"
    )
    expected["print.tif"] = r"^'print.tif' records 84.666\d um/px; expected 0.05 to 20; pass --spacing"
    return {folder / name: message for name, message in expected.items()}


@pytest.mark.parametrize("workers", [0, 1])
def test_every_bad_slide_is_one_sentence_and_the_good_ones_are_done(
    extract, bad_slides, make_slide, tmp_path, capfd, workers
):
    good = [make_slide("0_first.tif"), make_slide("zz_last.tif")]
    by_id = {path.stem: message for path, message in bad_slides.items()}
    summary = extract(good[0], *bad_slides, good[1], grid=GRID, workers=workers)
    assert set(summary.results) == {"0_first", "zz_last"}
    told = {slide_id: reason for slide_id, _, reason in summary.failed}
    assert set(told) == set(by_id)
    for slide_id, message in by_id.items():
        assert re.search(message, told[slide_id]), (slide_id, told[slide_id])
        assert "\n" not in told[slide_id]
        assert "unexpected" not in told[slide_id]
    with (tmp_path / "out" / "failed.csv").open(newline="") as file:
        written = {row["slide"]: (row["step"], row["reason"]) for row in csv.DictReader(file)}
    assert written == {slide_id: (step, reason) for slide_id, step, reason in summary.failed}
    assert [path for path in (tmp_path / "out").rglob("*") if ".part-" in path.name] == []
    noise = capfd.readouterr()
    assert "Traceback" not in noise.err
    assert "tifffile" not in noise.err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user without rights")
def test_a_slide_that_may_not_be_read(extract, make_slide, tmp_path):
    closed, good = make_slide("closed.svs"), make_slide("good.tif")
    closed.chmod(0)
    (tmp_path / "out").mkdir()
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(folder.stat().st_mode | 0o055)
    (tmp_path / "out").chmod(0o777)
    os.seteuid(65534)
    try:
        summary = extract(closed, good, grid=GRID)
    finally:
        os.seteuid(0)
    assert summary.failed == [
        ("closed", "open", "'closed.svs' cannot be read (Permission denied); check its permissions")
    ]
    assert list(summary.results) == ["good"]
