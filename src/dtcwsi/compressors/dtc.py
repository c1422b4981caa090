"""Dynamic token compression: merge alike neighbours, prune what matters least, stage by stage."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from dtcwsi.compressors.identity import Identity
from dtcwsi.compressors.importance import Importance
from dtcwsi.compressors.matching import Edges, Likeness, matching_of
from dtcwsi.compressors.ordering import order_of
from dtcwsi.compressors.position import PLACED, POSITION_WIDTH, positions
from dtcwsi.compressors.provenance import Provenance
from dtcwsi.compressors.pruning import gate
from dtcwsi.compressors.randomness import drawn
from dtcwsi.compressors.schedule import cumulative_shares, merging_shares, token_counts
from dtcwsi.compressors.settings import DEFAULT, MERGING, settle
from dtcwsi.compressors.stages import StagedCompressor
from dtcwsi.compressors.tokens import Measured, Tokens
from dtcwsi.nn.exact import wide_dtype
from dtcwsi.nn.segment import Segments, segment_ids, segment_log_softmax, segment_mean, segment_sum
from dtcwsi.types import CompressedBags, PackedBags

__all__ = ["DtcCompressor", "MergeOnly", "PruneOnly"]


class DtcCompressor(StagedCompressor):
    """Compress bags to a token budget as DTC-WSI does, with one code path for training and inference.

    Options that are not given are the preset's. ``preset`` default is the method made to work, paper is Algorithm 1
    as printed, which implies: it merges K = N(t) - N(t+1) pairs, so pruning removes nothing while a stage keeps at
    least half; utility and gate see softmax weights of about 1/N; training scales tokens by the gate and keeps them,
    inference does not scale; its sparsity term is the constant beta times the number of stages.

    Budget: ``retention`` is the final share of tokens (0.4), split evenly over ``stages`` (3), or ``schedule`` the
    share that each stage keeps; ``budget`` threshold keeps as many tokens as a slide has patches above ``tau``, the
    sum of sigmoid(``gamma`` (s - tau)), whose mean a term of weight ``beta`` pulls down to ``retention``, in ``stages``
    equal steps; ``curriculum`` is the share of training over which the budget tightens.
    Merging: ``merge_share`` of a stage's reduction; ``matching`` aligned, window (``window`` nearest) or full;
    ``similarity`` of the features or of the scorer's hidden layer; ``lam`` weighs likeness against agreement of
    importance, whose ``gap`` is between sigmoids of scores or softmax weights; ``pairs`` all merges all candidates,
    whatever the budget; ``merge_by`` score, size or mass (both) weighs the tokens of a merge; ``learn_merge`` lets
    the scorer learn from those weights, which costs a gradient to the features and says little of tokens that are
    alike.
    Pruning: ``ranking`` by score of the token, by mass, random, or printed (the softmax weight that its place had
    before the merge); ``gate`` on survivors' attention, printed (scales features by sigmoid(gamma (alpha - tau)) in
    training) or none; ``size_bias`` adds a token's log size to its attention.
    Scorer: ``scorer_width``, ``scorer_norm`` (without it scores beyond +-214 rank alike), ``flat_start``; ``teach``
    weighs the cross-entropy by which it learns from the aggregator's attention; ``exact_ranking`` scores such
    that no batch changes a tie. While the loss on tokens is above 0.6 of a guess's, ``second_look`` has training
    see whole bags too, at the plain model's cost; it needs to hear of the steps by `Classifier.set_progress`.
    ``position`` joins columns to the features for scoring and matching; ``order`` is that of the list.
    Raises: OptionError if an option is unknown or out of range.
    Source: Sections 2.2 to 2.6 and Algorithm 1.
    """

    scores_patches = True

    def __init__(
        self,
        dim: int,
        *,
        preset: str = "default",
        retention: float | None = None,
        schedule: Sequence[float] | None = None,
        stages: int | None = None,
        merge_share: float | None = None,
        lam: float | None = None,
        gamma: float | None = None,
        tau: float | None = None,
        beta: float | None = None,
        pairs: str | None = None,
        matching: str | None = None,
        window: int | None = None,
        merge_by: str | None = None,
        learn_merge: bool | None = None,
        gap: str | None = None,
        similarity: str | None = None,
        ranking: str | None = None,
        gate: str | None = None,
        size_bias: bool | None = None,
        budget: str | None = None,
        order: str | None = None,
        position: str | None = None,
        curriculum: float | None = None,
        scorer_width: int | None = None,
        scorer_norm: bool | None = None,
        flat_start: bool | None = None,
        exact_ranking: bool | None = None,
        teach: float | None = None,
        second_look: bool | None = None,
    ) -> None:
        given = {name: value for name, value in locals().items() if name not in ("self", "dim", "preset", "__class__")}
        super().__init__(dim)
        self.settings = options = settle(preset, given, self.fixed)
        self.shares = self.shares_of(options["retention"], options["schedule"], options["stages"])
        self.merge_share, self.merge_all = options["merge_share"], options["pairs"] == "all"
        self.matching = matching_of(options["matching"], options["window"])
        self.follows_heaviest = not self.matching.distinct  # neighbours that merge stay between the same others
        self.order, self.curriculum = options["order"], float(options["curriculum"])
        self.second_look, self.taught = bool(options["second_look"]), bool(options["teach"])
        self.importance = Importance(
            dim + POSITION_WIDTH[options["position"]],
            width=options["scorer_width"],
            norm=options["scorer_norm"],
            flat_start=options["flat_start"],
            exact=options["exact_ranking"],
            level=options["budget"] == "threshold",
        )

    @property
    def needs_places(self) -> bool:
        """Whether ``position`` is of coordinates, so that bags without them are refused."""
        return self.settings["position"] in PLACED

    def shares_of(self, retention: object, schedule: object, stages: object) -> tuple[float, ...]:
        """Work out the share of patches left after each stage."""
        return cumulative_shares(retention, schedule, stages)

    def measure(self, features: Float[Tensor, "tokens wide"]) -> Measured:
        """Score tokens; their view is the scorer's hidden layer if likeness is to look there."""
        return self.importance.values(features, with_view=self.settings["similarity"] == "scorer")

    def patch_features(
        self, bags: PackedBags, patches: Segments, order: Int[Tensor, "patches"]
    ) -> Float[Tensor, "patches wide"]:
        """Join position columns to the features.  Source: Section 2.2."""
        if self.settings["position"] == "none":
            return bags.features
        return torch.cat([bags.features, positions(self.settings["position"], bags, patches, order)], dim=1)

    def whole(self, bags: PackedBags) -> CompressedBags:
        """Make every patch a token, with the scores that `auxiliary` teaches."""
        patches = Segments.of(bags.offsets.diff().cpu().numpy(), bags.offsets.device)
        order = order_of(self.order, bags, patches)
        score = self.importance(self.patch_features(bags, patches, order))
        tokens: CompressedBags = Identity(self.dim)(replace(bags, order=order))
        return replace(tokens, score=score.index_select(0, order).float())

    def importance_before(self, tokens: Tokens) -> Float[Tensor, "tokens"]:
        """Take down the logarithms of the softmax weights, if the preset wants to look back at them."""
        if self.settings["gate"] != "printed" and self.settings["ranking"] != "printed":
            return tokens.score
        score = tokens.score
        if self._soft and torch.is_grad_enabled():
            score = self.importance.taught(tokens.features(), score)
        return segment_log_softmax(score, tokens.segments)

    def edges(self, tokens: Tokens, candidates: Segments) -> Edges:
        """Find the candidate merges and their utility; nothing learns through the choice."""
        return self.matching.edges(tokens.segments, candidates, self._likeness(tokens))

    def weights(
        self, tokens: Tokens, which: Int[Tensor, "some"], features: Float[Tensor, "some wide"]
    ) -> Float[Tensor, "some"]:
        """Weigh tokens of a merge by score as in Eq. 4, by size, or by both: e^score for each of their patches."""
        if self.settings["merge_by"] == "size":
            return super().weights(tokens, which, features)
        score = tokens.score.index_select(0, which)
        if self.settings["learn_merge"]:
            score = self.importance.taught(features, score)
        return score + tokens.size[which].log() if self.settings["merge_by"] == "mass" else score

    def ranks(self, tokens: Tokens, before: Float[Tensor, "tokens"]) -> Float[Tensor, "tokens"]:
        """Rank by the score of the token as it is now, unless told otherwise."""
        ranking = self.settings["ranking"]
        if ranking == "random":
            return drawn(tokens, fixed=not self.training)
        return {"score": tokens.score, "mass": tokens.mass.log(), "printed": before.detach()}[ranking]

    def softened(self, tokens: Tokens, before: Float[Tensor, "tokens"]) -> Tokens:
        """Scale tokens by the printed gate, in training only."""
        if not self._soft:
            return tokens
        scale = torch.sigmoid(self.settings["gamma"] * (before.exp() - self.settings["tau"]))
        features = tokens.features() * scale.to(tokens.patches.dtype)[:, None]
        seen = self.measure(features.detach())
        row = torch.arange(len(tokens.patches), len(tokens.patches) + len(features), device=features.device)
        return replace(tokens, merged=features, row=row, score=seen.score, length=seen.length, view=seen.view)

    @property
    def prunes(self) -> bool:
        """The printed gate keeps every token while training."""
        return not self._soft

    @property
    def orders(self) -> bool:
        """A threshold may keep less than its share, and printed positions are places in the order."""
        return super().orders or self.settings["budget"] == "threshold" or self.settings["position"] == "paper"

    def budgets(self, sizes: NDArray[np.int64], tokens: Tokens) -> list[NDArray[np.int64]]:
        """Fix how many tokens every stage may leave; by threshold the expected share of patches above it."""
        if self.settings["budget"] == "ratio":
            return super().budgets(sizes, tokens)
        above = segment_mean(self._above(tokens.score), tokens.segments.offsets)
        shares = above.detach().cpu().numpy().astype(np.float64).round(6).clip(1e-6, 1.0)
        stages = len(self.shares)
        return [token_counts(sizes, shares ** ((stage + 1) / stages), self.tightness) for stage in range(stages)]

    def finish(
        self, bags: PackedBags, tokens: Tokens, trace: Provenance, pruned: Bool[Tensor, "bags"]
    ) -> CompressedBags:
        """Add the gate, and in training the terms that need the scores of all patches."""
        made = super().finish(bags, tokens, trace, pruned)
        score = tokens.score
        if torch.is_grad_enabled():
            scored = made.features if self.settings["position"] == "none" else tokens.features()
            score = self.importance.taught(scored, tokens.score)
        prior = made.gate
        if self.settings["gate"] == "survivors":
            prior = gate(score, made.offsets, pruned).float()
        losses = self._sparsity(bags, tokens) if self.training else {}
        return replace(made, gate=prior, score=score.float(), size_bias=self.settings["size_bias"], losses=losses)

    def auxiliary(self, tokens: CompressedBags, teacher: Float[Tensor, "tokens"]) -> dict[str, Tensor]:
        """Teach the scorer the aggregator's attention: cross-entropy over the final tokens, a mean over bags.

        A token's size is on both sides, as bias of the score and in the teacher, so that the score stays one patch's.
        """
        bags = Segments(tokens.offsets, segment_ids(tokens.offsets, len(tokens.score)))
        guess = segment_log_softmax(tokens.score + tokens.size_prior, bags)
        per_bag = segment_sum(-teacher * guess, tokens.offsets)
        return {"attention_taught": self.settings["teach"] * per_bag.mean()}

    def _above(self, score: Float[Tensor, "patches"]) -> Float[Tensor, "patches"]:
        """Say how far scores are above the threshold, softly: 0 to 1, half at it."""
        return torch.sigmoid(self.settings["gamma"] * (score - self.settings["tau"]))

    @property
    def _soft(self) -> bool:
        return self.training and self.settings["gate"] == "printed"

    def _likeness(self, tokens: Tokens) -> Likeness:
        if self.settings["gap"] == "sigmoid":
            worth = torch.sigmoid(tokens.score)
        else:
            worth = segment_log_softmax(tokens.score, tokens.segments).exp()
        wide = wide_dtype(tokens.score) if self.settings["exact_ranking"] else torch.float32
        return tokens.likeness(worth, self.settings["lam"], wide)

    def _sparsity(self, bags: PackedBags, tokens: Tokens) -> dict[str, Tensor]:
        """Weigh the term that a budget by threshold needs, or the printed one, which is constant."""
        beta = self.settings["beta"]
        if self.settings["budget"] == "ratio":
            constant = tokens.score.new_tensor(beta * len(self.shares)).float()
            return {"sparsity": constant} if self.settings["gate"] == "printed" else {}
        if not beta:
            return {}
        score = self.importance(tokens.patches).float()  # sums of many 16-bit numbers would stop growing
        excess = torch.relu(segment_mean(self._above(score), bags.offsets) - self.shares[-1])
        return {"sparsity": beta * excess.square().mean()}


class MergeOnly(DtcCompressor):
    """Merge alike neighbours and never prune, in as many stages as the budget needs (Table 4, only merge)."""

    fixed = {"merge_share": 1.0, "learn_merge": True, "budget": "ratio", "ranking": "score", "gate": "none"}

    def shares_of(self, retention: object, schedule: object, stages: object) -> tuple[float, ...]:
        """Work out the shares; one stage can at most halve a list."""
        return merging_shares(retention, schedule, stages)


class PruneOnly(DtcCompressor):
    """Prune what matters least and never merge (Table 4, only prune)."""

    fixed = {name: DEFAULT[name] for name in MERGING} | {"merge_share": 0.0}
