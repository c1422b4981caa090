"""Two views of a slide: parts of its patches that share none (Hou et al. 2024)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["crop", "keep_some", "split", "two_views"]

_FIRST_SHARE = 0.7
_AREAS = ((100, 200), (50, 150))
_ASPECTS = (0.5, 2.0)
_KEPT = (0.1, 0.8)

TwoParts = tuple[Int[Tensor, "first"], Int[Tensor, "second"]]


def two_views(places: Float[Tensor, "patches 2"], generator: torch.Generator) -> TwoParts:
    """Draw two views of two patches or more: deal all of them out, crop each part, keep some of what is left.

    ``places`` are rows and columns of the slide's grid. Which view gets the larger part, and which the larger crop, is
    drawn too. Returns: row numbers of patches, at least one a view and at most 160 where a cell holds one patch.
    Source: the settings of MLNeurosurg/fastglioma's slide training. Adaptation: a view never loses its last patch.
    """
    parts = split(len(places), generator)
    of_part, of_area = (torch.randperm(2, generator=generator).tolist() for _ in range(2))
    views = []
    for part, area in zip(of_part, of_area, strict=True):
        left = parts[part][crop(places[parts[part]], _AREAS[area], generator)]
        views.append(left[keep_some(len(left), generator)])
    return views[0], views[1]


def split(count: int, generator: torch.Generator) -> TwoParts:
    """Deal out ``count`` rows, two or more, at random: seven tenths, and the others."""
    cut = min(max(1, int(_FIRST_SHARE * count)), count - 1)
    mixed = torch.randperm(count, generator=generator)
    return mixed[:cut], mixed[cut:]


def crop(places: Float[Tensor, "patches 2"], area: tuple[int, int], generator: torch.Generator) -> Int[Tensor, "kept"]:
    """Find the places inside a rectangle around a random one of them, of ``area`` cells and aspect 0.5 to 2."""
    centre = places[int(torch.randint(len(places), (1,), generator=generator))]
    drawn = torch.rand(2, generator=generator, dtype=torch.float64)
    cells = (area[0] + drawn[0] * (area[1] - area[0])).round()
    aspect = _ASPECTS[0] + drawn[1] * (_ASPECTS[1] - _ASPECTS[0])
    height = (cells / aspect).sqrt()
    half = (torch.stack([height, height * aspect]) / 2).round()
    return ((places - centre).abs() < half).all(dim=1).nonzero()[:, 0]


def keep_some(count: int, generator: torch.Generator) -> Int[Tensor, "kept"]:
    """Draw 10 to 80 % of ``count`` rows, at least one."""
    share = _KEPT[0] + float(torch.rand(1, generator=generator)) * (_KEPT[1] - _KEPT[0])
    return torch.randperm(count, generator=generator)[: max(1, round(share * count))]
