"""What answers are good for: thresholds, costs, abstention."""
