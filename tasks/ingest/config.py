"""The ``ingest`` section of a configuration."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Section(BaseModel):
    """Base of every configuration section: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class SourceConfig(Section):
    """Where the labelled images are. Exactly one of these."""

    embedded: Literal["digits"] | None = None
    """A dataset that comes with a library: scikit-learn's 1,797 handwritten digits."""
    folder: str | None = None
    """Folder with one sub-folder per class, or with train/, val/ and test/ above those."""
    archive: str | None = None
    """Such a folder in a .tar.gz, .tar or .zip file."""
    torchvision: str | None = None
    """Name of a torchvision dataset, for example CIFAR10; downloaded once."""

    @model_validator(mode="before")
    @classmethod
    def _one_of(cls, value: Any) -> Any:
        if isinstance(value, dict):
            known = set(cls.model_fields)
            given = [key for key, entry in value.items() if key in known and entry is not None]
            if len(given) != 1 and set(value) <= known:
                raise ValueError(f"name exactly one of {', '.join(sorted(known))}; given: {given or 'none'}")
        return value

    def __str__(self) -> str:
        return next(f"{kind}:{value}" for kind, value in self if value is not None)


class IngestConfig(Section):
    """Which images to learn from, and how to split them where they come without a split."""

    source: SourceConfig = SourceConfig(embedded="digits")
    """Where the labelled images are."""
    val: float = Field(default=0.15, ge=0.0, lt=0.5)
    """Share of images that choices are made on, where the source does not say."""
    test: float = Field(default=0.2, ge=0.0, lt=0.9)
    """Share of images held out for the final figure, where the source has no split at all."""
