"""Train: from features (or pixels) and labels to a candidate model."""
