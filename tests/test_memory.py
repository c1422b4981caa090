"""The peak of a block is its own."""

from pathlib import Path

import numpy as np
import pytest

from dtcwsi.memory import watch_memory

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
