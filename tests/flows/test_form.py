"""Prefect's form of a deployment: the server holds what a pipeline is deployed with against the form's schema."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools.validation import validate

from flows.config import PipelineConfig, read_config
from flows.schedules.deployments import _form

CONFIGS = sorted(path for path in (Path(__file__).parents[2] / "configs").glob("*.yaml") if path.stem != "pretrain")
SOURCES: list[dict[str, Any]] = [
    {"folder": "photos"},
    {"folder": "photos", "layout": "domain/label"},
    {"archive": "photos.zip"},
    {"table": "labels.csv", "image": "file", "label": "species"},
    {"table": "labels.csv", "label": ["cat", "dog"], "roots": ["here", "there"]},
    {"table": "labels.csv", "label": {"species": "a", "age": {"column": "b", "kind": "number", "unit": "years"}}},
    {"huggingface": "owner/photos"},
    {"webdataset": "photos-{000..003}.tar"},
    {"torchvision": "CIFAR10"},
    {"version": "photos@3"},
    {"domains": {"old": {"folder": "x"}, "new": {"table": "labels.csv"}}},
]


SCHEMA = parameter_schema(_form).model_dump_for_openapi()


def refused(config: PipelineConfig, **changed: Any) -> list[str]:
    """What the form does not take of a configuration, as it is deployed."""
    values = config.model_dump(mode="json", by_alias=True) | changed
    return [error.message for error in validate({"config": values}, SCHEMA)]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_ready_configuration_is_taken(path: Path) -> None:
    assert refused(read_config(path, (), PipelineConfig)) == []


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: " ".join(source))
def test_every_source_is_taken(source: dict[str, Any]) -> None:
    assert refused(PipelineConfig.model_validate({"name": "photos", "ingest": {"source": source}})) == []


def test_what_no_run_could_use_is_refused() -> None:
    assert refused(PipelineConfig(name="photos"), preprocess={"size": "large"})
    assert refused(PipelineConfig(name="photos"), ingest={"source": {"folder": ["a", "b"]}})
