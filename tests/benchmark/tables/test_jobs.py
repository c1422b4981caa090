import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from multiprocessing import active_children

from dtcwsi.bags.cohort import read_cohort
from dtcwsi.benchmark.tables.definitions import Configuration, Table
from dtcwsi.benchmark.tables.jobs import jobs_wanted
from dtcwsi.benchmark.tables.making import make_table
from dtcwsi.benchmark.tables.shelf import Shelf

from .conftest import QUICK

ROWS = {
    "A": Configuration("mean"),
    "B": Configuration("dtc-abmil", {"retention": 0.5}),
    "A again": Configuration("mean"),
    "C": Configuration("mean", {"projection": -1}),
}
TABLE = Table("Rows", ROWS, {row: {} for row in ROWS}, metrics=("acc", "auc"))


def make(shelf, **given):
    return make_table("table9", TABLE, [shelf], beside="panda", cohort="tiny", **given)


def test_jobs_make_the_table_that_one_after_the_other_makes(quick, tmp_path):
    protocol = replace(QUICK, seeds=2)
    said = {1: [], 2: []}
    alone, together = (
        make(Shelf(tmp_path / f"{jobs}" / "runs", read_cohort(*quick), protocol), jobs=jobs, tell=said[jobs].append)
        for jobs in said
    )
    assert [(row.ours, row.ours_std, row.runs, row.failed) for row in together.rows] == [
        (row.ours, row.ours_std, row.runs, row.failed) for row in alone.rows
    ]
    assert together.uses == alone.uses
    assert together.rows[3].failed.startswith("got projection=-1; expected a whole number from 1 on")
    assert said[2] == said[1]
    assert not active_children()


def test_a_process_that_is_killed_fails_its_rows_and_the_next_command_goes_on(shelf):
    def kill(said):
        if said == "table9 A":
            for child in active_children():
                os.kill(child.pid, signal.SIGKILL)

    made = make(shelf, jobs=2, tell=kill)
    assert "run again with fewer --jobs" in made.rows[1].failed
    made = make(shelf, jobs=2)
    assert [bool(row.failed) for row in made.rows] == [False, False, False, True]


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
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as running:
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
