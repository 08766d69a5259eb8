"""The evaluate stage as the flow sees it: what it does is imported when it is done, not found in the cache."""

from __future__ import annotations

from tasks.door import stage
from tasks.evaluate.config import EvaluateConfig
from tasks.records import Candidate, Comparison, Dataset, Evaluation, FeatureSet, Inspection, Preprocessed
from tasks.rival import Rival
from tasks.teachers import Teachers
from tasks.workspace import Workspace


def _knows(*versions: Rival) -> list[bool]:
    """Of each version, whether its data is here, as it is once `headstart data pull` has fetched it: what it has
    learned from is known then, so that more can be told than before."""
    from tasks.ingest.versioning import is_known

    return [is_known(version.data, Workspace.find()) for version in versions]


@stage(state=lambda teachers=None, **_: _knows(*(teachers.versions if teachers else ())))
def evaluate(
    config: EvaluateConfig, dataset: Dataset, features: FeatureSet, candidate: Candidate, frozen: FeatureSet,
    teachers: Teachers | None = None,
) -> Evaluation:  # fmt: skip
    """Measure the candidate on the split that choices were made on and on the held-out one.

    Args:
        frozen: features of the backbone as it was before training, the same as ``features`` if it still is.
        teachers: that it learned from, where it did.
    """
    from tasks.evaluate.door import evaluate_candidate

    return evaluate_candidate(
        config, dataset, features, candidate, Workspace.find(), frozen.look_alikes, frozen, teachers
    )


# Who the champion is, too, besides which candidate it was: the record names it, and a candidate has other numbers under
# other names, or once its model was begun anew.
@stage(state=lambda rival, **_: [*_knows(rival), rival.name, rival.version])
def compare(
    config: EvaluateConfig, dataset: Dataset, features: FeatureSet, candidate: Candidate, rival: Rival,
    theirs: FeatureSet, evaluation: Evaluation, frozen: FeatureSet,
) -> Comparison:  # fmt: skip
    """Hold the candidate against a registered version, on images that neither knows.

    Args:
        theirs: features of the images that are evaluated, by the registered version's backbone.
        frozen: features of the candidate's backbone as it was before training.
    """
    from tasks.evaluate.comparison.compare import compare_with

    return compare_with(config, dataset, features, candidate, rival, theirs, evaluation, frozen, Workspace.find())


@stage()
def inspect(
    config: EvaluateConfig, dataset: Dataset, preprocessed: Preprocessed, features: FeatureSet, candidate: Candidate
) -> Inspection:
    """Look at held-out images through the candidate's network: what answers rest on, and how they bear corruptions."""
    from tasks.evaluate.inspection.inspect import inspect_candidate

    return inspect_candidate(config, dataset, preprocessed, features, candidate, Workspace.find())
