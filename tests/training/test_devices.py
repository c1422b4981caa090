import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest
import torch
from safetensors.torch import load_file

from dtcwsi.errors import DtcwsiError, OptionError
from dtcwsi.training.crossval import cross_validate
from dtcwsi.training.devices import ALONE, helped

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _importable(monkeypatch, request):
    """Processes that are spawned import this module by its name, from where pytest began."""
    monkeypatch.syspath_prepend(request.config.rootpath)


def fails(place):
    raise ValueError(f"no room for {place.rank}")


def is_killed(place):
    os.kill(os.getpid(), signal.SIGKILL)


def waits(place):
    time.sleep(60)


@pytest.mark.slow
def test_two_processes_give_the_weights_of_one(needle_cohort, tmp_path):
    cohort = needle_cohort(slides=24, slides_per_patient=1)
    weights, histories = [], []
    for devices in (1, 2):
        how = {"folds": 2, "epochs": 3, "batch_size": 5, "max_tokens": 100, "device": "cpu", "devices": devices}
        record = cross_validate(cohort, model="dtc-abmil", out=tmp_path / f"{devices}", **how)
        assert record.complete
        weights.append(load_file(record.folder / "fold1" / "model.safetensors"))
        histories.append((record.folder / "fold1" / "history.csv").read_text().splitlines())
    assert max(float((weights[0][name] - weights[1][name]).abs().max()) for name in weights[0]) < 1e-5
    for one, two in zip(histories[0][1:], histories[1][1:], strict=True):
        assert [float(value) for value in two.split(",")[:10]] == pytest.approx(
            [float(value) for value in one.split(",")[:10]], abs=1e-5
        )
    assert not torch.distributed.is_initialized()
    assert "MASTER_PORT" not in os.environ


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "told"),
    [
        (fails, "training process 1 of 2 failed: ValueError: no room for 1"),
        (is_killed, "training process 1 of 2 ended with exit code -9, perhaps for want of memory"),
    ],
)
def test_what_another_process_meets_is_told(part, told):
    def breaks_off():
        with helped(2, CPU, part):
            for helper in multiprocessing.active_children():
                helper.join()
            raise RuntimeError("connection closed by peer")

    with pytest.raises(DtcwsiError, match=told):
        breaks_off()


class EndsWhenSent:
    """What ends the process that unpickles it, before that has begun."""

    def __init__(self, status):
        self.status = status

    def __reduce__(self):
        return os._exit, (self.status,)


@pytest.mark.parametrize(("status", "told"), [(0, "ended before it began"), (3, "ended with exit code 3")])
def test_a_process_that_never_begins_is_told_and_not_waited_for(status, told):
    def begins():
        with helped(2, CPU, fails, EndsWhenSent(status)):
            pytest.fail("a process that is not there was met")

    with pytest.raises(DtcwsiError, match=f"{told}.*needs its __main__ guarded"):
        begins()


def test_the_others_end_with_the_block_and_threads_are_given_back():
    before, began = torch.get_num_threads(), time.monotonic()

    def breaks_off():
        with helped(3, CPU, waits) as place:
            assert (place.rank, place.world) == (0, 3)
            assert torch.get_num_threads() == max(1, before // 3)
            raise RuntimeError("another reason")

    with pytest.raises(RuntimeError, match="another reason"):
        breaks_off()
    assert time.monotonic() - began < 50  # of the 60 that they wait
    assert torch.get_num_threads() == before


def test_one_device_starts_nothing():
    with helped(1, CPU, fails) as place:
        assert place is ALONE


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_others_end_when_the_first_is_ended(needle_cohort, tmp_path, number):
    needle_cohort(slides=12)
    code = textwrap.dedent("""
        import sys
        from dtcwsi.bags.cohort import read_cohort
        from dtcwsi.training.crossval import cross_validate

        def told(event):
            if event.kind == "epoch":
                print("epoch", flush=True)

        if __name__ == "__main__":
            cohort = read_cohort("labels.csv", "features")
            how = {"folds": 2, "epochs": 100_000, "patience": 100_000, "batch_size": 2, "device": "cpu", "devices": 2}
            cross_validate(cohort, model="abmil", out="run", on_event=told, **how)
    """)
    (tmp_path / "train.py").write_text(code)
    first = subprocess.Popen([sys.executable, "train.py"], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert first.stdout.readline() == "epoch\n"
    others = [int(child) for child in children_of(first.pid)]
    assert others
    first.send_signal(number)
    first.wait(30)
    first.stdout.close()
    for _ in range(300):
        if not any(alive(child) for child in others):
            return
        time.sleep(0.1)
    pytest.fail("a helper lives on")


def children_of(number):
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(number)], capture_output=True, text=True, check=False)
    return found.stdout.split()


def alive(number):
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"devices": 0}, "got devices=0"),
        ({"devices": 2, "model": "patchgd"}, "use one, as this model"),
        ({"devices": 3, "batch_size": 2}, "got devices=3 and batches of 2; expected a slide a device or more"),
    ],
)
def test_devices_that_cannot_share_are_told_before_any_work(needle_cohort, tmp_path, given, told):
    cohort = needle_cohort(slides=12)
    with pytest.raises(OptionError, match=told):
        cross_validate(cohort, out=tmp_path / "run", device="cpu", **{"model": "abmil", "folds": 2, **given})
    assert not (tmp_path / "run").exists()
