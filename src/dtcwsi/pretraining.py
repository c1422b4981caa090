"""The self-supervised phase of an aggregator: vectors of two views of a slide are to agree (Hou et al. 2024)."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dtcwsi.bags.packing import join, pack
from dtcwsi.bags.patch_sample import Bags, check_bags
from dtcwsi.compressors import create_compressor
from dtcwsi.errors import DtcwsiError, FeaturesError, OptionError
from dtcwsi.nn.grid import check_placed
from dtcwsi.nn.vicreg import vicreg
from dtcwsi.nn.views import two_views
from dtcwsi.options import check_number, check_whole_number
from dtcwsi.types import Bag, CompressedBags, PackedBags

__all__ = ["SelfSupervised", "pretrain"]

_PROJECTED = 128
_WARM_UP = 0.1
_BATCHES_MIXED = 16

_Pair = tuple[PackedBags, PackedBags]


@runtime_checkable
class SelfSupervised(Protocol):
    """An aggregator with a phase before labels: it gives slides vectors of a ``width``, which its ``head`` reads.

    ``head`` is no member here: from Python 3.12 on an instance check does not see what a module keeps as a submodule.
    """

    width: int
    training: bool

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """List the weights, those of the head under ``head.``, as a module does."""
        ...

    def train(self, mode: bool = True) -> Any:
        """Go into training, or evaluation, as a module does."""
        ...

    def slide_vectors(self, tokens: CompressedBags) -> Float[Tensor, "bags width"]:
        """Give each bag's vector."""
        ...


def pretrain(
    aggregator: SelfSupervised,
    bags: Bags,
    *,
    steps: int,
    batch: int,
    learning_rate: float,
    seed: int,
    check: Callable[[Tensor], None] = lambda features: None,
) -> list[float]:
    """Train all of an aggregator but its head: `vicreg` of the projected vectors of `two_views` of slides.

    ``bags`` are read in their order, once an epoch; slides are mixed 16 batches at a time, so that no more than the
    views of so many are held. A batch has at most ``batch`` slides, three where they do not pair up; its views are
    small and computed at once, since VICReg of parts is not VICReg of the whole. ``check`` looks at each bag's
    features. AdamW, its rate warming up over the first tenth of the steps and falling along a cosine. The projector
    (width, width, 128) is thrown away. Views show patches, never a compressor's tokens. The same seed gives the same
    weights on a CPU, whatever was drawn before; what is drawn afterwards does not depend on it.
    Returns: the loss of each step.
    Raises: OptionError for an option out of range; FeaturesError if fewer than two slides have two patches, or
    coordinates are missing; DtcwsiError if the loss is no number.
    """
    _check_options(steps, batch, learning_rate, seed)
    check_bags(bags)
    was_training = aggregator.training
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return _take(
                steps, aggregator.train(), bags, batch, learning_rate, torch.Generator().manual_seed(seed), check
            )
    finally:
        aggregator.train(was_training)


def _take(
    steps: int,
    aggregator: SelfSupervised,
    bags: Bags,
    batch: int,
    learning_rate: float,
    generator: torch.Generator,
    check: Callable[[Tensor], None],
) -> list[float]:
    """Take the steps; the projector lives as long.  Returns: their losses."""
    losses: list[float] = []
    projector = _projector(aggregator.width, next(iter(_weights(aggregator))))
    optimizer, schedule = _optimizer([*_weights(aggregator), *projector.parameters()], steps, learning_rate)
    for _, pairs in zip(range(steps), _batches(bags, batch, generator, check), strict=False):
        loss = _loss(aggregator, projector, pairs)
        losses.append(float(loss.detach()))
        if not math.isfinite(losses[-1]):
            raise DtcwsiError(f"the loss became {losses[-1]} in step {len(losses)}; use a lower learning rate")
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
    optimizer.zero_grad()
    return losses


def _check_options(steps: int, batch: int, learning_rate: float, seed: int) -> None:
    check_whole_number("steps", steps)
    check_whole_number("seed", seed, least=0, most=2**32 - 1)
    check_number("learning_rate", learning_rate, lambda rate: rate > 0, "a number above 0")
    if check_whole_number("batch", batch) < 2:
        raise OptionError(
            f"got batch={batch}; expected a whole number from 2 on: VICReg's variance and covariance are over slides"
        )


def _weights(aggregator: SelfSupervised) -> list[nn.Parameter]:
    return [weight for name, weight in aggregator.named_parameters() if not name.startswith("head.")]


def _loss(aggregator: SelfSupervised, projector: nn.Module, pairs: list[_Pair]) -> Float[Tensor, ""]:
    weight = next(projector.parameters())
    views = join([pair[side] for side in (0, 1) for pair in pairs]).to(weight.device)
    tokens = create_compressor("identity", dim=views.features.shape[1])(views)
    tokens = replace(tokens, features=tokens.features.to(weight.dtype))
    first, second = projector(aggregator.slide_vectors(tokens)).chunk(2)
    return vicreg(first, second)


def _projector(width: int, like: Tensor) -> nn.Sequential:
    """Build the network whose outputs are compared: as published, Xavier's weights and biases of 0.01."""
    first, second = nn.Linear(width, width), nn.Linear(width, _PROJECTED)
    for layer in (first, second):
        nn.init.xavier_uniform_(layer.weight)
        nn.init.constant_(layer.bias, 0.01)
    return nn.Sequential(first, nn.ReLU(), second).to(like)


def _optimizer(
    trained: list[nn.Parameter], steps: int, learning_rate: float
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    warm = int(_WARM_UP * steps)

    def share(step: int) -> float:
        if step < warm:
            return (step + 1) / (warm + 1)
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))

    optimizer = torch.optim.AdamW(trained, lr=learning_rate)
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, share)


def _batches(
    bags: Bags, batch: int, generator: torch.Generator, check: Callable[[Tensor], None]
) -> Iterator[list[_Pair]]:
    """Deal out the slides' views, epoch after epoch."""
    while True:
        held: list[_Pair] = []
        seen = 0
        for bag in bags:
            check(bag.features)
            drawn = _pairs(bag, generator)
            held += drawn
            seen += len(drawn)
            while len(held) >= _BATCHES_MIXED * batch + 2:  # two stay, so that the last of an epoch are not alone
                yield from _dealt(held[:-2], batch, generator)
                held = held[-2:]
        if seen < 2:
            raise FeaturesError(
                f"got {seen} slides of two patches or more; expected at least two, which VICReg compares"
            )
        yield from _dealt(held, batch, generator)


def _dealt(pairs: list[_Pair], batch: int, generator: torch.Generator) -> Iterator[list[_Pair]]:
    """Mix slides and deal them out into batches of nearly equal sizes, none of a single one."""
    mixed = torch.randperm(len(pairs), generator=generator)
    for part in torch.tensor_split(mixed, min(-(-len(pairs) // batch), len(pairs) // 2)):
        yield [pairs[number] for number in part.tolist()]


def _pairs(bag: Bag | PackedBags, generator: torch.Generator) -> list[_Pair]:
    """Draw two views of each slide that has two patches, taken in spatial order whatever order they came in."""
    packed = pack([bag]) if isinstance(bag, Bag) else bag
    coords, steps = check_placed(packed, "the self-supervised phase")
    pairs = []
    for number, (start, end) in enumerate(zip(packed.offsets[:-1].tolist(), packed.offsets[1:].tolist(), strict=True)):
        if end - start < 2:
            continue
        rows = torch.arange(start, end) if packed.order is None else packed.order[start:end].cpu()
        places = (coords[rows.to(coords.device)].double() / steps[number].double()).flip(1).cpu()
        first, second = two_views(places, generator)
        pairs.append((_part(packed, number, rows[first]), _part(packed, number, rows[second])))
    return pairs


def _part(packed: PackedBags, number: int, rows: Tensor) -> PackedBags:
    """Copy some patches of a bag; they keep the places and the step that they have in the slide."""
    rows = rows.to(packed.features.device)
    coords, steps = check_placed(packed, "the self-supervised phase")
    return PackedBags(
        packed.features[rows],
        torch.tensor([0, len(rows)], device=rows.device),
        coords[rows],
        step_level0=steps[number : number + 1],
    )
