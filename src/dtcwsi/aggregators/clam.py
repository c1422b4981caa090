"""CLAM: attention that is taught which patches are evidence (Lu et al. 2021)."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dtcwsi.nn.attention import AttentionScores, predicted_map
from dtcwsi.nn.chunks import in_chunks
from dtcwsi.nn.projection import projection_of
from dtcwsi.nn.segment import segment_ids, segment_order, segment_pool, segment_softmax
from dtcwsi.options import check_number, check_switch, check_whole_number, one_of
from dtcwsi.recipe import TrainingRecipe
from dtcwsi.types import Aggregated, CompressedBags, Objective

__all__ = ["ClamMb", "ClamSb"]

_HARD_FROM = math.log(1e3)


class ClamSb(nn.Module):
    """CLAM with a single attention branch: Linear + ReLU, gated attention, Linear; an instance loss in training.

    For the bag's class, the ``k`` tokens of highest attention are to be called evidence by that class's instance
    classifier and the ``k`` of lowest not; with ``subtyping``, classes exclude each other, so the highest are not to be
    called evidence of any other class, and terms are averaged over the classes. Bags with fewer than ``k`` tokens use
    all they have. A bag's loss is ``bag_weight`` times its cross-entropy plus the rest times the instance loss.
    ``instance_loss``: ``svm`` (smooth top-1 SVM, tau 1, margin 1), ``ce`` or ``none``. ``projection`` and ``hidden``
    512 and 256 are the published "small", 512 and 384 "big"; ``dropout`` acts on projected tokens and both branches of
    the attention; ``gated`` as published by default.
    Raises: OptionError if an option is out of range.
    Source: Lu et al. 2021 (mahmoodlab/CLAM). Adaptations: a token's log size and gate are added to its attention logit;
    a patch is in the top k by the token that it is in.
    """

    many_maps = False

    any_order: ClassVar[bool] = True
    recipe = TrainingRecipe(
        epochs=200,
        batch_size=1,
        lr=2e-4,
        weight_decay=1e-5,
        patience=20,
        class_weights="sampled",  # --weighted_sample
        source="mahmoodlab/CLAM, README",
    )

    def __init__(
        self,
        in_dim: int,
        n_classes: int,
        *,
        projection: int = 512,
        hidden: int = 256,
        gated: bool = True,
        dropout: float = 0.25,
        k: int = 8,
        instance_loss: str = "svm",
        bag_weight: float = 0.7,
        subtyping: bool = True,
    ) -> None:
        super().__init__()
        hidden = check_whole_number("hidden", hidden)
        self.projection, width = projection_of(in_dim, check_whole_number("projection", projection), dropout)
        self.k, self.subtyping = check_whole_number("k", k), check_switch("subtyping", subtyping)
        self.bag_weight = check_number("bag_weight", bag_weight, lambda share: 0 <= share <= 1, "a number from 0 to 1")
        self.instance_loss = one_of("instance_loss", instance_loss, ("svm", "ce", "none"))
        maps = n_classes if self.many_maps else 1
        gated = check_switch("gated", gated)
        self.attention = AttentionScores(width, hidden, maps=maps, gated=gated, dropout=float(dropout))
        self.heads = nn.ModuleList(nn.Linear(width, 1) for _ in range(n_classes)) if self.many_maps else None
        self.head = None if self.many_maps else nn.Linear(width, n_classes)
        self.instance_heads = nn.ModuleList(nn.Linear(width, 2) for _ in range(n_classes))

    def forward(self, tokens: CompressedBags) -> Aggregated:
        """Pool each bag once a map.  ``attention`` is the map, or the predicted class's of ``attention_by_class``."""
        projected = in_chunks(self.projection, tokens.features)
        scores = in_chunks(self.attention, projected)
        maps = segment_softmax(scores, tokens.offsets, tokens.bias)
        logits = self._logits(segment_pool(projected, maps, tokens.offsets))
        teacher = segment_softmax(scores.detach(), tokens.offsets, tokens.size_prior).mean(dim=1)
        objective = self._objective(projected, maps, tokens.offsets) if self.training else None
        if not self.many_maps:
            return Aggregated(logits, maps.squeeze(1), teacher, objective=objective)
        chosen = predicted_map(maps, logits, tokens.offsets)
        return Aggregated(logits, chosen, teacher, attention_by_class=maps, objective=objective)

    def _logits(self, pooled: Float[Tensor, "bags maps width"]) -> Float[Tensor, "bags classes"]:
        if self.heads is None:
            logits: Tensor = self.head(pooled[:, 0])  # type: ignore[misc]
            return logits
        return torch.cat([head(pooled[:, number]) for number, head in enumerate(self.heads)], dim=1)

    def _objective(
        self,
        rows: Float[Tensor, "tokens width"],
        maps: Float[Tensor, "tokens maps"],
        offsets: Int[Tensor, "bags_plus_one"],
    ) -> Objective:
        def objective(logits: Tensor, labels: Tensor) -> Tensor:
            bag = nn.functional.cross_entropy(logits, labels, reduction="none")
            if self.instance_loss == "none":
                return bag
            return self.bag_weight * bag + (1 - self.bag_weight) * self._instances(rows, maps, offsets, labels)

        return objective

    def _instances(self, rows: Tensor, maps: Tensor, offsets: Tensor, labels: Tensor) -> Float[Tensor, "bags"]:
        """Add up the instance losses of each bag over the classes."""
        total = torch.zeros(len(labels), dtype=rows.dtype, device=rows.device)
        for number, head in enumerate(self.instance_heads):
            column = maps[:, number if self.many_maps else 0].detach()
            own = labels == number
            top, bottom = _ends(column, offsets, self.k)
            highest = self._told(head, rows, top, own[top.bag].long(), len(labels))
            lowest = self._told(head, rows, bottom, torch.zeros_like(bottom.bag), len(labels))
            count = torch.bincount(top.bag, minlength=len(labels)).clamp_min(1)
            of_own, of_other = (highest + lowest) / (2 * count), highest / count
            total = total + torch.where(own, of_own, of_other if self.subtyping else 0.0)
        return total / len(self.instance_heads) if self.subtyping else total

    def _told(self, head: nn.Module, rows: Tensor, few: "_Few", targets: Tensor, bags: int) -> Float[Tensor, "bags"]:
        """Sum one classifier's losses over some tokens of each bag."""
        logits = head(rows[few.row])
        each = nn.functional.cross_entropy(logits, targets, reduction="none")
        if self.instance_loss == "svm":
            each = _smooth_svm(logits, targets)
        return torch.zeros(bags, dtype=each.dtype, device=each.device).index_add(0, few.bag, each)


class ClamMb(ClamSb):
    """CLAM with an attention branch and a head of its own for each class; options as for `clam-sb`, told below.

    There is a map of attention for each class; ``out.attention`` is that of the class predicted.
    Raises: OptionError if an option is out of range.  Source: Lu et al. 2021 (mahmoodlab/CLAM).
    """

    many_maps = True


@dataclass(frozen=True)
class _Few:
    """Some tokens of each bag: their ``row`` and their ``bag``."""

    row: Int[Tensor, "few"]
    bag: Int[Tensor, "few"]


def _ends(values: Float[Tensor, "tokens"], offsets: Int[Tensor, "bags_plus_one"], k: int) -> tuple[_Few, _Few]:
    """Find the ``k`` tokens of each bag with the largest values, and with the smallest; all if there are fewer."""
    order = segment_order(values, segment_ids(offsets, len(values)))
    counts = offsets.diff().clamp_max(k)
    bag = torch.arange(len(counts), device=values.device).repeat_interleave(counts)
    place = torch.arange(len(bag), device=values.device) - (counts.cumsum(0) - counts)[bag]
    return _Few(order[offsets[bag] + place], bag), _Few(order[offsets[bag + 1] - 1 - place], bag)


def _smooth_svm(logits: Float[Tensor, "rows 2"], targets: Int[Tensor, "rows"]) -> Float[Tensor, "rows"]:
    """Top-1 SVM with margin 1, smoothed at tau 1 unless the two logits are log 1000 apart.

    Source: Berrada et al. 2018, "Smooth Loss Functions for Deep Top-k Classification", Eq. 6 and Section 4.
    """
    margins = 1.0 - nn.functional.one_hot(targets, 2) + logits - logits.gather(1, targets[:, None])
    apart = (logits[:, 0] - logits[:, 1]).abs() >= _HARD_FROM
    return torch.where(apart, margins.amax(dim=1), margins.logsumexp(dim=1))
