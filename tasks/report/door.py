"""The door of the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks.choice import Choice
from tasks.fingerprint import code_version, fingerprint
from tasks.model.latency import held_out, measure_latency
from tasks.records import (
    PAGE,
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
from tasks.register.gate import VERDICT
from tasks.register.registry import fetch_bundle
from tasks.register.store import connect
from tasks.report.facts import Facts
from tasks.report.page import page
from tasks.workspace import Workspace, fresh_folder


def write_report(
    config: dict[str, Any], dataset: Dataset, preprocessed: Preprocessed, features: FeatureSet, candidate: Candidate,
    evaluation: Evaluation, comparison: Comparison | None, inspection: Inspection | None, model: RegisteredModel,
    workspace: Workspace, choice: Choice | None = None,
) -> Report:  # fmt: skip
    """Write the page of a run.

    Args:
        config: the whole configuration.
        comparison, inspection, choice: where there are any.

    Raises:
        RegistryError: the version's files are gone.
    """
    made_from = [dataset, preprocessed, features, candidate, evaluation, comparison, inspection, model, choice]
    code = code_version(Path(__file__).parent)
    name = fingerprint(code, config, [record.fingerprint if record else None for record in made_from])
    final = workspace.cache / "reports" / name
    client = connect(workspace)
    with fresh_folder(final) as folder:
        version = client.get_model_version(model.name, str(model.version))
        facts = Facts(
            config, dataset, preprocessed, features, candidate, evaluation, comparison, inspection, model,
            verdict=version.tags.get(VERDICT, model.verdict), commit=workspace.commit,
            latency=measure_latency(fetch_bundle(client, version, workspace), held_out(dataset)), choice=choice,
        )  # fmt: skip
        (folder / PAGE).write_text(page(facts), encoding="utf-8")
    return Report(fingerprint=name, page=final / PAGE)
