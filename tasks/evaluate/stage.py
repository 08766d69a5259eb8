"""The evaluate stage as the flow sees it: what it does is imported when it is done, not found in the cache."""

from __future__ import annotations

from tasks.door import stage
from tasks.evaluate.config import EvaluateConfig
from tasks.records import Candidate, Dataset, Evaluation, FeatureSet
from tasks.workspace import Workspace


@stage()
def evaluate(
    config: EvaluateConfig, dataset: Dataset, features: FeatureSet, candidate: Candidate, frozen: FeatureSet
) -> Evaluation:
    """Measure the candidate on the split that choices were made on and on the held-out one.

    Args:
        frozen: features of the backbone as it was before training, the same as ``features`` if it still is.
    """
    from tasks.evaluate.door import evaluate_candidate

    return evaluate_candidate(config, dataset, features, candidate, Workspace.find(), frozen.look_alikes)
