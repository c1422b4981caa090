"""What every worker process does first."""

import os
import threading
from multiprocessing import parent_process

import cv2

__all__ = ["begin_worker"]


def begin_worker(_number: int = 0) -> None:
    """Keep to one thread, and end with the process that started this one, however that ends.

    A worker's own parent is the fork server, which lives as long as its workers: without this a killed command would
    leave all of them behind.
    """
    cv2.setNumThreads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # from a thread, nothing gentler ends a process that is reading
