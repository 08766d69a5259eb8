"""The report stage as the flow sees it: what it does is imported when it is done, not found in the cache."""

from __future__ import annotations

from typing import Any

from tasks.choice import Choice
from tasks.door import stage
from tasks.records import (
    Candidate,
    Comparison,
    Dataset,
    Evaluation,
    FeatureSet,
    Inspection,
    Preprocessed,
    RegisteredModel,
    Report,
)
from tasks.workspace import Workspace


@stage()
def report(
    config: dict[str, Any], dataset: Dataset, preprocessed: Preprocessed, features: FeatureSet, candidate: Candidate,
    evaluation: Evaluation, comparison: Comparison | None, inspection: Inspection | None, model: RegisteredModel,
    choice: Choice | None = None,
) -> Report:  # fmt: skip
    """Write all that the run has found on one page."""
    from tasks.report.door import write_report

    return write_report(
        config, dataset, preprocessed, features, candidate, evaluation, comparison, inspection, model, Workspace.find(),
        choice,
    )  # fmt: skip
