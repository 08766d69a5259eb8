"""No further task worse than the champion's."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.register.gating import Evidence, Finding, Gate


class Tasks(Gate):
    """No task beside the leading one is worse than the champion's on the same validation images, or not told any more.
    p-values are raised for so many tasks (Holm 1979). It stands in any case where there are further tasks."""

    gate: Literal["tasks"] = "tasks"
    level: float = Field(default=0.05, gt=0, lt=1)
    """p-value below which a task counts as worse."""

    def measure(self, evidence: Evidence) -> Finding:
        from tasks.register.parts import worse_tasks

        return worse_tasks(evidence.comparison, evidence.dataset, self.level)


def with_further(gates: list[Gate], evidence: Evidence) -> list[Gate]:
    """The gates that are named and, where either model has further tasks, that of these."""
    gone = evidence.comparison.gone_tasks if evidence.comparison else ()
    if not (evidence.dataset.further or gone) or any(isinstance(gate, Tasks) for gate in gates):
        return gates
    return [*gates, Tasks()]
