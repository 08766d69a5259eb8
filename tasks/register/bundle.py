"""The files of a packaged classifier, under the names that both who packs and who looks for them know."""

from __future__ import annotations

DESCRIPTION, BACKBONE, HEAD = "classifier.json", "backbone.safetensors", "head.safetensors"
