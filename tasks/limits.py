"""What is too much for one image, wherever one is decoded: in ingestion, training, prediction and serving."""

from __future__ import annotations

from dataclasses import dataclass

MOST_PIXELS = 178_956_970
"""What can be allowed at most: Pillow takes an image of more for a decompression bomb."""


@dataclass(frozen=True)
class Limits:
    """What one image may have at most; ``ingest.limits`` of a configuration sets it, and a model carries what it was
    trained under.

    Attributes:
        pixels: told by the header, before a pixel is decoded.
        bytes: of its file.
    """

    pixels: int = 100_000_000
    bytes: int = 256 * 2**20


ALLOWED = Limits()
"""What is allowed where nobody says otherwise."""
