"""Which model, with which options, stands behind each row of the paper's tables."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dtcwsi.benchmark.tables.paper import (
    TABLE_1,
    TABLE_2,
    TABLE_3,
    TABLE_4,
    TABLE_5,
    TABLE_6,
    TABLE_7,
    TABLE_8,
    Published,
)
from dtcwsi.catalog import model_options
from dtcwsi.errors import OptionError
from dtcwsi.registry import near
from dtcwsi.training.search import NUMBERS, Search

__all__ = ["MEASURED", "TABLES", "TIMED", "Configuration", "Table", "scored_as"]

_R = {"retention": 0.4}
_TOLD = ("acc", "auc")
_ANY_DIM = 8


@dataclass(frozen=True)
class Configuration:
    """A model with options; tables that have one in common share its training."""

    model: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """A table of the paper: ``rows`` by its row names, ``paper`` its numbers, ``metrics`` its columns.

    ``columns`` are further columns of a row, such as a schedule's stages; ``encoders`` the number of the feature folder
    that a row is of, where there are several. ``reference`` is the row, or each row's, that others are compared with.
    ``remark`` says what is not as in the paper.
    """

    title: str
    rows: Mapping[str, Configuration]
    paper: Published
    metrics: tuple[str, ...] = _TOLD
    columns: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    encoders: Mapping[str, int] = field(default_factory=dict)
    reference: str | Mapping[str, str] = ""
    remark: str = ""

    @property
    def against(self) -> dict[str, str]:
        """The reference of every row that has one."""
        if not isinstance(self.reference, str):
            return dict(self.reference)
        return {row: self.reference for row in self.rows if self.reference and row != self.reference}

    @property
    def compared_by(self) -> str:
        """The metric of comparisons: the AUC, or the accuracy where the paper's table has no AUC."""
        return "auc" if "auc" in self.metrics else "acc"

    def check_search(self, search: Search | None) -> None:
        """Try what would be searched of every row, before any work.

        Raises: OptionError for a name that no row leaves open, or an end of a range that a row's model refuses.
        """
        if search is None:
            return
        known, names = set(NUMBERS), set[str]()
        for what in self.rows.values():
            known |= model_options(what.model).keys()
            part = search.of(what.model, what.options)
            if part is not None:
                part.check(what.model, what.options, {}, in_dim=_ANY_DIM, n_classes=2)
                names |= part.space.keys()
        for name in search.space:
            if name not in names:
                raise OptionError(
                    f"got a search over {name!r}, which no row of the table has or leaves open; near options: "
                    f"{near(name, known - {name})}"
                )

    @property
    def measured(self) -> bool:
        """Whether a slide's inference is measured for it, beside training."""
        return not MEASURED.isdisjoint(self.metrics)


MEASURED = frozenset(
    ("gflop", "cost_gflop", "mil_gib", "mil_ms", "mil_speedup")
    + ("compress_ms", "aggregate_ms", "read_ms", "encode_ms", "full_ms")
)
"""Columns that come from one slide of random features run through an untrained model, not from a run."""
TIMED = frozenset(("epoch_s", "ms"))
"""Columns of seconds that a run took down while it was trained and tested."""


def scored_as(metric: str) -> str:
    """Name the metric of `dtcwsi.metrics` that a table's column shows."""
    return {"acc": "accuracy"}.get(metric, metric)


_STAGES = ("read_ms", "encode_ms", "compress_ms", "aggregate_ms", "full_ms")
_SLIDE = (
    "Memory and milliseconds are of one slide of random features: compression and aggregation measured here, reading "
    "and encoding as `extract` timed them on this cohort, a patch at a time. full is all four, and not told where one "
    "is unknown; the paper's full pipeline cannot have had the encoder in it. MIL is compression and aggregation; its "
    "memory is the peak, with the model's weights and the slide's features in it. That of the encoder is not measured. "
    "TransMIL's attention is not worked out."
)
_FLOPS = (
    " GFLOP are matrix products as torch's counter sees them; those by the cost model are counted from shapes, with "
    "what is no product: norms, likeness of pairs, merges."
)
_SCHEDULES = {
    "Uniform": (0.74, 0.74, 0.74),
    "Balanced": (0.70, 0.70, 0.82),
    "Early-aggressive": (0.55, 0.80, 0.91),
    "Late-aggressive": (0.85, 0.70, 0.67),
    "2-stage only": (0.63, 0.63),
}

TABLES: dict[str, Table] = {
    "table1": Table(
        "Comparison of DTC-WSI (r = 0.4) with MIL and token-efficient baselines",
        {
            "ABMIL": Configuration("abmil"),
            "CLAM-MB": Configuration("clam-mb"),
            "DSMIL": Configuration("dsmil"),
            "TransMIL": Configuration("transmil"),
            "HIPT": Configuration("hipt"),
            "PANTHER": Configuration("panther"),
            "SPT": Configuration("spt"),
            "ToMe": Configuration("tome-abmil", _R),
            "PatchGD": Configuration("patchgd"),
            "MHIM-MIL": Configuration("mhim-abmil"),
            "Longformer": Configuration("longformer"),
            "2DMambaMIL": Configuration("mamba2d"),
            "Random Sampling": Configuration("random-abmil", _R),
            "DTC-WSI": Configuration("dtc-abmil", _R),
        },
        TABLE_1,
        reference="DTC-WSI",
        remark="MHIM-MIL is its ABMIL variant; ToMe, random sampling and DTC-WSI stand before ABMIL. The paper names "
        "none of these choices. SPT is trained on labels alone here, without its self-supervised phase.",
    ),
    "table2": Table(
        "Efficiency and accuracy by final retention",
        {f"r = {share}": Configuration("dtc-abmil", {"retention": share}) for share in (1.0, 0.7, 0.5, 0.4)},
        TABLE_2,
        reference="r = 0.4",
        metrics=("acc", "gflop", "cost_gflop", "mil_gib", "mil_ms", "mil_speedup", *_STAGES, "full_gib", "speedup"),
        remark=_SLIDE + _FLOPS,
    ),
    "table3": Table(
        "Training, inference and accuracy",
        {
            "ABMIL": Configuration("abmil"),
            "TransMIL": Configuration("transmil"),
            "ToMe": Configuration("tome-abmil", _R),
            "MHIM-MIL": Configuration("mhim-abmil"),
            "Random Sampling": Configuration("random-abmil", _R),
            "DTC-WSI": Configuration("dtc-abmil", _R),
        },
        TABLE_3,
        reference="DTC-WSI",
        metrics=("acc", "epoch_s", "gflop", "cost_gflop", "mil_gib", "mil_ms", *_STAGES, "full_gib"),
        remark=_SLIDE + _FLOPS + " An epoch's seconds are the median of a fold's epochs, training steps alone.",
    ),
    "table4": Table(
        "Merging and pruning strategies (r = 0.4)",
        {
            "Random Merging": Configuration("random-merge-abmil", _R),
            "Random Pruning": Configuration("random-prune-abmil", _R),
            "Only Merge": Configuration("merge-only-abmil", _R),
            "Only Prune": Configuration("prune-only-abmil", _R),
            "Dynamic Merge + Prune": Configuration("dtc-abmil", _R),
        },
        TABLE_4,
        reference="Dynamic Merge + Prune",
        remark="Random Pruning ranks patches at random: it is the random sampling of Table 1.",
    ),
    "table5": Table(
        "Multi-stage retention schedules",
        {name: Configuration("dtc-abmil", {"schedule": list(shares)}) for name, shares in _SCHEDULES.items()},
        TABLE_5,
        reference="Uniform",
        columns={
            name: {f"r_{stage}": f"{share:.2f}" for stage, share in enumerate(shares, start=1)}
            for name, shares in _SCHEDULES.items()
        },
        remark="The schedules keep 0.41, 0.40, 0.40, 0.40 and 0.40 of the tokens.",
    ),
    "table6": Table(
        "Encoders and backbones",
        {
            f"{title}, {encoder}": Configuration(model, {} if kept == 1 else _R)
            for encoder in ("CONCH", "Virchow2")
            for title, model, kept in (
                ("ABMIL", "abmil", 1),
                ("DTC-ABMIL", "dtc-abmil", 0.4),
                ("TransMIL", "transmil", 1),
                ("DTC-TransMIL", "dtc-transmil", 0.4),
            )
        },
        TABLE_6,
        reference={name: f"DTC-{name}" for name in TABLE_6 if not name.startswith("DTC-")},
        metrics=("acc", "tokens", "mil_gib", "mil_ms", *_STAGES, "full_gib"),
        encoders={name: int(name.endswith("Virchow2")) for name in TABLE_6},
        remark=_SLIDE + " The first feature folder stands beside CONCH, the second beside Virchow2, whatever made "
        "them: the column encoder says what did.",
    ),
    "table7": Table(
        "Sparsity regularisation",
        {
            "without the sparsity loss": Configuration("dtc-abmil", {**_R, "budget": "threshold", "beta": 0.0}),
            "with it": Configuration("dtc-abmil", {**_R, "budget": "threshold"}),
        },
        TABLE_7,
        reference="with it",
        metrics=("acc", "auc", "tokens", "ms"),
        remark="With a budget by ratio the printed sparsity loss is a constant and cannot change anything; both rows "
        "have a budget by threshold, whose loss pulls the share of kept tokens down to r = 0.4 and never up to it. ms "
        "is compression and aggregation of a slide, where the paper's 410 and 610 ms are its whole pipeline.",
    ),
    "table8": Table(
        "Token retention ratios",
        {f"r = {share}": Configuration("dtc-abmil", {"retention": share}) for share in (0.8, 0.7, 0.6, 0.5, 0.4, 0.3)},
        TABLE_8,
        reference="r = 0.4",
    ),
}
