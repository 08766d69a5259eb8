"""Fusion: one head for the features of several backbones or layers."""
