"""Features and labels to packed bags: cohorts, splits, batches."""
