"""The whole model: compressor, then aggregator with its head; read `Classifier.forward` first."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dtcwsi.bags.packing import pack
from dtcwsi.bags.patch_sample import Bags, sample_patches
from dtcwsi.catalog import model_text
from dtcwsi.compressors import Compressor
from dtcwsi.compressors.doubt import Doubt
from dtcwsi.errors import FeaturesError, OptionError, UsageError
from dtcwsi.later import later, then, unread
from dtcwsi.model_folder import write_model
from dtcwsi.nn.segment import segment_ids
from dtcwsi.options import check_number, check_whole_number
from dtcwsi.pretraining import SelfSupervised, pretrain
from dtcwsi.types import Aggregated, Bag, CompressedBags, PackedBags, Prediction, patch_stages

__all__ = ["Classifier"]


class Classifier(nn.Module):
    """A slide classifier built by `create_model`.

    The state dict of a compressed model is the plain model's plus keys under ``compressor.``, so that weights load
    either way. ``class_names`` and ``class_shares`` (of the training slides) are set by `describe_classes`.
    """

    def __init__(
        self,
        name: str,
        compressor: Compressor,
        aggregator: nn.Module,
        *,
        in_dim: int,
        n_classes: int,
        options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.name, self.in_dim, self.n_classes = name, in_dim, n_classes
        self.options = dict(options or {})
        self.aggregator, self.compressor = aggregator, compressor
        compressor.in_order = not getattr(aggregator, "any_order", False)
        self.doubt = Doubt()
        self.class_names: tuple[str, ...] = tuple(str(label) for label in range(n_classes))
        self.class_shares: tuple[float, ...] = (1.0 / n_classes,) * n_classes
        self.drawn_evenly = False  # whether training draws slides of its classes equally often

    def forward(
        self,
        bags: Tensor | Bag | PackedBags,
        *,
        coords: Tensor | None = None,
        patch_size_level0: float | None = None,
    ) -> Prediction:
        """Classify one bag, (N, dim) features with or without ``coords`` (N, 2), or a packed batch.

        Returns: a record whose patch-wise fields keep the order of the patches given.
        Raises: FeaturesError if features have another width than the model or are not finite.
        """
        packed = self._packed(bags, coords, patch_size_level0)
        tokens = self.compress(packed)
        out = self.predict(tokens, self.aggregate(tokens))
        return self._with_second_look(packed, out) if self._doubts else out

    def compress(self, bags: PackedBags) -> CompressedBags:
        """First half of forward: patches to tokens, which come in the precision of the weights.

        Raises: FeaturesError if features have another width.
        """
        self._check_width(bags.features)
        tokens: CompressedBags = self.compressor(bags)
        return self._as_weights(tokens)

    def aggregate(self, tokens: CompressedBags) -> Aggregated:
        """Second half of forward: tokens to logits and attention."""
        aggregated: Aggregated = self.aggregator(tokens)
        return aggregated

    def predict(self, tokens: CompressedBags, aggregated: Aggregated) -> Prediction:
        """Bring what the halves found back to patches.

        A bag without patches gets the log of the training class shares as logits.
        """
        shares = _Shares(tokens.patch_to_token, tokens.patch_offsets, tokens.offsets, tokens.patch_weight)
        return Prediction(
            logits=self._logits(tokens, aggregated),
            attention=then(aggregated, "attention", partial(_to_patches, shares=shares)),
            tokens_in=tokens.patch_offsets.diff(),
            tokens_out=tokens.offsets.diff(),
            patch_to_token=tokens.patch_to_token,
            tokens_by_stage=tokens.tokens_by_stage,
            patch_stage=later(partial(patch_stages, tokens.tokens_by_stage, tokens.patch_offsets)),
            offsets=tokens.patch_offsets,
            losses=self._terms(tokens, aggregated) if self.training else {},
            attention_by_class=then(aggregated, "attention_by_class", partial(_maps_to_patches, shares=shares)),
            objective=aggregated.objective,
            importance=tokens.importance,
            mass=None if tokens.importance is None else shares.of_token(tokens.mass),
        )

    def loss(
        self, out: Prediction, labels: Int[Tensor, "bags"], *, weights: Float[Tensor, "bags"] | None = None
    ) -> Float[Tensor, ""]:
        """Add up what is minimised: the method's own objective or cross-entropy, a mean over bags, and auxiliary terms.

        Where ``out`` has whole bags' logits, theirs counts too and that of the tokens less or not at all, see `Doubt`.
        ``weights`` multiply the bags' own objectives, not the auxiliary terms.
        In training, the cross-entropies are remembered until the step ends, see `set_progress`.
        Raises: UsageError if labels are not one class number of the model a bag, or weights not one number a bag, 0 or
        more.
        """
        self._check_labels(labels, len(out.logits))
        if weights is not None:
            _check_weights(weights, len(out.logits))
        each = 1.0 if weights is None else weights
        total = (each * (out.objective or _cross_entropies)(out.logits, labels)).mean()
        if self.training and self.compressor.second_look:
            self.doubt.observe(_cross_entropies(out.logits, labels))
        if out.whole_logits is not None:
            whole = each * (out.whole_objective or _cross_entropies)(out.whole_logits, labels)
            self.doubt.observe(_cross_entropies(out.whole_logits, labels), whole=True)
            total = self.doubt.tokens_weight(self.compressor.progress) * total + whole.mean()
        for term in out.losses.values():
            total = total + term
        return total

    def set_progress(self, progress: float) -> None:
        """Say how far training is, 0 to 1; without it compression is full from the start.  Ignored in evaluation.

        A larger number ends an optimiser step: until then all passes are compressed, and doubted, alike. A smaller one
        begins another training.
        """
        progress = check_number(
            "progress", progress, lambda share: 0 <= share <= 1, "0 to 1, the share of training that is done"
        )
        if progress > self.compressor.progress:
            self.doubt.close_step(self._chance)
        elif progress < self.compressor.progress:
            self.doubt = Doubt()
        self.compressor.progress = progress
        follow = getattr(self.aggregator, "set_progress", None)
        if follow is not None:
            follow(progress)

    def aggregate_regions(self, vectors: Float[Tensor, "regions width"]) -> Float[Tensor, "1 classes"]:
        """Give the logits of a slide whose regions of 16 x 16 patches already are vectors.

        Raises: OptionError if the model makes no vectors of regions; FeaturesError if they have another shape.
        """
        aggregate = getattr(self.aggregator, "aggregate_regions", None)
        if aggregate is None:
            raise OptionError(f"{self.name} has no vectors of regions; hipt has")
        if vectors.ndim != 2 or not len(vectors):
            raise FeaturesError(f"got vectors of shape {tuple(vectors.shape)}; expected (regions, width), one at least")
        logits: Tensor = aggregate(vectors.to(next(self.aggregator.parameters()).dtype))
        return logits

    @property
    def whole_batches(self) -> bool:
        """Whether the gradient of a batch is no mean over its slides, so that a batch must be trained in one pass."""
        return bool(getattr(self.aggregator, "whole_batches", False))

    @property
    def needs_places(self) -> bool:
        """Whether a part looks at where patches lie, so that bags without coordinates are refused."""
        return any(bool(getattr(part, "needs_places", False)) for part in (self.compressor, self.aggregator))

    @property
    def lays_out(self) -> bool:
        """Whether bags without coordinates are laid out in squares, so that not some may have them and others none."""
        return bool(getattr(self.aggregator, "lays_out", False))

    @property
    def needs_prototypes(self) -> bool:
        """Whether the aggregator has prototypes that no patches were fitted to yet, as they should before training."""
        return hasattr(self.aggregator, "fit_prototypes") and not int(self.aggregator.get_buffer("fitted_on"))

    def fit_prototypes(self, bags: Bags, *, patches: int = 50_000, seed: int = 0) -> None:
        """Fit the aggregator's prototypes to a sample of the bags' patches; give it training slides only.

        ``patches`` in all, as many from every bag; bags are looked at one by one.
        Raises: OptionError if the model has no prototypes; FeaturesError if no bag has a patch.
        """
        fit = getattr(self.aggregator, "fit_prototypes", None)
        if fit is None:
            raise OptionError(f"{self.name} has no prototypes to fit; panther has")
        check_whole_number("patches", patches)
        check_whole_number("seed", seed, least=0, most=2**32 - 1)
        sampled = sample_patches(bags, patches, seed=seed)
        self._check_width(sampled)
        fit(sampled, seed=seed)

    def pretrain(
        self, bags: Bags, *, steps: int = 1000, batch: int = 16, learning_rate: float = 3e-4, seed: int = 0
    ) -> list[float]:
        """Train the aggregator without labels, its head left alone; give it training slides only.

        ``steps`` of ``batch`` slides, which are never split into passes, see `dtcwsi.pretraining.pretrain`. The
        published phase is long: 40,000 epochs. Returns: the loss of each step.
        Raises: OptionError if the model has no such phase, or a number is out of range; FeaturesError if fewer than two
        slides have two patches, or coordinates are missing.
        """
        return pretrain(
            self.self_supervised(),
            bags,
            steps=steps,
            batch=batch,
            learning_rate=learning_rate,
            seed=seed,
            check=self._check_width,
        )

    def self_supervised(self) -> SelfSupervised:
        """Give the aggregator that `pretrain` trains.  Raises: OptionError if the model has no such phase."""
        if not isinstance(self.aggregator, SelfSupervised):
            raise OptionError(f"{self.name} has no self-supervised phase; spt has")
        return self.aggregator

    def describe_classes(self, names: Sequence[str], shares: Sequence[float]) -> None:
        """Record the class names and their shares among the training slides.  Raises: OptionError if these are none."""
        if len(names) != self.n_classes or len(shares) != self.n_classes:
            raise OptionError(f"got {len(names)} names and {len(shares)} shares; expected {self.n_classes} of each")
        self.class_names = tuple(names)
        self.class_shares = tuple(
            check_number("share", share, lambda part: 0 <= part <= 1, "each class's share of the slides, 0 to 1")
            for share in shares
        )

    def save(self, folder: str | Path, **notes: Any) -> None:
        """Write ``model.safetensors`` and ``card.json``; ``notes`` are further entries of the card.

        The card's ``about`` says what the model is, and where and why it differs from what was published.
        """
        state = {key: tensor.detach().cpu().contiguous() for key, tensor in self.state_dict().items()}
        card = {
            "name": self.name,
            "in_dim": self.in_dim,
            "n_classes": self.n_classes,
            "options": self.options,
            "class_names": list(self.class_names),
            "class_shares": list(self.class_shares),
            "about": model_text(self.name),
        }
        write_model(Path(folder), state, {**notes, **card})

    def _check_width(self, features: Float[Tensor, "patches dim"]) -> None:
        if features.shape[1] != self.in_dim:
            raise FeaturesError(
                f"features have width {features.shape[1]}; {self.name} was built for {self.in_dim}; "
                "use features of the encoder that the model was trained on"
            )

    def _check_labels(self, labels: Int[Tensor, "bags"], bags: int) -> None:
        kind, shape = getattr(labels, "dtype", type(labels).__name__), tuple(getattr(labels, "shape", ()))
        if kind != torch.int64 or shape != (bags,):
            raise UsageError(
                f"got labels of {kind} and shape {shape}; expected torch.int64 and ({bags},), one class number a bag"
            )
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < self.n_classes:
            wrong = sorted(set(labels.tolist()) - set(range(self.n_classes)))
            raise UsageError(
                f"got labels {wrong}; expected class numbers 0 to {self.n_classes - 1}, as the model has "
                f"{self.n_classes} classes; bags without a label cannot train"
            )

    @property
    def _chance(self) -> float:
        """The cross-entropy of guessing by the shares of the classes among the slides that come."""
        shares = [share for share in self.class_shares if share]
        return math.log(len(shares)) if self.drawn_evenly else -sum(share * math.log(share) for share in shares)

    @property
    def _doubts(self) -> bool:
        """Whether this step should look at whole bags as well, whatever bags a pass of it holds.

        Not before the budget tightens, and never once training has been told that it is at its end.
        """
        tightens = self.compressor.tightness > 0 and self.compressor.progress < 1
        return self.training and self.compressor.second_look and tightens and self.doubt.stands

    def _with_second_look(self, bags: PackedBags, out: Prediction) -> Prediction:
        whole = self._as_weights(self.compressor.whole(bags))
        seen = self.aggregate(whole)
        terms = {f"whole_{name}": term for name, term in self._terms(whole, seen).items()}
        logits, losses = self._logits(whole, seen), {**out.losses, **terms}
        return replace(out, whole_logits=logits, whole_objective=seen.objective, losses=losses, **unread(out))

    def _as_weights(self, tokens: CompressedBags) -> CompressedBags:
        dtype = next(self.aggregator.parameters()).dtype
        return tokens if tokens.features.dtype == dtype else replace(tokens, features=tokens.features.to(dtype))

    def _logits(self, tokens: CompressedBags, aggregated: Aggregated) -> Float[Tensor, "bags classes"]:
        """Give the prior to bags without patches."""
        shares = torch.tensor(self.class_shares, dtype=aggregated.logits.dtype, device=aggregated.logits.device)
        filled = tokens.patch_offsets.diff() > 0
        return torch.where(filled[:, None], aggregated.logits, shares.clamp_min(1e-12).log())

    def _terms(self, tokens: CompressedBags, aggregated: Aggregated) -> dict[str, Tensor]:
        taught = self.compressor.auxiliary(tokens, aggregated.teacher) if self.compressor.taught else {}
        return {**tokens.losses, **aggregated.losses, **taught}

    def _packed(
        self, bags: Tensor | Bag | PackedBags, coords: Tensor | None, patch_size_level0: float | None
    ) -> PackedBags:
        if not isinstance(bags, Tensor | Bag | PackedBags):
            raise OptionError(
                f"got {type(bags).__name__}; expected a tensor (patches, dim), a Bag, or several by dtcwsi.pack([...])"
            )
        if isinstance(bags, Tensor):
            return pack([Bag(bags, coords, patch_size_level0)])
        if coords is not None or patch_size_level0 is not None:
            raise OptionError("coords and patch_size_level0 go with a tensor of features; a Bag carries its own")
        return pack([bags]) if isinstance(bags, Bag) else bags


def _check_weights(weights: object, bags: int) -> None:
    """Refuse what is not one weight a bag.  Raises: UsageError."""
    if not isinstance(weights, Tensor):
        raise UsageError(f"got weights in a {type(weights).__name__}; expected a tensor of shape ({bags},), one a bag")
    if tuple(weights.shape) != (bags,):
        raise UsageError(f"got weights of shape {tuple(weights.shape)}; expected ({bags},), one a bag")
    if not bool((weights.isfinite() & (weights >= 0)).all()):
        raise UsageError(f"got weights {weights.tolist()}; expected finite numbers, 0 or more")


def _cross_entropies(logits: Float[Tensor, "bags classes"], labels: Int[Tensor, "bags"]) -> Float[Tensor, "bags"]:
    return nn.functional.cross_entropy(logits, labels, reduction="none")


@dataclass(frozen=True)
class _Shares:
    """What patches have of their tokens, without the tokens, which are larger; bag after bag."""

    patch_to_token: Int[Tensor, "patches"]
    patch_offsets: Int[Tensor, "bags_plus_one"]
    offsets: Int[Tensor, "bags_plus_one"]
    weight: Float[Tensor, "patches"]

    def of_token(self, values: Float[Tensor, "tokens *classes"]) -> Float[Tensor, "patches *classes"]:
        """Give every patch what its token has; pruned patches get 0."""
        rows = self.patch_to_token + self.offsets[segment_ids(self.patch_offsets)]
        there = self.patch_to_token >= 0
        if not len(values):
            return values.new_zeros(len(rows), *values.shape[1:])
        return values[torch.where(there, rows, 0)] * there.to(values.dtype).reshape(-1, *[1] * (values.ndim - 1))


def _to_patches(values: Float[Tensor, "tokens *classes"], shares: _Shares) -> Float[Tensor, "patches *classes"]:
    """Split what tokens have among their patches, by the patches' weights; pruned patches get 0."""
    weight = shares.weight.to(values.dtype)
    return shares.of_token(values) * weight.reshape(-1, *[1] * (values.ndim - 1))


def _maps_to_patches(
    maps: Float[Tensor, "tokens classes"] | None, shares: _Shares
) -> Float[Tensor, "patches classes"] | None:
    return None if maps is None else _to_patches(maps, shares)
