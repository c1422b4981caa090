"""What the paper's tables say, number by number."""

from collections.abc import Mapping, Sequence

from dtcwsi.cohorts.definitions import COHORTS as DEFINED

__all__ = [
    "COHORTS",
    "TABLE_1",
    "TABLE_2",
    "TABLE_3",
    "TABLE_4",
    "TABLE_5",
    "TABLE_6",
    "TABLE_7",
    "TABLE_8",
    "Published",
    "column_of",
]

COHORTS = tuple(DEFINED)
"""In the order of the tables' columns."""

Published = Mapping[str, Mapping[str, Mapping[str, float]]]
"""By row and cohort: ``acc`` and ``auc`` in percent, ``acc_std`` and ``auc_std`` where they are told."""


def column_of(class_names: Sequence[str]) -> str:
    """Name the paper's cohort that has these classes, else the first, of which the paper tells most."""
    names = {name.casefold() for name in class_names}
    same = (name for name, one in DEFINED.items() if {each.label.casefold() for each in one.classes} == names)
    return next(same, COHORTS[0])


def _read(text: str) -> Published:
    """Read lines of a row's name and, for each cohort, accuracy and AUC, with or without their deviations."""
    table = {}
    for line in text.strip().splitlines():
        name, *cells = (cell.strip() for cell in line.split("|"))
        table[name] = {cohort: _cell(cell) for cohort, cell in zip(COHORTS, cells, strict=False)}
    return table


def _cell(cell: str) -> Mapping[str, float]:
    told: dict[str, float] = {}
    for metric, number in zip(("acc", "auc"), cell.split(), strict=True):
        mean, _, std = number.partition("+-")
        told[metric] = float(mean)
        if std:
            told[f"{metric}_std"] = float(std)
    return told


def _of_nsclc(metrics: tuple[str, ...], rows: Mapping[str, tuple[float, ...]]) -> Published:
    """Name numbers of which the paper tells TCGA-NSCLC's alone."""
    return {name: {"tcga-nsclc": dict(zip(metrics, numbers, strict=True))} for name, numbers in rows.items()}


TABLE_1 = _read("""
ABMIL | 94.7+-0.6 95.4+-0.5 | 93.4+-0.7 94.1+-0.6 | 92.6+-0.6 93.5+-0.5 | 91.2+-0.7 92.1+-0.6
CLAM-MB | 95.8+-0.5 96.6+-0.4 | 94.5+-0.6 95.3+-0.5 | 93.9+-0.6 94.8+-0.5 | 92.4+-0.6 93.4+-0.5
DSMIL | 95.3+-0.6 96.1+-0.5 | 94.0+-0.6 94.8+-0.6 | 93.4+-0.6 94.2+-0.5 | 91.9+-0.7 92.9+-0.6
TransMIL | 96.4+-0.5 97.2+-0.4 | 95.6+-0.5 96.4+-0.5 | 94.8+-0.5 95.6+-0.4 | 92.8+-0.6 93.7+-0.5
HIPT | 96.2+-0.5 97.0+-0.4 | 95.3+-0.6 96.1+-0.5 | 94.6+-0.5 95.4+-0.5 | 92.6+-0.6 93.6+-0.5
PANTHER | 96.8+-0.4 97.6+-0.4 | 96.0+-0.5 96.8+-0.4 | 95.2+-0.5 96.1+-0.4 | 93.3+-0.5 94.2+-0.4
SPT | 95.9+-0.5 96.7+-0.4 | 94.8+-0.6 95.6+-0.5 | 93.8+-0.6 94.6+-0.5 | 92.3+-0.6 93.2+-0.5
ToMe | 91.0+-0.8 91.8+-0.7 | 90.0+-0.8 90.8+-0.7 | 89.1+-0.8 90.0+-0.7 | 87.5+-0.6 88.4+-0.8
PatchGD | 94.2+-0.6 95.0+-0.5 | 93.2+-0.7 94.0+-0.6 | 92.4+-0.6 93.3+-0.6 | 90.7+-0.7 91.6+-0.6
MHIM-MIL | 93.5+-0.7 94.3+-0.6 | 92.8+-0.7 93.6+-0.6 | 91.9+-0.7 92.8+-0.6 | 90.1+-0.8 91.0+-0.7
Longformer | 92.1+-0.8 92.9+-0.7 | 91.4+-0.8 91.2+-0.7 | 89.6+-0.8 90.4+-0.7 | 88.9+-0.8 89.8+-0.7
2DMambaMIL | 94.3+-0.6 95.1+-0.5 | 91.7+-0.7 92.5+-0.6 | 90.7+-0.7 91.6+-0.6 | 89.0+-0.8 90.9+-0.7
Random Sampling | 78.5+-1.1 79.1+-1.0 | 72.2+-1.2 73.4+-1.1 | 81.4+-1.0 81.7+-0.9 | 71.6+-1.3 72.1+-1.2
DTC-WSI | 98.3+-0.3 98.9+-0.2 | 97.4+-0.3 97.9+-0.3 | 96.8+-0.4 97.5+-0.3 | 94.8+-0.4 95.6+-0.3
""")
"""Comparison with the other systems, at r = 0.4."""

TABLE_2: Published = _of_nsclc(
    ("acc", "gflop", "mil_gib", "mil_ms", "full_gib", "full_ms", "speedup"),
    {
        "r = 1.0": (94.6, 118.4, 3.1, 420, 14.2, 2150, 1.0),
        "r = 0.7": (96.1, 62.7, 2.2, 260, 10.3, 1190, 1.8),
        "r = 0.5": (97.1, 38.4, 1.6, 170, 8.1, 720, 3.0),
        "r = 0.4": (98.3, 24.3, 1.1, 95, 6.4, 410, 5.3),
    },
)
"""Efficiency by final retention; memory in GB of a GPU."""

TABLE_3: Published = _of_nsclc(
    ("acc", "epoch_s", "full_gib", "full_ms"),
    {
        "ABMIL": (94.7, 312, 14.2, 1860),
        "TransMIL": (96.4, 428, 18.9, 2740),
        "ToMe": (91.0, 228, 9.4, 870),
        "MHIM-MIL": (93.5, 214, 8.9, 890),
        "Random Sampling": (78.5, 205, 8.6, 330),
        "DTC-WSI": (98.3, 236, 9.1, 410),
    },
)
"""Training and inference of the systems."""

TABLE_4 = _read("""
Random Merging | 95.0 96.1 | 94.0 95.1 | 93.1 94.3 | 91.6 92.8
Random Pruning | 94.6 95.7 | 93.6 94.8 | 92.9 94.1 | 91.2 92.4
Only Merge | 96.4 97.6 | 95.3 96.3 | 94.5 95.7 | 93.0 94.2
Only Prune | 95.7 96.9 | 94.7 95.8 | 93.9 95.1 | 92.4 93.5
Dynamic Merge + Prune | 98.3 98.9 | 97.4 97.9 | 96.8 97.5 | 94.8 95.6
""")
"""Merging and pruning, each alone, by chance and together, at r = 0.4."""

TABLE_5 = _read("""
Uniform | 98.3 98.9 | 97.4 97.9 | 96.8 97.5 | 94.8 95.6
Balanced | 98.2 98.8 | 97.3 97.8 | 96.7 97.4 | 94.6 95.4
Early-aggressive | 97.6 98.1 | 96.8 97.2 | 96.1 96.8 | 94.0 94.7
Late-aggressive | 98.0 98.6 | 97.1 97.6 | 96.5 97.2 | 94.4 95.1
2-stage only | 97.8 98.4 | 96.9 97.4 | 96.3 97.0 | 94.2 94.9
""")
"""Schedules of about the same final budget."""

TABLE_6: Published = _of_nsclc(
    ("tokens", "acc", "full_gib", "full_ms"),
    {
        "ABMIL, CONCH": (1.0, 94.7, 14.2, 2150),
        "DTC-ABMIL, CONCH": (0.4, 98.3, 6.4, 410),
        "TransMIL, CONCH": (1.0, 95.2, 18.9, 2740),
        "DTC-TransMIL, CONCH": (0.4, 98.9, 7.8, 480),
        "ABMIL, Virchow2": (1.0, 92.1, 14.5, 1810),
        "DTC-ABMIL, Virchow2": (0.4, 96.0, 6.6, 350),
        "TransMIL, Virchow2": (1.0, 94.3, 19.1, 2210),
        "DTC-TransMIL, Virchow2": (0.4, 97.3, 8.1, 430),
    },
)
"""Encoders and backbones."""

TABLE_7: Published = _of_nsclc(
    ("acc", "auc", "tokens", "ms"),
    {"without the sparsity loss": (96.9, 97.6, 0.52, 610), "with it": (98.3, 98.9, 0.40, 410)},
)
"""The sparsity loss; the paper tells TCGA-NSCLC alone."""

TABLE_8 = _read("""
r = 0.8 | 95.6 96.6 | 94.6 95.6 | 93.6 94.7 | 92.0 93.3
r = 0.7 | 96.1 97.2 | 95.1 96.1 | 94.3 95.4 | 92.8 93.9
r = 0.6 | 96.6 97.5 | 95.6 96.6 | 95.0 95.9 | 93.3 94.4
r = 0.5 | 97.1 98.0 | 96.2 97.0 | 95.4 96.4 | 93.8 94.9
r = 0.4 | 98.3 98.9 | 97.4 97.9 | 96.8 97.5 | 94.8 95.6
r = 0.3 | 90.4 92.2 | 93.5 94.2 | 88.8 89.8 | 85.9 86.8
""")
"""Final retention."""
