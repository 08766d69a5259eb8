"""The keys of a student, whatever of it learns."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field

from tasks.train.method import Method

NOBODY = (
    "train.teacher names nobody, and distillation learns from registered models: name one, as NAME or NAME@ALIAS "
    "(`headstart models` lists them)"
)
"""What is wrong where it is left out."""


def _several(named: Any) -> Any:
    """One teacher may be written without brackets."""
    return [named] if isinstance(named, str) else named


class Distillation(Method):
    """Learns from labels and from what teachers answer: a share ``weight`` of the loss is the teachers', T² times the
    divergence of answers at temperature T (Hinton et al. 2015), the rest that of the labels."""

    teacher: Annotated[list[str], BeforeValidator(_several)] = Field(default=[])
    """Registered models to learn from: `NAME`, which is its champion, `NAME@ALIAS` or `NAME@NUMBER`, or the folder of a
    packaged one. Of several the mean answer counts. Each has to know all classes of the data."""
    temperature: float = Field(default=2.0, gt=0)
    """T, which logits of teachers and student are divided by: the higher it is, the more the classes count that are not
    the likeliest."""
    weight: float = Field(default=0.8, gt=0, le=1)
    """Share of the loss that is the teachers'; with 1, no label is read."""
    pool: bool = True
    """Whether images of the pool, which have no labels, are learned from as well, by the teachers' answers alone."""

    numbers: ClassVar[bool] = False

    @property
    def reads_pool(self) -> bool:
        return self.pool

    @classmethod
    def space(cls, draw: Any) -> dict[str, Any]:
        return {
            "temperature": draw.suggest_float("temperature", 1.0, 8.0, log=True),
            "weight": draw.suggest_float("weight", 0.3, 1.0),
        }
