"""Many slides through the pipeline: resumable, shared between processes, one bad slide never ends the run."""

from dtcwsi.extraction.run import Extraction, Summary, run_extraction

__all__ = ["Extraction", "Summary", "run_extraction"]
