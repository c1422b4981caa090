import os
import subprocess
import sys
import time

import pytest

from dtcwsi.errors import StoreError
from dtcwsi.store.atomic import _machine, beside, check_writable, folder_lock, sweep, try_lock, write_json, write_text


def _part(folder, name="a.h5", pid=None, host=None):
    path = folder / f".{name}.part-0123abcd-{pid or os.getpid()}-{host or _machine()}"
    path.write_text("half")
    return path


def _stop_halfway(path):
    with beside(path) as part:
        part.write_text("half")
        assert path.read_text() == "old"
        raise KeyError


def _dead_pid():
    child = subprocess.Popen(["true"])
    child.wait()
    return child.pid


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "a.txt"
    write_text(path, "old")
    with pytest.raises(KeyError):
        _stop_halfway(path)
    assert path.read_text() == "old"
    assert os.listdir(path.parent) == ["a.txt"]


def test_json_is_the_same_bytes_for_the_same_content(tmp_path):
    write_json(tmp_path / "a", {"b": 1, "a": "ü"})
    write_json(tmp_path / "b", {"a": "ü", "b": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    for attempt in (
        lambda: write_text(tmp_path / "file" / "a.txt", "x"),
        lambda: try_lock(tmp_path / "file" / "a.lock").__enter__(),
        lambda: folder_lock(tmp_path / "file").__enter__(),
    ):
        with pytest.raises(StoreError, match=r"^cannot write [^\n]*; check the folder and its permissions$"):
            attempt()
    with pytest.raises(Exception, match="cannot write to .*name another folder"):
        check_writable(tmp_path / "file")


def test_the_sweep_takes_only_what_the_dead_of_this_machine_left(tmp_path):
    (tmp_path / "features" / "e").mkdir(parents=True)
    left = _part(tmp_path / "features" / "e", pid=_dead_pid())
    kept = [
        _part(tmp_path, "alive.h5"),
        _part(tmp_path, "elsewhere.h5", pid=_dead_pid(), host="node-17.cluster"),
        tmp_path / ".notes.part-1",
        tmp_path / "a.h5",
    ]
    for path in kept[2:]:
        path.write_text("")
    assert sweep(tmp_path) == 1
    assert not left.exists()
    assert all(path.exists() for path in kept)


def test_a_lock_is_exclusive_and_dies_with_its_process(tmp_path):
    path = tmp_path / "locks" / "a.lock"
    code = (
        "import sys, time; from pathlib import Path; from dtcwsi.store.atomic import try_lock\n"
        "with try_lock(Path(sys.argv[1])) as mine: print(mine, flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "True\n"
    with try_lock(path) as mine:
        assert mine is False
    holder.kill()
    holder.wait()
    with try_lock(path) as mine:
        assert mine is True


def test_the_folder_lock_waits(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from dtcwsi.store.atomic import folder_lock\n"
        "with folder_lock(Path(sys.argv[1])): print('held', flush=True); time.sleep(0.5)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, text=True)
    holder.stdout.readline()
    start = time.monotonic()
    with folder_lock(tmp_path):
        assert time.monotonic() - start > 0.3
    holder.wait()
