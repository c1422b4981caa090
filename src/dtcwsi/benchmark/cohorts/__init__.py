"""Cohorts by name: drawn, composed of real tiles, or of the small real sets that MIL papers test on."""
