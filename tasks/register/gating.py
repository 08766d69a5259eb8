"""What every gate is: a section of the configuration that measures a candidate and says whether that is good enough.

A configuration is read without MLflow and torch, so a gate imports what measures only where it measures.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tasks.records import Candidate, Comparison, Dataset, Evaluation, Inspection
from tasks.register.tags import CANDIDATE
from tasks.ruling import Outcome
from tasks.section import Section

if TYPE_CHECKING:
    from tasks.model.latency import Latency
    from tasks.register.client import Version
    from tasks.register.moves import Move

FAILURES: dict[str, Outcome] = {"approve": "needs approval", "reject": "reject", "warn": "pass"}
"""What a failure leads to."""

NOBODY = 0
"""What a finding was measured against that asks for a champion, where none was at hand."""

UNREPEATED = "approve or reject it, since a run with the same settings measures nothing anew"
"""What helps where a finding has been overtaken."""


@dataclass(frozen=True)
class Finding:
    """What a gate found.

    Attributes:
        passed: None: it cannot be told, so a person decides.
        reason: in one line.
        threshold, measured: in words.
        against: number of the champion that this was measured against; `NOBODY`: there was none at hand, though it
            asks for one; None: it does not ask.
    """

    passed: bool | None
    reason: str
    threshold: str = ""
    measured: str = ""
    against: int | None = None


@dataclass(frozen=True)
class Evidence:
    """What is known of a candidate when it is packaged and no version yet.

    Attributes:
        files: folder of what MLflow keeps of it, as a server would load it.
    """

    dataset: Dataset
    candidate: Candidate
    evaluation: Evaluation
    comparison: Comparison | None
    inspection: Inspection | None
    files: Path

    @property
    def bundle(self) -> Path:
        """Folder of the packaged classifier."""
        from tasks.model.bundle import bundle_in

        return bundle_in(self.files)

    @cached_property
    def latency(self) -> Latency:
        """How long the packaged model takes over an image, on this machine."""
        from tasks.model.latency import held_out, measure_latency

        return measure_latency(self.bundle, held_out(self.dataset))


@dataclass(frozen=True)
class Standing:
    """How a model stands when one of its versions is judged.

    Attributes:
        versions: all of the model, by number.
        moves: of the alias ``champion``, the last one where it is now.
    """

    version: Version
    versions: Mapping[int, Version]
    moves: Sequence[Move]

    @property
    def champion(self) -> int | None:
        """Number of the version that is champion now."""
        return self.moves[-1].version if self.moves else None

    @property
    def is_champion_anew(self) -> bool:
        """Whether the champion is the same candidate, which is registered anew once its files are gone."""
        champion = self.versions.get(self.champion or NOBODY)
        return champion is not None and champion.tags.get(CANDIDATE) == self.version.tags[CANDIDATE]


class Gate(Section, ABC):
    """Base of all gates. A subclass adds its own keys, and ``gate``: its name, as the only value allowed."""

    gate: str
    """Its name."""
    on_failure: Literal["approve", "reject", "warn"] = "approve"
    """What becomes of a version that fails: `approve`: a person decides; `reject`: it is not offered to anyone; `warn`:
    it is said, and stops nothing. Where a gate cannot tell, a person decides, unless it only warns."""

    @abstractmethod
    def measure(self, evidence: Evidence) -> Finding | None:
        """Measure a candidate; None: that is done in `confirm`."""

    def confirm(self, finding: Finding | None, standing: Standing) -> Finding:
        """What to make of a finding when the version is judged, which may be later and by another process: nothing is
        at hand but the registry. What was measured against a champion of the past says nothing of today's."""
        return still_said(finding, standing)


def unopposed(asked: str) -> Finding:
    """What a gate finds that asks for a champion, where none is at hand: that stands until there is one."""
    return Finding(True, "there is no champion to be held against", asked, against=NOBODY)


def still_said(finding: Finding | None, standing: Standing) -> Finding:
    """A finding as it stands now; what cannot be said any more is for a person to decide."""
    if finding is None:
        return Finding(None, "it was not measured")
    if finding.against is None or finding.against == (standing.champion or NOBODY):
        return finding
    if finding.against == NOBODY and standing.is_champion_anew:
        return finding
    was = (
        "measured with no champion at hand" if finding.against == NOBODY else f"held against version {finding.against}"
    )
    now = "there is no champion now" if standing.champion is None else f"champion is version {standing.champion} now"
    return Finding(None, f"{was}, and {now}: {UNREPEATED}", finding.threshold)


def outcome_of(finding: Finding, on_failure: str) -> Outcome:
    """What a finding leads to."""
    if finding.passed:
        return "pass"
    return "needs approval" if finding.passed is None and on_failure != "warn" else FAILURES[on_failure]


def no_gate(name: str, known: Collection[str]) -> str:
    """What is wrong where a gate is named that does not exist, and which one may be meant."""
    near = get_close_matches(name, list(known), n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
    return f"there is no gate {name!r}; {hint}"
