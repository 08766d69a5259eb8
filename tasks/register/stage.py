"""The register stage as the flow sees it: what it does is imported when it is done."""

from __future__ import annotations

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
)
from tasks.register.config import RegisterConfig
from tasks.workspace import Workspace


@stage(cached=False)
def register(
    config: RegisterConfig, name: str, run_id: str, dataset: Dataset, preprocessed: Preprocessed,
    features: FeatureSet, candidate: Candidate, evaluation: Evaluation, comparison: Comparison | None = None,
    inspection: Inspection | None = None,
) -> RegisteredModel:  # fmt: skip
    """Package the candidate as a version of the registered model, and let the gates decide its alias."""
    from tasks.register.door import register_candidate

    return register_candidate(
        config, name, run_id, dataset, preprocessed, features, candidate, evaluation, Workspace.find(), comparison,
        inspection,
    )  # fmt: skip
