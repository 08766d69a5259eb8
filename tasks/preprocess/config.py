"""The ``preprocess`` section of a configuration."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.preprocess.kinds import Interpolation, Views
from tasks.section import Section


class PreprocessConfig(Section):
    """How images of any size become the square that the backbone sees."""

    size: int = Field(default=32, ge=8, le=2048)
    """Side of the square in pixels; by default what the backbone was trained with (32 built in, 224 most others)."""
    fit: Literal["crop", "squash", "pad"] = "crop"
    """Crop to the centre, ignore the aspect ratio, or pad with black; by default, for a network of timm, as it was
    trained."""
    crop: float = Field(default=1.0, gt=0.1, le=1.2)
    """Share of the scaled image's side that the square takes, in its middle; by default all of it and, for a network of
    timm, what it was evaluated with (mostly 0.875 to 1). Above 1, the image stands in a black margin."""
    interpolation: Interpolation = "bilinear"
    """How images are scaled, `bilinear` or `bicubic`; by default, for a network of timm, as it was trained."""
    views: Views = "one"
    """`mirrored` averages the features of each image and its mirror image, `ten` those of ten crops, in training and
    serving: steadier, for two and ten times the work."""
    augmented: int = Field(default=0, ge=0, le=32)
    """Augmented views of each training image whose features are kept beside the plain one's, as further examples to
    learn from: random parts, mirrored, slightly recoloured, the same ones every time."""
