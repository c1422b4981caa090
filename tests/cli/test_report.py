import json
import re
import shutil


def test_runs_side_by_side(run, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "again")
    done = run("report", trained, tmp_path / "again", "--out", tmp_path / "both.html", "--title", "Twice", "--json")
    assert done.status == 0
    told = json.loads(done.out)
    page = (tmp_path / "both.html").read_text()
    assert told["bytes"] == (tmp_path / "both.html").stat().st_size
    assert "<h1>Twice</h1>" in page
    table = re.search(r'<table id="models">.*?</table>', page, re.DOTALL).group()
    assert table.count('<th scope="row">') == 2


def test_a_fold_that_was_deleted_is_told(run, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "less")
    shutil.rmtree(tmp_path / "less" / "fold1")
    assert run("report", tmp_path / "less", "--out", tmp_path / "less.html").status == 0
    assert run("report", trained, "--out", tmp_path / "whole.html").status == 0
    assert "The folder of fold 1 of dtc-abmil is gone" in (tmp_path / "less.html").read_text()
    assert "is gone" not in (tmp_path / "whole.html").read_text()


def test_the_extraction_gives_seconds_and_thumbnails(run, trained, tmp_path, slide_bytes):
    extraction = tmp_path / "extraction"
    extraction.mkdir()
    slide_ids = [line.split(",")[0] for line in (trained / "folds.csv").read_text().splitlines()[1:]]
    for folder in ("made", "moved"):
        (tmp_path / folder).mkdir()
    (tmp_path / "moved" / f"{slide_ids[0]}.tif").write_bytes(slide_bytes)
    (tmp_path / "made" / f"{slide_ids[1]}.tif").write_bytes(slide_bytes)
    (extraction / "slides").mkdir()
    (extraction / "slides" / f"{slide_ids[2]}.tif").write_bytes(slide_bytes)
    paths = {
        slide_ids[0]: "/nowhere.tif",
        slide_ids[1]: tmp_path / "made" / f"{slide_ids[1]}.tif",
        slide_ids[2]: f"elsewhere/{slide_ids[2]}.tif",
    }
    rows = "".join(f"{slide},{path},75\n" for slide, path in paths.items())
    (extraction / "slides.csv").write_text("slide_id,path,seconds_read\n" + rows)
    out = tmp_path / "report.html"
    hard = ["--extraction", extraction, "--slides", tmp_path / "moved"]
    assert run("report", trained, "--out", out, *hard).status == 0
    page = out.read_text()
    assert "3 min 45 s" in page
    shown = re.findall(r'alt="Thumbnail of ([^"]+)"', page)
    listed = re.findall(r'<th scope="row">([^<]+)</th>\n<td>(?:<img|<span class="soft">no slide)', page)
    assert sorted(shown) == sorted(set(paths) & set(listed))
    assert "<h1>dtc-abmil</h1>" in page


def test_what_cannot_be_is_refused_before_anything_is_written(run, trained, tmp_path):
    out = tmp_path / "report.html"
    done = run("report", tmp_path, "--out", out)
    assert done.status == 2
    assert "expected the folder of a finished run" in done.err
    done = run("report", trained, "--out", out, "--extraction", tmp_path)
    assert done.status == 2
    assert "holds no slides.csv; expected the --out folder of `dtcwsi extract`" in done.err
    assert run("report", trained, "--out", tmp_path).status == 2
    assert not out.exists()
