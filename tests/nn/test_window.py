"""Numbers recorded from microsoft/vision-longformer at c9ce386, exact windows of 15, on 17 rows of 20 cells.

Weights are 0.2 times normal numbers drawn in the order of the sorted published names.
"""

import math

import pytest
import torch

import dtcwsi.nn.window
from dtcwsi.nn.longformer import WindowAttention
from dtcwsi.nn.window import Windows

PUBLISHED = {  # the global token, the first cell, row 8 column 9, the last cell
    (True, True): [
        [0.070068, -0.315905, 0.095728, 0.340199],
        [-0.704002, -0.562052, 0.547791, 0.273763],
        [0.076802, -0.373151, 0.009197, -0.233324],
        [-0.809844, -0.041455, 0.340998, -0.302439],
    ],
    (True, False): [
        [-0.046921, -0.527487, 0.420211, -0.388084],
        [0.13475, -1.007164, -0.237829, -0.169342],
        [-0.045252, -0.623972, 0.326757, -0.660185],
        [-0.187773, -0.108794, 0.098518, -0.800987],
    ],
    (False, True): [
        [-0.098492, 0.031637, 0.2251, 0.033057],
        [0.535061, 0.970089, 0.259551, -1.350859],
        [0.250346, 0.141793, -0.202418, -0.656758],
        [0.328493, 0.47002, -0.134323, 0.089893],
    ],
    (False, False): [
        [0.122683, -0.937728, 0.334683, 0.110476],
        [-0.231791, 0.019106, 1.901586, 0.077444],
        [0.050317, -0.455487, 0.980252, 0.174684],
        [0.361155, -0.08017, 0.432747, 0.321055],
    ],
}


def published_shapes(width, heads, tied, relative):
    """Published names, the model's own and their shapes."""
    shapes = {}
    for end, own in [("", "")] if tied else [("", ""), ("_global", "of_token")]:
        for number, (name, ours) in enumerate([("query", "query"), ("kv", "keys_values"), ("proj", "out")]):
            rows = 2 * width if name == "kv" else width
            place = f"{own}.{number}" if own else ours
            shapes[f"{name}{end}.weight"] = f"{place}.weight", (rows, width)
            shapes[f"{name}{end}.bias"] = f"{place}.bias", (rows,)
    if relative:
        shapes["local_relative_position_bias_table"] = "offset_bias", (729, heads)
        shapes["g2l_relative_position_bias"] = "token_bias", (2, heads, 1)
        shapes["g2g_relative_position_bias"] = "own_bias", (heads, 1, 1)
    return shapes


def drawn(module, shapes):
    generator, own = torch.Generator().manual_seed(0), module.state_dict()
    for _, (name, shape) in sorted(shapes.items()):
        own[name] = 0.2 * torch.randn(shape, generator=generator).reshape(own[name].shape)
    module.load_state_dict(own)
    return module


def grid(columns, rows):
    number = torch.arange(columns * rows)
    return torch.stack([number % columns, number // columns], dim=1)


@pytest.mark.parametrize(("tied", "relative"), list(PUBLISHED))
def test_a_layer_gives_the_published_numbers(tied, relative):
    layer = WindowAttention(32, heads=4, reach=7, tied=tied, relative=relative)
    drawn(layer, published_shapes(32, 4, tied, relative))
    windows = Windows.of(grid(20, 17), torch.tensor([0, 340]), 7)
    x = torch.randn(341, 32, generator=torch.Generator().manual_seed(1))
    out = layer(windows.lay_out(x[:1], x[1:]), torch.zeros(341), windows)
    chosen = torch.cat([out[:1], out[windows.of_cell][[0, 8 * 20 + 9, 339]]])[:, :4]
    torch.testing.assert_close(chosen, torch.tensor(PUBLISHED[tied, relative]), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("tied", "count"), [(True, 1_056_480), (False, 2_107_104)])
def test_a_layer_has_the_published_number_of_parameters(tied, count):
    layer = WindowAttention(512, heads=8, reach=7, tied=tied)
    assert sum(parameter.numel() for parameter in layer.parameters()) == count


def by_hand(layer, tokens, cells, xy, bag, bias, reach):
    """Plain loops over one query and one key at a time."""
    part, made = cells.shape[1] // layer.heads, []
    token_maps = layer.of_token or (layer.query, layer.keys_values, layer.out)

    def attend(own, around, maps):
        query, keys_values, out = maps
        found = []
        for head in range(layer.heads):
            at = slice(head * part, (head + 1) * part)
            logits, values = [], []
            for row, added in around:
                both = keys_values(row)
                logits.append(query(own)[at] @ both[: both.numel() // 2][at] / math.sqrt(part) + added[head])
                values.append(both[both.numel() // 2 :][at])
            found.append(torch.stack(logits).softmax(0) @ torch.stack(values))
        return out(torch.cat(found))

    none = torch.zeros(layer.heads, dtype=cells.dtype)
    relative = layer.offset_bias is not None
    for number, own in enumerate(tokens):
        around = [(own, layer.own_bias if relative else none)]
        around += [
            (cells[i], bias[i] + (layer.token_bias[0] if relative else none))
            for i in range(len(xy))
            if bag[i] == number
        ]
        made.append(attend(own, around, token_maps))
    for i, (x, y) in enumerate(xy.tolist()):
        around = [(tokens[bag[i]], layer.token_bias[1] if relative else none)]
        for j, (u, v) in enumerate(xy.tolist()):
            if bag[i] == bag[j] and abs(x - u) <= reach and abs(y - v) <= reach:
                entry = (y - v + 2 * reach - 1) * (4 * reach - 1) + (x - u + 2 * reach - 1)
                around.append((cells[j], bias[j] + (layer.offset_bias[entry] if relative else none)))
        made.append(attend(cells[i], around, (layer.query, layer.keys_values, layer.out)))
    return torch.stack(made)


def scattered():
    """Three bags on grids with gaps, one of them empty, one of one cell."""
    generator = torch.Generator().manual_seed(2)
    full = grid(9, 8)
    xy = torch.cat([full[torch.rand(72, generator=generator) < 0.6], torch.tensor([[0, 0]])])
    return xy, torch.tensor([0, len(xy) - 1, len(xy) - 1, len(xy)]), generator


@pytest.mark.parametrize(("tied", "relative"), list(PUBLISHED))
@pytest.mark.parametrize("most", [2**22, 1])
def test_outputs_and_slopes_are_those_of_plain_loops(tied, relative, most, monkeypatch):
    monkeypatch.setattr(dtcwsi.nn.window, "_MOST_SCORES", most)
    torch.manual_seed(0)
    xy, offsets, generator = scattered()
    layer = WindowAttention(4, heads=2, reach=2, tied=tied, relative=relative).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    tokens, cells = (
        torch.randn(count, 4, generator=generator, dtype=torch.float64).requires_grad_() for count in (3, len(xy))
    )
    bias = torch.randn(len(xy), generator=generator, dtype=torch.float64).requires_grad_()
    windows = Windows.of(xy, offsets, 2)
    out = layer(windows.lay_out(tokens, cells), windows.lay_out(torch.zeros(3).double(), bias), windows)
    out = torch.cat([out[windows.offsets[:-1]], out[windows.of_cell]])
    bag = torch.tensor([0] * (len(xy) - 1) + [2])
    expected = by_hand(layer, tokens, cells, xy, bag, bias, 2)
    torch.testing.assert_close(out, expected, atol=1e-10, rtol=0)
    outer = torch.randn(out.shape, generator=generator, dtype=torch.float64)
    asked = [tokens, cells, bias, *layer.parameters()]
    torch.testing.assert_close(
        torch.autograd.grad(out, asked, outer), torch.autograd.grad(expected, asked, outer), atol=1e-9, rtol=0
    )


def test_windows_end_where_they_should_whatever_the_chunks():
    """Values are one-hot and logits equal, so that the outputs say which cells are seen."""
    xy, offsets, _ = scattered()
    windows = Windows.of(xy, offsets, 3)
    rows = len(windows.place)
    zeros = torch.zeros(rows, 1, rows)
    seen = dtcwsi.nn.window.attend_in_windows(
        zeros, zeros, torch.eye(rows)[:, None], torch.zeros(rows, 1), None, windows
    )[:, 0].gt(0)
    cells = seen[windows.of_cell][:, windows.of_cell]
    bag = torch.tensor([0] * (len(xy) - 1) + [2])
    near = (xy[:, None] - xy[None]).abs().amax(dim=2) <= 3
    assert torch.equal(cells, near & (bag[:, None] == bag))
    token = seen[windows.of_cell][:, windows.offsets[:-1]]
    assert torch.equal(token, bag[:, None] == torch.arange(3))
    assert not seen[windows.offsets[:-1]].any()


def test_work_grows_with_the_occupied_cells_and_never_beyond_a_slice(monkeypatch):
    monkeypatch.setattr(dtcwsi.nn.window, "_MOST_SCORES", 2**16)
    generator = torch.Generator().manual_seed(0)

    def scores(side, share):
        xy = grid(side, side)
        xy = xy[torch.rand(len(xy), generator=generator) < share]
        parts = [part.seen.numel() for part in Windows.of(xy, torch.tensor([0, len(xy)]), 4).slices(2)]
        assert max(parts) * 2 <= 2**16
        return sum(parts) / len(xy)

    assert scores(80, 1.0) <= 9 * 16
    assert scores(160, 1.0) <= 9 * 16
    assert scores(160, 0.1) <= 0.4 * 9 * 16
