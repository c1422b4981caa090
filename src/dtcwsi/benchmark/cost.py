"""What a slide costs a model, counted instead of timed: products and the traffic of feature matrices."""

import math
from dataclasses import dataclass

import numpy as np
from torch import nn

from dtcwsi.aggregators.abmil import Abmil
from dtcwsi.aggregators.clam import ClamSb
from dtcwsi.aggregators.dsmil import Dsmil
from dtcwsi.aggregators.max import MaxPooling
from dtcwsi.aggregators.mean import MeanPooling
from dtcwsi.classifier import Classifier
from dtcwsi.compressors.dtc import DtcCompressor
from dtcwsi.compressors.schedule import Step, plan, token_counts
from dtcwsi.compressors.stages import StagedCompressor
from dtcwsi.errors import OptionError

__all__ = ["Cost", "PAPER_FLOPS", "paper_column", "slide_cost"]

PAPER_FLOPS = {1.0: 118.4e9, 0.7: 62.7e9, 0.5: 38.4e9, 0.4: 24.3e9}
"""Table 2: FLOPs by final retention."""


_COUNTED = (Abmil, ClamSb, Dsmil, MeanPooling, MaxPooling)


@dataclass(frozen=True)
class Cost:
    """The cost of one slide's inference.

    ``products`` are the FLOPs of matrix products, a multiply and an add each, as torch counts them, no padding;
    ``elementwise`` those of dots and merges, which it does not; ``bytes`` are feature rows read and written.
    """

    products: int = 0
    elementwise: int = 0
    bytes: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.products + other.products, self.elementwise + other.elementwise, self.bytes + other.bytes)


def slide_cost(model: Classifier, patches: int, *, bytes_per_number: int = 4) -> dict[str, Cost]:
    """Count what a slide of ``patches`` patches costs at inference.

    Returns: parts ``score``, ``match``, ``merge``, ``gather`` (of the compressor) and ``aggregate``.
    Raises: OptionError for a budget by threshold, whose token count follows from the slide, and for aggregators that
    are not counted yet.
    """
    if not isinstance(model.aggregator, _COUNTED):
        raise OptionError(f"the cost of {model.name} is not counted; abmil, clam, dsmil, mean and max are")
    size, tokens = model.in_dim * bytes_per_number, patches
    parts: dict[str, Cost] = {}
    compressor = model.compressor
    if isinstance(compressor, StagedCompressor):
        if compressor.settings.get("budget") == "threshold":
            raise OptionError("a budget by threshold follows the slide's scores; count the cost of budget='ratio'")
        steps = _steps(compressor, patches)
        tokens = int(steps[-1].left[0])
        merged = sum(int(step.merges[0]) for step in steps)
        parts["score"] = _scoring(compressor, patches, merged, size)
        parts["match"] = sum((_matching(compressor, step, model.in_dim, size) for step in steps), Cost())
        parts["merge"] = Cost(elementwise=3 * merged * model.in_dim, bytes=3 * merged * size)
        parts["gather"] = Cost(bytes=2 * tokens * size)
    parts["aggregate"] = _aggregation(model.aggregator, tokens, size)
    return parts


def paper_column(terms: tuple[int, ...] = (1, 2)) -> tuple[dict[int, float], dict[float, float]]:
    """Fit the FLOPs of Table 2 by powers of the retention, such as a r + b r^2.

    Returns: FLOPs at r = 1 that each power stands for, and the relative error at each retention of the table.
    """
    shares, flops = np.array(list(PAPER_FLOPS)), np.array(list(PAPER_FLOPS.values()))
    powers = np.stack([shares**term for term in terms], axis=1)
    weights, *_ = np.linalg.lstsq(powers / flops[:, None], np.ones(len(flops)), rcond=None)
    errors = powers @ weights / flops - 1
    return dict(zip(terms, map(float, weights), strict=True)), dict(zip(PAPER_FLOPS, map(float, errors), strict=True))


def _steps(compressor: StagedCompressor, patches: int) -> list[Step]:
    sizes = np.array([patches])
    budgets = [token_counts(sizes, share) for share in compressor.shares]
    share, merge_all = compressor.merge_share, compressor.merge_all
    return list(plan(sizes, budgets, edges_of=compressor.matching.count, merge_share=share, merge_all=merge_all))


def _scoring(compressor: StagedCompressor, patches: int, merged: int, size: int) -> Cost:
    """Every patch is scored once, and every merged token once; LayerNorm is eight operations a number."""
    if not isinstance(compressor, DtcCompressor):
        return Cost()
    first, rows = compressor.importance.first, patches + merged
    norm = 8 * first.in_features if compressor.importance.norm is not None else 0
    return Cost(2 * rows * first.out_features * (first.in_features + 1), rows * norm, rows * size)


def _matching(compressor: StagedCompressor, step: Step, dim: int, size: int) -> Cost:
    """Aligned and window compare pair by pair, full compares every A with every B by matrix products."""
    if not step.merges.any() or compressor.settings.get("seed") is not None:
        return Cost()
    before, edges = int(step.before[0]), int(step.edges[0])
    if compressor.settings.get("similarity") == "scorer":
        size, dim = size * compressor.settings["scorer_width"] // dim, compressor.settings["scorer_width"]
    if compressor.matching.name == "full":
        return Cost(2 * ((before + 1) // 2) * (before // 2) * dim, 0, before * size)
    looks = compressor.settings["window"] if compressor.matching.name == "window" else 1
    return Cost(0, 2 * looks * edges * dim, 2 * looks * edges * size)


def _aggregation(aggregator: nn.Module, tokens: int, size: int) -> Cost:
    """Count the products of linear layers and of pooling."""
    layers = [(name, layer) for name, layer in aggregator.named_modules() if isinstance(layer, nn.Linear | nn.Conv1d)]
    shapes = {name: tuple(layer.weight.shape) for name, layer in layers}
    products = sum(2 * _rows_of(name, tokens) * math.prod(shape) for name, shape in shapes.items())
    pooling = 0 if isinstance(aggregator, MaxPooling) else _pooling(shapes, tokens)
    return Cost(products + pooling, 0, tokens * size)


def _rows_of(layer: str, tokens: int) -> int:
    """Say how many rows a layer sees at inference: a head the slide's one, an instance classifier none."""
    return {"head": 1, "heads": 1, "instance_heads": 0}.get(layer.split(".")[0], tokens)


def _pooling(shapes: dict[str, tuple[int, ...]], tokens: int) -> int:
    """Count the products of a weighted sum of rows a map; for DSMIL also those of queries with the critical ones."""
    if "query.0" in shapes:
        (classes, dim), (queries, _) = shapes["instance_head"], shapes["query.0"]
        return 2 * classes * queries * (dim + queries) + 2 * tokens * classes * (queries + dim)
    maps, width = shapes.get("attention.score", (1,))[0], shapes.get("heads.0", shapes.get("head", (0, 0)))[1]
    return 2 * tokens * maps * width
