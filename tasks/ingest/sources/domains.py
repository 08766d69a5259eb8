"""Several sources as domains of one dataset."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from pydantic import Field, SerializeAsAny

from tasks.fingerprint import fingerprint
from tasks.ingest.sources.base import LARGEST, Item, Source
from tasks.workspace import Workspace


class DomainsSource(Source):
    """Several sources joined as domains of one dataset, for example the same classes from two cameras."""

    domains: dict[str, SerializeAsAny[Source]] = Field(min_length=1)
    """Name of each domain, and its source."""

    def __str__(self) -> str:
        return f"domains:{'+'.join(self.domains)}"

    def is_multi_label(self) -> bool:
        """Whether any of them is."""
        return any(source.is_multi_label() for source in self.domains.values())

    def check(self, workspace: Workspace) -> None:
        """All of them are there."""
        for source in self.domains.values():
            source.check(workspace)

    def items(self, workspace: Workspace, limit: int = LARGEST) -> Iterator[Item]:
        """The items of one domain after the other, below a folder of its name."""
        for name, source in self.domains.items():
            for item in source.items(workspace, limit):
                yield replace(item, path=f"{name}/{item.path}", domain=name)

    def total(self, workspace: Workspace) -> int:
        """Of all, where all of them know."""
        totals = [source.total(workspace) for source in self.domains.values()]
        return sum(totals) if all(totals) else 0

    def state(self, workspace: Workspace) -> str:
        """Of all."""
        return fingerprint([(name, source.state(workspace)) for name, source in self.domains.items()])
