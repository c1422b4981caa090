"""Whether a map can be trusted, as numbers: what the decision rests on, the lesion, other trainings, other weights."""

from dtcwsi.explain.faithfulness.lesion import TRUTH_DOWNSAMPLE, TruthMask, lesion_auroc, read_mask
from dtcwsi.explain.faithfulness.measure import Draws, SlideScores, measure_slide

__all__ = ["TRUTH_DOWNSAMPLE", "Draws", "SlideScores", "TruthMask", "lesion_auroc", "measure_slide", "read_mask"]
