"""PatchGD: convolutions over the latents of all patches, a few of which learn at a time (Gupta et al. 2023)."""

import math
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from dtcwsi.errors import OptionError
from dtcwsi.later import later
from dtcwsi.nn.attention import AttentionScores
from dtcwsi.nn.chunks import passes
from dtcwsi.nn.fixed_grid import fitted
from dtcwsi.nn.grid import Cells, cells_of, laid_out, weighed
from dtcwsi.nn.linear import Linear
from dtcwsi.nn.place_layers import FirstLayer, PlaceLayers
from dtcwsi.nn.segment import segment_ids, segment_order, segment_pool, segment_shares, segment_softmax, segment_sum
from dtcwsi.nn.sparse import Levels, levels_of
from dtcwsi.options import check_number, check_share, check_whole_number, one_of
from dtcwsi.recipe import TrainingRecipe
from dtcwsi.types import Aggregated, CompressedBags

__all__ = ["InnerSteps", "PatchGd"]

_STRIDES = (1, 2, 2, 2)
_POOLINGS = ("attention", "flatten")
_ROUNDING, _LEAST = 1e-9, 1e-30


class PatchGd(nn.Module):
    """A latent of each patch on the slide's grid, four convolutions over it, and attention over what they make.

    Encoder: Linear, GELU, Linear to ``width``. Four times a convolution of 3 x 3 (the last three of stride 2), ReLU,
    BatchNorm and ``dropout`` of whole channels; then ``pooling`` by "attention", gated and of width ``hidden``, and
    Linear. With ``side`` a bag's grid is made coarser until it has at most that many cells a side. Pooling "flatten"
    with side 16 is the published head: all places of the grid, zeros where no patch is, side by side into Linear.
    Without coordinates patches fill a square row by row in the order given.

    Training takes J = ceil(1 / ``patch_share``) inner steps: latents are filled in without gradient; then each step
    computes the latents of another random ``patch_share`` of each bag's cells again, with gradient, so that every cell
    has its turn once, and applies the head with dropout of its own. The objective is the mean cross-entropy of the
    steps, so that one optimiser step follows all J, the published default; the logits of a training pass are the last
    step's. Each step is computed again in the backward pass: what training keeps is the latents, the first convolution
    (the same in all steps, so computed once), and one step, that is the encoder's activations of ``patch_share`` of the
    patches and the further layers' of a quarter of the cells.

    Batch normalisation makes slides of a batch depend on each other in training, not in evaluation: a batch is trained
    in one pass, see ``whole_batches``. Statistics are over the occupied places of all bags (of "flatten", all places);
    where there is a single one, the running statistics stand in. These follow every inner step once.

    Attention: each final place's goes to the tokens in its 8 x 8 cells by the exponential of their bias. Of "flatten" a
    place's attention is what it adds to the predicted class's logit above the mean of the classes, negative parts cut
    off; where no place with a token adds anything, tokens count by their bias. The teacher's leaves out the gates'
    part in that dealing.
    Merged tokens: in a shared cell, and as part of a final place in attention, tokens weigh by the exponential of log
    size and gate; the gate also scales their latents, and of "flatten" acts on these and on attention alone.
    Raises: OptionError if an option is out of range, or "flatten" has no side; FeaturesError if some bags of a batch
    have coordinates and others none.
    Source: Gupta et al. 2023 (nyunAI/PatchGD). Adaptations: frozen features and the encoder stand for ResNet-50; grids
    of any size; places that cover no patch are left out, in normalisation and in pooling; attention for the flattening;
    each bag has an order of its own in which cells have their turns.
    Time and memory are linear in patches, whatever the extent of the slide.
    """

    whole_batches: ClassVar[bool] = True
    lays_out: ClassVar[bool] = True
    any_order: ClassVar[bool] = True
    recipe = TrainingRecipe(
        epochs=100,
        lr=1e-3,
        schedule="linear",
        lr_end=5.05e-4,
        warm_up_epochs=2,
        patience=100,
        source="nyunAI/PatchGD, patch_gd/config.py; there on whole images, 196 at a time",
    )

    def __init__(
        self,
        in_dim: int,
        n_classes: int,
        *,
        width: int = 256,
        hidden: int = 128,
        patch_share: float = 0.125,
        pooling: str = "attention",
        side: int | None = None,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        check_whole_number("width", width)
        check_whole_number("hidden", hidden)
        self.side = None if side is None else check_whole_number("side", side)
        self.patch_share = check_number("patch_share", patch_share, lambda k: 0 < k <= 1, "a share above 0, up to 1")
        rate = check_share("dropout", dropout)
        self.encoder: nn.Module = nn.Sequential(Linear(in_dim, width), nn.GELU(), Linear(width, width))
        self.layers = PlaceLayers(width, _STRIDES, rate)
        self.attention, places = None, 1
        if one_of("pooling", pooling, _POOLINGS) == "attention":
            self.attention = AttentionScores(width, hidden)
        elif self.side is None:
            raise OptionError("got pooling='flatten' without a side; expected one, such as the published side=16")
        else:
            places = math.ceil(self.side / 8) ** 2
        self.head = nn.Linear(places * width, n_classes)

    @property
    def inner_steps(self) -> int:
        """How many steps recompute every patch once."""
        return math.ceil(1 / self.patch_share - _ROUNDING)

    def forward(self, tokens: CompressedBags) -> Aggregated:
        """Classify each bag; in training, once an inner step."""
        grid = self._grid(tokens)
        levels = levels_of(grid.xy, grid.offsets, _STRIDES)
        if self.training:
            steps, scores = self._inner_steps(tokens, grid, levels)
            logits, objective = steps[-1], InnerSteps(steps, tokens.offsets.diff() > 0)
        else:
            latents = self._latents(tokens.features, tokens.gate, grid.share, grid.of_token, len(grid.xy))
            rows, objective = self.layers(latents, levels), None
            logits, scores = self._pooled(rows, levels, grid.bias)
        final, bias, prior = levels.of_cell[grid.of_token], tokens.bias.detach(), tokens.size_prior
        attention, teacher = (
            later(partial(self._dealt, scores.detach(), final, part, tokens.offsets)) for part in (bias, prior)
        )
        return Aggregated(logits, attention, teacher, objective=objective)

    def _grid(self, tokens: CompressedBags) -> Cells:
        cells = cells_of(laid_out(tokens, "patchgd"), "patchgd")
        return cells if self.side is None else fitted(cells, tokens.bias, self.side, every=self.attention is None)

    def _latents(
        self,
        features: Float[Tensor, "tokens dim"],
        gate: Float[Tensor, "tokens"],
        share: Float[Tensor, "tokens"],
        of_token: Int[Tensor, "tokens"],
        cells: int,
    ) -> Float[Tensor, "cells width"]:
        """Average the latents of each cell's tokens, scaled by their gates; without gradient a chunk at a time."""
        weight, (first, *others) = share * gate.exp(), passes(features)

        def scaled(part: slice) -> Tensor:
            rows: Tensor = self.encoder(features[part])
            return rows * weight[part, None].to(rows.dtype)

        rows = scaled(first)
        made = rows.new_zeros(cells, rows.shape[1]).index_add_(0, of_token[first], rows)
        for part in others:
            made.index_add_(0, of_token[part], scaled(part))
        return made

    def _inner_steps(
        self, tokens: CompressedBags, grid: Cells, levels: Levels
    ) -> tuple[Float[Tensor, "steps bags classes"], Float[Tensor, "places"]]:
        """Give the logits of every inner step; also what attention follows from, of the last."""
        with torch.no_grad():
            filled = self._latents(tokens.features, tokens.gate, grid.share, grid.of_token, len(grid.xy))
        turns, running, logits, scores = self._turns(grid), self.layers.running, [], filled
        first = self.layers.first(filled, levels, running)
        for step in range(self.inner_steps):
            given = (first, turns == step, tokens, grid, levels, running)
            made, scores, seen = checkpoint(self._inner_step, *given, use_reentrant=False)
            self.layers.remember([first.seen, *seen])
            logits.append(made)
        return torch.stack(logits), scores

    def _turns(self, grid: Cells) -> Int[Tensor, "cells"]:
        """Draw the inner step in which each cell is computed again; those that hold no token come last."""
        bag = segment_ids(grid.offsets, len(grid.xy))
        held = torch.zeros(len(grid.xy), device=bag.device).index_fill(0, grid.of_token, 1.0)
        counts = (segment_sum(held.double(), grid.offsets) * self.patch_share - _ROUNDING).ceil().long().clamp_min(1)
        order = segment_order(held * (1 - torch.rand_like(held)), bag)
        place = torch.arange(len(order), device=bag.device) - grid.offsets[bag]
        return torch.empty_like(order).index_copy(0, order, place // counts[bag])

    def _inner_step(
        self,
        first: FirstLayer,
        chosen: Bool[Tensor, "cells"],
        tokens: CompressedBags,
        grid: Cells,
        levels: Levels,
        running: Float[Tensor, "layers 2 width"],
    ) -> tuple[Float[Tensor, "bags classes"], Float[Tensor, "places"], Float[Tensor, "further 2 width"]]:
        """Compute the latents of some cells again, and apply the head to all; without effects on the module."""
        cells, rows = chosen.nonzero().squeeze(1), chosen[grid.of_token].nonzero().squeeze(1)
        of_row = (chosen.cumsum(0) - 1)[grid.of_token[rows]]
        anew = self._latents(tokens.features[rows], tokens.gate[rows], grid.share[rows], of_row, len(cells))
        made, seen = self.layers.further(self.layers.grafted(first, anew, cells, levels, running), levels, running)
        return *self._pooled(made, levels, grid.bias), seen

    def _pooled(
        self, rows: Float[Tensor, "places width"], levels: Levels, bias: Float[Tensor, "cells"]
    ) -> tuple[Float[Tensor, "bags classes"], Float[Tensor, "places"]]:
        """Give the logits; also what places score, or add to the class predicted."""
        offsets = levels.steps[-1].offsets
        if self.attention is None:
            flat = rows.view(len(offsets) - 1, -1, rows.shape[1]).transpose(1, 2)
            logits = self.head(flat.flatten(1))
            return logits, self._added(flat.detach(), logits)
        scores = self.attention(rows)
        _, joint = weighed(bias, levels.of_cell, len(rows))
        maps = segment_softmax(scores, offsets, joint)
        return self.head(segment_pool(rows, maps, offsets)[:, 0]), scores[:, 0]

    def _added(
        self, flat: Float[Tensor, "bags width side_by_side"], logits: Float[Tensor, "bags classes"]
    ) -> Float[Tensor, "places"]:
        """Say what each place adds to the logit of the class predicted, above the mean of the classes."""
        weight = self.head.weight.detach().view(len(self.head.weight), *flat.shape[1:])
        above = weight - weight.mean(dim=0)
        return torch.einsum("bwp,bwp->bp", flat, above[logits.argmax(dim=1)].to(flat.dtype)).clamp_min(0).flatten()

    def _dealt(
        self,
        scores: Float[Tensor, "places"],
        place: Int[Tensor, "tokens"],
        bias: Float[Tensor, "tokens"],
        offsets: Int[Tensor, "bags_plus_one"],
    ) -> Float[Tensor, "tokens"]:
        """Deal what places have out to the tokens in them."""
        if self.attention is not None:
            return segment_softmax(scores[place], offsets, bias)
        weight = segment_softmax(bias, offsets)
        held = torch.zeros_like(scores, dtype=weight.dtype).index_add(0, place, weight)
        return segment_shares(scores[place] * weight / held[place].clamp_min(_LEAST), offsets, weight)


@dataclass(frozen=True)
class InnerSteps:
    """The objective of a bag: the mean cross-entropy of its inner steps' ``logits``; without patches, of what is given.

    ``filled`` (bags,) says which bags have patches.
    """

    logits: Float[Tensor, "steps bags classes"]
    filled: Bool[Tensor, "bags"]

    def __call__(self, logits: Float[Tensor, "bags classes"], labels: Int[Tensor, "bags"]) -> Float[Tensor, "bags"]:
        """Give each bag's loss."""
        each = torch.stack([cross_entropy(step, labels, reduction="none") for step in self.logits])
        return torch.where(self.filled, each.mean(dim=0), cross_entropy(logits, labels, reduction="none"))
