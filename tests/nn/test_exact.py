import pytest
import torch

from dtcwsi.nn.exact import key_of, pair_dots, steps


def test_rounding_joins_float_errors_and_keeps_differences():
    values = steps(torch.tensor([0.1, 0.1 + 1e-12, 0.1001, 1e9, -1e9], dtype=torch.float64))
    assert values[0] == values[1] < values[2] < values[3] == -values[4]


def test_keys_order_by_value_then_by_tie():
    key = key_of(torch.tensor([0.5, -3.0, 0.5, 300.0]), torch.tensor([2**31 - 1, 7, 3, 0]))
    assert key.argsort().tolist() == [1, 2, 0, 3]


@pytest.mark.parametrize("kind", [torch.float32, torch.float16])
@pytest.mark.parametrize("other_kind", [torch.float32, torch.float16])
def test_pair_dots_take_pairs_in_any_order_and_twice(kind, other_kind):
    rows, others = torch.randn(9, 5).to(kind), torch.randn(9, 5).to(other_kind)
    one, other = torch.tensor([7, 0, 7, 7, 3]), torch.tensor([2, 8, 2, 0, 3])
    wanted = (rows.float()[one] * others.float()[other]).sum(dim=1)
    torch.testing.assert_close(pair_dots(rows, others, one, other), wanted)
    assert pair_dots(rows, others, one[:0], other[:0]).shape == (0,)
