"""Distillation: a student learns from what registered models say of its images."""
