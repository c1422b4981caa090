"""Attention through landmarks against the published algorithm written out: zeros in front, means, pseudo-inverse."""

import pytest
import torch
from torch import Tensor

from dtcwsi.nn import nystrom
from dtcwsi.nn.inverse import inverse_of
from dtcwsi.nn.nystrom import NystromAttention, convolved, normed_behind_pad

HEADS, LANDMARKS, WIDTH = 2, 4, 6


def pseudo_inverses(matrices: Tensor, iterations: int) -> Tensor:
    """Iterate on the inverses themselves, as it is published."""
    sizes = matrices.abs()
    guess = matrices.mT / (sizes.sum(dim=2).max() * sizes.sum(dim=1).max())
    unit = torch.eye(matrices.shape[2], dtype=matrices.dtype)
    for _ in range(iterations):
        product = matrices @ guess
        guess = 0.25 * guess @ (13 * unit - product @ (15 * unit - product @ (7 * unit - product)))
    return guess


def behind_pad(rows: Tensor) -> Tensor:
    return torch.nn.functional.pad(rows, (0, 0, 1, 0))


def padded_reference(layer: NystromAttention, rows: Tensor, bias: Tensor, values_of: Tensor | None = None) -> Tensor:
    """Compute every matrix whole, pads as zero rows in front; ``values_of`` tokens may take the place of values."""
    part = WIDTH // HEADS
    front = -len(rows) % LANDMARKS
    filled = torch.cat([torch.zeros(front, WIDTH, dtype=rows.dtype), rows])
    reach = torch.cat([torch.zeros(front, dtype=rows.dtype), bias])
    queries, keys, values = (filled @ layer.qkv.weight.T).chunk(3, dim=1)
    if values_of is not None:
        values = torch.nn.functional.pad(values_of, (front, 0))[:, None].expand(-1, WIDTH)
    found = []
    for head in range(HEADS):
        q, k, v = (wide[:, head * part : (head + 1) * part] for wide in (queries / part**0.5, keys, values))
        q_marks = q.view(LANDMARKS, -1, part).mean(dim=1)
        k_marks = k.view(LANDMARKS, -1, part).mean(dim=1)
        middle = (q_marks @ k_marks.T).softmax(dim=1)
        found.append(((q @ k_marks.T).softmax(dim=1), middle, (q_marks @ k.T + reach).softmax(dim=1), v))
    inverses = pseudo_inverses(torch.stack([middle for _, middle, _, _ in found]), layer.iterations)
    out = []
    for head, (first, _, last, v) in enumerate(found):
        kernel = layer.convolution.weight[head, 0, :, 0]
        half = len(kernel) // 2
        near = [
            sum(kernel[tap] * v[at + tap - half] for tap in range(len(kernel)) if 0 <= at + tap - half < len(v))
            for at in range(len(v))
        ]
        out.append(first @ inverses[head] @ last @ v + torch.stack(near))
    return layer.out(torch.cat(out, dim=1))[front:]


@pytest.fixture(params=["cpu", "gpu"])
def pace(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which device's way of working, on this one."""
    monkeypatch.setattr(nystrom, "_wants_few_launches", lambda _: request.param == "gpu")
    return str(request.param)


@pytest.mark.parametrize("learns", [True, False])
@pytest.mark.parametrize("at_once", [1, 4096])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 11, 16, 23])
def test_exact_algebra_gives_what_the_padded_matrices_give(
    monkeypatch: pytest.MonkeyPatch, count: int, at_once: int, learns: bool, pace: str
) -> None:
    monkeypatch.setattr(nystrom, "_TOKENS_AT_ONCE", at_once)
    monkeypatch.setattr(nystrom, "_SCORES_AT_ONCE", at_once * LANDMARKS)
    torch.manual_seed(count)
    layer = NystromAttention(WIDTH, heads=HEADS, landmarks=LANDMARKS, kernel=5).double()
    rows, bias = torch.randn(count, WIDTH, dtype=torch.float64), torch.randn(count, dtype=torch.float64)
    wanted = padded_reference(layer, rows, bias).detach()
    with torch.set_grad_enabled(learns):
        made, first = layer(behind_pad(rows), bias), layer.of_first(behind_pad(rows), bias)[0]
    torch.testing.assert_close(made.detach(), wanted, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(first.detach(), wanted[:1], rtol=1e-10, atol=1e-10)


def whole_matrix(layer: NystromAttention, rows: Tensor, bias: Tensor) -> Tensor:
    """Read off the reference how much tokens attend to each other, a mean over heads: values of 1 in one token."""
    part, count = WIDTH // HEADS, len(rows)
    copy = NystromAttention(WIDTH, heads=HEADS, landmarks=LANDMARKS, kernel=5).double()
    copy.load_state_dict(layer.state_dict())
    taken = []
    with torch.no_grad():
        copy.convolution.weight.zero_()
        copy.out.weight.copy_(torch.eye(WIDTH))
        copy.out.bias.zero_()
        for token in range(count):
            made = padded_reference(copy, rows, bias, torch.eye(count, dtype=rows.dtype)[:, token])
            taken.append(made.view(count, HEADS, part)[:, :, 0].mean(dim=1))
    return torch.stack(taken, dim=1)


@pytest.mark.usefixtures("pace")
@pytest.mark.parametrize("count", [1, 3, 4, 11, 23])
def test_what_weighed_tokens_take_is_that_of_the_whole_matrix(count: int) -> None:
    torch.manual_seed(count)
    layer = NystromAttention(WIDTH, heads=HEADS, landmarks=LANDMARKS, kernel=5).double()
    rows, bias = torch.randn(count, WIDTH, dtype=torch.float64), torch.randn(count, dtype=torch.float64)
    over = torch.rand(count, dtype=torch.float64)
    whole = whole_matrix(layer, rows, bias)
    made, taken_from = layer.looked(behind_pad(rows), bias)
    torch.testing.assert_close(made, layer(behind_pad(rows), bias))
    torch.testing.assert_close(taken_from(over), over @ whole, rtol=1e-9, atol=1e-9)
    first = layer.shares_of_first(behind_pad(rows), bias).mean(dim=1)
    torch.testing.assert_close(first, whole[0], rtol=1e-9, atol=1e-9)


@pytest.mark.usefixtures("pace")
def test_gradients_of_the_first_token_are_those_of_all_tokens() -> None:
    torch.manual_seed(0)
    layer = NystromAttention(WIDTH, heads=HEADS, landmarks=LANDMARKS, kernel=5).double()
    rows = torch.randn(11, WIDTH, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(11, dtype=torch.float64, requires_grad=True)
    wanted = torch.autograd.grad(layer(behind_pad(rows), bias)[0].square().sum(), [rows, bias, layer.qkv.weight])
    found = torch.autograd.grad(
        layer.of_first(behind_pad(rows), bias)[0].square().sum(), [rows, bias, layer.qkv.weight]
    )
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)


def test_the_weights_of_the_first_token_leave_to_pads_what_pads_take() -> None:
    torch.manual_seed(0)
    layer = NystromAttention(WIDTH, heads=HEADS, landmarks=LANDMARKS, kernel=5, iterations=20).double()
    full, short = (torch.randn(count, WIDTH, dtype=torch.float64) for count in (8, 7))
    shares = layer.shares_of_first(behind_pad(full), torch.zeros(8, dtype=torch.float64)).sum(dim=0)
    torch.testing.assert_close(shares, torch.ones_like(shares), rtol=1e-6, atol=1e-6)
    assert (layer.shares_of_first(behind_pad(short), torch.zeros(7, dtype=torch.float64)).sum(dim=0) < 0.999).all()


@pytest.mark.parametrize("taps", [1, 3, 33])
@pytest.mark.parametrize("count", [1, 5, 66, 67, 200])
def test_banded_products_convolve(count: int, taps: int) -> None:
    torch.manual_seed(0)
    rows, kernels = torch.randn(2, count, 3, dtype=torch.float64), torch.randn(2, taps, dtype=torch.float64)
    found = convolved(rows, kernels)
    assert found.shape == rows.shape
    for seen, kernel, made in zip(rows, kernels, found, strict=True):
        wanted = torch.nn.functional.conv1d(seen.T[:, None], kernel[None, None], padding=taps // 2)[:, 0].T
        torch.testing.assert_close(made, wanted)


@pytest.mark.parametrize("iterations", [0, 1, 2, 6])
def test_products_with_inverses_are_those_of_the_published_iteration(iterations: int) -> None:
    torch.manual_seed(0)
    matrices = torch.randn(3, 32, 32, dtype=torch.float64).mul(2).softmax(dim=2)
    rows, columns = torch.randn(3, 5, 32, dtype=torch.float64), torch.randn(3, 32, 7, dtype=torch.float64)
    wanted = pseudo_inverses(matrices, iterations)
    for left in range(min(3, iterations) + 1):
        found = inverse_of(matrices, iterations, left=left)
        torch.testing.assert_close(found.behind(rows), rows @ wanted, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(found.before(columns), wanted @ columns, rtol=1e-10, atol=1e-10)
        some = slice(1, 3)
        torch.testing.assert_close(found.of(some).behind(rows[some]), (rows @ wanted)[some], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("sharp", [0.5, 3.0, 10.0])
def test_single_precision_is_about_as_good_as_that_of_the_published_iteration(sharp: float) -> None:
    torch.manual_seed(0)
    queries = torch.randn(2, 256, 64, dtype=torch.float64)
    keys = 0.7 * (queries + torch.randn(2, 256, 64, dtype=torch.float64))
    matrices = (queries @ keys.mT * sharp / 64).softmax(dim=2)
    columns = torch.randn(2, 256, 64, dtype=torch.float64)
    wanted = pseudo_inverses(matrices, 6) @ columns
    found = inverse_of(matrices.float(), 6, left=1).before(columns.float()).double()
    assert (found - wanted).norm() < 3e-5 * wanted.norm()


def test_the_pad_stays_zero_whatever_the_norm_adds() -> None:
    norm = torch.nn.LayerNorm(4)
    torch.nn.init.ones_(norm.bias)
    rows = torch.randn(3, 4, requires_grad=True)
    made = normed_behind_pad(norm, behind_pad(rows))
    assert not made[0].any()
    torch.testing.assert_close(made[1:], norm(rows))
    found, wanted = (torch.autograd.grad(each.square().sum(), [rows, norm.bias]) for each in (made, norm(rows)))
    torch.testing.assert_close(found, wanted)
