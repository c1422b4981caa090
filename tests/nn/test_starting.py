import pytest
import torch
from torch import nn

from dtcwsi.aggregators import create_aggregator


def test_dsmil_begins_orthogonal_as_published():
    torch.manual_seed(0)
    model = create_aggregator("dsmil", in_dim=24, n_classes=3)
    for layer in (part for part in model.modules() if isinstance(part, nn.Linear | nn.Conv1d)):
        rows = layer.weight.flatten(1)
        small = rows @ rows.T if len(rows) <= rows.shape[1] else rows.T @ rows
        torch.testing.assert_close(small, torch.eye(len(small)), atol=1e-5, rtol=0)
        assert not layer.bias.any()


@pytest.mark.parametrize("name", ["mhim-abmil", "mhim-transmil"])
def test_mhim_begins_with_xaviers_normal_numbers_as_published(name):
    torch.manual_seed(0)
    model = create_aggregator(name, in_dim=256, n_classes=2)
    for layer in (part for part in model.modules() if isinstance(part, nn.Linear)):
        wanted = (2 / sum(layer.weight.shape)) ** 0.5
        assert layer.weight.std().item() == pytest.approx(wanted, rel=0.2)
        assert layer.bias is None or not layer.bias.any()
