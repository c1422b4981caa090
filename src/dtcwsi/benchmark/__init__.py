"""Whole experiments: the demo, and later the tables of the paper."""
