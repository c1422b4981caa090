"""Two claims that the paper makes on pictures, measured on the demo's slides, where every patch's tissue is known.

python benchmarks/picture_claims.py --demo DIR --run RUN [--seeds 3] [--out docs/results/picture_claims.json]

"Fat and stroma are merged": of each tissue, the share of patches that end merged with others, pruned, or as a token of
their own, out of fold, by the models of RUN (dtc-abmil at r = 0.4); and, slide by slide, the share merged of fat,
stroma and muscle minus that of all else, with the 95 % interval over slides. "Importance is diffuse early in training":
what the softmax of importance over a test slide's patches is spread over, exp(entropy) over the number of patches,
after 0, 1, 5, 10, 20 and 30 epochs on the first fold, and how well importance finds the lesion (AUROC over patches).
"""

import argparse
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

import demo_bags
from dtcwsi.classifier import Classifier
from dtcwsi.explain.fates import FATES
from dtcwsi.explain.slide import view_slide
from dtcwsi.inference.predict import load_run
from dtcwsi.slides.synthetic import plan_cohort
from dtcwsi.slides.synthetic.layout import CELL_PX, draw_layout
from dtcwsi.slides.synthetic.spec import SyntheticSlide
from dtcwsi.store.features import feature_files, read_features
from dtcwsi.store.tables import read_rows
from fitting import fit, packed_each
from provenance import provenance, save

UNIFORM = ("adipose", "fibrous_stroma", "loose_stroma", "smooth_muscle")
EPOCHS = (0, 1, 5, 10, 20, 30)
DRAWS = 5000


def tissues_of(slide: SyntheticSlide, coords: NDArray[np.int64], side: float) -> NDArray[np.str_]:
    """Name the tissue that covers most of each patch; regions painted later hide earlier ones."""
    layout = draw_layout(slide)
    shape = layout.inside_px.shape
    names = np.full(shape, "glass", dtype="<U16")
    for region in (*layout.regions, layout.lesion):
        rows, columns = region.inside_px.shape
        box = names[region.row : region.row + rows, region.column : region.column + columns]
        box[region.inside_px[: box.shape[0], : box.shape[1]] > 0] = region.tissue
    names[layout.inside_px <= 0] = "glass"
    cells = max(1, round(side / CELL_PX))
    found = []
    for x, y in coords // CELL_PX:
        inside, counts = np.unique(names[y : y + cells, x : x + cells], return_counts=True)
        found.append(inside[counts.argmax()] if len(inside) else "glass")
    return np.array(found)


def merged_tissues(demo: Path, run: Path, slides: dict[str, SyntheticSlide]) -> dict[str, Any]:
    """Count the fates of patches by tissue, out of fold."""
    files, counts, differences = feature_files(demo), defaultdict(lambda: np.zeros(len(FATES), int)), []
    for fold in sorted(run.glob("fold*/split.csv")):
        models = load_run(fold.parent).models
        for slide_id in (row["slide_id"] for row in read_rows(fold) if row["part"] == "test"):
            features = read_features(files[slide_id])
            fate = view_slide(models, features).fates.fate
            tissue = tissues_of(slides[slide_id], features.coords, features.patch_size_level0)
            for name in np.unique(tissue):
                counts[str(name)] += np.bincount(fate[tissue == name], minlength=len(FATES))
            uniform, merged = np.isin(tissue, UNIFORM), fate == FATES.index("merged")
            if uniform.any() and not uniform.all():
                differences.append(merged[uniform].mean() - merged[~uniform].mean())
    rng = np.random.default_rng(0)
    means = rng.choice(differences, (DRAWS, len(differences))).mean(axis=1)
    shares = {name: dict(zip(FATES, (row / row.sum()).round(3).tolist(), strict=True)) for name, row in counts.items()}
    return {
        "patches": {name: int(row.sum()) for name, row in counts.items()},
        "shares": shares,
        "uniform_minus_others": {
            "slides": len(differences),
            "merged": float(np.mean(differences)),
            "interval_95": np.quantile(means, [0.025, 0.975]).tolist(),
        },
    }


def spread_of(model: Classifier, bags: list, lesions: list[NDArray[np.bool_]]) -> dict[str, float]:
    """Average over slides what importance is spread over, and how well it finds the lesion."""
    spread, found = [], []
    for bag, lesion in zip(bags, lesions, strict=True):
        scores = model.compressor.importance.values(bag.features).score.double()
        share = scores.softmax(dim=0)
        entropy = float(-(share * share.clamp_min(1e-300).log()).sum())
        spread.append(float(np.exp(entropy)) / len(share))
        if lesion.any() and not lesion.all():
            found.append(roc_auc_score(lesion, scores.numpy()))
    return {"spread": statistics.mean(spread), "lesion_auroc": statistics.mean(found)}


def diffuse(demo: Path, slides: dict[str, SyntheticSlide], seed: int) -> list[dict[str, float]]:
    """Follow importance through a training."""
    train, test = next(demo_bags.folds_of(demo, seed))
    lesions = [
        tissues_of(slides[bag.slide_id], bag.coords.numpy(), bag.patch_size_level0) == slides[bag.slide_id].label
        for bag in test
    ]
    told = []

    def look(epoch: int, model: Classifier) -> None:
        if epoch in EPOCHS:
            told.append({"epoch": epoch, **spread_of(model, test, lesions)})

    fit("dtc-abmil", {"retention": 0.4}, packed_each(train), packed_each(test), seed=seed, on_epoch=look)
    return told


def main() -> None:
    """Measure both and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, required=True, help="a folder of `dtcwsi demo`")
    parser.add_argument("--run", type=Path, required=True, help="a run of dtc-abmil on it")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs/results/picture_claims.json")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    slides = {slide.slide_id: slide for slide in plan_cohort(slides=60, side_px=4096, difficulty=0.5, seed=0)}
    merged = merged_tissues(asked.demo, asked.run, slides)
    print(merged, flush=True)
    by_seed = {seed: diffuse(asked.demo, slides, seed) for seed in range(asked.seeds)}
    print(by_seed)
    save(asked.out, {**provenance(seeds=asked.seeds, run=asked.run.name), "merged": merged, "diffuse": by_seed})


if __name__ == "__main__":
    main()
