"""The door of the register stage."""

from __future__ import annotations

import base64
import tempfile
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec
from mlflow.types.schema import AnyType, Array, Object, Property

import tasks
from tasks.errors import WeightsError
from tasks.progress import progress
from tasks.records import Alias, Candidate, Dataset, Evaluation, FeatureSet, Preprocessed, RegisteredModel
from tasks.register import registry
from tasks.register.config import RegisterConfig
from tasks.workspace import Workspace

NEEDED = ("mlflow", "torch", "torchvision", "safetensors", "pillow", "pandas", "numpy")
"""What a served model imports; versions are those it was made with."""


def signature(multi_label: bool) -> ModelSignature:
    """What a served model takes and gives; see `tasks.register.served.ServedClassifier`.

    Every input may be missing for MLflow, so that it is our own line that tells what is wrong.
    """
    top = Array(Object([Property("label", "string"), Property("probability", "double")]))
    outputs: list[ColSpec | TensorSpec] = [
        ColSpec("string", "label", required=False),
        ColSpec("double", "probability", required=False),
        ColSpec(top, "top_k", required=False),
        *[ColSpec(Array("string"), "labels", required=False)] * multi_label,
        ColSpec("string", "error", required=False),
    ]
    from tasks.register import served

    # The bare one has to be first: MLflow takes the name 0 for none elsewhere.
    names: list[Any] = [served.BARE, served.COLUMN]
    return ModelSignature(
        inputs=Schema([ColSpec(AnyType(), name, required=False) for name in names]),
        outputs=Schema(outputs),
        params=ParamSchema([ParamSpec("top_k", "integer", 5)]),
    )


def register_candidate(
    config: RegisterConfig, name: str, run_id: str, dataset: Dataset, preprocessed: Preprocessed,
    features: FeatureSet, candidate: Candidate, evaluation: Evaluation, workspace: Workspace,
) -> RegisteredModel:  # fmt: skip
    """Package the candidate as a version of the registered model, and let the gate decide its alias."""
    client = MlflowClient(workspace.tracking_uri)
    if not client.search_registered_models(f"name='{name}'"):
        client.create_registered_model(name)
    known = registry.find_candidate(client, name, candidate.fingerprint)
    champion = registry.champion_of(client, name)
    if known and champion:
        alias: Alias = registry.CHAMPION if known.version == champion.version else registry.CHALLENGER
        return _record(name, known, alias, f"nothing changed: this is version {known.version}", new=False)
    version = known or _new_version(client, name, run_id, dataset, preprocessed, features, candidate, workspace)
    alias, verdict = assign_alias(client, name, version, candidate.score, config, figure_of(dataset))
    client.set_model_version_tag(name, version.version, "verdict", verdict)
    return _record(name, version, alias, verdict, new=True)


def _new_version(
    client: MlflowClient, name: str, run_id: str, dataset: Dataset, preprocessed: Preprocessed,
    features: FeatureSet, candidate: Candidate, workspace: Workspace,
) -> ModelVersion:  # fmt: skip
    with progress("register", total=1, unit="model") as advance:
        uri = log_model(run_id, dataset, preprocessed, features, candidate, workspace)
        tags = {
            registry.CANDIDATE: candidate.fingerprint, registry.SCORE: repr(candidate.score),
            registry.FIGURE: figure_of(dataset), registry.DATA: dataset.version,
            "backbone": f"{features.backbone}/{features.weights}", "method": candidate.method,
        }  # fmt: skip
        version = client.create_model_version(name, uri, run_id, tags=tags)
        advance(1)
    return version


def figure_of(dataset: Dataset) -> str:
    """What a candidate's score is, in words."""
    return "average precision" if dataset.multi_label else registry.ACCURACY


def assign_alias(
    client: MlflowClient, name: str, version: ModelVersion, score: float, config: RegisterConfig,
    figure: str = registry.ACCURACY,
) -> tuple[Alias, str]:  # fmt: skip
    """Make a new version ``champion`` if the gate lets it through, else ``challenger``."""
    passed, verdict = registry.judge(score, registry.champion_of(client, name), figure)
    if passed and config.promote == "auto":
        registry.promote(client, name, version.version, why=f"gate {verdict}", who="gate")
        return registry.CHAMPION, verdict
    client.set_registered_model_alias(name, registry.CHALLENGER, version.version)
    return registry.CHALLENGER, verdict


def log_model(
    run_id: str, dataset: Dataset, preprocessed: Preprocessed, features: FeatureSet, candidate: Candidate,
    workspace: Workspace,
) -> str:  # fmt: skip
    """Package a candidate and log it under a run; returns the model's URI.

    Raises:
        WeightsError: the backbone's weights are no longer those that the features were computed with.
    """
    # A run that has nothing new to register does without torch.
    from tasks.extract.backbones import load_backbone
    from tasks.extract.weights import read_weights
    from tasks.preprocess.recipe import Recipe
    from tasks.register import served
    from tasks.register.classifier import package
    from tasks.train.heads import Head

    weights = read_weights(features.backbone, features.weights, workspace.resolve(features.weights))
    if weights.digest != features.digest:
        raise WeightsError(f"{features.weights} changed while the pipeline ran; run it again")
    _, outline = load_backbone(features.backbone, weights, features.layers, features.pool)
    manifest = dataset.read_manifest()
    example = dataset.image(manifest.loc[manifest["split"] == dataset.report_on, "hash"].iloc[0]).read_bytes()
    recipe = Recipe(preprocessed.size, preprocessed.fit, preprocessed.views, limits=dataset.limits)
    with tempfile.TemporaryDirectory() as folder:
        package(
            Path(folder), outline=outline, weights=weights, recipe=recipe,
            precision=features.precision, head=candidate.head, classes=dataset.classes,
        )  # fmt: skip
        mlflow.set_tracking_uri(workspace.tracking_uri)
        with mlflow.start_run(run_id=run_id):
            info = mlflow.pyfunc.log_model(
                name="model",
                python_model=served.__file__,
                artifacts={"bundle": folder},
                code_paths=[str(Path(tasks.__file__).parent)],
                signature=signature(Head.load(candidate.head).multi_label),
                input_example=pd.DataFrame({"image": [base64.b64encode(example).decode()]}),
                pip_requirements=[f"{name}=={installed(name)}" for name in NEEDED],
            )
    return info.model_uri


def _record(name: str, version: ModelVersion, alias: Alias, verdict: str, new: bool) -> RegisteredModel:
    number = int(version.version)
    return RegisteredModel(
        fingerprint=f"{name}/{number}", name=name, version=number, alias=alias, verdict=verdict, new=new
    )
