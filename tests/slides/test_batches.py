import multiprocessing
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from dtcwsi.errors import SlideError
from dtcwsi.slides import batches as batches_module
from dtcwsi.slides import open_slide
from dtcwsi.slides.batches import patch_batches
from dtcwsi.types import PatchGrid


@pytest.fixture
def grid():
    cells = np.stack(np.meshgrid(np.arange(8), np.arange(8)), axis=-1).reshape(-1, 2) * 128
    return PatchGrid(cells.astype(np.int64), np.ones(64, np.float32), 64, 128, 1.0)


def test_batches_come_in_grid_order_the_same_from_any_number_of_workers(make_slide, grid):
    slide = open_slide(make_slide("a.tif"))
    expected = np.stack([slide.read((x, y), (128, 128), (64, 64)) for x, y in grid.coords.tolist()])
    for workers in (0, 1, 2):
        batches = list(patch_batches(slide.info, grid, batch_size=10, workers=workers))
        assert [len(batch.pixels) for batch in batches] == [10] * 6 + [4]
        np.testing.assert_array_equal(np.concatenate([batch.pixels for batch in batches]), expected)
        assert not any(batch.digests for batch in batches)


@pytest.mark.parametrize(
    ("patches", "batch_size", "workers", "readings"),
    [(64, 8, 1, 2), (64, 8, 4, 4), (64, 8, 0, 2), (64, 10, 1, 2), (64, 40, 1, 2), (3, 8, 4, 1), (33, 1, 1, 2)],
)
def test_some_32_patches_are_handed_over_together_where_all_workers_have_some(
    make_slide, grid, monkeypatch, patches, batch_size, workers, readings
):
    read = []
    reading = batches_module._PatchBatches._read
    monkeypatch.setattr(
        batches_module._PatchBatches, "_read", lambda self, number: read.append(number) or reading(self, number)
    )
    batches = batches_module._PatchBatches(
        make_slide("a.tif"), 0.5, grid.part(slice(patches)), batch_size, None, with_digests=False
    )
    batches.share_among(workers)
    handed = [len(batches[number].pixels) for number in range(len(batches))]
    assert (len(read), sum(handed)) == (readings, patches)
    assert all(count % batch_size == 0 for count in handed[:-1])


@pytest.mark.parametrize("workers", [0, 1])
def test_digests_tell_equal_patches_from_others(make_slide, grid, workers):
    info = open_slide(make_slide("a.tif")).info
    twice = PatchGrid(np.repeat(grid.coords, 2, axis=0), np.repeat(grid.tissue_fraction, 2), 64, 128, 1.0)
    read = list(patch_batches(info, twice, batch_size=5, workers=workers, with_digests=True))
    pixels, digests = (
        np.concatenate([batch.pixels for batch in read]),
        [each for batch in read for each in batch.digests],
    )
    for one in range(0, 128, 7):
        same = (pixels == pixels[one]).all(axis=(1, 2, 3))
        assert [digest == digests[one] for digest in digests] == same.tolist()


def test_no_patches_no_batches_and_more_workers_than_batches(make_slide, grid):
    info = open_slide(make_slide("a.tif")).info
    none = PatchGrid(grid.coords[:0], grid.tissue_fraction[:0], 64, 128, 1.0)
    assert list(patch_batches(info, none, batch_size=10, workers=2)) == []
    assert sum(len(batch.pixels) for batch in patch_batches(info, grid, batch_size=64, workers=4)) == 64


@pytest.mark.parametrize("workers", [0, 1])
def test_a_slide_that_goes_bad_while_it_is_read_is_one_sentence(make_slide, grid, workers):
    path = make_slide("a.tif")
    info = open_slide(path).info
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(SlideError, match=r"^'a.tif' [^\n]*copy it again$"):
        list(patch_batches(info, grid, batch_size=10, workers=workers))


def test_a_worker_process_that_is_killed_is_one_sentence(make_slide, grid):
    batches = patch_batches(open_slide(make_slide("a.tif")).info, grid, batch_size=2, workers=1)
    next(batches)
    for child in multiprocessing.active_children():
        os.kill(child.pid, signal.SIGKILL)
    with pytest.raises(SlideError, match=r"^'a.tif' lost a process that read it \([^\n]*use fewer --workers"):
        list(batches)


@pytest.mark.filterwarnings("ignore:Got pickle error:UserWarning")
def test_what_cannot_be_sent_to_workers_is_one_sentence(make_slide, grid):
    info = open_slide(make_slide("a.tif")).info
    assert len(list(patch_batches(info, grid, batch_size=64, workers=0, prepare=lambda pixels: pixels))) == 1
    with pytest.raises(SlideError, match=r"'a.tif' cannot be read by worker [^\n]* use --workers 0$"):
        list(patch_batches(info, grid, batch_size=64, workers=1, prepare=lambda pixels: pixels))


@pytest.mark.parametrize("read", [1, 4])
def test_a_slide_read_in_this_process_is_closed(make_slide, grid, monkeypatch, read):
    opened = []
    genuine = batches_module.open_slide
    monkeypatch.setattr(batches_module, "open_slide", lambda *a, **k: opened.append(genuine(*a, **k)) or opened[-1])
    batches = patch_batches(genuine(make_slide("a.tif")).info, grid, batch_size=16, workers=0)
    for _ in range(read):
        next(batches)
    closed = []
    monkeypatch.setattr(opened[0], "close", lambda: closed.append(True))
    batches.close()
    assert closed == [True]


def test_workers_stop_when_the_reader_of_batches_stops(make_slide, grid):
    batches = patch_batches(open_slide(make_slide("a.tif")).info, grid, batch_size=2, workers=2)
    next(batches)
    assert len(multiprocessing.active_children()) == 2
    batches.close()
    assert multiprocessing.active_children() == []


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from dtcwsi.slides import batches as batches_module
from dtcwsi.slides import open_slide
from dtcwsi.slides.batches import patch_batches
from dtcwsi.types import PatchGrid

if __name__ == "__main__":
    grid = PatchGrid(np.zeros((200, 2), np.int64), np.ones(200, np.float32), 64, 128, 1.0)
    batches = patch_batches(open_slide(Path(sys.argv[1])).info, grid, batch_size=2, workers=2)
    next(batches)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_workers_and_their_server_end_with_a_killed_parent(make_slide, tmp_path):
    """Each of them holds the parent's stderr, which ends only when the last of them has."""
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    with subprocess.Popen([sys.executable, script, make_slide("a.tif")], stderr=subprocess.PIPE) as process:
        process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
