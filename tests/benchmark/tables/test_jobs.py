import json
import os
import shutil
import signal
import subprocess
import sys
import time
from multiprocessing import active_children

import h5py
import numpy as np
import pytest
import torch
from lightning.pytorch.plugins.environments import LightningEnvironment

from dtcwsi.bags.cohort import read_cohort
from dtcwsi.benchmark.tables import jobs
from dtcwsi.benchmark.tables.definitions import Configuration, Table
from dtcwsi.benchmark.tables.jobs import jobs_wanted
from dtcwsi.benchmark.tables.making import make_table
from dtcwsi.benchmark.tables.page import write_table_files
from dtcwsi.benchmark.tables.shelf import Shelf
from dtcwsi.errors import OptionError
from dtcwsi.training.devices import Place
from dtcwsi.training.fitting import device_of

from .conftest import QUICK

ROWS = {
    "fails": Configuration("mean", {"projection": -1}),
    "A": Configuration("mean"),
    "B": Configuration("dtc-abmil", {"retention": 0.5}),
    "A again": Configuration("mean"),
    "A of the second features": Configuration("mean"),
}
TABLE = Table("Rows", ROWS, {row: {} for row in ROWS}, metrics=("acc", "auc"), encoders={"A of the second features": 1})


def make(*shelves, **given):
    return make_table("table9", TABLE, shelves, beside="panda", cohort="tiny", **given)


def told(made):
    return [(row.name, row.ours, row.ours_std, row.runs, row.failed) for row in made.rows]


def test_jobs_make_the_table_that_one_after_the_other_makes(quick, tmp_path):
    labels, features = quick
    spoilt = shutil.copytree(features, tmp_path / "features")
    with h5py.File(min(spoilt.glob("*.h5")), "r+") as file:
        del file["features"].attrs["crc32"]
        file["features"][0] = np.nan
    cohort, said = read_cohort(labels, spoilt), {1: [], 2: []}
    alone, together = (
        make(*(Shelf(tmp_path / f"{jobs}" / "runs", cohort, QUICK) for _ in range(2)), jobs=jobs, tell=tell.append)
        for jobs, tell in said.items()
    )
    assert told(together) == told(alone)
    assert together.uses == alone.uses
    assert together.rows[0].failed.startswith("got projection=-1; expected a whole number from 1 on")
    of_jobs = [line for line in said[2] if line not in said[1]]
    assert of_jobs[0] == "  3 runs to train or to go on with, 2 at a time"
    assert [line.split()[0] for line in of_jobs[1:]] == [f"[{number}/3]" for number in range(1, 4)]
    assert [line for line in said[2] if line not in of_jobs] == said[1]
    assert sum("left out" in line for line in said[1]) == 2  # once for each kind of features
    assert [row.shared for row in together.rows] == [False, True, True, True, True]
    starts = json.loads((together.rows[1].folders[0] / "environment.json").read_text())["starts"]
    assert [start["jobs"] for start in starts] == [2]
    assert "spawn" not in starts[0]["command"]
    assert not active_children()


def test_threads_are_those_of_the_jobs_asked_for_however_few_runs_are_left(shelf):
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        with jobs.trained_ahead([shelf], [(0, ROWS["A"])], 2):
            assert torch.get_num_threads() == 2
            record = shelf.train(ROWS["A"], 0)
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(threads)
    (start,) = json.loads((record.folder / "environment.json").read_text())["starts"]
    assert start["jobs"] == 2


def test_seconds_of_runs_beside_others_are_left_out(shelf):
    timed = Table("Seconds", {"A": ROWS["A"], "B": ROWS["B"]}, {"A": {}, "B": {}}, metrics=("acc", "epoch_s", "ms"))
    made = make_table("table9", timed, [shelf], beside="panda", cohort="tiny", jobs=2)
    assert all(set(row.ours) == {"acc"} for row in made.rows)
    *_, page = write_table_files(made, shelf.folder.parent, command="dtcwsi bench table9")
    assert "trained beside others (--jobs) are left out; without --jobs, into a folder of its own" in page.read_text()


def test_what_a_killed_process_leaves_is_trained_here(shelf):
    said = []

    def kill(line):
        said.append(line)
        if line == "table9 A":
            for child in active_children():
                os.kill(child.pid, signal.SIGKILL)

    made = make(shelf, jobs=2, tell=kill)
    assert [bool(row.failed) for row in made.rows] == [True, False, False, False, False]
    assert sum("going on with one run at a time" in line for line in said) == 1


def test_gpus_are_taken_in_turns_by_names_that_training_knows(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    found = [device_of(jobs._device_of(number, "auto")) for number in range(3)]
    assert found == [torch.device("cuda:0"), torch.device("cuda:1"), torch.device("cuda:0")]
    options = Place().trainer_options(found[1])
    assert (set(options), options["devices"]) == ({"devices", "plugins"}, [1])
    assert [type(plugin) for plugin in options["plugins"]] == [LightningEnvironment]  # whatever Slurm says
    assert jobs._device_of(1, "cuda:0") == "cuda:0"
    assert (jobs_wanted(0, "cuda"), jobs_wanted(0, "cuda:1")) == (2, 1)
    with pytest.raises(OptionError, match="device 'cuda:2' is not available"):
        device_of("cuda:2")


ENDLESS = """
import sys
from pathlib import Path
from dtcwsi.bags.cohort import read_cohort
from dtcwsi.benchmark.tables.definitions import Configuration, Table
from dtcwsi.benchmark.tables.making import make_table
from dtcwsi.benchmark.tables.shelf import Protocol, Shelf

if __name__ == "__main__":
    labels, features, out = map(Path, sys.argv[1:])
    shelf = Shelf(out / "runs", read_cohort(labels, features), Protocol(folds=2, epochs=100_000))
    rows = {"A": Configuration("mean"), "B": Configuration("max")}
    table = Table("Rows", rows, {row: {} for row in rows})
    make_table("table9", table, [shelf], beside="panda", cohort="tiny", jobs=2)
"""


def test_trainings_end_with_the_command_that_began_them(quick, tmp_path):
    labels, features = quick
    script = tmp_path / "endless.py"
    script.write_text(ENDLESS)
    command = [sys.executable, str(script), str(labels), str(features), str(tmp_path / "out")]
    with subprocess.Popen(
        command,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # shells ignore it for background jobs
    ) as running:
        until = time.monotonic() + 60
        while len(list((tmp_path / "out").rglob("settings.json"))) < 2:
            assert time.monotonic() < until
            time.sleep(0.1)
        trainings = _children(running.pid)
        assert len(trainings) >= 2
        running.send_signal(signal.SIGINT)
        assert running.wait(30) != 0
    until = time.monotonic() + 15
    while any(_alive(pid) for pid in trainings):
        assert time.monotonic() < until
        time.sleep(0.1)


def test_no_number_of_jobs_is_one_a_core():
    assert jobs_wanted(0, "cpu") == os.cpu_count()
    assert jobs_wanted(3, "cpu") == 3


def _children(pid):
    told = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=True)
    return [int(child) for child in told.stdout.split()]


def _alive(pid):
    told = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return bool(told.stdout.strip()) and not told.stdout.startswith("Z")
