import torch

from dtcwsi.nn.grafting import grafted
from dtcwsi.nn.grid import occupied
from dtcwsi.nn.sparse import convolved, levels_of


def follow(made):
    return made.relu() / made.std(dim=0)


def test_new_rows_get_the_slopes_that_the_convolution_would_have_given_them():
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randperm(100, generator=generator)[:60]
    xy, offsets, _ = occupied(torch.stack([chosen % 10, chosen // 10], dim=1), torch.arange(60) // 45, 2)
    level = levels_of(xy, offsets, (1,)).steps[0]
    filled, weight = torch.randn(60, 3).double(), torch.randn(4, 3, 3, 3).double().requires_grad_()
    bias, which = torch.zeros(4).double(), torch.tensor([3, 17, 44, 45, 59])
    anew = filled[which].clone().requires_grad_()
    made = convolved(filled, level.neighbours, weight, bias)
    found = grafted(follow(made), anew, which, made, follow, level.neighbours, weight)
    wanted = follow(convolved(filled.index_copy(0, which, anew), level.neighbours, weight, bias))
    assert torch.equal(found, wanted)
    slopes = torch.randn_like(found)
    ours, theirs = (torch.autograd.grad(each, (anew, weight), slopes) for each in (found, wanted))
    torch.testing.assert_close(ours, theirs)
