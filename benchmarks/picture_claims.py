"""What the paper says of its pictures, measured on the demo's slides, where every patch's tissue is known.

python benchmarks/picture_claims.py --demo DIR [--seeds 3] [--retentions 0.7 0.4 0.2]

Five folds of dtc-abmil for every seed and retention (`fitting.RECIPE`); each slide by the fold that tests it. Of every
class of tissue the share of patches that end as a token of their own, merged with others, or pruned, and the mean
percentile of their importance, with 95 % intervals of drawing patients (patches of all seeds counted together). At
r = 0.4, what the softmax of importance over a test slide's patches is spread over, exp(entropy) over the number of
patches, and how well importance finds the lesion (AUROC over patches), after some epochs of training.
Writes docs/results/picture_claims.json, the page compressed.md beside it and its figure.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

import demo_bags
from dtcwsi.bags.packing import pack
from dtcwsi.classifier import Classifier
from dtcwsi.explain.fates import FATES, MERGED, PRUNED, attention_percentile, fates_of
from dtcwsi.metrics import patient_draws
from dtcwsi.slides.synthetic import plan_cohort
from dtcwsi.types import Bag
from fitting import fit, packed_each
from picture_claims_page import write_page
from provenance import provenance, save
from tissue_truth import CLASSES, EDGE, PEN, PatchTruth, truth_of

EPOCHS = (0, 1, 2, 3, 5, 7, 10, 15, 20, 25, 30)
FOLLOWED = 0.4
DRAWS = 2000
UNIFORM = ("fat", "stroma")
MIXED, PURE = 0.6, 0.9
Counts = NDArray[np.float64]

CONTRASTS = {
    "fat and stroma are merged": (UNIFORM, MERGED),
    "repeated tumour is merged": (("lesion",), MERGED),
    "slide borders are pruned": ((EDGE,), PRUNED),
    "artefacts (pen) are pruned": ((PEN,), PRUNED),
    "tumour is pruned": (("lesion",), PRUNED),
}
"""Claims of one fate being commoner among some classes than among all others."""


class Tally:
    """Counts by slide, class and fate, and of pure and mixed patches by fate, over all seeds."""

    def __init__(self, slide_ids: list[str]) -> None:
        self.row = {slide_id: number for number, slide_id in enumerate(slide_ids)}
        self.fates: Counts = np.zeros((len(slide_ids), len(CLASSES), len(FATES)))
        self.purity: Counts = np.zeros((len(slide_ids), 2, len(FATES)))
        self.percentile: Counts = np.zeros((len(slide_ids), len(CLASSES)))

    def add(self, slide_id: str, truth: PatchTruth, fate: NDArray[np.int8], percentile: NDArray[np.float64]) -> None:
        """Count a slide's patches."""
        row = self.row[slide_id]
        np.add.at(self.fates[row], (truth.kind, fate), 1)
        np.add.at(self.percentile[row], truth.kind, percentile)
        tissue = truth.kind < CLASSES.index(EDGE)
        for number, chosen in enumerate((truth.purity >= PURE, truth.purity < MIXED)):
            np.add.at(self.purity[row, number], fate[chosen & tissue], 1)


def main() -> None:
    """Train, count, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, required=True, help="a folder of `dtcwsi demo`")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--retentions", type=float, nargs="+", default=[0.7, 0.4, 0.2])
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs/results/picture_claims.json")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    settings = json.loads((asked.demo / "demo-settings.json").read_text())
    drawn = {name: settings[name] for name in ("slides", "side_px", "difficulty", "seed")}
    slides = {slide.slide_id: slide for slide in plan_cohort(**drawn)}
    bags = [bag for _, test in demo_bags.folds_of(asked.demo, 0) for bag in test]
    truths = {bag.slide_id: truth_of(slides[bag.slide_id], bag.coords.numpy(), bag.patch_size_level0) for bag in bags}
    patients = [slides[slide_id].patient_id for slide_id in truths]
    weights = np.concatenate(list(patient_draws(patients, DRAWS, 0)))
    measured, training = {}, defaultdict(list)
    for retention in asked.retentions:
        tally = Tally(list(truths))
        for seed in range(asked.seeds):
            follow = training[seed] if retention == FOLLOWED else None
            one_seed(asked.demo, truths, tally, retention, seed, follow)
            print(f"r = {retention:g}, seed {seed}", flush=True)
        measured[f"{retention:g}"] = summary(tally, weights, asked.seeds)
    result = {
        "cohort": drawn,
        "patients": len(set(patients)),
        "retentions": measured,
        "training": {str(seed): by_epoch(told) for seed, told in training.items()},
    }
    told = {**provenance(seeds=asked.seeds, retentions=asked.retentions), **result}
    save(asked.out, told)
    write_page(told, asked.out.parent)


def one_seed(
    demo: Path,
    truths: Mapping[str, PatchTruth],
    tally: Tally,
    retention: float,
    seed: int,
    follow: list[dict[str, float]] | None,
) -> None:
    """Train the folds of one seed, count what became of the patches they test, and follow importance if asked to."""
    for train, test in demo_bags.folds_of(demo, seed):
        finished = []

        def look(epoch: int, model: Classifier, test: list[Bag] = test, finished: list[Classifier] = finished) -> None:
            if follow is not None and epoch in EPOCHS:
                follow.append({"epoch": epoch, **spread_of(model, test, truths)})
            finished[:] = [model]

        fit("dtc-abmil", {"retention": retention}, packed_each(train), packed_each(test), seed=seed, on_epoch=look)
        model = finished[0].eval()
        for bag in test:
            packed = pack([bag])
            with torch.no_grad():
                fate = fates_of(model(packed)).fate
            percentile = attention_percentile(model.compressor.patch_importance(packed).numpy())
            tally.add(bag.slide_id, truths[bag.slide_id], fate, percentile)


def spread_of(model: Classifier, bags: list[Bag], truths: Mapping[str, PatchTruth]) -> dict[str, float]:
    """Average over slides what importance is spread over, and how well it finds the lesion."""
    spread, found = [], []
    for bag in bags:
        share = model.compressor.patch_importance(pack([bag])).double()
        entropy = float(-(share * share.clamp_min(1e-300).log()).sum())
        spread.append(float(np.exp(entropy)) / len(share))
        lesion = truths[bag.slide_id].kind == CLASSES.index("lesion")
        if lesion.any():
            found.append(roc_auc_score(lesion, share.numpy()))
    return {"spread": float(np.mean(spread)), "lesion_auroc": float(np.mean(found))}


def by_epoch(told: list[dict[str, float]]) -> list[dict[str, float]]:
    """Average over the folds of a seed."""
    return [
        {
            name: float(np.mean([row[name] for row in told if row["epoch"] == epoch]))
            for name in ("epoch", "spread", "lesion_auroc")
        }
        for epoch in EPOCHS
    ]


def summary(tally: Tally, weights: Counts, seeds: int) -> dict[str, Any]:
    """Shares by class and the claims, with intervals."""
    classes = {}
    for number, name in enumerate(CLASSES):
        of_class = tally.fates[:, number]
        if not of_class.any():
            classes[name] = None
            continue
        shares = {fate: ratio(of_class[:, at], of_class.sum(axis=1), weights) for at, fate in enumerate(FATES)}
        importance = ratio(tally.percentile[:, number], of_class.sum(axis=1), weights)
        counts = {"patches": int(of_class.sum() / seeds), "slides": int((of_class.sum(axis=1) > 0).sum())}
        classes[name] = {**counts, **shares, "importance_percentile": importance}
    contrasts = {}
    for claim, (names, fate) in CONTRASTS.items():
        inside = np.isin(CLASSES, names)
        contrasts[claim] = contrast(
            tally.fates[:, inside].sum(axis=1), tally.fates[:, ~inside].sum(axis=1), fate, weights
        )
    contrasts["mixed patches stay unmerged"] = contrast(tally.purity[:, 0], tally.purity[:, 1], MERGED, weights)
    return {"classes": classes, "contrasts": contrasts}


def ratio(part: Counts, whole: Counts, weights: Counts) -> list[float]:
    """Give the pooled ratio of two counts (slides,) and its 95 % interval; draws without the class are left out."""
    whole_drawn = weights @ whole
    drawn = (weights @ part)[whole_drawn > 0] / whole_drawn[whole_drawn > 0]
    return [float(part.sum() / whole.sum()), *np.percentile(drawn, [2.5, 97.5]).tolist()]


def contrast(one: Counts, other: Counts, fate: int, weights: Counts) -> list[float] | None:
    """Give the share of a fate among some patches (slides, fates) minus that among others, and its 95 % interval."""
    if not one.any() or not other.any():
        return None

    def share(counts: Counts) -> Counts:
        return counts[..., fate] / np.maximum(counts.sum(axis=-1), 1)

    value = float(share(one.sum(axis=0)) - share(other.sum(axis=0)))
    drawn_one, drawn_other = weights @ one, weights @ other
    there = (drawn_one.sum(axis=1) > 0) & (drawn_other.sum(axis=1) > 0)
    drawn = share(drawn_one[there]) - share(drawn_other[there])
    return [value, *np.percentile(drawn, [2.5, 97.5]).tolist()]


if __name__ == "__main__":
    main()
