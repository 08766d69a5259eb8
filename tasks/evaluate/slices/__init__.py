"""Parts of a split on which a model is worse."""
