import math

import pytest
import torch

from dtcwsi.nn import scan
from dtcwsi.nn.scan import scan_grid


def drawn(rows, columns, channels=3, states=2, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    cells = (rows, columns)
    steps, rates = normal(*cells, channels).abs(), -normal(states, channels).abs()
    return normal(*cells, channels), steps, rates, normal(*cells, states), normal(*cells, states)


def one_by_one(inputs, steps, rates, writes, reads):
    """The recurrence as the paper writes it, a cell, a channel and a state at a time."""
    rows, columns, channels = inputs.shape
    found = torch.zeros_like(inputs)
    for channel in range(channels):
        for state in range(len(rates)):
            above = [0.0] * columns
            for row in range(rows):
                across = 0.0
                for column in range(columns):
                    step = steps[row, column, channel].item()
                    decay = math.exp(step * rates[state, channel].item())
                    written = step * writes[row, column, state].item() * inputs[row, column, channel].item()
                    across = decay * across + written
                    above[column] = decay * above[column] + across
                    found[row, column, channel] += reads[row, column, state].item() * above[column]
    return found


@pytest.fixture(params=[(1 << 20, 1024), (1, 1024), (30, 2), (50, 3)], ids=["whole", "by rows", "pieces", "both"])
def cut(request, monkeypatch):
    """Strips of several rows, or of one, and sides in one piece, or in several with a rest."""
    monkeypatch.setattr(scan, "_STRIP_NUMBERS", request.param[0])
    monkeypatch.setattr(scan, "_LONG", request.param[1])


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (6, 1), (2, 2), (3, 3), (5, 11)])
def test_the_scan_is_the_recurrence_however_it_is_cut(shape, cut):
    given = drawn(*shape)
    torch.testing.assert_close(scan_grid(*given), one_by_one(*given), atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("shape", [(1, 5), (4, 1), (4, 5)])
def test_slopes_are_those_of_the_recurrence_however_it_is_cut(shape, cut):
    given = tuple(part.requires_grad_() for part in drawn(*shape, channels=2))
    assert torch.autograd.gradcheck(scan_grid, given)


def test_pieces_of_pieces_join():
    """A row of 1,100 cells is longer than a loop may be, and so is none of its pieces."""
    given = tuple(part.requires_grad_() for part in drawn(2, 1100, channels=1, states=1))
    looped = one_by_one(*(part.detach() for part in given))
    found = scan_grid(*given)
    torch.testing.assert_close(found, looped, atol=1e-12, rtol=1e-12)
    slopes = torch.autograd.grad(found.square().sum(), given)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "_LONG", 1 << 20)
        whole = torch.autograd.grad(scan_grid(*given).square().sum(), given)
    torch.testing.assert_close(slopes, whole, atol=1e-10, rtol=1e-10)


def test_steps_so_long_that_all_is_forgotten_are_finite():
    inputs, steps, rates, writes, reads = drawn(4, 5, dtype=torch.float32)
    given = tuple(part.requires_grad_() for part in (inputs, steps * 1e4, rates - 1, writes, reads))
    found = scan_grid(*given)
    alone = (given[1] * inputs)[:, :, None] * writes[..., None]
    torch.testing.assert_close(found, (alone * reads[..., None]).sum(dim=2))
    assert all(torch.isfinite(slope).all() for slope in torch.autograd.grad(found.sum(), given))


def test_half_precision_is_scanned_in_float32():
    given = tuple(part.bfloat16() for part in drawn(4, 5))
    found = scan_grid(*given)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, scan_grid(*(part.float() for part in given)))
