import pytest
import torch

from dtcwsi.nn import mamba
from dtcwsi.nn.mamba import Mamba2dBlock

ROWS, COLUMNS, WIDTH = 5, 7, 12


@pytest.fixture
def block():
    torch.manual_seed(0)
    made = Mamba2dBlock(WIDTH, states=3).double()
    torch.nn.init.normal_(made.skip)
    return made


def by_the_formulas(block, rows, reach, columns):
    """The block with plain loops over cells, all channels at once."""
    normed = rows / (rows.square().mean(dim=1, keepdim=True) + 1e-5).sqrt() * block.norm.weight * reach[:, None]
    left, right = (normed @ block.project_in.weight.T).chunk(2, dim=1)
    kernel, bias = block.convolution.weight[:, 0], block.convolution.bias
    inputs = []
    for cell in range(len(rows)):
        near = [left[cell - back] * kernel[:, 3 - back] for back in range(4) if back <= cell]
        total = bias + sum(near)
        inputs.append(total * torch.sigmoid(total))
    selected = torch.stack(inputs) @ block.select.weight.T
    across, states, out = {}, {}, []
    for cell in range(len(rows)):
        row, column = divmod(cell, columns)
        low, write, read = selected[cell].split([1, 3, 3])
        step = torch.log1p(torch.exp(block.steps.weight @ low + block.steps.bias))
        decay = torch.exp(-step[:, None] * block.log_rates.exp())
        across[row, column] = (step * inputs[cell])[:, None] * write
        if column:
            across[row, column] = across[row, column] + decay * across[row, column - 1]
        states[row, column] = across[row, column]
        if row:
            states[row, column] = states[row, column] + decay * states[row - 1, column]
        seen = states[row, column] @ read + block.skip * inputs[cell]
        out.append(rows[cell] + block.project_out.weight @ (seen * right[cell] * torch.sigmoid(right[cell])))
    return torch.stack(out)


@pytest.mark.parametrize("numbers", [1 << 22, 1])
def test_the_block_and_its_slopes_are_its_formulas_whatever_the_groups_of_channels(numbers, block, monkeypatch):
    monkeypatch.setattr(mamba, "_GROUP_NUMBERS", numbers)
    rows = torch.randn(ROWS * COLUMNS, WIDTH, dtype=torch.float64, requires_grad=True)
    reach = torch.rand(ROWS * COLUMNS, dtype=torch.float64, requires_grad=True)
    wanted = by_the_formulas(block, rows, reach, COLUMNS)
    found = block(rows, reach, COLUMNS)
    torch.testing.assert_close(found, wanted, atol=1e-12, rtol=1e-12)
    given = [rows, reach, *block.parameters()]
    expected = torch.autograd.grad(wanted.square().sum(), given)
    torch.testing.assert_close(torch.autograd.grad(found.square().sum(), given), expected, atol=1e-10, rtol=1e-10)
    with torch.no_grad():
        torch.testing.assert_close(block(rows, reach, COLUMNS), wanted, atol=1e-12, rtol=1e-12)


def test_training_keeps_a_few_numbers_a_cell_and_no_states():
    """All states would be 16 times the inner width, 512 numbers a cell and tensor."""
    block, kept = Mamba2dBlock(16), []
    rows = torch.randn(60 * 60, 16, requires_grad=True)

    def pack(tensor):
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        block(rows, torch.ones(3600), 60)
    assert sum(kept) < 200 * len(rows)
