"""Several sources as domains of one dataset."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from pydantic import Field, SerializeAsAny, model_validator

from tasks.fingerprint import fingerprint
from tasks.ingest.sources.base import LARGEST, Item, Source
from tasks.target import LABEL, Target
from tasks.workspace import Workspace


class DomainsSource(Source):
    """Several sources joined as domains of one dataset, for example the same classes from two cameras."""

    domains: dict[str, SerializeAsAny[Source]] = Field(min_length=1)
    """Name of each domain, and its source."""

    def __str__(self) -> str:
        return f"domains:{'+'.join(self.domains)}"

    @model_validator(mode="after")
    def _tasks_agree(self) -> DomainsSource:
        self.targets()
        return self

    @property
    def tells_numbers(self) -> bool:  # type: ignore[override]
        """Whether any of them does."""
        return any(source.tells_numbers for source in self.domains.values())

    def targets(self) -> tuple[Target, ...]:
        """The tasks of all, of which a domain need not have each; one that names none has the leading one.

        Raises:
            ValueError: they do not agree on which task leads, or on what a task is.
        """
        told = {domain: source.targets() for domain, source in self.domains.items()}
        name = next((targets[0].name for targets in told.values() if targets[0].name != LABEL), LABEL)
        found: dict[str, Target] = {}
        for domain, (leading, *others) in told.items():
            if leading.name not in (name, LABEL):
                raise ValueError(f"domain {domain} leads with the task {leading.name!r}, another one with {name!r}")
            for target in (leading.model_copy(update={"name": name}), *others):
                found[target.name] = _joined(found.get(target.name, target), target, domain)
        return tuple(found.values())

    def check(self, workspace: Workspace) -> None:
        """All of them are there."""
        for source in self.domains.values():
            source.check(workspace)

    def items(self, workspace: Workspace, limit: int = LARGEST) -> Iterator[Item]:
        """The items of one domain after the other, below a folder of its name."""
        for name, source in self.domains.items():
            for item in source.items(workspace, limit):
                yield replace(item, path=f"{name}/{item.path}", domain=name)

    def about_labels(self, workspace: Workspace) -> str:
        """Of the first domain that tells of them."""
        told = (
            f"domain {name}: {told}" for name, each in self.domains.items() if (told := each.about_labels(workspace))
        )
        return next(told, "")

    def total(self, workspace: Workspace) -> int:
        """Of all, where all of them know."""
        totals = [source.total(workspace) for source in self.domains.values()]
        return sum(totals) if all(totals) else 0

    def state(self, workspace: Workspace) -> str:
        """Of all."""
        return fingerprint([(name, source.state(workspace)) for name, source in self.domains.items()])


def _joined(one: Target, other: Target, domain: str) -> Target:
    """A task that two domains have; of a folder, whose images have one label each, it may be one of several labels."""
    if one.column != other.column:
        raise ValueError(f"domain {domain}: the task {other.name!r} leads in one domain and not in another")
    kinds = {one.kind, other.kind}
    if len(kinds) > 1 and (one.column != LABEL or "number" in kinds):
        raise ValueError(f"domain {domain}: the task {other.name!r} is of kind {other.kind}, and {one.kind} in another")
    if one.unit != other.unit:
        raise ValueError(f"domain {domain}: {other.name!r} is in {other.unit or 'no unit'}, elsewhere in {one.unit}")
    return one.model_copy(update={"kind": "labels" if "labels" in kinds else one.kind})
