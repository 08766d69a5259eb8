"""The ``evaluate`` section of a configuration."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from tasks.section import Section
from tasks.train.radius import Radius

Slice = Literal["domain", "group", "size", "shape", "bytes", "brightness"]
OTHERS = "*"
"""In a row of costs, the classes that are not named."""

Cost = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class AbstainConfig(Section):
    """From which confidence on answers are given, chosen on the validation split; of the others a person decides."""

    accuracy: float = Field(default=0.95, gt=0, lt=1)
    """Share of the answers given that are right, at least, in 95 of 100 cases."""


class OperatingPointConfig(Section):
    """The threshold of a task with two classes, chosen on the validation split."""

    positive: str | None = None
    """The class that is looked for; by default the second one."""
    recall: float | None = Field(default=None, gt=0, le=1)
    """Share of the positive class to be found, with as few false alarms as that allows."""
    precision: float | None = Field(default=None, gt=0, le=1)
    """Share of the alarms to be right, with as many of the positive class found as that allows."""

    @model_validator(mode="after")
    def _one_aim(self) -> OperatingPointConfig:
        if (self.recall is None) == (self.precision is None):
            raise ValueError("name one of recall and precision, such as {recall: 0.95}")
        return self


class AttackConfig(Section):
    """Held-out images are moved within each radius so that the model errs, by projected gradient ascent on the network
    and head that are served (PGD, Madry et al. 2018); an image counts by the worst answer found."""

    radii: Annotated[tuple[Radius, ...], Field(min_length=1), AfterValidator(lambda radii: tuple(sorted({*radii})))] = (
        Field(default=("2/255", "4/255"), validate_default=True)
    )
    """How far every channel of every pixel may be moved (L∞), as a share of its range, 0 to 1, such as `8/255`."""
    steps: int = Field(default=20, ge=1)
    """Steps of each attack."""
    step: Radius | None = None
    """Length of a step, as a share as well; by default 2.5 · radius / steps."""
    restarts: int = Field(default=1, ge=1)
    """Random starts that are tried for each image and radius."""
    images: int = Field(default=200, ge=1)
    """Held-out images that are attacked, each label's share as in all. Each costs a forward pass, a backward pass and
    another forward pass for each step, radius and restart, until it falls."""


class EvaluateConfig(Section):
    """How the figures of merit are computed."""

    resamples: int = Field(default=1000, ge=100)
    """Bootstrap resamples behind the 95% intervals."""
    seed: int = 0
    """Of the bootstrap, and of whatever else is drawn."""
    abstain: AbstainConfig = AbstainConfig()
    costs: dict[str, dict[str, Cost]] | None = None
    """What wrong answers cost: for a true class, the cost of each class that is given, such as `{sick: {well: 50}}`;
    `'*'` is any other class. What is not named costs 1, a right answer 0."""
    operating_point: OperatingPointConfig | None = None
    """For two classes, what a threshold has to reach on validation, `{recall: 0.95}` or `{precision: 0.9}`, at the
    least expense of the other. `positive: NAME` says which class is looked for; by default the second."""
    slices: tuple[Slice, ...] = ("domain", "size", "brightness")
    """By what images are parted to find where the model is worse than elsewhere: `domain`, `group` (where there are
    few), `size` (pixels), `shape` (width by height), `bytes`, `brightness`; clusters of the features are tried, too."""
    robustness: int | None = Field(default=None, ge=0)
    """Held-out images that are corrupted in 30 ways and passed through the network again; 0: none. By default 64 or,
    where the network is slow, as many as pass through in some five seconds."""
    attack: AttackConfig | None = None
    """Accuracy under attack, on request: `{radii: [2/255, 4/255]}`; `{}` takes these."""
    explain: int = Field(default=12, ge=0, le=60)
    """Answers that are shown with a heat map of what they rest on, as many wrong as right; 0: none."""
    faithfulness: int | None = Field(default=None, ge=0)
    """Answers whose heat maps are held against random ones; 0: none. By default 20 or, where the network is slow, as
    many as pass through in some five seconds."""

    @property
    def inspects(self) -> bool:
        """Whether the network is looked through at all."""
        return self.robustness != 0 or self.explain > 0 or self.attack is not None
