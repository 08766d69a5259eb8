"""What models are scored by, with intervals."""
