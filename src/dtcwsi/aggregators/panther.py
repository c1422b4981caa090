"""PANTHER: a slide as a mixture of Gaussians around prototypes (Song et al. 2024)."""

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from sklearn.cluster import KMeans
from torch import Tensor, nn
from torch.nn.functional import softplus

from dtcwsi.later import after, later
from dtcwsi.nn.attention import predicted_map
from dtcwsi.nn.chunks import chunks
from dtcwsi.nn.linear import linear
from dtcwsi.nn.segment import segment_ids, segment_shares, segment_sum
from dtcwsi.options import check_number, check_share, check_whole_number, one_of
from dtcwsi.recipe import TrainingRecipe
from dtcwsi.types import Aggregated, CompressedBags

__all__ = ["Panther"]

_HEADS = ("linear", "per-prototype")


class Panther(nn.Module):
    """Fit each slide a mixture of Gaussians by steps of EM from shared prototypes, and classify its parameters.

    ``prototypes`` are k-means centres of training patches, see `Classifier.fit_prototypes`; until then they are
    random, which a warning tells. ``iterations`` of EM; the prior counts as ``prior_weight`` patches (tau) of variance
    ``prior_variance`` (epsilon). ``head``: linear, over all proportions, means and variances; or per-prototype, a
    Linear + ReLU of width ``hidden`` for each, then linear. ``dropout`` acts behind that ReLU or on the linear head's
    input.
    Attention: a prototype's share of the evidence for the predicted class, dealt out to its tokens by responsibility;
    ``attention_by_class`` has one map a class. Evidence is what a prototype adds to a class's logit above the mean of
    the classes, negative parts cut off; without any, the prototypes count by their proportions.
    A token counts in EM as many times as it has patches, and as its gate says.
    Raises: OptionError if an option is out of range.
    Source: Song et al. 2024 (mahmoodlab/PANTHER). The prior is frozen, as published for classification.
    """

    any_order: ClassVar[bool] = True
    recipe = TrainingRecipe(
        epochs=50,
        batch_size=64,
        optimizer="adamw",
        lr=1e-4,
        weight_decay=1e-5,
        schedule="cosine",
        warm_up_epochs=1,
        patience=50,
        source="mahmoodlab/PANTHER, src/scripts/classification/panther.sh",
    )

    def __init__(
        self,
        in_dim: int,
        n_classes: int,
        *,
        prototypes: int = 16,
        iterations: int = 1,
        prior_weight: float = 0.001,
        prior_variance: float = 0.1,
        head: str = "linear",
        hidden: int = 128,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        count = check_whole_number("prototypes", prototypes)
        self.iterations = check_whole_number("iterations", iterations)
        self.prior_weight = check_number("prior_weight", prior_weight, lambda tau: 0 < tau < math.inf, "above 0")
        self.prior_variance = check_number("prior_variance", prior_variance, lambda e: 0 < e < math.inf, "above 0")
        rate = check_share("dropout", dropout)
        width = check_whole_number("hidden", hidden)
        self.prototypes: Tensor
        self.raw_variance: Tensor
        self.fitted_on: Tensor
        self.register_buffer("prototypes", 0.1 * torch.randn(count, in_dim))
        self.register_buffer("raw_variance", torch.full((count, in_dim), math.log(math.e - 1)))
        self.register_buffer("fitted_on", torch.zeros((), dtype=torch.int64))
        kind = one_of("head", head, _HEADS)
        self.head: nn.Module = _LinearHead(count, in_dim, n_classes, rate)
        if kind == "per-prototype":
            self.head = _PrototypeHead(count, in_dim, n_classes, width, rate)

    def fit_prototypes(self, patches: Float[Tensor, "patches dim"], *, seed: int) -> None:
        """Make the centres of k-means the prototypes; where patches are fewer than these, they repeat."""
        count = len(self.prototypes)
        if len(patches) <= count:
            if len(patches) < count:
                has = f"{len(patches)} patch{'es' * (len(patches) != 1)}"
                warnings.warn(
                    f"panther has {has} for {count} prototypes, which repeat; give it more patches, or "
                    f"prototypes={len(patches)}",
                    stacklevel=3,
                )
            centres = patches[torch.arange(count) % len(patches)]
        else:
            found = KMeans(count, max_iter=50, random_state=seed).fit(patches.float().cpu().numpy())
            centres = torch.from_numpy(found.cluster_centers_)
        self.prototypes.copy_(centres)
        self.fitted_on.fill_(len(patches))

    def forward(self, tokens: CompressedBags) -> Aggregated:
        """Classify each bag's mixture; a bag without tokens has the prior's."""
        if not int(self.fitted_on):
            warnings.warn(
                "panther's prototypes are random; call model.fit_prototypes(training_bags) first", stacklevel=2
            )
        weight = tokens.bias.to(tokens.features.dtype).exp()
        with torch.autocast(tokens.features.device.type, enabled=False):
            mixture, owner = self._fitted(tokens.features, weight, tokens.offsets)
        evidence = self.head(*mixture)
        logits = evidence.sum(dim=1)
        wide = torch.promote_types(owner.dtype, torch.float32)  # in float16 what hardly is a prototype's is none's
        counted = owner.detach().to(wide) * weight.detach()[:, None]
        offsets, chosen, no_gate = tokens.offsets, logits.detach(), (-tokens.gate.detach()).exp()
        maps = later(partial(_maps, evidence.detach().to(wide), counted, offsets))
        attention = after(maps, lambda found: predicted_map(found, chosen, offsets))
        teacher = after(attention, lambda found: segment_shares(found * no_gate, offsets))
        return Aggregated(logits, attention, teacher, attention_by_class=maps)

    def _fitted(
        self, rows: Float[Tensor, "tokens dim"], weight: Float[Tensor, "tokens"], offsets: Int[Tensor, "bags_plus_one"]
    ) -> tuple[list[Tensor], Float[Tensor, "tokens prototypes"]]:
        """Take the steps of EM bag by bag: the mixtures, and whose each token was in the last step.

        Sums over a bag's tokens have 32 bits at least: in float16 those of squares soon pass its largest number.
        """
        wide, kind = torch.promote_types(self.prototypes.dtype, torch.float32), self.prototypes.dtype
        prototypes = self.prototypes.to(wide)
        middle = prototypes.mean(dim=0)  # variances of what is far from 0 would be differences of large numbers
        variances = self.prior_variance * softplus(self.raw_variance.to(wide))
        prior = _Prior(prototypes - middle, variances, self.prior_weight, middle)
        first = _densities(*prior.start)
        mixtures, owners, sizes = [], [], offsets.diff().tolist()
        for bag, counted in zip(torch.split(rows, sizes), torch.split(weight.to(wide), sizes), strict=True):
            mixture = prior.start
            for number in range(self.iterations):
                mixture, owner = prior.step(_densities(*mixture) if number else first, bag, counted)
            share, mean, variance = mixture
            mixtures.append(tuple(part.to(kind) for part in (share, mean + middle, variance)))
            owners.append(owner)
        return [torch.stack(parts) for parts in zip(*mixtures, strict=True)], torch.cat(owners)


_Mixture = tuple[Float[Tensor, "prototypes"], Float[Tensor, "prototypes dim"], Float[Tensor, "prototypes dim"]]
_Densities = tuple[Float[Tensor, "prototypes"], Float[Tensor, "prototypes dim"], Float[Tensor, "prototypes dim"] | None]


@dataclass(frozen=True)
class _Prior:
    """What the mixtures are before a token is seen, as if ``weight`` tokens had been; means count from ``middle``."""

    means: Float[Tensor, "prototypes dim"]
    variances: Float[Tensor, "prototypes dim"]
    weight: float
    middle: Float[Tensor, "dim"]

    @property
    def start(self) -> _Mixture:
        """The mixture that EM begins with."""
        return self.means.new_full((len(self.means),), 1 / len(self.means)), self.means, self.variances

    def step(
        self, densities: _Densities, rows: Float[Tensor, "tokens dim"], weight: Float[Tensor, "tokens"]
    ) -> tuple[_Mixture, Float[Tensor, "tokens prototypes"]]:
        """Say whose each token is, then fit a mixture to them; squares exist for a chunk of tokens at a time."""
        constant, of_row, of_square = densities
        total = torch.full_like(constant, self.weight)
        seen = self.weight * torch.stack([self.means, self.variances + self.means**2])
        owners = [self.means.new_empty(0, len(self.means))]
        for part, both in self._centred(rows, keeps=weight.requires_grad):
            centred, squares = both
            logits = linear(centred, of_row, constant)
            owners.append((logits if of_square is None else logits + linear(squares, of_square)).softmax(dim=1))
            shares = owners[-1] * weight[part, None]
            total = total + shares.sum(dim=0)
            sums = torch.stack([shares.T @ each for each in both]) if isinstance(both, tuple) else shares.T @ both
            seen = seen + sums
        mean, mean_square = seen / total[:, None]
        least = self.weight * self.variances / total[:, None]  # what the prior alone leaves
        variance = (mean_square - mean**2).maximum(least)
        return (total / total.sum(), mean, variance), torch.cat(owners)

    def _centred(
        self, rows: Float[Tensor, "tokens dim"], *, keeps: bool
    ) -> Iterator[tuple[slice, Float[Tensor, "2 some dim"] | tuple[Tensor, Tensor]]]:
        """Give rows without the middle, and their squares, a chunk at a time.

        The next chunk takes their place unless a gradient ``keeps`` them.
        """
        keeps = torch.is_grad_enabled() and (keeps or rows.requires_grad)
        room: Tensor | None = None
        for part in chunks(rows.shape[0], rows.shape[1], rows.device):
            some = rows[part].to(self.middle.dtype)
            if keeps:
                centred = some - self.middle
                yield part, (centred, centred * centred)
                continue
            room = some.new_empty(2, *some.shape) if room is None else room[:, : len(some)]
            centred = torch.sub(some, self.middle, out=room[0])
            torch.mul(centred, centred, out=room[1])
            yield part, room


class _LinearHead(nn.Module):
    """One linear map of all proportions, all means, all variances, in this order."""

    def __init__(self, count: int, dim: int, n_classes: int, dropout: float) -> None:
        super().__init__()
        self.linear, self.dropout = nn.Linear(count * (1 + 2 * dim), n_classes, bias=False), nn.Dropout(dropout)

    def forward(
        self,
        share: Float[Tensor, "bags prototypes"],
        mean: Float[Tensor, "bags prototypes dim"],
        variance: Float[Tensor, "bags prototypes dim"],
    ) -> Float[Tensor, "bags prototypes classes"]:
        """Tell what each prototype adds to each class's logit."""
        count, dim = mean.shape[1:]
        sizes = [count, count * dim, count * dim]
        of_share, of_mean, of_variance = torch.split(self.linear.weight, sizes, dim=1)
        means = torch.einsum("bpd,cpd->bpc", self.dropout(mean), of_mean.reshape(-1, count, dim))
        variances = torch.einsum("bpd,cpd->bpc", self.dropout(variance), of_variance.reshape(-1, count, dim))
        evidence: Tensor = self.dropout(share)[:, :, None] * of_share.T + means + variances
        return evidence


class _PrototypeHead(nn.Module):
    """A small network for each prototype's proportion, mean and variance; one linear map of what they say."""

    def __init__(self, count: int, dim: int, n_classes: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.each = nn.ModuleList(
            nn.Sequential(nn.Linear(1 + 2 * dim, hidden), nn.ReLU(), nn.Dropout(dropout)) for _ in range(count)
        )
        self.linear = nn.Linear(count * hidden, n_classes, bias=False)

    def forward(
        self,
        share: Float[Tensor, "bags prototypes"],
        mean: Float[Tensor, "bags prototypes dim"],
        variance: Float[Tensor, "bags prototypes dim"],
    ) -> Float[Tensor, "bags prototypes classes"]:
        """Tell what each prototype adds to each class's logit."""
        parts = torch.cat([share[:, :, None], mean, variance], dim=2).unbind(dim=1)
        said = torch.stack([network(part) for network, part in zip(self.each, parts, strict=True)], dim=1)
        return torch.einsum("bph,cph->bpc", said, self.linear.weight.reshape(-1, *said.shape[1:]))


def _densities(
    share: Float[Tensor, "prototypes"], mean: Float[Tensor, "prototypes dim"], variance: Float[Tensor, "prototypes dim"]
) -> _Densities:
    """Give what diagonal Gaussians' log densities are made of: a constant, and maps of a row and of its squares.

    What is equal for all prototypes is left out: where their variances are, as they begin, all of the squares' map.
    """
    precision = 1 / variance
    constant = share.log() - 0.5 * (variance.log() + mean**2 * precision).sum(dim=1)
    alike = bool((precision == precision[:1]).all())
    return constant, mean * precision, None if alike else -0.5 * precision


def _maps(
    evidence: Float[Tensor, "bags prototypes classes"],
    counted: Float[Tensor, "tokens prototypes"],
    offsets: Int[Tensor, "bags_plus_one"],
) -> Float[Tensor, "tokens classes"]:
    """Deal each prototype's share of a class's evidence out to its tokens."""
    held = segment_sum(counted, offsets)[:, :, None]
    positive = (evidence - evidence.mean(dim=2, keepdim=True)).clamp_min(0) * (held > 0)
    positive = torch.where(positive.sum(dim=1, keepdim=True) > 0, positive, held)
    rate = positive / positive.sum(dim=1, keepdim=True).clamp_min(1e-30) / held.clamp_min(1e-30)
    with torch.autocast(counted.device.type, enabled=False):  # that of who reads them, not of the pass
        if len(rate) == 1:
            return segment_shares(counted @ rate[0], offsets)
        of_token = rate[segment_ids(offsets, len(counted))]
        return segment_shares(torch.einsum("np,npc->nc", counted, of_token), offsets)
