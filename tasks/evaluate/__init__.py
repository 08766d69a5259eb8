"""Evaluate: how good a candidate is, how sure that is, and where it fails."""
