"""The peak of a block is its own, and what is freed goes back to the system."""

import os
import platform
from pathlib import Path

import numpy as np
import pytest

from dtcwsi.memory import give_back, watch_memory

BLOCK, LEAST = 1000 * 2**20, 700 * 2**20  # the process may let go of some of its own meanwhile


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells a process's peak anew")
def test_a_block_knows_its_own_peak_and_that_of_blocks_within():
    with watch_memory() as small:
        pass
    with watch_memory() as outer:
        with watch_memory() as large:
            np.ones(BLOCK, np.uint8)
        with watch_memory() as after:
            pass
    with watch_memory() as outside:
        with watch_memory() as inside:
            pass
        np.ones(BLOCK, np.uint8)
    assert outside.process_bytes - inside.process_bytes > LEAST
    assert large.process_bytes - small.process_bytes > LEAST
    assert outer.process_bytes == large.process_bytes
    assert large.process_bytes - after.process_bytes > LEAST


def test_what_the_system_does_not_tell_is_none(monkeypatch, tmp_path):
    monkeypatch.setattr("dtcwsi.memory._STATUS", tmp_path / "none")
    with watch_memory() as peak:
        pass
    assert peak.process_bytes is None


def _resident():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other libraries keep nothing")
def test_what_lies_free_between_what_is_in_use_is_given_back():
    pieces = [np.ones(64 * 2**10, np.uint8) for _ in range(4000)]
    kept = pieces[::50]
    pieces.clear()
    before = _resident()
    give_back()
    assert before - _resident() > 100 * 2**20
    assert all(piece.all() for piece in kept)
