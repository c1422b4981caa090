import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from dtcwsi.nn.linear import Linear, convolved, linear

CONVOLVES = torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability() == "AVX512"


def kernels_of(rows, weight):
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        linear(rows, weight)
    return {event.key for event in seen.key_averages()}


@pytest.mark.parametrize("shape", [(5000,), (3, 1700), (2, 5, 511), (0,), (1,)])
@pytest.mark.parametrize("bias", [True, False])
def test_it_is_the_linear_map_of_torch(shape, bias):
    torch.manual_seed(0)
    layer = nn.Linear(96, 64, bias=bias)
    rows = torch.randn(*shape, 96)
    torch.testing.assert_close(linear(rows, layer.weight, layer.bias), layer(rows), atol=1e-5, rtol=1e-5)


def test_slopes_are_those_of_torch():
    torch.manual_seed(0)
    layer, rows, wanted = nn.Linear(96, 64), torch.randn(3000, 96, requires_grad=True), torch.randn(3000, 64)
    given = (rows, layer.weight, layer.bias)
    found = torch.autograd.grad((linear(*given) * wanted).sum(), given)
    true = torch.autograd.grad((layer.double()(rows.double()) * wanted).sum(), (rows, layer.weight, layer.bias))
    for slope, exact in zip(found, true, strict=True):
        torch.testing.assert_close(slope.double(), exact.double(), atol=1e-4, rtol=1e-4)


def test_rows_of_any_strides_are_taken():
    torch.manual_seed(0)
    columns, weight = torch.randn(128, 4000), torch.randn(64, 256)[:, ::2]
    torch.testing.assert_close(linear(columns.T, weight), columns.T @ weight.T, atol=1e-4, rtol=1e-4)


def test_a_row_does_not_see_the_others():
    torch.manual_seed(0)
    rows, weight = torch.randn(6000, 128), torch.randn(64, 128)
    torch.testing.assert_close(linear(rows, weight)[1234:1240], linear(rows[1234:1240], weight), atol=1e-5, rtol=1e-5)


@pytest.mark.skipif(not CONVOLVES, reason="needs a processor with AVX-512")
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(
    ("dim", "width"), [(1, 64), (8, 1), (100, 16), (350, 7), (1362, 2), (512, 64), (514, 100), (1536, 64), (2560, 256)]
)
def test_where_a_convolved_row_lies_changes_no_bit_of_it(dim, width, threads):
    torch.manual_seed(0)
    count = min(2048, (1 << 19) // dim)  # as large as chunks of scores, or larger
    rows, weight, place = torch.randn(count, dim), torch.randn(width, dim), torch.randperm(count)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        made, moved = convolved(rows, weight), convolved(rows[place], weight)
        alone = convolved(torch.zeros_like(rows).index_copy(0, torch.tensor([7]), rows[-1:]), weight)[7]
    finally:
        torch.set_num_threads(before)
    assert torch.equal(moved, made[place])
    assert torch.equal(alone, made[-1])


@pytest.mark.skipif(not CONVOLVES, reason="needs a processor with AVX-512")
@pytest.mark.parametrize("threads", [1, 2])
def test_many_rows_are_convolved_whatever_the_number_of_threads(threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = kernels_of(torch.randn(4096, 128), torch.randn(64, 128))
    finally:
        torch.set_num_threads(before)
    assert "aten::mkldnn_convolution" in found
    assert "aten::mm" not in found


@pytest.mark.parametrize(
    ("rows", "weight"),
    [
        (torch.randn(4096, 128).double(), torch.randn(64, 128).double()),
        (torch.randn(4096, 128).bfloat16(), torch.randn(64, 128).bfloat16()),
        (torch.randn(20_000, 1024), torch.randn(2, 1024)),
        (torch.randn(64, 128), torch.randn(64, 128)),
    ],
    ids=["float64", "bfloat16", "narrow", "few"],
)
def test_what_gains_nothing_is_left_to_torch(rows, weight):
    assert not any("conv" in kernel for kernel in kernels_of(rows, weight))


def test_autocast_is_left_to_torch():
    with torch.autocast("cpu", torch.bfloat16):
        assert not any("conv" in kernel for kernel in kernels_of(torch.randn(4096, 128), torch.randn(64, 128)))


def test_a_layer_has_the_weights_of_torch_s():
    torch.manual_seed(0)
    ours, theirs = Linear(96, 64), nn.Linear(96, 64)
    theirs.load_state_dict(ours.state_dict())
    rows = torch.randn(4096, 96)
    torch.testing.assert_close(ours(rows), theirs(rows), atol=1e-5, rtol=1e-5)
    assert isinstance(ours, nn.Linear)


def test_an_exported_layer_is_one_product():
    exported = torch.export.export(Linear(96, 64).eval(), (torch.randn(4096, 96),))
    assert [str(node.target) for node in exported.graph.nodes if node.op == "call_function"] == ["aten.linear.default"]


def test_what_acts_in_place_copies_no_slopes():
    layer, rows = Linear(96, 64), torch.randn(4096, 96)
    wanted = torch.autograd.grad(layer(rows).relu().square().sum(), layer.weight)[0]
    made = torch.relu_(layer(rows))
    assert "CopySlices" not in type(made.grad_fn).__name__
    torch.testing.assert_close(torch.autograd.grad(made.square().sum(), layer.weight)[0], wanted)


_MANY_SHAPES = """
import re, torch
from pathlib import Path
from dtcwsi.nn.linear import Linear
torch.set_num_threads(1)
layer, rows = Linear(1280, 512).requires_grad_(False), torch.randn(1300, 1280)
def held(): return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
for count in range(300, 1300, 3): layer(rows[:count])
before = held()
for count in range(301, 1300, 3): layer(rows[:count])
print(held() - before)
"""


@pytest.mark.skipif(not CONVOLVES, reason="no convolution for AVX-512 here")
def test_kernels_of_many_shapes_are_not_kept_for_ever():
    """By oneDNN's own limit of 1,024 these 333 hold 210 MiB and more, by ours 80 at most."""
    done = subprocess.run([sys.executable, "-c", _MANY_SHAPES], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 150
