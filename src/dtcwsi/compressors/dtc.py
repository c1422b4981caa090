"""Dynamic token compression: merge alike neighbours, prune what matters least, stage by stage."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dtcwsi.compressors.base import Compressor
from dtcwsi.compressors.importance import Importance
from dtcwsi.compressors.matching import MATCHINGS, Pairs, merge_utility
from dtcwsi.compressors.merging import Merged, merge
from dtcwsi.compressors.provenance import Provenance, start
from dtcwsi.compressors.pruning import gate, keep_best
from dtcwsi.compressors.schedule import cumulative_shares, merges, token_counts
from dtcwsi.errors import OptionError
from dtcwsi.nn.segment import offsets_of, segment_ids, segment_softmax, segment_sum, top_of_segment
from dtcwsi.registry import near
from dtcwsi.types import CompressedBags, PackedBags

__all__ = ["DtcCompressor"]


@dataclass(frozen=True)
class _Tokens:
    """Tokens between stages; token m is row ``rows[m]`` of ``features``, and ``anchor`` its heaviest patch."""

    features: Float[Tensor, "rows dim"]
    rows: Int[Tensor, "tokens"]
    offsets: Int[Tensor, "bags_plus_one"]
    score: Float[Tensor, "tokens"]
    log_size: Float[Tensor, "tokens"]
    mass: Float[Tensor, "tokens"]
    anchor: Int[Tensor, "tokens"]


class DtcCompressor(Compressor):
    """Compress bags to a token budget as DTC-WSI does, with one code path for training and inference.

    ``retention`` is the final share of tokens (0.4 unless given), split evenly over ``stages`` (3 unless given); or
    ``schedule`` is the share that each stage keeps. ``merge_share`` is the part of a stage's reduction that merging
    does, pruning does the rest; 0.25 had the best mean AUC among 0, 0.25, 0.5, 0.75 and 1 on bags with two needles in a
    hundred patches, at retention 0.1. ``lam`` weighs likeness against agreement of scores in choosing pairs. ``teach``
    weighs the cross-entropy by which the scorer learns from the aggregator's attention.
    Raises: OptionError if an option is unknown or out of range.
    Source: Sections 2.3 to 2.4 and Algorithm 1; tokens are removed in training too, where the paper scales them.
    """

    def __init__(
        self,
        dim: int,
        *,
        retention: float | None = None,
        schedule: Sequence[float] | None = None,
        stages: int | None = None,
        merge_share: float = 0.25,
        lam: float = 0.5,
        matching: str = "aligned",
        teach: float = 0.1,
        preset: str = "default",
    ) -> None:
        super().__init__()
        self.shares = cumulative_shares(retention, schedule, stages)
        self.merge_share = _within("merge_share", merge_share, 0.0, 1.0)
        self.lam = _within("lam", lam, 0.0, 1.0)
        self.teach = _within("teach", teach, 0.0, float("inf"))
        self.pairs_of = MATCHINGS[_one_of("matching", matching, MATCHINGS)]
        _one_of("preset", preset, ["default"])
        self.importance = Importance(dim)

    def forward(self, bags: PackedBags) -> CompressedBags:
        """Run the stages.

        Returns: max(1, ceil(N r_1...r_t - 1e-6)) tokens of each bag after stage t. A bag's tokens do not depend on the
        bags beside it. If nothing is to be removed, the tokens are the patches, unchanged.
        """
        tokens, trace = self._begin(bags)
        sizes, bag_of_patch = bags.offsets.diff(), segment_ids(bags.offsets)
        place = _places(bags, trace)
        pruned = torch.zeros(bags.n_bags, dtype=torch.bool, device=sizes.device)
        for share in self.shares:
            count = token_counts(sizes, share, self.tightness)
            removed = tokens.offsets.diff() - count
            tokens, trace, pruned_now = self._stage(tokens, trace, removed, place, bag_of_patch)
            pruned = pruned | pruned_now
        return self._finish(bags, tokens, trace, pruned)

    def auxiliary(self, tokens: CompressedBags, teacher: Float[Tensor, "tokens"]) -> dict[str, Tensor]:
        """Teach the scorer the aggregator's attention: cross-entropy over the final tokens, a mean over bags.

        A token's size is on both sides, as bias of the score and in the teacher, so that the score stays one patch's.
        """
        if not self.teach:
            return {}
        guess = segment_softmax(tokens.score, tokens.offsets, tokens.log_size)
        per_bag = segment_sum(-teacher * torch.log(guess.clamp_min(1e-30)), tokens.offsets)
        return {"attention_taught": self.teach * per_bag.mean()}

    def _begin(self, bags: PackedBags) -> tuple[_Tokens, Provenance]:
        rows = torch.arange(len(bags.features), device=bags.features.device)
        order = rows if bags.order is None else bags.order
        score = self.importance.values(bags.features)
        mass = segment_softmax(score, bags.offsets).to(bags.features.dtype)
        token = torch.empty_like(rows).index_copy(0, order, rows)
        log_size = bags.features.new_zeros(len(rows))
        tokens = _Tokens(bags.features, order, bags.offsets, score[order], log_size, mass[order], order)
        return tokens, start(token, bags.features)

    def _stage(
        self,
        tokens: _Tokens,
        trace: Provenance,
        removed: Int[Tensor, "bags"],
        place: Int[Tensor, "patches"],
        bag_of_patch: Int[Tensor, "patches"],
    ) -> tuple[_Tokens, Provenance, Bool[Tensor, "bags"]]:
        """Remove ``removed[b]`` tokens of each bag by merging and pruning; also says of which bags some were pruned."""
        if not bool(removed.any()):
            part = trace.weight.new_ones(len(tokens.rows))
            stays = torch.arange(len(tokens.rows), device=removed.device)
            return tokens, trace.moved(stays, part, tokens.offsets, bag_of_patch), removed > 0
        pairs = self.pairs_of(tokens.offsets)
        count = merges(removed, pairs.offsets.diff(), self.merge_share)
        pairs = self._best(tokens, pairs, count)
        merged = self._merge(tokens, pairs)
        listed = _list_merged(tokens, pairs, merged, self.importance.values(merged.features.detach()))

        slots = torch.ones(len(tokens.rows), dtype=torch.bool, device=removed.device)
        slots[pairs.right] = False
        slots = torch.nonzero(slots).squeeze(1)
        left = tokens.offsets.diff() - removed
        slot_offsets = offsets_of(tokens.offsets.diff() - count)
        slots = slots[keep_best(listed.score[slots], place[listed.anchor[slots]], slot_offsets, left)]

        new_token = torch.full_like(tokens.rows, -1)
        new_token[slots] = torch.arange(len(slots), device=slots.device)
        new_token[pairs.right] = new_token[pairs.left]
        part = trace.weight.new_ones(len(tokens.rows))
        part[pairs.left] = merged.left_part.to(part.dtype)
        part[pairs.right] = (1 - merged.left_part).to(part.dtype)
        offsets = offsets_of(left)
        kept = _take(listed, slots, offsets, pairs.left, merged.features)
        return kept, trace.moved(new_token, part, offsets, bag_of_patch), removed > count

    def _best(self, tokens: _Tokens, pairs: Pairs, count: Int[Tensor, "bags"]) -> Pairs:
        """Choose each bag's ``count[b]`` pairs of highest utility; ties go to the earlier pair."""
        worth = torch.sigmoid(tokens.score)
        gap = (worth[pairs.left] - worth[pairs.right]).abs()
        rows = tokens.rows
        utility = merge_utility(tokens.features.detach(), rows[pairs.left], rows[pairs.right], gap, self.lam)
        best = top_of_segment([utility], pairs.offsets, count)
        return Pairs(pairs.left[best], pairs.right[best], offsets_of(count))

    def _merge(self, tokens: _Tokens, pairs: Pairs) -> Merged:
        left = tokens.features.index_select(0, tokens.rows[pairs.left])
        right = tokens.features.index_select(0, tokens.rows[pairs.right])
        left_score = self.importance.taught(left, tokens.score[pairs.left])
        right_score = self.importance.taught(right, tokens.score[pairs.right])
        return merge(left, right, left_score, right_score)

    def _finish(
        self, bags: PackedBags, tokens: _Tokens, trace: Provenance, pruned: Bool[Tensor, "bags"]
    ) -> CompressedBags:
        features = tokens.features
        if tokens.features is bags.features and bags.order is not None:
            features = features[bags.order]
        score = self.importance.taught(features, tokens.score)
        return CompressedBags(
            features=features,
            offsets=tokens.offsets,
            log_size=tokens.log_size,
            gate=gate(score, tokens.offsets, pruned).to(features.dtype),
            mass=tokens.mass,
            score=score.to(features.dtype),
            coords=None if bags.coords is None else bags.coords[tokens.anchor],
            patch_size_level0=bags.patch_size_level0,
            patch_offsets=bags.offsets,
            patch_to_token=trace.stages[-1],
            tokens_by_stage=torch.stack(trace.stages),
            patch_weight=trace.weight,
        )


def _places(bags: PackedBags, trace: Provenance) -> Int[Tensor, "patches"]:
    """Say where each patch stands in its bag's order."""
    return trace.token - bags.offsets[segment_ids(bags.offsets)]


def _list_merged(tokens: _Tokens, pairs: Pairs, merged: Merged, score: Float[Tensor, "pairs"]) -> _Tokens:
    """Write what merged tokens are in the places of their left parts; the right parts are for the caller to drop."""
    left, right = pairs.left, pairs.right
    heavier = torch.where(merged.left_part >= 0.5, tokens.anchor[left], tokens.anchor[right])
    log_size = torch.logaddexp(tokens.log_size[left], tokens.log_size[right])
    return _Tokens(
        tokens.features,
        tokens.rows,
        tokens.offsets,
        tokens.score.index_copy(0, left, score),
        tokens.log_size.index_copy(0, left, log_size),
        tokens.mass.index_add(0, left, tokens.mass[right]),
        tokens.anchor.index_copy(0, left, heavier),
    )


def _take(
    listed: _Tokens,
    slots: Int[Tensor, "kept"],
    offsets: Int[Tensor, "bags_plus_one"],
    merged_slots: Int[Tensor, "pairs"],
    merged_features: Float[Tensor, "pairs dim"],
) -> _Tokens:
    """Copy the tokens in ``slots`` to a list of their own, merged features in place of their left parts'."""
    merged_row = torch.full_like(listed.rows, -1)
    merged_row[merged_slots] = torch.arange(len(merged_slots), device=slots.device)
    row = merged_row[slots]
    features = listed.features.index_select(0, listed.rows[slots])
    fresh = torch.nonzero(row >= 0).squeeze(1)
    features = features.index_copy_(0, fresh, merged_features.index_select(0, row[fresh]))
    return _Tokens(
        features,
        torch.arange(len(slots), device=slots.device),
        offsets,
        listed.score[slots],
        listed.log_size[slots],
        listed.mass[slots],
        listed.anchor[slots],
    )


def _within(name: str, value: object, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise OptionError(f"got {name}={value!r}; expected a number from {low:g} to {high:g}")
    return float(value)


def _one_of(name: str, value: object, known: Collection[str]) -> str:
    if not isinstance(value, str) or value not in known:
        raise OptionError(f"got {name}={value!r}; expected one of: {near(str(value), known)}")
    return value
