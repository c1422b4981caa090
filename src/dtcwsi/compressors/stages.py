"""Compression in stages, the part that all compressors share: match, merge, rank, prune, remember."""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from dtcwsi.compressors.base import Compressor
from dtcwsi.compressors.matching import Edges, Matching
from dtcwsi.compressors.merging import Merged, merge, sums
from dtcwsi.compressors.ordering import order_of
from dtcwsi.compressors.provenance import Provenance, start
from dtcwsi.compressors.schedule import Step, plan, token_counts
from dtcwsi.compressors.tokens import Measured, Tokens
from dtcwsi.nn.exact import key_of, wide_dtype
from dtcwsi.nn.order import van_der_corput
from dtcwsi.nn.segment import Segments, segment_log_softmax, top_rows
from dtcwsi.types import CompressedBags, PackedBags

__all__ = ["Layout", "StagedCompressor", "State"]

_REMOVED = torch.iinfo(torch.int64).min
_LAST_EDGE = (1 << 31) - 1


@dataclass(frozen=True)
class Layout:
    """A stage's whole numbers as tensors: the rows of its candidate edges, of those that merge, of the tokens left."""

    candidates: Segments
    chosen: Segments
    left: Segments
    merges: bool
    removes: bool

    @classmethod
    def of(cls, step: Step, device: torch.device) -> "Layout":
        """Lay out a step."""
        merges, removes = bool(step.merges.any()), bool((step.left < step.before).any())
        candidates, chosen, left = (Segments.of(sizes, device) for sizes in (step.edges, step.merges, step.left))
        return cls(candidates, chosen, left, merges, removes)


@dataclass(frozen=True)
class State:
    """Where compression stands: the tokens, where each patch is, and of which bags (bags,) tokens were dropped."""

    tokens: Tokens
    trace: Provenance
    pruned: NDArray[np.bool_]


class StagedCompressor(Compressor):
    """Remove tokens stage by stage; subclasses say how tokens are measured, matched, weighed and ranked.

    With ``follows_heaviest`` a merged token stands in line where its heaviest patch lies, not in its target's place.
    ``scores_patches`` says that `measure` tells what patches matter, not only how they look.
    """

    matching: Matching
    shares: tuple[float, ...]
    merge_share: float
    merge_all = False
    follows_heaviest = False
    scores_patches = False
    order = "hilbert"

    @abstractmethod
    def measure(self, features: Float[Tensor, "tokens dim"]) -> Measured:
        """Measure tokens, without gradient; used once for patches and once for every merged token."""

    @abstractmethod
    def edges(self, tokens: Tokens, candidates: Segments) -> Edges:
        """Find the candidate merges of a stage."""

    def weights(
        self,
        tokens: Tokens,
        which: Int[Tensor, "some"],
        features: Float[Tensor, "some wide"],  # noqa: ARG002
    ) -> Float[Tensor, "some"]:
        """Give some tokens' log weights in a merge, with gradient if there is something to learn; here their size."""
        return tokens.size.index_select(0, which).log()

    def ranks(self, tokens: Tokens, before: Float[Tensor, "tokens"]) -> Float[Tensor, "tokens"]:  # noqa: ARG002
        """Say how much tokens deserve to stay; only the order counts, in steps of 1e-7."""
        return tokens.score

    @property
    def prunes(self) -> bool:
        """Whether tokens that a stage has no room for are dropped."""
        return True

    def patch_features(
        self,
        bags: PackedBags,
        patches: Segments,  # noqa: ARG002
        order: Int[Tensor, "patches"],  # noqa: ARG002
    ) -> Float[Tensor, "patches wide"]:
        """Give the vectors that are compressed: the features, and columns to be cut off at the end if there are any."""
        return bags.features

    def importance_before(self, tokens: Tokens) -> Float[Tensor, "tokens"]:
        """Take down the importance of tokens as a stage begins; `ranks` and `softened` may look back at it."""
        return tokens.score

    def softened(self, tokens: Tokens, before: Float[Tensor, "tokens"]) -> Tokens:  # noqa: ARG002
        """Change what is left of a stage; ``before`` is what each token's place had in `importance_before`."""
        return tokens

    def forward(self, bags: PackedBags) -> CompressedBags:
        """Run the stages.

        Returns: max(1, ceil(N r_1...r_t - 1e-6)) tokens of each bag after stage t. A bag's tokens do not depend on the
        bags beside it. If nothing is to be removed, the tokens are the patches, unchanged.
        """
        states = self.steps(bags)
        last = next(states)
        mass = last.tokens.mass
        importance = (
            torch.empty_like(mass).index_copy(0, last.tokens.row, mass).float() if self.scores_patches else None
        )
        for state in states:
            last = state
        pruned = torch.from_numpy(last.pruned).to(bags.offsets.device)
        return replace(self.finish(bags, last.tokens, last.trace, pruned), importance=importance)

    def steps(self, bags: PackedBags) -> Iterator[State]:
        """Give the tokens as they are at first, and again after each stage."""
        sizes = bags.offsets.diff().cpu().numpy()
        patches = Segments.of(sizes, bags.offsets.device)
        order = order_of(self.order, bags, patches)
        tokens = self._begin(bags, patches, order if self.orders else order_of("given", bags, patches))
        trace = start(tokens.anchor)
        pruned = np.zeros(len(sizes), np.bool_)
        budgets = self.budgets(sizes, tokens)
        edges_of, share, merge_all = self.matching.count, self.merge_share, self.merge_all
        steps = plan(sizes, budgets, edges_of=edges_of, merge_share=share, merge_all=merge_all, prunes=self.prunes)
        yield State(tokens, trace, pruned)
        for step in steps:
            tokens, trace = self.stage(tokens, trace, Layout.of(step, bags.offsets.device), patches)
            pruned = pruned | (step.pruned > 0)
            yield State(tokens, trace, pruned)

    @property
    def orders(self) -> bool:
        """Whether tokens stand in order: not where all patches are kept and nobody looks at it."""
        return self.in_order or min(self.shares) < 1

    def budgets(self, sizes: NDArray[np.int64], tokens: Tokens) -> list[NDArray[np.int64]]:  # noqa: ARG002
        """Fix how many tokens every stage may leave of each bag; here that follows from the sizes alone."""
        return [token_counts(sizes, share, self.tightness) for share in self.shares]

    def stage(self, tokens: Tokens, trace: Provenance, layout: Layout, patches: Segments) -> tuple[Tokens, Provenance]:
        """Run one stage: tensors alone, no number is read back, so that it compiles as one graph."""
        device, each = tokens.row.device, torch.arange(len(tokens), device=tokens.row.device)
        before = self.importance_before(tokens)
        gone, joins, part = torch.zeros_like(each, dtype=torch.bool), each, torch.ones(len(each), device=device)
        if layout.merges:
            edges = self._chosen(tokens, layout)
            merged = self._merged(tokens, edges)
            tokens = self._with_merged(tokens, edges, merged)
            gone = gone.index_fill(0, edges.source, True)
            joins = joins.index_copy(0, edges.source, edges.target)
            part = part.index_copy(0, edges.source, merged.source_part.float())
            part = part.index_copy(0, merged.target, merged.target_part.float())
        if not layout.removes:
            return self.softened(tokens, before), trace.moved(joins, part, tokens.segments, patches)
        left = layout.left
        key = key_of(self.ranks(tokens, before), tokens.tie).masked_fill(gone, _REMOVED)
        kept = top_rows(key, tokens.segments, left)
        if layout.merges and self.follows_heaviest:
            kept = kept[torch.argsort(tokens.place[tokens.anchor[kept]] + patches.firsts(left.ids))]
        place = torch.full_like(each, -1).index_copy(0, kept, torch.arange(len(kept), device=device))
        tokens = self.softened(tokens.keep(kept, left), before.index_select(0, kept))
        return tokens, trace.moved(place.index_select(0, joins), part, left, patches)

    def finish(
        self,
        bags: PackedBags,
        tokens: Tokens,
        trace: Provenance,
        pruned: Bool[Tensor, "bags"],  # noqa: ARG002
    ) -> CompressedBags:
        """Make the record of what is left; ``pruned`` says of which bags tokens were dropped."""
        untouched = len(tokens) == len(bags.features) and tokens.patches is bags.features and not len(tokens.merged)
        same_order = untouched and bool((tokens.row[1:] > tokens.row[:-1]).all())
        features = bags.features
        if not same_order:
            features = tokens.features()[:, : features.shape[1]].to(features.dtype)
        return CompressedBags(
            features=features,
            offsets=tokens.segments.offsets,
            log_size=tokens.size.log(),
            gate=torch.zeros_like(tokens.size),
            mass=tokens.mass.float(),
            score=tokens.score.float(),
            coords=None if bags.coords is None else bags.coords[tokens.anchor],
            patch_size_level0=bags.patch_size_level0,
            step_level0=bags.step_level0,
            patch_offsets=bags.offsets,
            patch_to_token=trace.stages[-1],
            tokens_by_stage=torch.stack(trace.stages),
            patch_weight=trace.weight,
        )

    def _begin(self, bags: PackedBags, patches: Segments, order: Int[Tensor, "patches"]) -> Tokens:
        features = self.patch_features(bags, patches, order)
        seen = self.measure(features)
        mass = segment_log_softmax(seen.score.to(wide_dtype(seen.score)), patches).exp()
        place = torch.empty_like(order).index_copy(0, order, patches.places)
        return Tokens(
            patches=features,
            merged=features[:0],
            row=order,
            segments=patches,
            score=seen.score.index_select(0, order),
            length=seen.length.index_select(0, order),
            view=None if seen.view is None else seen.view.index_select(0, order),
            size=torch.ones(len(order), device=order.device),
            mass=mass.index_select(0, order),
            anchor=order,
            place=place,
            spread=van_der_corput(place),
            sizes=patches.offsets.diff(),
        )

    def _chosen(self, tokens: Tokens, layout: Layout) -> Edges:
        """Find the edges that merge: those of highest utility, ties to the earlier."""
        with torch.no_grad():  # what merges is chosen; only how it merges is learned
            edges = self.edges(tokens, layout.candidates)
        tie = _LAST_EDGE - torch.arange(len(edges.source), device=tokens.row.device)
        best = top_rows(key_of(edges.utility, tie), layout.candidates, layout.chosen)
        return Edges(*(of.index_select(0, best) for of in (edges.source, edges.target, edges.utility)))

    def _merged(self, tokens: Tokens, edges: Edges) -> Merged:
        source, target = tokens.features(torch.cat([edges.source, edges.target])).chunk(2)
        source_weight = self.weights(tokens, edges.source, source)
        target_weight = self.weights(tokens, edges.target, target)
        return merge(edges, source, target, source_weight, target_weight, distinct=self.matching.distinct)

    def _with_merged(self, tokens: Tokens, edges: Edges, merged: Merged) -> Tokens:
        """Write what merged tokens are in the places of their targets; the sources are for the caller to drop."""
        seen, target = self.measure(merged.features.detach()), merged.target
        rows = torch.arange(len(target), device=target.device) + len(tokens.patches) + len(tokens.merged)
        return replace(
            tokens,
            merged=torch.cat([tokens.merged, merged.features]) if len(tokens.merged) else merged.features,
            row=tokens.row.index_copy(0, target, rows),
            score=tokens.score.index_copy(0, target, seen.score),
            length=tokens.length.index_copy(0, target, seen.length),
            view=None if seen.view is None or tokens.view is None else tokens.view.index_copy(0, target, seen.view),
            size=sums(tokens.size, edges),
            mass=sums(tokens.mass, edges),
            anchor=tokens.anchor.index_copy(0, target, tokens.anchor.index_select(0, merged.heaviest)),
        )
