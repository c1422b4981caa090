"""Many slides through the pipeline: resumable, shared between processes, one bad slide never ends the run."""

from dtcwsi.extraction.plan import Plan, plan_extraction
from dtcwsi.extraction.run import Extraction, Summary, run_extraction
from dtcwsi.extraction.shards import Shard

__all__ = ["Extraction", "Plan", "Shard", "Summary", "plan_extraction", "run_extraction"]
