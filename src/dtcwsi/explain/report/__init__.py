"""One self-contained HTML page about runs and slides."""

from dtcwsi.explain.report.page import write_report
from dtcwsi.explain.report.stages import STEPS

__all__ = ["STEPS", "write_report"]
