"""What models saw in a slide, as pictures, tables and one HTML report."""

from dtcwsi.explain.report import write_report
from dtcwsi.explain.slide import ExplainedSlide, TruthMask, explain_slide

__all__ = ["ExplainedSlide", "TruthMask", "explain_slide", "write_report"]
