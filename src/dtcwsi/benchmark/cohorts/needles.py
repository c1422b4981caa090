"""Needle tasks: bags of clustered background in which one to three tokens, or a few percent, carry the label."""

from dataclasses import dataclass

import torch

from dtcwsi.types import Bag

__all__ = ["TASKS", "NeedleTask", "draw_bags"]

_CLUSTERS = 12


@dataclass(frozen=True)
class NeedleTask:
    """What bags look like.

    ``tokens`` and ``needles`` are ranges, both ends included; needles below 1 are shares of the bag. ``strength`` is a
    needle centre's distance from the origin and ``noise`` every token's spread, both per coordinate, where cluster
    centres have spread 1. A bag of either class has needles of its own kind: the other class's are the distractors.
    ``placed`` gives coordinates, with background clusters in bands.
    """

    dim: int
    tokens: tuple[int, int]
    needles: tuple[float, float]
    strength: float = 1.0
    noise: float = 0.5
    placed: bool = False


# late-256 is a stress test: plain attention itself finds out in the last epochs of 30, or not at all. placed-64 is for
# the comparison systems, some of which need coordinates.
TASKS = {
    "few-64": NeedleTask(64, (200, 600), (1, 3)),
    "few-256": NeedleTask(256, (500, 2000), (1, 3), strength=0.8),
    "share-32": NeedleTask(32, (200, 600), (0.05, 0.05), strength=0.5, noise=0.8),
    "weak-128": NeedleTask(128, (200, 800), (1, 3), strength=0.55, noise=0.6),
    "placed-512": NeedleTask(512, (400, 1000), (2, 3), strength=0.4, placed=True),
    "placed-64": NeedleTask(64, (200, 600), (1, 3), placed=True),
    "lone-16": NeedleTask(16, (200, 600), (1, 1), strength=2.0, noise=0.3),
    "late-256": NeedleTask(256, (500, 2000), (1, 3), strength=0.6),
}


def draw_bags(task: NeedleTask, count: int, *, seed: int, world: int) -> list[Bag]:
    """Draw labelled bags; ``world`` fixes the cluster and needle centres, ``seed`` the bags."""
    centres = torch.Generator().manual_seed(world)
    background = torch.randn(_CLUSTERS, task.dim, generator=centres)
    kinds = task.strength * torch.randn(2, task.dim, generator=centres)
    generator = torch.Generator().manual_seed(seed)
    return [_draw(task, number % 2, background, kinds, generator) for number in range(count)]


def _draw(
    task: NeedleTask, label: int, background: torch.Tensor, kinds: torch.Tensor, generator: torch.Generator
) -> Bag:
    size = int(torch.randint(task.tokens[0], task.tokens[1] + 1, (), generator=generator))
    low, high = (max(1, round(size * end)) if end < 1 else int(end) for end in task.needles)
    count = int(torch.randint(low, high + 1, (), generator=generator))
    shares = torch.rand(_CLUSTERS, generator=generator)
    cluster = torch.multinomial(shares, size, replacement=True, generator=generator)
    coords = None
    if task.placed:
        cluster = cluster.sort().values
        side = int(size**0.5) + 1
        coords = torch.stack([torch.arange(size) % side, torch.arange(size) // side], dim=1) * 256
    rows = background[cluster]
    where = torch.randperm(size, generator=generator)[:count]
    rows[where] = kinds[label]
    return Bag(rows + task.noise * torch.randn(size, task.dim, generator=generator), coords, label=label)
