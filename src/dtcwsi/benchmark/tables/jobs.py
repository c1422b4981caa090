"""Runs trained ahead of their rows, several at a time, each in a process of its own."""

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import active_children, get_context
from multiprocessing.queues import Queue

import torch

from dtcwsi.benchmark.tables.definitions import Configuration
from dtcwsi.benchmark.tables.shelf import Shelf, Trained
from dtcwsi.errors import DtcwsiError
from dtcwsi.slides.workers import begin_worker
from dtcwsi.training.crossval import TrainingEvent

__all__ = ["jobs_wanted", "trained_ahead"]

_SECONDS_TO_END = 5
_shelves: Sequence[Shelf] = ()  # of a process that trains


def jobs_wanted(jobs: int, device: str) -> int:
    """Turn 0 into as many jobs as there are GPUs, or cores where ``device`` is no GPU."""
    there = torch.cuda.device_count() if device == "cuda" else os.cpu_count() or 1
    return jobs or max(1, there)


@contextmanager
def trained_ahead(
    shelves: Sequence[Shelf], wanted: Iterable[tuple[int, Configuration]], jobs: int, *, all_first: bool = False
) -> Iterator[None]:
    """Train the runs of ``wanted``, a shelf's number and a configuration each, ``jobs`` at a time, in their order.

    Meanwhile `Shelf.train` waits for a run that is on its way; with ``all_first`` the block begins when all are made.
    Processes share the threads of this one evenly, and the GPUs in turns; each reads its own slides. When the block is
    left, or this process ends, they end: what they have finished is kept, fold by fold.
    """
    if jobs == 1:
        yield
        return
    context = get_context("spawn")  # a fork would copy the locks of threads that libraries have started
    devices: Queue[str] = context.Queue()
    for number in range(jobs):
        devices.put(_device_of(number, shelves[0].device))
    threads = max(1, torch.get_num_threads() // jobs)
    before = set(active_children())
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin, initargs=(shelves, devices, threads))
    futures = []
    try:
        for number, what in wanted:
            shelf = shelves[number]
            for seed in range(shelf.protocol.seeds):
                place = shelf.place(what, seed)
                if place not in shelf.ahead:
                    futures.append(pool.submit(_train, number, what, seed))
                    shelf.ahead[place] = partial(_waited_for, futures[-1])
        if all_first:
            wait(futures)
        yield
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        ours = set(active_children()) - before
        for child in ours:
            child.terminate()
        for child in ours:
            child.join(_SECONDS_TO_END)
        for shelf in shelves:
            shelf.ahead.clear()


def _waited_for(future: "Future[Trained]") -> Trained:
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise DtcwsiError(
            "a process that trains was ended from outside, most often for want of memory; run again with fewer --jobs, "
            "finished folds are kept"
        ) from error


def _device_of(number: int, device: str) -> str:
    if device in ("auto", "cuda") and torch.cuda.device_count() > 1:
        return f"cuda:{number % torch.cuda.device_count()}"
    return device


def _begin(shelves: Sequence[Shelf], devices: "Queue[str]", threads: int) -> None:
    global _shelves  # noqa: PLW0603  # what a process of the pool begins with can be left nowhere else
    begin_worker()
    torch.set_num_threads(threads)
    device = devices.get()
    for shelf in shelves:
        shelf.device = device
    _shelves = shelves


def _train(number: int, what: Configuration, seed: int) -> Trained:
    for other in _shelves:
        if other is not _shelves[number]:
            other.release()
    events: list[TrainingEvent] = []
    return _shelves[number].train(what, seed, events.append), events
