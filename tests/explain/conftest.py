"""A small slide, its features, and real runs trained on a cohort of numbers."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from dtcwsi.bags.cohort import read_cohort
from dtcwsi.classifier import Classifier
from dtcwsi.explain import ExplainedSlide, explain_slide
from dtcwsi.models import create_model
from dtcwsi.slides import open_slide
from dtcwsi.slides.pyramid import write_pyramid
from dtcwsi.store.features import features_writer, read_features
from dtcwsi.training.crossval import cross_validate
from dtcwsi.types import Features, PatchGrid

DIM = 8
PATCH = 100
CLASSES = ("<b>nested</b> & co", "whorled")


@dataclass(frozen=True)
class Sample:
    """A slide file of 1200 x 800 px at 0.5 um/px, black in the patch at (500, 300), and the features of its patches."""

    slide: Path
    features: Features
    black_patch: int


def write_features(path: Path, rows: np.ndarray, coords: np.ndarray) -> None:
    grid = PatchGrid(coords, np.ones(len(coords), np.float32), PATCH, PATCH, 0.5)
    with features_writer(path, grid, rows.shape[1], {"encoder": "colour-texture"}) as writer:
        writer.append(rows.astype(np.float32))


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    folder = tmp_path_factory.mktemp("sample")
    pixels = np.full((800, 1200, 3), (225, 150, 190), np.uint8)
    pixels[300:400, 500:600] = 0
    write_pyramid(folder / "S1.tif", pixels, spacing_um=0.5)
    x, y = np.meshgrid(np.arange(1, 11) * PATCH, np.arange(1, 7) * PATCH)
    coords = np.stack([x.ravel(), y.ravel()], axis=1).astype(np.int64)
    write_features(folder / "S1.h5", np.random.default_rng(0).normal(size=(len(coords), DIM)), coords)
    black = int(np.flatnonzero((coords == (500, 300)).all(axis=1))[0])
    return Sample(folder / "S1.tif", read_features(folder / "S1.h5"), black)


@pytest.fixture(scope="session")
def make_model() -> Callable[..., Classifier]:
    def make(name: str = "dtc-abmil", *, seed: int = 0, **options: object) -> Classifier:
        torch.manual_seed(seed)
        model = create_model(name, in_dim=DIM, n_classes=2, **options)
        model.describe_classes(CLASSES, (0.5, 0.5))
        return model.eval()

    return make


@pytest.fixture(scope="session")
def explained(
    sample: Sample, make_model: Callable[..., Classifier], tmp_path_factory: pytest.TempPathFactory
) -> ExplainedSlide:
    models = [make_model(seed=seed) for seed in range(2)]
    out = tmp_path_factory.mktemp("explained")
    return explain_slide(models, sample.features, open_slide(sample.slide), out, true_label="whorled")


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """Two real runs over the same 16 slides of 8 patients, one of which is S1."""
    folder = tmp_path_factory.mktemp("cohort")
    rng = np.random.default_rng(1)
    lines = ["slide_id,label,patient_id"]
    for number in range(16):
        label = number % 2
        coords = np.stack([np.arange(24) % 6, np.arange(24) // 6], axis=1).astype(np.int64) * PATCH
        rows = rng.normal(size=(24, DIM))
        rows[:6, 0] += 3 * label
        write_features(folder / "features" / f"S{number}.h5", rows, coords)
        lines.append(f"S{number},{CLASSES[label]},P{number // 4}{label}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    cohort = read_cohort(folder / "labels.csv", folder / "features")
    made = []
    for name in ("abmil", "dtc-abmil"):
        cross_validate(cohort, model=name, out=folder / "runs" / name, folds=2, epochs=2)
        made.append(folder / "runs" / name)
    return tuple(made)
