"""Trained runs applied to new slides."""

from dtcwsi.inference.predict import Run, SlidePrediction, doubts, judged, load_run, predict_file, predict_slide

__all__ = ["Run", "SlidePrediction", "doubts", "judged", "load_run", "predict_file", "predict_slide"]
