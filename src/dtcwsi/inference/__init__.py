"""Trained runs applied to new slides."""

from dtcwsi.inference.predict import Run, SlidePrediction, judged, load_run, predict_file, predict_slide

__all__ = ["Run", "SlidePrediction", "judged", "load_run", "predict_file", "predict_slide"]
