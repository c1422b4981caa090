"""The paper's tables, made again on any cohort."""
