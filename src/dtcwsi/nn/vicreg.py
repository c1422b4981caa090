"""VICReg: views of one slide are alike, slides differ, and no two numbers say the same (Bardes et al. 2022)."""

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import mse_loss

__all__ = ["vicreg"]


def vicreg(
    first: Float[Tensor, "slides width"],
    second: Float[Tensor, "slides width"],
    *,
    invariance: float = 10.0,
    variance: float = 10.0,
    covariance: float = 1.0,
    eps: float = 1e-4,
) -> Float[Tensor, ""]:
    """Score vectors of two views of at least two slides; lower is better.

    The weighted sum of the squared difference of the views, of what each number's deviation over the slides lacks to 1
    (``eps`` is added to its variance), and of the squared covariances of different numbers; the last two are means over
    the views. The last two need all slides at once: it is no mean over slides, and a batch cannot be split into passes.
    Source: Bardes et al. 2022, weighted as in MLNeurosurg/fastglioma.
    """
    spread = (_lacking(first, eps) + _lacking(second, eps)) / 2
    shared = (_shared(first) + _shared(second)) / 2
    return invariance * mse_loss(first, second) + variance * spread + covariance * shared


def _lacking(vectors: Float[Tensor, "slides width"], eps: float) -> Float[Tensor, ""]:
    return (1 - (vectors.var(dim=0) + eps).sqrt()).relu().mean()


def _shared(vectors: Float[Tensor, "slides width"]) -> Float[Tensor, ""]:
    centred = vectors - vectors.mean(dim=0)
    table = centred.T @ centred / (len(vectors) - 1)
    squares = table.square()
    return (squares.sum() - squares.diagonal().sum()) / vectors.shape[1]
