"""The whole model: compressor, then aggregator with its head; read `Classifier.forward` first."""

import inspect
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from dtcwsi.aggregators import AGGREGATORS, create_aggregator
from dtcwsi.bags.packing import pack
from dtcwsi.bags.patch_sample import Bags, sample_patches
from dtcwsi.compressors import COMPRESSORS, PLAIN, Compressor, create_compressor
from dtcwsi.compressors.doubt import Doubt
from dtcwsi.compressors.provenance import patch_stages
from dtcwsi.errors import FeaturesError, OptionError, UnknownNameError, UsageError
from dtcwsi.nn.segment import segment_ids
from dtcwsi.options import check_options, check_whole_number, options_of
from dtcwsi.pretraining import SelfSupervised, pretrain
from dtcwsi.recipe import TrainingRecipe
from dtcwsi.registry import near
from dtcwsi.store.atomic import write_bytes, write_json
from dtcwsi.types import Aggregated, Bag, CompressedBags, PackedBags, Prediction

__all__ = [
    "Classifier",
    "create_model",
    "list_models",
    "load",
    "model_options",
    "model_recipe",
    "model_text",
    "package_versions",
]

_CARD, _WEIGHTS, _FORMAT = "card.json", "model.safetensors", "dtcwsi-model-1"


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
        self.doubt = Doubt()
        self.class_names: tuple[str, ...] = tuple(str(label) for label in range(n_classes))
        self.class_shares: tuple[float, ...] = (1.0 / n_classes,) * n_classes

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
        by_class = aggregated.attention_by_class
        return Prediction(
            logits=self._logits(tokens, aggregated),
            attention=_to_patches(aggregated.attention, tokens),
            tokens_in=tokens.patch_offsets.diff(),
            tokens_out=tokens.offsets.diff(),
            patch_to_token=tokens.patch_to_token,
            tokens_by_stage=tokens.tokens_by_stage,
            patch_stage=patch_stages(tokens.tokens_by_stage, tokens.patch_offsets),
            offsets=tokens.patch_offsets,
            losses=self._terms(tokens, aggregated) if self.training else {},
            attention_by_class=None if by_class is None else _to_patches(by_class, tokens),
            objective=aggregated.objective,
        )

    def loss(self, out: Prediction, labels: Int[Tensor, "bags"]) -> Float[Tensor, ""]:
        """Add up what is minimised: the method's own objective or cross-entropy, a mean over bags, and auxiliary terms.

        Where ``out`` has whole bags' logits, theirs counts too and that of the tokens less or not at all, see `Doubt`.
        In training, the cross-entropies are remembered until the step ends, see `set_progress`.
        Raises: UsageError if labels are not one class number of the model a bag.
        """
        self._check_labels(labels, len(out.logits))
        total = (out.objective or _cross_entropies)(out.logits, labels).mean()
        if self.training and self.compressor.second_look:
            self.doubt.observe(_cross_entropies(out.logits, labels))
        if out.whole_logits is not None:
            whole = (out.whole_objective or _cross_entropies)(out.whole_logits, labels)
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
        if not 0 <= progress <= 1:
            raise OptionError(f"got progress {progress}; expected 0 to 1, the share of training that is done")
        if progress > self.compressor.progress:
            self.doubt.close_step(-sum(share * math.log(share) for share in self.class_shares if share))
        elif progress < self.compressor.progress:
            self.doubt = Doubt()
        self.compressor.progress = float(progress)
        follow = getattr(self.aggregator, "set_progress", None)
        if follow is not None:
            follow(float(progress))

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
    def needs_prototypes(self) -> bool:
        """Whether the aggregator has prototypes, to be fitted to training patches before training."""
        return hasattr(self.aggregator, "fit_prototypes")

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
        """Record the class names and their shares among the training slides."""
        if len(names) != self.n_classes or len(shares) != self.n_classes:
            raise OptionError(f"got {len(names)} names and {len(shares)} shares; expected {self.n_classes} of each")
        self.class_names = tuple(names)
        self.class_shares = tuple(float(share) for share in shares)

    def save(self, folder: str | Path, **notes: Any) -> None:
        """Write ``model.safetensors`` and ``card.json``; ``notes`` are further entries of the card.

        The card's ``about`` says what the model is, and where and why it differs from what was published.
        """
        folder = Path(folder)
        state = {key: tensor.detach().cpu().contiguous() for key, tensor in self.state_dict().items()}
        write_bytes(folder / _WEIGHTS, save(state))
        card = {
            "format": _FORMAT,
            "name": self.name,
            "in_dim": self.in_dim,
            "n_classes": self.n_classes,
            "options": self.options,
            "class_names": list(self.class_names),
            "class_shares": list(self.class_shares),
            "about": model_text(self.name),
            "versions": package_versions(),
        }
        write_json(folder / _CARD, {**notes, **card})

    def _check_width(self, features: Float[Tensor, "patches dim"]) -> None:
        if features.shape[1] != self.in_dim:
            raise FeaturesError(
                f"features have width {features.shape[1]}; {self.name} was built for {self.in_dim}; "
                "use features of the encoder that the model was trained on"
            )

    def _check_labels(self, labels: Int[Tensor, "bags"], bags: int) -> None:
        if labels.dtype != torch.int64 or labels.shape != (bags,):
            raise UsageError(
                f"got labels of {labels.dtype} and shape {tuple(labels.shape)}; expected torch.int64 and ({bags},), "
                "one class number a bag"
            )
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < self.n_classes:
            wrong = sorted(set(labels.tolist()) - set(range(self.n_classes)))
            raise UsageError(
                f"got labels {wrong}; expected class numbers 0 to {self.n_classes - 1}, as the model has "
                f"{self.n_classes} classes; bags without a label cannot train"
            )

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
        return replace(out, whole_logits=logits, whole_objective=seen.objective, losses=losses)

    def _as_weights(self, tokens: CompressedBags) -> CompressedBags:
        dtype = next(self.aggregator.parameters()).dtype
        return tokens if tokens.features.dtype == dtype else replace(tokens, features=tokens.features.to(dtype))

    def _logits(self, tokens: CompressedBags, aggregated: Aggregated) -> Float[Tensor, "bags classes"]:
        """Give the prior to bags without patches."""
        shares = torch.tensor(self.class_shares, dtype=aggregated.logits.dtype, device=aggregated.logits.device)
        filled = tokens.patch_offsets.diff() > 0
        return torch.where(filled[:, None], aggregated.logits, shares.clamp_min(1e-12).log())

    def _terms(self, tokens: CompressedBags, aggregated: Aggregated) -> dict[str, Tensor]:
        return {**tokens.losses, **aggregated.losses, **self.compressor.auxiliary(tokens, aggregated.teacher)}

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


def create_model(name: str, *, in_dim: int, n_classes: int, **options: Any) -> Classifier:
    """Build a model by name: an aggregator, or a compressor's name, a hyphen and an aggregator's.

    The aggregator's weights are drawn first, so that under one seed ``X`` and ``dtc-X`` start from the same ones.
    Raises: UnknownNameError if there is no such model; OptionError if it does not take an option.
    """
    compressor_name, aggregator_name = _parts(name)
    for_compressor = options_of(COMPRESSORS.get(compressor_name))
    for_aggregator = options_of(AGGREGATORS.get(aggregator_name))
    if compressor_name == PLAIN:
        _refuse_compression(name, options, for_aggregator)
    check_options(f"model {name!r}", options, {**for_compressor, **for_aggregator})
    check_whole_number("in_dim", in_dim)
    check_whole_number("n_classes", n_classes, least=2)
    aggregator = create_aggregator(
        aggregator_name, in_dim=in_dim, n_classes=n_classes, **_only(options, for_aggregator)
    )
    compressor = create_compressor(compressor_name, dim=in_dim, **_only(options, for_compressor))
    given = {**for_aggregator, **options, **_only(compressor.settings, for_compressor)}
    return Classifier(name, compressor, aggregator, in_dim=in_dim, n_classes=n_classes, options=given)


def list_models() -> list[str]:
    """Name every model, plain and compressed, sorted."""
    prefixed = [f"{compressor}-{name}" for compressor in COMPRESSORS if compressor != PLAIN for name in AGGREGATORS]
    return sorted([*AGGREGATORS, *prefixed])


def model_options(name: str) -> dict[str, Any]:
    """List the options that a model takes and their defaults.  Raises: UnknownNameError if there is no such model."""
    compressor_name, aggregator_name = _parts(name)
    taken = options_of(COMPRESSORS.get(compressor_name))
    settled = create_compressor(compressor_name, dim=1).settings
    return {**taken, **_only(settled, taken), **options_of(AGGREGATORS.get(aggregator_name))}


def model_text(name: str) -> str:
    """Say what a model is and what its options mean: the words of its compressor and of its aggregator.

    Raises: UnknownNameError if there is no such model.
    """
    compressor_name, aggregator_name = _parts(name)
    compressor = [] if compressor_name == PLAIN else [COMPRESSORS.get(compressor_name)]
    told = [kind for part in (*compressor, AGGREGATORS.get(aggregator_name)) for kind in _options_told_by(part)]
    return "\n\n".join(inspect.cleandoc(kind.__doc__ or "") for kind in told)


def model_recipe(name: str) -> TrainingRecipe | None:
    """Give the recipe that a model's aggregator was published with, None if there is none.

    Raises: UnknownNameError if there is no such model.
    """
    recipe: TrainingRecipe | None = getattr(AGGREGATORS.get(_parts(name)[1]), "recipe", None)
    return recipe


def _options_told_by(part: type) -> list[type]:
    """List a part and the parents whose options it takes over."""
    own = options_of(part).keys()
    parents = (kind for kind in part.__mro__[1:] if "__init__" in vars(kind) and kind.__module__.startswith("dtcwsi."))
    return [part, *(kind for kind in parents if own & options_of(kind).keys())]


def load(folder: str | Path) -> Classifier:
    """Read a model that `Classifier.save` wrote, in evaluation mode on the CPU; nothing in it is executed.

    Raises: UsageError if the folder holds no model, or one that this version cannot build.
    """
    folder = Path(folder)
    card = _read_card(folder)
    model = create_model(card["name"], in_dim=card["in_dim"], n_classes=card["n_classes"], **card["options"])
    try:
        model.load_state_dict(load_file(folder / _WEIGHTS))
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"{folder / _WEIGHTS} cannot be loaded ({reason}); train or copy the model again") from error
    model.describe_classes(card["class_names"], card["class_shares"])
    return model.eval()


def package_versions() -> dict[str, str]:
    """Name the versions that a result depends on."""
    versions: dict[str, str] = {"torch": str(torch.__version__)}
    for package in ("dtcwsi", "numpy", "scikit-learn", "lightning"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def _parts(name: str) -> tuple[str, str]:
    """Split a model's name; compressors' names are tried longest first, since one may begin like another."""
    if name in AGGREGATORS:
        return PLAIN, name
    for compressor in sorted(COMPRESSORS, key=len, reverse=True):
        rest = name.removeprefix(f"{compressor}-")
        if compressor != PLAIN and rest != name and rest in AGGREGATORS:
            return compressor, rest
    raise UnknownNameError(f"no model is called {name!r}; near names: {near(name, list_models())}")


def _refuse_compression(name: str, options: dict[str, Any], own: dict[str, Any]) -> None:
    for compressor in COMPRESSORS:
        taken = [
            option for option in options if option not in own and option in options_of(COMPRESSORS.get(compressor))
        ]
        if taken:
            raise OptionError(
                f"model {name!r} does not compress and takes no option {taken[0]!r}; use '{compressor}-{name}'"
            )


def _only(options: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name in known}


def _cross_entropies(logits: Float[Tensor, "bags classes"], labels: Int[Tensor, "bags"]) -> Float[Tensor, "bags"]:
    return nn.functional.cross_entropy(logits, labels, reduction="none")


def _to_patches(values: Float[Tensor, "tokens *classes"], tokens: CompressedBags) -> Float[Tensor, "patches *classes"]:
    """Split what tokens have among their patches, by the patches' weights; pruned patches get 0."""
    ids = segment_ids(tokens.patch_offsets)
    rows = tokens.patch_to_token + tokens.offsets[ids]
    there = tokens.patch_to_token >= 0
    if not len(values):
        return values.new_zeros(len(rows), *values.shape[1:])
    weight = (tokens.patch_weight * there).to(values.dtype)
    return values[torch.where(there, rows, 0)] * weight.reshape(-1, *[1] * (values.ndim - 1))


def _read_card(folder: Path) -> dict[str, Any]:
    try:
        card: dict[str, Any] = json.loads((folder / _CARD).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{folder} holds no readable {_CARD}; expected a folder that a model was saved to, such as RUN/fold0"
        ) from error
    if card.get("format") != _FORMAT:
        raise UsageError(f"{folder / _CARD} has format {card.get('format')!r}; this version reads {_FORMAT!r}")
    return card
