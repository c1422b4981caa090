import os
import re

import pytest

from dtcwsi.errors import SlideError, UsageError
from dtcwsi.slides import find_slides, open_slide, slide_files


def test_a_folder_gives_its_slide_files_sorted_and_nothing_else(make_slide, tmp_path):
    for name in ("b.svs", "a.TIF", "c.ome.tiff", "notes.txt", ".hidden.tif"):
        make_slide(name)
    (tmp_path / "slides" / "folder.svs").mkdir()
    assert list(find_slides([tmp_path / "slides"])) == ["a", "b", "c.ome"]


def test_a_named_file_needs_no_slide_suffix_and_may_be_named_twice(make_slide, tmp_path, monkeypatch):
    path = make_slide("scan.bin")
    monkeypatch.chdir(tmp_path)
    assert list(find_slides([path, path.relative_to(tmp_path)])) == ["scan"]


def test_two_files_of_one_id_are_refused(make_slide):
    with pytest.raises(UsageError, match=r"two files have the slide id 'a'.*rename one"):
        find_slides([make_slide("a.svs"), make_slide("a.tif")])


def test_a_place_that_is_not_there_and_an_empty_folder(tmp_path):
    with pytest.raises(UsageError, match=r"nowhere does not exist; expected a slide file or a folder"):
        find_slides([tmp_path / "nowhere"])
    with pytest.raises(UsageError, match=rf"no slide was found in {tmp_path}; expected files ending in"):
        find_slides([tmp_path])


def test_slides_in_subfolders_alone_are_told_of(make_slide, tmp_path):
    for name in ("b", "a"):
        make_slide(f"{name}.svs")
        (tmp_path / "archive" / name).mkdir(parents=True)
        (tmp_path / "slides" / f"{name}.svs").rename(tmp_path / "archive" / name / f"{name}.svs")
    folder = tmp_path / "archive"
    sentence = (
        f"{folder} holds slides only in subfolders (2 in 2, such as {folder}/a/a.svs); name the subfolders: {folder}/*/"
    )
    with pytest.raises(UsageError, match=f"^{re.escape(sentence)}$"):
        find_slides([folder])
    assert list(find_slides(sorted(folder.glob("*/")))) == ["a", "b"]


def test_a_dangling_link_in_a_folder_is_reported_not_passed_over(make_slide, tmp_path):
    make_slide("a.svs")
    (tmp_path / "slides" / "lost.svs").symlink_to(tmp_path / "gone.svs")
    found = find_slides([tmp_path / "slides"])
    assert list(found) == ["a", "lost"]
    with pytest.raises(SlideError, match="is a link to a file that does not exist"):
        open_slide(found["lost"])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user without rights")
def test_a_folder_that_may_not_be_read(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(folder.stat().st_mode | 0o055)
    os.seteuid(65534)
    try:
        with pytest.raises(UsageError, match=r"cannot be read \(Permission denied\)"):
            find_slides([closed])
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("compression", ["webp", "jpeg2000", "jpegxl"])
def test_compressions_that_openslide_lacks_fall_to_tifffile(tissue_picture, tmp_path, compression):
    import tifffile

    tifffile.imwrite(
        tmp_path / "a.tif",
        tissue_picture(512, [(256, 256, 200)]),
        tile=(256, 256),
        compression=compression,
        photometric="rgb",
        resolution=(2e4, 2e4),
        resolutionunit="CENTIMETER",
        metadata=None,
    )
    slide = open_slide(tmp_path / "a.tif")
    assert slide.info.reader == "tiff"
    assert slide.info.spacing_um == pytest.approx(0.5)
    assert slide.read((200, 200), (64, 64), (64, 64)).std() > 5


def test_slide_files_of_a_download_are_listed_with_those_of_one_name(tmp_path):
    for place in ("x.svs", "f1/x.svs", "f1/logs/y.svs", "f2/z.svs", ".cache/h.svs", "f2/notes.txt"):
        (tmp_path / place).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / place).write_bytes(b"")
    (tmp_path / "f2" / "linked.svs").symlink_to(tmp_path / "x.svs")
    (tmp_path / "f2" / "x.svs").symlink_to(tmp_path / "x.svs")  # the same slide, whichever way it is reached
    expected = [tmp_path / place for place in ("f1/x.svs", "f2/linked.svs", "f2/z.svs", "x.svs")]
    assert slide_files([tmp_path, tmp_path / "f2", tmp_path / "x.svs"]) == expected


def test_a_download_without_slides_is_refused(tmp_path):
    with pytest.raises(UsageError, match=rf"no slide was found in {tmp_path}; expected files ending in"):
        slide_files([tmp_path])
    with pytest.raises(UsageError, match=r"gone does not exist"):
        slide_files([tmp_path / "gone"])
