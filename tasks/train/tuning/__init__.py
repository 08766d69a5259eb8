"""Training through the backbone: what all methods that move its weights share."""
