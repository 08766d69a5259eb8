"""Lineage in the terms of OpenLineage (https://openlineage.io), which catalogues and auditors' programs read.

A run is a run event of a job, the pipeline; the dataset version and the backbone are its inputs, the model is its
output. What the specification has no facet for is in facets of our own, named ``headstart_*``, as it asks of custom
ones.
"""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

SCHEMA = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs"
VERSION_FACET = (
    "https://openlineage.io/spec/facets/1-0-1/DatasetVersionDatasetFacet.json#/$defs/DatasetVersionDatasetFacet"
)
JOB_FACET = "https://openlineage.io/spec/facets/2-0-3/JobTypeJobFacet.json#/$defs/JobTypeJobFacet"

STATES = {"FINISHED": "COMPLETE", "FAILED": "FAIL", "KILLED": "ABORT"}
"""What MLflow calls the ends of runs, and what OpenLineage does."""

Facts = dict[str, Any]


def event(facts: Facts) -> Facts:
    """A run event (schema 2-0-2) of what `flows.lineage.tree.facts_of` gathers."""
    run, model = facts["run"], facts["model"]
    name = model.get("name") or run.get("name") or "run"
    about = {name: facts[name] for name in ("code", "environment", "candidate")}
    kind = _facet(JOB_FACET, processingType="BATCH", integration="HEADSTART", jobType="TRAINING")
    return {
        "eventType": STATES.get(run.get("status", ""), "OTHER"),
        "eventTime": run.get("ended") or model.get("registered") or datetime.now(UTC).isoformat(),
        "producer": _producer(),
        "schemaURL": f"{SCHEMA}/RunEvent",
        "run": {
            "runId": _run_id(run, model),
            "facets": {f"headstart_{key}": _own(told, "RunFacet") for key, told in about.items()},
        },
        "job": {"namespace": "headstart", "name": name, "facets": {"jobType": kind}},
        "inputs": [*_dataset(facts["dataset"]), *_backbone(facts["features"])],
        "outputs": [_model(facts)] if model else [],
    }


def _run_id(run: Facts, model: Facts) -> str:
    """MLflow's, which is a UUID without its hyphens; of a run that is gone one of the version's name."""
    if "id" in run:
        return str(UUID(run["id"]))
    return str(uuid5(NAMESPACE_URL, f"models:/{model.get('name')}/{model.get('version')}"))


def _dataset(dataset: Facts) -> list[Facts]:
    if "version" not in dataset:
        return []
    facets = {
        "version": _facet(VERSION_FACET, datasetVersion=dataset["version"]),
        "headstart_dataset": _own(dataset, "DatasetFacet"),
    }
    return [{"namespace": "dvc", "name": dataset.get("source", "data"), "facets": facets}]


def _backbone(features: Facts) -> list[Facts]:
    if "backbone" not in features:
        return []
    facets = {"headstart_features": _own(features, "DatasetFacet")}
    if "digest" in features:
        facets["version"] = _facet(VERSION_FACET, datasetVersion=features["digest"])
    return [{"namespace": "weights", "name": features["backbone"], "facets": facets}]


def _model(facts: Facts) -> Facts:
    model = facts["model"]
    decided = {"gates": facts["gates"], "moves": facts["moves"], "evaluation": facts["evaluation"]}
    return {
        "namespace": "mlflow", "name": f"models:/{model['name']}",
        "facets": {
            "version": _facet(VERSION_FACET, datasetVersion=str(model["version"])),
            "headstart_model": _own(model | decided, "DatasetFacet"),
        },
    }  # fmt: skip


def _own(facts: Facts, kind: str) -> Facts:
    """A facet of our own, of a kind whose schema allows any keys."""
    return _facet(f"{SCHEMA}/{kind}", **facts)


def _facet(schema: str, **facts: Any) -> Facts:
    return {"_producer": _producer(), "_schemaURL": schema} | facts


def _producer() -> str:
    try:
        return f"urn:headstart:{installed('headstart')}"
    except PackageNotFoundError:  # a checkout that was not installed
        return "urn:headstart:checkout"
