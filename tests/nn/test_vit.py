import math

import pytest
import torch

from dtcwsi.nn.vit import PostNormBlock, PreNormBlock, SelfAttention, resized_positions

WIDTH, HEADS = 6, 2


@pytest.fixture
def rows():
    return torch.randn(3, 5, WIDTH, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture
def bias():
    drawn = torch.randn(3, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return drawn.index_put((torch.tensor([0, 2]), torch.tensor([4, 1])), torch.tensor(-math.inf, dtype=torch.float64))


def build(kind, **options):
    torch.manual_seed(0)
    block = kind(WIDTH, heads=HEADS, **options).double().eval()
    for weight in block.parameters():
        torch.nn.init.normal_(weight)
    return block


@torch.no_grad()
def attention_by_loops(layer, rows, bias):
    """One set, one head, one query at a time."""
    part, found, shares = WIDTH // HEADS, torch.zeros_like(rows), torch.zeros_like(bias)
    for number, one in enumerate(rows):
        queries, keys, values = (one @ layer.qkv.weight.T + layer.qkv.bias).chunk(3, dim=1)
        for head in range(HEADS):
            at = slice(head * part, (head + 1) * part)
            for row in range(len(one)):
                logits = [float(queries[row, at] @ key[at]) / math.sqrt(part) for key in keys]
                odds = torch.tensor([math.exp(z + b) for z, b in zip(logits, bias[number].tolist(), strict=True)])
                weights = (odds / odds.sum()).double()
                found[number, row, at] = weights @ values[:, at]
                shares[number] += weights / HEADS if row == 0 else 0
    return found @ layer.out.weight.T + layer.out.bias, shares


def test_attention_is_that_of_plain_loops_absent_keys_left_out(rows, bias):
    layer = build(SelfAttention)
    found, shares = attention_by_loops(layer, rows, bias)
    torch.testing.assert_close(layer(rows, bias), found, atol=1e-6, rtol=1e-6)
    first, given = layer.of_first(rows, bias)
    torch.testing.assert_close(first, found[:, :1], atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(given, shares, atol=1e-6, rtol=1e-6)
    assert given[0, 4] == given[2, 1] == 0
    assert not given.requires_grad


def test_a_pre_norm_block_is_its_formula_and_knows_its_first_row_alone(rows, bias):
    block = build(PreNormBlock, hidden=9)

    def norm(layer, x):
        centred = x - x.mean(dim=-1, keepdim=True)
        return centred / (centred.pow(2).mean(dim=-1, keepdim=True) + 1e-6).sqrt() * layer.weight + layer.bias

    seen = rows + attention_by_loops(block.attention, norm(block.first_norm, rows), bias)[0]
    hidden = norm(block.second_norm, seen) @ block.mlp[0].weight.T + block.mlp[0].bias
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
    expected = seen + hidden @ block.mlp[2].weight.T + block.mlp[2].bias
    torch.testing.assert_close(block(rows, bias), expected, atol=1e-5, rtol=1e-6)
    torch.testing.assert_close(block.of_first(rows, bias)[0], expected[:, :1], atol=1e-5, rtol=1e-6)


def test_a_post_norm_block_is_torchs_encoder_layer_with_a_bias_of_keys(rows, bias):
    block = build(PostNormBlock, hidden=9)
    theirs = torch.nn.TransformerEncoderLayer(WIDTH, HEADS, 9, activation="relu", batch_first=True).double().train()
    names = {"self_attn.in_proj_": "attention.qkv.", "self_attn.out_proj": "attention.out", "linear1": "mlp.0"}
    names |= {"linear2": "mlp.3", "norm1": "first_norm", "norm2": "second_norm"}
    state = {}
    for key in theirs.state_dict():
        start = next(start for start in names if key.startswith(start))
        state[key] = block.state_dict()[key.replace(start, names[start])]
    theirs.load_state_dict(state)
    for part in theirs.modules():
        part.p = 0.0
    theirs.self_attn.dropout = 0.0
    expected = theirs(rows, src_key_padding_mask=bias)
    torch.testing.assert_close(block(rows, bias), expected, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("kind", [PreNormBlock, PostNormBlock])
def test_gradients_reach_a_keys_bias(kind, rows):
    bias = torch.zeros(3, 5, dtype=torch.float64, requires_grad=True)
    build(kind, hidden=9)(rows, bias)[..., 0].sum().backward()
    assert bias.grad.abs().min() > 0


def test_dropout_of_a_post_norm_block_acts_in_training_only(rows):
    block, bias = build(PostNormBlock, hidden=9, dropout=0.5), torch.zeros(3, 5, dtype=torch.float64)
    assert torch.equal(block(rows, bias), block(rows, bias))
    assert not torch.equal(block.train()(rows, bias), block(rows, bias))


def cubic(distance):
    """The cubic convolution kernel with a = -0.75 (Keys 1981), which torch calls bicubic."""
    x = abs(distance)
    if x <= 1:
        return 1.25 * x**3 - 2.25 * x**2 + 1
    return -0.75 * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


@pytest.mark.parametrize(("side", "scale"), [(16, 16.1 / 14), (20, 20.1 / 14), (6, 6.1 / 14)])
def test_positions_are_sampled_at_the_published_scale(side, scale):
    """A cell lies at (place + 0.5) / scale - 0.5 of the stored square, whose edges go on beyond it."""
    stored = torch.randn(1, 197, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    reach = torch.zeros(side, 14, dtype=torch.float64)
    for cell in range(side):
        at = (cell + 0.5) / scale - 0.5
        for near in range(math.floor(at) - 1, math.floor(at) + 3):
            reach[cell, min(max(near, 0), 13)] += cubic(at - near)
    expected = torch.einsum("yi,xj,ijc->yxc", reach, reach, stored[0, 1:].view(14, 14, 3)).reshape(-1, 3)
    of_class, of_cells = resized_positions(stored, side)
    torch.testing.assert_close(of_cells, expected, atol=1e-6, rtol=0)
    assert torch.equal(of_class, stored[0, 0])


def test_positions_of_the_stored_size_stay_as_they_are():
    stored = torch.randn(1, 10, 2)
    assert torch.equal(resized_positions(stored, 3)[1], stored[0, 1:])
