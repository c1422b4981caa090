import pytest
import torch

from dtcwsi.compressors.pruning import gate


def test_the_gate_halves_the_lowest_and_spares_bags_without_pruning():
    score = torch.tensor([-2.0, 1.0, 1.0, 2.0], requires_grad=True)
    prior = gate(score, torch.tensor([0, 2, 4]), torch.tensor([True, False]))
    assert prior.exp().tolist() == pytest.approx([0.5, torch.sigmoid(torch.tensor(3.0)).item(), 1.0, 1.0])
    slopes = torch.autograd.grad(prior.sum(), score)[0]
    assert (slopes[:2] > 0).all()
    assert slopes[2:].tolist() == [0.0, 0.0]
