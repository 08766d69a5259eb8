"""What every method is: a section of the configuration that knows how to fit a model to a task.

A configuration is read without torch, so a method imports what fits only where it fits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from tasks.section import Section

if TYPE_CHECKING:
    from tasks.train.solvers import Fit
    from tasks.train.task import Task


NOT_TRIED = {"search", "seeds"}
"""Keys that a trial of a search does without."""


class SearchConfig(Section):
    """A search for a better configuration than the one given, on validation. The first trial is the one given."""

    trials: int = Field(default=20, ge=1)
    """Configurations that are tried at most."""
    minutes: float = Field(default=10.0, gt=0)
    """When the search ends; a trial at work then is stopped at its next epoch."""
    methods: list[str] = Field(default=[])
    """Methods that are tried, each with what can vary of it; by default the configured one alone."""
    soup: bool = False
    """Whether the weights of trials through the backbone are averaged, each further one where the average is no worse
    on validation (greedy soup, Wortsman et al. 2022)."""
    seed: int = Field(default=0, ge=0)
    """Of what is tried."""


class Method(Section, ABC):
    """Base of all methods. A subclass adds its own keys, and ``method``: its name, as the only value allowed."""

    method: str
    """Its name."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Of initial weights, the order of images, augmentation: whatever is random."""
    seeds: list[Annotated[int, Field(ge=0, lt=2**32)]] = Field(default=[])
    """Where several are named, training is repeated with each: the best on validation is kept (of adapted models, the
    one whose answers tell most of the target's images), the mean and its interval are reported."""
    calibrate: bool = True
    """Whether the logits are divided by the temperature that fits the validation images best, so that probabilities
    mean what they say. Not done where cross-validation leaves no such images."""
    search: SearchConfig | None = None
    """A search for better values of this section's keys; see below."""

    multi_label: ClassVar[bool] = True
    """Whether images may have several labels each."""
    numbers: ClassVar[bool] = False
    """Whether it can tell a number."""
    unlabelled: ClassVar[bool] = False
    """Whether it learns from images without labels, too: those of the pool."""

    cross_validates: ClassVar[bool] = False
    """Whether it learns from all images of a small set, and chooses by cross-validation (`Task.is_cross_validated`)."""
    joins: ClassVar[bool] = False
    """Whether it is made for several backbones or layers, and has nothing to do with one."""

    @property
    def tried(self) -> tuple[str, list[str]]:
        """The key of this section that names methods to try, and these."""
        return "search.methods", self.search.methods if self.search else []

    @property
    def reads_pool(self) -> bool:
        """Whether it asks for the pool's features."""
        return self.unlabelled

    def shared_with(self, kind: type[Method]) -> dict[str, Any]:
        """What is configured of the keys that mean the same in a method of this kind: those that both have from one
        class, as they are there, and the tasks that are learned at once."""
        bases = [base for base in type(self).__mro__ if issubclass(base, Method)]
        common = next(base for base in bases if issubclass(kind, base))
        same = {key for key, field in common.model_fields.items() if repr(kind.model_fields[key]) == repr(field)}
        same |= {"tasks"} & kind.model_fields.keys() & type(self).model_fields.keys()
        return self.model_dump(include=same - NOT_TRIED, exclude_unset=True)

    @abstractmethod
    def fit(self, task: Task) -> Fit:
        """Learn from the training images; choose on the validation images."""

    @classmethod
    def space(cls, draw: Any) -> dict[str, Any]:
        """Values of keys to try, asked of an Optuna trial ``draw``, such as ``draw.suggest_float("l2", ...)``."""
        return {}


def no_method(name: str, known: Collection[str]) -> str:
    """What is wrong where a method is named that does not exist, and which one may be meant."""
    near = get_close_matches(name, list(known), n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
    return f"there is no method {name!r}; {hint}"
