import pytest
import torch
from torch import nn

from dtcwsi.nn.chunks import chunks, in_chunks


@pytest.mark.parametrize(("device", "most"), [("cpu", 1 << 19), ("cuda", 1 << 24)])
@pytest.mark.parametrize(("rows", "width"), [(0, 4), (10, 4), (10, 1 << 18), (40, 1 << 23)])
def test_chunks_hold_all_rows_once(rows, width, device, most):
    runs = [list(range(rows))[run] for run in chunks(rows, width, torch.device(device))]
    assert sum(runs, []) == list(range(rows))
    assert all(len(run) == 1 or len(run) * width <= most for run in runs)
    assert len(runs) <= 1 or len(runs[0]) == max(1, most // width)


class Seen(nn.Module):
    """A linear map that notes how many rows it gets."""

    def __init__(self):
        super().__init__()
        self.inner, self.sizes = nn.Linear(1 << 10, 3), []

    def forward(self, rows):
        self.sizes.append(len(rows))
        return self.inner(rows)


@pytest.mark.parametrize("count", [0, 1, 512, 1300])
def test_a_map_in_chunks_is_the_map(count):
    layer, rows = Seen(), torch.randn(count, 1 << 10)
    whole = in_chunks(layer, rows)
    assert layer.sizes == [count]
    assert whole.requires_grad
    with torch.no_grad():
        torch.testing.assert_close(in_chunks(layer, rows), whole.detach())
    assert layer.sizes[1:] == ([512, 512, 276] if count == 1300 else [count])


def test_a_map_without_weights_copies_nothing():
    rows = torch.randn(2000, 1 << 10)
    with torch.no_grad():
        assert in_chunks(nn.Dropout(0.5).eval(), rows) is rows
