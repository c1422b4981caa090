"""Runs trained ahead of their rows, several at a time, each in a process of its own."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import active_children, get_context
from multiprocessing.queues import Queue
from pathlib import Path
from threading import Lock

import torch

from dtcwsi.benchmark.tables.definitions import Configuration
from dtcwsi.benchmark.tables.shelf import Shelf, Trained
from dtcwsi.errors import DtcwsiError
from dtcwsi.slides.workers import begin_worker
from dtcwsi.training.crossval import TrainingEvent
from dtcwsi.training.environment import note_jobs

__all__ = ["jobs_wanted", "trained_ahead"]

_SECONDS_TO_END = 5
_ENDED = "a process that trains was ended from outside, most often for want of memory; going on with one run at a time"
_shelves: Sequence[Shelf] = ()  # of a process that trains


def jobs_wanted(jobs: int, device: str) -> int:
    """Turn 0 into as many jobs as there are GPUs, or cores where ``device`` is no GPU or one of several."""
    if device.startswith("cuda"):
        return jobs or (torch.cuda.device_count() if device == "cuda" else 1)
    return jobs or os.cpu_count() or 1


@contextmanager
def trained_ahead(
    shelves: Sequence[Shelf],
    wanted: Iterable[tuple[int, Configuration]],
    jobs: int,
    tell: Callable[[str], None] = lambda _: None,
) -> Iterator[None]:
    """Train the runs of ``wanted``, a shelf's number and a configuration each, ``jobs`` at a time, in their order.

    Meanwhile `Shelf.train` waits for a run that is on its way. Processes share the threads of this one evenly, however
    few runs are left, as sums depend on them, and the GPUs in turns; each reads its own slides. If one is ended from
    outside, the others end, and the runs that are left are trained in this process, with as many threads as they. Every
    run that comes to its end is told at once, from a thread of the pool. When
    the block is left, or this process ends, all end: what they have finished is kept, fold by fold.
    A script that asks for several needs its ``__main__`` guarded.
    """
    runs = [(number, what, seed) for number, what in wanted for seed in range(shelves[number].protocol.seeds)]
    places = dict.fromkeys(shelves[number].place(what, seed) for number, what, seed in runs)
    if jobs <= 1 or not places:
        yield
        return
    all_threads, processes = torch.get_num_threads(), min(jobs, len(places))
    threads = max(1, all_threads // jobs)
    context = get_context("spawn")  # a fork would copy the locks of threads that libraries have started
    devices: Queue[str] = context.Queue()
    for number in range(processes):
        devices.put(_device_of(number, shelves[0].device))
    before = set(active_children())
    given = (shelves, devices, threads, jobs, sys.orig_argv)
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_begin, initargs=given)
    futures: dict[Path, Future[Trained]] = {}
    counted = _Counted(tell, len(places))

    def end() -> None:
        ours = set(active_children()) - before
        for child in ours:
            child.terminate()
        for child in ours:
            child.join(_SECONDS_TO_END)
            child.kill()

    waiter = _Waiter(tell, end)
    torch.set_num_threads(threads)
    tell(f"  {len(places)} runs to train or to go on with, {processes} at a time")
    try:
        for number, what, seed in runs:
            place = shelves[number].place(what, seed)
            if place not in futures:
                futures[place] = pool.submit(_train, number, what, seed)
                futures[place].add_done_callback(partial(counted, place.name))
            shelves[number].ahead[place] = partial(waiter, futures[place], partial(counted, place.name))
        yield
    finally:
        torch.set_num_threads(all_threads)
        pool.shutdown(wait=False, cancel_futures=True)
        end()
        for shelf in shelves:
            shelf.ahead.clear()


class _Counted:
    """Tells once of every run that comes to its end: a thread of the pool does, or whoever waits for it."""

    def __init__(self, tell: Callable[[str], None], of_all: int) -> None:
        self._tell, self._of_all, self._ended, self._lock = tell, of_all, set[Future[Trained]](), Lock()

    def __call__(self, name: str, future: "Future[Trained]") -> None:
        """Count a run, unless its process was ended."""
        if future.cancelled() or future.exception() is not None:
            return
        with self._lock:
            if future not in self._ended:
                self._ended.add(future)
                why = " failed" if isinstance(future.result()[0], DtcwsiError) else ""
                self._tell(f"  [{len(self._ended)}/{self._of_all}] {name}{why}")


class _Waiter:
    """Waits for runs; what was said of a fold is handed on once, and so is that a process was ended: all end then."""

    def __init__(self, tell: Callable[[str], None], end: Callable[[], None]) -> None:
        self._tell, self._end, self._known, self._ended = tell, end, set[Future[Trained]](), False

    def __call__(self, future: "Future[Trained]", count: "Callable[[Future[Trained]], None]") -> Trained | None:
        """Wait for a run; None if nobody trains it any more."""
        try:
            record, events = future.result()
        except BrokenProcessPool:
            if not self._ended:
                self._tell(_ENDED)
                self._end()  # which may hold the run that is trained next
            self._ended = True
            return None
        count(future)
        known = future in self._known
        self._known.add(future)
        return record, [event for event in events if not known or event.fold is None]


def _device_of(number: int, device: str) -> str:
    if device in ("auto", "cuda") and torch.cuda.device_count() > 1:
        return f"cuda:{number % torch.cuda.device_count()}"
    return device


def _begin(shelves: Sequence[Shelf], devices: "Queue[str]", threads: int, jobs: int, command: list[str]) -> None:
    global _shelves  # noqa: PLW0603  # what a process of the pool begins with can be left nowhere else
    begin_worker()
    torch.set_num_threads(threads)
    sys.orig_argv = command  # what a run folder tells of its start should make it again
    note_jobs(jobs)
    device = devices.get()
    for shelf in shelves:
        shelf.device = device
    _shelves = shelves


def _train(number: int, what: Configuration, seed: int) -> Trained:
    for other in _shelves:
        if other is not _shelves[number]:
            other.release()
    events: list[TrainingEvent] = []
    try:
        return _shelves[number].train(what, seed, events.append), events
    except DtcwsiError as error:
        return error, events
