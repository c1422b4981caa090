"""Whether a map can be trusted, as numbers."""
