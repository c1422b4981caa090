import os
import random
import signal
import socket
import subprocess
import sys
import time

import pytest

CODE = """
import sys
from pathlib import Path
from dtcwsi.encoders import load_encoder
from dtcwsi.extraction import Extraction, run_extraction
from dtcwsi.patches import GridParameters
from dtcwsi.slides import find_slides

if __name__ == "__main__":
    grid = GridParameters(patch_size_px=16)
    plan = Extraction(Path(sys.argv[2]), grid=grid, encoder=load_encoder("colour-texture"), workers=0)
    slides = find_slides([Path(sys.argv[1])])
    print("ready", flush=True)
    summary = run_extraction(slides, plan)
    sys.exit(len(summary.failed))
"""


def _start(slides, out):
    return subprocess.Popen(
        [sys.executable, "-c", CODE, slides, out],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def _finished(out):
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in (out / "features").rglob("*.h5")}


@pytest.mark.slow
def test_killed_at_random_moments_and_started_again_ends_as_if_undisturbed(make_slide, tmp_path):
    slides = [make_slide(f"{number}.tif") for number in range(5)]
    start = time.monotonic()
    assert _start(slides[0].parent, tmp_path / "calm").wait(timeout=120) == 0
    whole_s = time.monotonic() - start
    out, chance, finished, kills = tmp_path / "out", random.Random(3), {}, 0
    for _ in range(5):
        run = _start(slides[0].parent, out)
        assert run.stdout.readline() == b"ready\n"
        time.sleep(chance.uniform(0.0, 0.25 * whole_s))
        os.killpg(run.pid, signal.SIGKILL)
        kills += run.wait() == -signal.SIGKILL
        now = _finished(out)
        assert {name: now.get(name) for name in finished} == finished
        finished = now
    assert kills >= 3
    foreign = out / "features" / f".9.h5.part-0123abcd-1-not-{socket.gethostname()}"
    foreign.write_text("of another machine")
    last = _start(slides[0].parent, out)
    assert last.wait(timeout=120) == 0, last.stderr.read()
    now = _finished(out)
    assert {name: now[name] for name in finished} == finished
    calm = {path.name: path.read_bytes() for path in (tmp_path / "calm" / "features").rglob("*.h5")}
    assert {path.name: path.read_bytes() for path in (out / "features").rglob("*.h5")} == calm
    assert len(calm) == 5
    assert [path for path in out.rglob("*") if ".part-" in path.name] == [foreign]
