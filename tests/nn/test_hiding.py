import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dtcwsi.nn.hiding import Hiding, hidden_tokens
from dtcwsi.nn.segment import offsets_of

shares = st.sampled_from([0.0, 0.01, 0.3, 0.5, 0.6, 0.9])


def parts(values, sizes):
    return torch.split(values, sizes)


def attention_of(sizes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(sum(sizes), generator=generator)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=4), shares, shares, shares, st.sampled_from([0.3, 0.5, 1.0]))
def test_every_bag_keeps_a_token_and_numbers_are_rounded_up(sizes, drawn, low, high, high_drawn):
    attention, offsets = attention_of(sizes), offsets_of(torch.tensor(sizes))
    hidden = hidden_tokens(attention, offsets, Hiding(drawn, low, high, high_drawn))
    for size, part in zip(sizes, parts(hidden, sizes), strict=True):
        assert int(part.sum()) < max(1, size)
        assert int(part.sum()) >= min(size - 1, math.ceil(size * drawn - 1e-9))
        if low == high == 0:
            assert int(part.sum()) == min(max(size - 1, 0), math.ceil(size * drawn - 1e-9))


def test_the_lowest_and_the_highest_are_hidden():
    sizes = [10, 0, 20]
    attention, offsets = attention_of(sizes), offsets_of(torch.tensor(sizes))
    hidden = hidden_tokens(attention, offsets, Hiding(0.0, 0.3, 0.2, 1.0))
    for size, part, shares in zip(sizes, parts(hidden, sizes), parts(attention, sizes), strict=True):
        order = shares.argsort().tolist()
        low = math.ceil(0.3 * size)
        high = math.ceil(0.2 * (size - low))
        assert part.nonzero().squeeze(1).tolist() == sorted(order[:low] + (order[-high:] if high else []))


def test_half_of_twice_as_many_are_drawn_of_the_highest():
    attention, offsets = attention_of([50]), torch.tensor([0, 50])
    top = set(attention.topk(10).indices.tolist())
    seen = set()
    for seed in range(30):
        torch.manual_seed(seed)
        hidden = set(hidden_tokens(attention, offsets, Hiding(0.0, 0.0, 0.1, 0.5)).nonzero().squeeze(1).tolist())
        assert len(hidden) == 5
        assert hidden <= top
        seen |= hidden
    assert seen == top


def test_random_ones_are_drawn_anew():
    attention, offsets = attention_of([40, 40]), torch.tensor([0, 40, 80])
    draws = [hidden_tokens(attention, offsets, Hiding(0.5, 0.0, 0.0, 1.0)) for _ in range(2)]
    assert [int(draw.sum()) for draw in draws] == [40, 40]
    assert not torch.equal(*draws)


@pytest.mark.parametrize("size", [1, 2])
def test_the_highest_stays_where_all_would_go(size):
    attention = torch.arange(size).float()
    hidden = hidden_tokens(attention, torch.tensor([0, size]), Hiding(0.9, 0.9, 0.9, 1.0))
    assert hidden.tolist() == [True] * (size - 1) + [False]
