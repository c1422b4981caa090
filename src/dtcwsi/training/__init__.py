"""Cohorts to trained models: data, optimisation, cross-validation, metrics."""
