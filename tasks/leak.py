"""A headline that is inflated, since images that were held out are nearly those that were learned from."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from tasks.wording import quantity


class Leak(BaseModel):
    """What images of a split that have a near neighbour among those that were learned from do to its headline.

    Attributes:
        images, near: of the split, and of these such that have a near neighbour.
        near_figure: accuracy, or average precision, of those; NaN, as below, where there are none.
        far: of the others, with the bounds of its 95% interval.
        inflation: the headline less the figure of the others, class by class, with its bounds: an upper estimate.
        error: whether the figures are mean absolute errors, of which less is better: inflation is then the share by
            which that of all images is below that of the others.
        remedy: what to write into the configuration so that such images stand in one split; None where nobody knows.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    images: int
    near: int
    near_figure: float
    far: tuple[float, float, float]
    inflation: tuple[float, float, float]
    remedy: str | None = None
    error: bool = False

    @property
    def share(self) -> float:
        return self.near / self.images

    @property
    def is_material(self) -> bool:
        """Whether the headline is not to be believed: inflated by more than a point, and more than chance explains; or
        more than half of the images have a near neighbour, so that the others say little."""
        value, low, _ = self.inflation
        return self.share > 0.5 or (value > 0.01 and low > 0)

    @property
    def told(self) -> str:
        """All of it in words, and what would end it."""
        end = f"`-s '{self.remedy}'` keeps them in one split" if self.remedy else "give them a group in the source"
        return f"{self}; {end}"

    def __str__(self) -> str:
        value, low, high = self.inflation
        line = f"{self.near:,} of {self.images:,} images have a near neighbour among those learned from"
        if self.near == self.images:
            return f"{line}: nothing is known of new images"
        if self.error:
            told = f"MAE {quantity(self.far[0])} without them: too small by up to {value:.1%}"
            return f"{line}; {told} [{low:+.1%}, {high:+.1%}]"
        return f"{line}; {self.far[0]:.4f} without them: inflated by up to {value:.4f} [{low:+.4f}, {high:+.4f}]"
