"""What every worker process does first."""

import os
import threading
from multiprocessing import parent_process

import cv2
from threadpoolctl import threadpool_limits

__all__ = ["begin_worker", "end_with_parent"]


def begin_worker(_number: int = 0) -> None:
    """Keep to one thread, and end with the process that started this one."""
    cv2.setNumThreads(1)
    threadpool_limits(1)
    end_with_parent()


def end_with_parent() -> None:
    """See to it that this process ends with the one that started it, however that ends.

    A worker's own parent is the fork server, which lives as long as its workers: without this a killed command would
    leave all of them behind.
    """
    threading.Thread(target=_await_parent, daemon=True).start()


def _await_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # from a thread, nothing gentler ends a process that is reading
