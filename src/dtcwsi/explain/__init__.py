"""What models saw in a slide, as pictures, tables and one HTML report."""

from dtcwsi.explain.report import write_report
from dtcwsi.explain.runs import held_out_fold
from dtcwsi.explain.slide import ExplainedSlide, TruthMask, explain_slide

__all__ = ["ExplainedSlide", "TruthMask", "explain_slide", "held_out_fold", "write_report"]
