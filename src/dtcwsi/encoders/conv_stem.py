"""CTransPath's stem: convolutions where a Swin transformer cuts patches."""

from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["ConvStem"]


class ConvStem(nn.Module):
    """Two strided convolutions with batch norm and ReLU, one of size 1, and a layer norm: a row for 4 x 4 pixels.

    Source: github Xiyue-Wang/TransPath, ctran.py.
    """

    def __init__(self, width: int = 96) -> None:
        super().__init__()
        first, second = width // 8, width // 4
        self.proj = nn.Sequential(
            nn.Conv2d(3, first, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(first),
            nn.ReLU(),
            nn.Conv2d(first, second, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(second),
            nn.ReLU(),
            nn.Conv2d(second, width, 1),
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, images: Float[Tensor, "images 3 height width"]) -> Float[Tensor, "images rows columns dim"]:
        """Embed each square of 4 x 4 pixels."""
        rows: Tensor = self.norm(self.proj(images).permute(0, 2, 3, 1))
        return rows
