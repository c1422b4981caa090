"""Trained runs applied to new slides."""

from dtcwsi.inference.predict import Run, SlidePrediction, load_run, predict_file, predict_slide

__all__ = ["Run", "SlidePrediction", "load_run", "predict_file", "predict_slide"]
