import pytest
import torch

from dtcwsi.nn.vicreg import vicreg


def plain(first, second):
    """The formula, number by number, in float64."""
    slides, width = len(first), len(first[0])
    alike = sum((first[i][k] - second[i][k]) ** 2 for i in range(slides) for k in range(width)) / (slides * width)
    lacks, shared = 0.0, 0.0
    for view in (first, second):
        means = [sum(row[k] for row in view) / slides for k in range(width)]

        def covariance(k, other, view=view, means=means):
            return sum((row[k] - means[k]) * (row[other] - means[other]) for row in view) / (slides - 1)

        lacks += sum(max(0.0, 1 - (covariance(k, k) + 1e-4) ** 0.5) for k in range(width)) / width / 2
        shared += sum(covariance(k, o) ** 2 for k in range(width) for o in range(width) if o != k) / width / 2
    return 10 * alike + 10 * lacks + shared


@pytest.mark.parametrize("slides", [2, 7])
def test_it_is_the_formula(slides):
    views = torch.randn(2, slides, 4, generator=torch.Generator().manual_seed(slides), dtype=torch.float64)
    assert float(vicreg(*views)) == pytest.approx(plain(*views.tolist()), rel=1e-9)


def test_it_is_the_published_loss():
    """Recorded from MLNeurosurg/fastglioma at f873496, GeneralVICRegLoss(5, 10, 10, 1)."""
    views = torch.randn(6, 2, 5, generator=torch.Generator().manual_seed(3)) * 0.7
    assert float(vicreg(views[:, 0], views[:, 1])) == pytest.approx(9.0056267, abs=1e-5)


def test_equal_slides_are_as_bad_as_can_be_and_their_gradient_is_finite():
    rows = torch.zeros(4, 3, requires_grad=True)
    loss = vicreg(rows, rows)
    assert float(loss.detach()) == pytest.approx(10 * 0.99)
    loss.backward()
    assert torch.isfinite(rows.grad).all()
