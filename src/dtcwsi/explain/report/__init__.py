"""One self-contained HTML page about runs and slides."""

from dtcwsi.explain.report.page import write_report

__all__ = ["write_report"]
