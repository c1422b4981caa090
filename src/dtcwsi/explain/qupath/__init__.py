"""Patches and outlines for QuPath."""
