import csv
import json
import os
import re
import signal
import subprocess
import sys
import time

import h5py
import pytest
import torch


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_extract_writes_one_file_a_slide_and_lists_the_empty_one(run, slides, tmp_path):
    done = run("extract", slides, "--out", tmp_path, "--encoder", "colour-texture", "--workers", "0", "--json")
    assert done.status == 0
    facts = json.loads(done.out)
    assert facts["finished"] == 3
    assert list(facts["without_patches"]) == ["glass"]
    assert [row["slide_id"] for row in rows_of(tmp_path / "empty.csv")] == ["glass"]
    with h5py.File(tmp_path / "features/colour-texture/one.h5") as file:
        assert file["features"].shape == (len(file["coords"]), 48)
        assert len(file["coords"]) > 10
    with h5py.File(tmp_path / "features/colour-texture/glass.h5") as file:
        assert file["features"].shape == (0, 48)


def test_the_steps_alone_lead_to_the_same_features(run, slides, tmp_path):
    whole, steps = tmp_path / "whole", tmp_path / "steps"
    cut = ("--patch-size", "128", "--min-tissue", "0.9")
    assert run("extract", slides, "--out", whole, "--encoder", "colour-texture", "--workers", "0", *cut).status == 0
    assert run("segment", slides, "--out", steps).status == 0
    assert not (steps / "patches").exists()
    assert run("patch", slides, "--out", steps, *cut).status == 0
    assert not (steps / "features").exists()
    # A worker forked from a process that has used OpenCV's threads would hang here.
    assert run("encode", slides, "--out", steps, "--encoder", "colour-texture", "--workers", "1").status == 0
    one, other = (folder / "features/colour-texture/one.h5" for folder in (whole, steps))
    assert one.read_bytes() == other.read_bytes()


def test_encode_without_patches_says_what_to_run(run, slides, tmp_path):
    done = run("encode", slides / "one.tif", "--out", tmp_path, "--encoder", "colour-texture")
    assert done.status == 1
    assert "'one.tif' has no patches" in done.err
    assert "run `dtcwsi patch`" in done.err


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
def test_an_encoder_of_another_um_is_refused_unless_asked_for(run, slides, tmp_path):
    network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    torch.jit.save(torch.jit.script(network), tmp_path / "mine.pt")
    (tmp_path / "mine.json").write_text('{"spacing_um": [1.0], "input_px": 32}')
    told = "the encoder mine was trained at 1 um/px and these patches are read at 0.5; use --patch-spacing 1"
    common = ("--encoder", tmp_path / "mine.pt", "--workers", "0", "--out")
    done = run("extract", slides, *common, tmp_path / "out")
    assert done.status == 2
    assert told in done.err
    assert run("extract", slides, *common, tmp_path / "asked", "--any-spacing").status == 0
    fitting = run("extract", slides, *common, tmp_path / "fits", "--patch-spacing", "1", "--patch-size", "16")
    assert fitting.status == 0
    assert "mine sees 32 px, to which patches of 16 px are enlarged; --patch-size 32" in fitting.err
    assert run("patch", slides, "--out", tmp_path / "out").status == 0
    encoded = run("encode", slides, *common, tmp_path / "out")
    assert encoded.status == 1
    assert told in encoded.err
    assert run("encode", slides, *common, tmp_path / "out", "--any-spacing").status == 0
    with h5py.File(tmp_path / "out/features/mine/one.h5") as file:
        assert file.attrs["encoder"] == "mine"
        assert file["features"].shape[1] == 3


def test_bad_slides_are_listed_and_the_rest_is_done(run, slides, tmp_path):
    folder = tmp_path / "slides"
    folder.mkdir()
    (folder / "good.tif").symlink_to(slides / "two.tif")
    (folder / "text.svs").write_text("not a slide")
    done = run("extract", folder, "--out", tmp_path / "out", "--encoder", "colour-texture", "--workers", "0")
    assert done.status == 1
    assert "1 of 2 slides finished" in done.err
    assert [row["slide"] for row in rows_of(tmp_path / "out/failed.csv")] == ["text"]
    assert "Traceback" not in done.err


def test_an_absent_slide_among_others_is_one_failure(run, slides, tmp_path):
    done = run("patch", slides / "one.tif", tmp_path / "gone.tif", "--out", tmp_path / "out")
    assert done.status == 1
    assert [row["slide"] for row in rows_of(tmp_path / "out/failed.csv")] == ["gone"]
    assert (tmp_path / "out/patches/one.h5").is_file()


def test_a_slide_that_may_not_be_read_is_one_failure(run, slides, tmp_path, monkeypatch):
    """The command's parser must leave it to the batch; root may read all, so what it asks is answered here."""
    closed = tmp_path / "closed.tif"
    closed.write_bytes(b"")
    access = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode, **more: str(path) != str(closed) and access(path, mode, **more)
    )
    done = run("patch", slides / "one.tif", closed, "--out", tmp_path / "out")
    assert done.status == 1
    assert [row["slide"] for row in rows_of(tmp_path / "out/failed.csv")] == ["closed"]
    assert (tmp_path / "out/patches/one.h5").is_file()


def test_a_clean_run_leaves_empty_tables(run, slides, tmp_path):
    assert run("patch", slides / "one.tif", "--out", tmp_path).status == 0
    assert (tmp_path / "failed.csv").read_text() == "slide,step,reason\n"
    assert (tmp_path / "empty.csv").read_text() == "slide_id,path,reason\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["extract", "nowhere", "--out", "out"], "nowhere does not exist; expected a slide file or a folder"),
        (["extract", "--out", "out"], "no slides were named"),
        (["extract", "SLIDES", "--out", "out", "--encoder", "effnet-lite0"], "near names: efficientnet-lite0"),
        (["extract", "SLIDES", "--out", "out", "--patch-size", "2"], "--patch-size is 2; expected at least 8"),
        (
            ["extract", "SLIDES", "--out", "out", "--patch-size", "100000"],
            "--patch-size is 100000; expected at least 8",
        ),
        (["extract", "SLIDES", "--out", "out", "--seg-spacing", "1e9"], "--seg-spacing is 1e+09; expected 0.05 to 200"),
        (["extract", "SLIDES", "--out", "out", "--max-pen", "2"], "--max-pen is 2; expected a share"),
        (
            ["extract", "SLIDES", "--out", "out", "--saturation", "300"],
            "--saturation is 300; expected 0 to 255",
        ),
        (["extract", "SLIDES", "--out", "file"], "cannot write to"),
        (
            ["extract", "SLIDES", "--out", "out", "--device", "cuda:9"],
            "the device 'cuda:9' cannot be had here; expected",
        ),
        (["extract", "SLIDES", "--out", "out", "--workers", "-1"], "Invalid value for '--workers'"),
        (["extract", "SLIDES", "--out", "out", "--spacing", "0"], "got --spacing 0; expected 0.05 to 20 um"),
        (["segment", "SLIDES", "--out", "out", "--spacing", "40"], "got --spacing 40; expected 0.05 to 20 um"),
        (["extract", "SLIDES", "--out", "out", "--spacing", "nan"], "got --spacing nan; expected 0.05 to 20 um"),
        (["extract", "SLIDES"], "Missing option '--out'"),
        (["extract", "SLIDES", "--out", "out", "--shard", "0/4"], "got --shard 0/4; expected I/N with I from 1 to N"),
        (["segment", "SLIDES", "--out", "out", "--shard", "5/4"], "got --shard 5/4; expected I/N with I from 1 to N"),
        (["encode", "SLIDES", "--out", "out", "--shard", "a/b"], "such as 3/16 for the third of 16 shares: number the"),
    ],
)
def test_what_cannot_begin_exits_with_2_and_one_sentence(run, slides, tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    done = run(*[slides if word == "SLIDES" else word for word in arguments])
    assert done.status == 2
    assert sentence in " ".join(done.err.replace("│", " ").split())
    assert not list(tmp_path.glob("out/*"))
    assert "Traceback" not in done.err


def test_spacing_column_of_the_cohort_replaces_what_the_slide_records(run, slides, tmp_path):
    table = tmp_path / "cohort.csv"
    table.write_text(f"slide_id,label,path,spacing_um\none,a,{slides / 'one.tif'},0.25\ntwo,b,{slides / 'two.tif'},\n")
    assert run("patch", "--cohort", table, "--out", tmp_path / "out").status == 0
    spacing = {row["slide_id"]: float(row["spacing_um"]) for row in rows_of(tmp_path / "out/slides.csv")}
    assert spacing == {"one": 0.25, "two": 0.5}


def test_a_cohort_of_extract_needs_no_labels_and_says_what_it_does_not_use(run, slides, tmp_path):
    table = tmp_path / "cohort.csv"
    table.write_text("slide_id,MPP\none,0.25\ntwo,\n")
    done = run("segment", slides, "--cohort", table, "--out", tmp_path / "out")
    assert done.status == 0
    told = f"warning: the column 'MPP' of {table} is not used; if it is meant as 'spacing_um', rename it"
    assert told in done.err
    table.write_text("slide_id,spacing_um\none,0.25\ntwo,\n")
    assert "warning" not in run("segment", slides, "--cohort", table, "--out", tmp_path / "out").err
    assert {row["spacing_um"] for row in rows_of(tmp_path / "out/slides.csv")} == {"0.25", "0.5"}


def test_rows_of_the_cohort_that_no_slide_has_are_told_of(run, slides, tmp_path):
    table = tmp_path / "cohort.csv"
    table.write_text("slide_id,label,spacing_um\none,a,\ntwoo,b,0.25\n")
    done = run("segment", slides, "--cohort", table, "--out", tmp_path / "out")
    assert done.status == 0
    assert f"warning: 1 row of {table} for no slide given (twoo); 2 slides given without a row" in done.err
    done = run("segment", slides / "one.tif", slides / "two.tif", "--out", tmp_path / "out")
    assert "warning" not in done.err


def test_a_cohort_row_must_name_its_own_file(run, slides, tmp_path):
    table = tmp_path / "cohort.csv"
    table.write_text(f"slide_id,label,path\nother,a,{slides / 'one.tif'}\n")
    done = run("patch", "--cohort", table, "--out", tmp_path / "out")
    assert done.status == 2
    assert "slide 'other' has the path one.tif; ids are file names without suffix" in done.err


def test_a_plan_is_printed_and_nothing_is_done(run, slides, tmp_path):
    out = tmp_path / "out"
    common = (slides, "--out", out, "--encoder", "colour-texture", "--workers", "0")
    done = run("extract", *common, "--plan")
    assert done.status == 0
    assert done.out.splitlines()[0] == "plan: 3 slides: 0 done, 3 left"
    assert "  estimate of what is left: " in done.out
    assert "3 slides by the mean of 3 slides" in done.out
    assert "3 slides opened to try out" in done.out
    assert not out.exists()
    assert run("extract", slides / "one.tif", *common[1:]).status == 0
    facts = json.loads(run("extract", *common, "--plan", "--json").out)
    assert (facts["slides"], facts["done"], facts["left"], facts["shard"]) == (3, 1, 2, None)
    estimate = facts["estimate"]
    assert (estimate["slides_by_mean"], estimate["mean_of_slides"], estimate["timed_slides"]) == (2, 3, 1)
    assert estimate["hours"] > 0
    assert estimate["gigabytes"] == pytest.approx(estimate["patches"] * (20 + 48 * 4 + 16) / 1e9, rel=0.05)
    assert not (out / "features/colour-texture/two.h5").exists()


def test_without_a_basis_a_plan_names_no_number(run, tmp_path):
    (tmp_path / "bad.svs").write_text("no slide")
    done = run("segment", tmp_path / "bad.svs", "--out", tmp_path / "out", "--plan")
    assert done.status == 0
    assert "no estimate: nothing was counted or timed here yet" in done.out
    assert "  1 of 1 slide tried out failed, the first: " in done.out
    facts = json.loads(run("patch", tmp_path / "bad.svs", "--out", tmp_path / "out", "--plan", "--json").out)
    assert [facts["estimate"][name] for name in ("patches", "hours", "gigabytes")] == [None, None, None]


def test_a_plan_warns_of_a_disk_that_is_too_small(run, slides, tmp_path, monkeypatch):
    import shutil

    assert run("segment", slides, "--out", tmp_path).status == 0
    usage = type(shutil.disk_usage("/"))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 100))
    done = run("patch", slides, "--out", tmp_path, "--plan")
    assert f"are to be written and 0.0 MB are free for {tmp_path}; free space first" in done.out


def test_encode_without_patches_is_told_in_the_plan(run, slides, tmp_path):
    done = run("encode", slides, "--out", tmp_path, "--encoder", "colour-texture", "--plan")
    assert done.status == 0
    assert "3 slides will fail, the first: 'glass.tif' has no patches" in done.out


def test_shards_do_every_slide_once_and_an_empty_one_is_no_failure(run, slides, tmp_path):
    common = (slides, "--out", tmp_path, "--json")
    told = [json.loads(run("patch", *common, "--shard", f"{number}/5").out) for number in range(1, 6)]
    assert sum(facts["slides"] for facts in told) == sum(facts["done_now"] for facts in told) == 3
    assert 0 in [facts["slides"] for facts in told]
    assert [row["slide_id"] for row in rows_of(tmp_path / "slides.csv")] == ["glass", "one", "two"]
    again = run("patch", slides, "--out", tmp_path, "--shard", "1/1")
    assert again.status == 0
    assert "plan: 3 slides of 3 in shard 1/1: 3 done, 0 left" in again.err
    assert "3 of 3 slides finished (0 now, 3 kept)" in again.err


def test_the_end_tells_first_reasons_seconds_and_where_the_lists_are(run, slides, tmp_path):
    folder = tmp_path / "slides"
    folder.mkdir()
    for number in range(7):
        (folder / f"bad{number}.svs").write_text("not a slide")
    (folder / "good.tif").symlink_to(slides / "two.tif")
    common = (folder, "--out", tmp_path / "out", "--encoder", "colour-texture", "--workers", "0")
    said = run("extract", *common).err
    end = said[said.index("1 of 8 slides finished (1 now, 0 kept)") :]
    assert re.search(r"now: \d+ patches encoded, 0\.\d MB of features", end)
    assert re.search(r"time: [\d.]+ s, of which tissue [\d.]+ s, patches [\d.]+ s, read [\d.]+ s, encode [\d.]+ s", end)
    assert end.count("failed: bad") == 5
    assert "... and 2 more" in end
    assert f"lists: {tmp_path / 'out/slides.csv'}, {tmp_path / 'out/failed.csv'}, {tmp_path / 'out/empty.csv'}" in end
    facts = json.loads(run("extract", *common, "--json").out)
    assert (facts["kept"], facts["patches_encoded"], len(facts["failed"])) == (1, 0, 7)


def test_ctrl_c_exits_with_130_and_keeps_what_was_finished(slides, tmp_path):
    many = tmp_path / "many"
    many.mkdir()
    for number in range(300):
        (many / f"s{number:03d}.tif").symlink_to(slides / "one.tif")
    command = [
        sys.executable,
        "-m",
        "dtcwsi",
        "extract",
        many,
        "--out",
        tmp_path / "out",
        "--encoder",
        "colour-texture",
    ]
    process = subprocess.Popen(
        [*map(str, command), "--workers", "0"],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # shells ignore it for background jobs
    )
    try:
        features = tmp_path / "out/features/colour-texture"
        deadline = time.monotonic() + 60
        while len(list(features.glob("*.h5"))) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1]
    finally:
        process.kill()
    assert process.returncode == 130
    assert "what was finished is kept" in said
    assert "Traceback" not in said
    assert not list((tmp_path / "out").rglob(".*.part-*"))
    for path in features.glob("*.h5"):
        with h5py.File(path) as file:
            assert len(file["features"]) == len(file["coords"])


def test_tissue_and_regions_from_outside(run, slides, tmp_path):
    given = tmp_path / "given"
    given.mkdir()
    box = [[256, 256], [1024, 256], [1024, 768], [256, 768], [256, 256]]
    feature = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [box]}, "properties": {}}
    (given / "one.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    common = (slides / "one.tif", slides / "two.tif", "--out", tmp_path / "out")
    assert run("segment", *common, "--tissue-from", given).status == 1
    done = run("patch", *common, "--tissue-from", given, "--json")
    assert done.status == 1
    facts = json.loads(done.out)
    assert (facts["finished"], facts["patches"]) == (1, 6)
    assert [(row["slide"], row["step"]) for row in rows_of(tmp_path / "out/failed.csv")] == [("two", "open")]
    assert "'two' has no file in" in done.err
    chosen = run("patch", *common, "--regions", given, "--region-class", "Tumor", "--json")
    assert list(json.loads(chosen.out)["without_patches"]) == ["one"]
    without = run("patch", *common, "--regions", given, "--region-without", "Tumor", "--json")
    assert json.loads(without.out)["patches"] > 6


def test_folders_of_outlines_that_are_not_there_begin_nothing(run, slides, tmp_path):
    for option in ("--tissue-from", "--regions"):
        done = run("patch", slides, "--out", tmp_path / "out", option, tmp_path / "nowhere")
        assert (done.status, "which does not exist; expected a folder" in done.err) == (2, True)
    done = run("patch", slides, "--out", tmp_path / "out", "--region-class", "Tumor")
    assert (done.status, "expected --regions FOLDER" in done.err) == (2, True)


def test_patches_are_sifted_by_their_quality(run, slides, tmp_path):
    common = ("patch", slides / "one.tif", "--out", tmp_path, "--workers", "0", "--json")
    whole = json.loads(run(*common).out)["patches"]
    assert json.loads(run(*common, "--quality").out)["patches"] == whole
    with h5py.File(tmp_path / "patches/one.h5") as file:
        assert len(file["sharpness"]) == len(file["pen"]) == whole
    assert json.loads(run(*common, "--min-sharpness", "1e9").out)["patches"] == 0
    assert json.loads(run(*common, "--max-pen", "0.1").out)["patches"] == whole
    assert "--max-pen is 2; expected a share of pixels" in run(*common, "--max-pen", "2").err


def test_stain_is_normalised_into_features_of_their_own(run, slides, tmp_path):
    common = ("extract", slides / "one.tif", "--out", tmp_path, "--encoder", "colour-texture", "--workers", "0")
    assert run(*common).status == 0
    assert run(*common, "--stain", "reinhard").status == 0
    files = [tmp_path / "features" / name / "one.h5" for name in ("colour-texture", "colour-texture+reinhard")]
    with h5py.File(files[0]) as plain, h5py.File(files[1]) as stained:
        assert stained.attrs["n_own_stain"] < len(stained["coords"]) == len(plain["coords"])
        assert (stained["features"][()] != plain["features"][()]).any()
    before = files[1].read_bytes()
    files[1].unlink()
    encode = ("encode", *common[1:], "--stain", "reinhard")
    assert run(*encode).status == 0
    assert files[1].read_bytes() == before
    assert "near names: macenko, reinhard" in run(*common, "--stain", "vahadane").err
    assert "expected --stain macenko" in run(*common, "--stain-target", slides / "one.tif").err
