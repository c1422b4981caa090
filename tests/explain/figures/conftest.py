"""Subjects of figures."""

from pathlib import Path

import numpy as np

from dtcwsi.classifier import Classifier
from dtcwsi.explain.figures.canvas import blank_canvas, slide_canvas
from dtcwsi.explain.figures.subject import Heading, Subject
from dtcwsi.explain.slide import view_slide
from dtcwsi.slides import open_slide
from dtcwsi.types import Features

DIM = 8


def features_of(columns: int, rows: int, side: int) -> Features:
    x, y = np.meshgrid(np.arange(columns) * side, np.arange(rows) * side)
    coords = np.stack([x.ravel(), y.ravel()], axis=1).astype(np.int64)
    values = np.random.default_rng(0).normal(size=(len(coords), DIM)).astype(np.float32)
    return Features("S", values, coords, float(side), "efficientnet-lite0", 0.5)


def subject_of(
    features: Features, model: Classifier, slide: Path | None = None, heading: str = "S: predicted"
) -> Subject:
    reader = None if slide is None else open_slide(slide)
    side = features.patch_size_level0
    if reader is None:
        canvas = blank_canvas(features.coords, side, max_px=680)
    else:
        canvas = slide_canvas(reader, max_px=680, patch_size_level0=side if len(features.coords) else None)
    words = Heading(heading, f"{model.name}, mean of 5", f"{model.name}, the first of 5", "The others prune otherwise.")
    fates = view_slide([model], features).fates
    return Subject(canvas, features, features.coords, side, fates, model, model.class_names, words, reader)
