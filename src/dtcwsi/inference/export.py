"""A model of one slide as an ONNX graph, for places without Python."""

from copy import deepcopy
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import gelu, linear

from dtcwsi.aggregators.abmil import Abmil
from dtcwsi.aggregators.clam import ClamSb
from dtcwsi.aggregators.mean import MeanPooling
from dtcwsi.classifier import Classifier
from dtcwsi.compressors.dtc import DtcCompressor
from dtcwsi.compressors.identity import Identity
from dtcwsi.compressors.pruning import gate
from dtcwsi.errors import OptionError, UsageError
from dtcwsi.nn.exact import key_of
from dtcwsi.nn.order import van_der_corput
from dtcwsi.types import CompressedBags

__all__ = ["SlideGraph", "export_onnx"]

_LEAST_PATCHES = 16
_NEEDED = {
    "matching": "aligned",
    "pairs": "budget",
    "budget": "ratio",
    "ranking": "score",
    "similarity": "features",
    "merge_by": "score",
    "gap": "sigmoid",
    "position": "none",
}


_EXPORTED = (Abmil, ClamSb, MeanPooling)


class SlideGraph(nn.Module):
    """A classifier as a function of one slide's features, (N, dim) in the compressor's order.

    It gives the model's tokens and logits, but that near ties may fall the other way: its scores are the model's to
    about 1e-5 of their spread.
    Raises: OptionError if the compressor has an option that the graph does not have.
    """

    dtc: DtcCompressor | None

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        if type(model.aggregator) not in _EXPORTED:
            raise OptionError(f"{model.name} cannot be exported; abmil, clam-sb and mean, plain or with dtc, can")
        self.aggregator, self.dtc = model.aggregator, None
        if isinstance(model.compressor, DtcCompressor):
            _check(model.compressor)
            self.dtc = model.compressor
        elif not isinstance(model.compressor, Identity):
            raise OptionError(f"{model.name} cannot be exported; plain models and dtc with aligned matching can")

    def forward(self, features: Float[Tensor, "patches dim"]) -> tuple[Tensor, Tensor]:
        """Classify a slide.  Returns: logits (classes,); the token of each patch (patches,), -1 if pruned."""
        count, none_pruned = features.shape[0], torch.zeros(1, dtype=torch.bool)
        nothing = torch.zeros_like(features[:, 0])
        now = _Now(features, nothing, nothing, nothing, torch.arange(count), torch.arange(count), none_pruned)
        if self.dtc is None:
            return self._classified(now, nothing, size_bias=True), now.token
        score, length = _measured(self.dtc, features)
        now = replace(now, score=score, length=length)
        for share in self.dtc.shares:
            now = _stage(self.dtc, now, count, share)
        prior = torch.zeros_like(now.log_size)
        if self.dtc.settings["gate"] == "survivors":
            prior = gate(now.score, _offsets(now), now.pruned).to(now.rows.dtype)
        return self._classified(now, prior, size_bias=self.dtc.settings["size_bias"]), now.token

    def _classified(self, now: "_Now", prior: Tensor, *, size_bias: bool) -> Tensor:
        offsets, places = _offsets(now), torch.arange(now.rows.shape[0])
        nothing = torch.zeros_like(now.log_size)
        tokens = CompressedBags(
            features=now.rows,
            offsets=offsets,
            log_size=now.log_size,
            gate=prior,
            mass=nothing,
            score=nothing,
            coords=None,
            patch_size_level0=None,
            patch_offsets=offsets,
            patch_to_token=places,
            tokens_by_stage=places[None],
            patch_weight=nothing,
            size_bias=size_bias,
        )
        logits: Tensor = self.aggregator(tokens).logits[0]
        return logits


@dataclass(frozen=True)
class _Now:
    """The tokens between stages, each with its features, score, length, log size and place; each patch's token."""

    rows: Tensor
    score: Tensor
    length: Tensor
    log_size: Tensor
    place: Tensor
    token: Tensor
    pruned: Tensor


def _stage(dtc: DtcCompressor, now: _Now, patches: int, share: float) -> _Now:
    before = now.rows.shape[0]
    merges, left = _counts(dtc, patches, before, share)
    source, target = _pairs(dtc, now, merges)
    part = torch.sigmoid(now.score[source] - now.score[target])
    merged = torch.lerp(now.rows[target], now.rows[source], part.to(now.rows.dtype)[:, None])
    new_score, new_length = _measured(dtc, merged)
    rows, score = now.rows.index_copy(0, target, merged), now.score.index_copy(0, target, new_score)
    length = now.length.index_copy(0, target, new_length)
    log_size = now.log_size.index_copy(0, target, torch.logaddexp(now.log_size[source], now.log_size[target]))
    place = now.place.index_copy(0, target, torch.where(part > 0.5, now.place[source], now.place[target]))
    key = key_of(score, van_der_corput(place)).index_fill(0, source, torch.iinfo(torch.int64).min)
    kept = torch.topk(key, left).indices.sort().values
    joins = torch.arange(before).index_copy(0, source, target)
    new = torch.full_like(joins, -1).index_copy(0, kept, torch.arange(left))
    token = torch.where(now.token >= 0, new[joins[now.token.clamp_min(0)]], -1)
    pruned = now.pruned | (torch.full((1,), before) > left + merges)
    return _Now(rows[kept], score[kept], length[kept], log_size[kept], place[kept], token, pruned)


def _counts(dtc: DtcCompressor, patches: int, before: int, share: float) -> tuple[Any, Any]:
    """Count merges and tokens left; as values of the graph, since no formula of N passes the exporter's proofs."""
    budget = torch.ceil(torch.full((), patches, dtype=torch.float64) * _exact(share) - _exact(1e-6))
    tokens = torch.full((), before, dtype=torch.float64)
    merged = torch.minimum(torch.floor((tokens - budget) * _exact(dtc.merge_share) + 0.5), torch.floor(tokens / 2))
    merges, left = merged.long().item(), budget.long().item()
    torch._check(merges >= 0)
    torch._check(merges <= before // 2)
    torch._check(left >= 1)
    torch._check(left <= before)
    return merges, left


def _exact(number: float) -> Tensor:
    """Make a number a tensor: exporters write plain ones in float32, where 1,000 x 0.2 is above 200."""
    return torch.tensor(number, dtype=torch.float64)


def _measured(dtc: DtcCompressor, rows: Tensor) -> tuple[Tensor, Tensor]:
    norm, first, last = dtc.importance.norm, dtc.importance.first, dtc.importance.last
    normal = rows if norm is None else norm(rows)
    hidden = linear(normal.double(), first.weight.double(), first.bias.double())
    active = gelu(hidden.float()).double()  # runtimes have no float64 erf
    score = linear(active, last.weight.double())
    return score.squeeze(-1), torch.sqrt((rows * rows).sum(dim=1))


def _pairs(dtc: DtcCompressor, now: _Now, merges: int) -> tuple[Tensor, Tensor]:
    target = 2 * torch.arange(now.rows.shape[0] // 2)
    source, lam = target + 1, float(dtc.settings["lam"])
    dots = (now.rows[target] * now.rows[source]).sum(dim=1)
    cosine = dots / (now.length[target] * now.length[source]).clamp_min(1e-30)
    gap = (torch.sigmoid(now.score[target]) - torch.sigmoid(now.score[source])).abs()
    key = key_of(lam * cosine - _exact(1 - lam) * gap, (1 << 31) - 1 - torch.arange(now.rows.shape[0] // 2))
    best = torch.topk(key, merges).indices.sort().values
    return source[best], target[best]


def _offsets(now: _Now) -> Tensor:
    return torch.cat([torch.zeros(1, dtype=torch.int64), torch.ones_like(now.place).sum()[None]])


def export_onnx(model: Classifier, path: str | Path) -> None:
    """Write a model as ONNX: input ``features`` (N, dim), outputs ``logits`` (classes,) and ``patch_to_token`` (N,).

    N is free from 16 on. Patches come in the compressor's order: that of `dtcwsi.nn.order.spatial_order` unless its
    ``order`` is another.
    Raises: OptionError if the model has an option that the graph does not have; UsageError without the extra `onnx`.
    """
    if find_spec("onnxscript") is None:
        raise UsageError('writing ONNX needs onnx and onnxscript; install them: pip install "dtcwsi[onnx]"')
    model = deepcopy(model).eval()
    graph = SlideGraph(model).eval()
    patches = torch.export.Dim("patches", min=_LEAST_PATCHES, max=1 << 22)
    torch.onnx.export(
        graph,
        (torch.randn(100, model.in_dim),),
        str(path),
        input_names=["features"],
        output_names=["logits", "patch_to_token"],
        dynamic_shapes={"features": {0: patches}},
        dynamo=True,
        verbose=False,
    )


def _check(compressor: DtcCompressor) -> None:
    for name, value in _NEEDED.items():
        if compressor.settings[name] != value:
            raise OptionError(f"got {name}={compressor.settings[name]!r}; an exported model needs {name}={value!r}")
