"""The door of the register stage."""

from __future__ import annotations

import base64
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec
from mlflow.types.schema import AnyType, Array, Object, Property

from tasks.extract.facts import TIMM
from tasks.fingerprint import code_version
from tasks.model.bundle import REFERENCE
from tasks.model.told import Cell, Told, columns_of
from tasks.progress import progress
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
from tasks.register.approval import APPROVAL, PENDING
from tasks.register.card import WELCOME, card, held_out
from tasks.register.client import Version
from tasks.register.config import RegisterConfig
from tasks.register.duels import Duel
from tasks.register.gate import PROMOTE, VERDICT, decide
from tasks.register.gates.tasks import with_further
from tasks.register.gating import Evidence, Gate
from tasks.register.merits import Merit
from tasks.register.moves import settle
from tasks.register.registry import (
    CHALLENGER,
    CHAMPION,
    aliases_of,
    fetch,
    find_candidate,
    get_model,
    lies_here,
    rulings_of,
)
from tasks.register.rivals import EARLIER
from tasks.register.rulings import findings_as_tags, is_measured
from tasks.register.store import connect, keeper_of
from tasks.register.tags import (
    ADAPTED,
    BACKBONES,
    CANDIDATE,
    DATA,
    HELD_OUT,
    LEARNED_FROM,
    PARTIAL,
    TEACHERS,
)
from tasks.register.turns import turn
from tasks.relocation import rename_imports
from tasks.workspace import Workspace

NEEDED = ("mlflow", "torch", "torchvision", "safetensors", "pillow", "pandas", "numpy")
"""What a served model imports, those of timm's networks also timm; versions are those it was made with."""


def signature(told: Sequence[Told]) -> ModelSignature:
    """What a served model takes and gives; see `tasks.register.served.ServedClassifier`.

    Every input may be missing for MLflow, so that it is our own line that tells what is wrong.
    """
    top = Array(Object([Property("label", "string"), Property("probability", "double")]))
    cells: dict[Cell, Any] = {"text": "string", "texts": Array("string"), "number": "double", "top": top}
    outputs: list[ColSpec | TensorSpec] = [
        ColSpec(cells[cell], name, required=False) for name, cell in columns_of(told).items()
    ]
    outputs.append(ColSpec("string", "error", required=False))
    from tasks.register import served

    # The bare one has to be first: MLflow takes the name 0 for none elsewhere.
    names: list[Any] = [served.BARE, served.COLUMN]
    return ModelSignature(
        inputs=Schema([ColSpec(AnyType(), name, required=False) for name in names]),
        outputs=Schema(outputs),
        params=ParamSchema([ParamSpec("top_k", "integer", served.TOP_K)]),
    )


def register_candidate(
    config: RegisterConfig, name: str, run_id: str, dataset: Dataset, preprocessed: Preprocessed,
    features: FeatureSet, candidate: Candidate, evaluation: Evaluation, workspace: Workspace,
    comparison: Comparison | None = None, inspection: Inspection | None = None,
) -> RegisteredModel:  # fmt: skip
    """Register a candidate once, whoever else does the same, and finish what an earlier run left half done.

    Args:
        comparison: with the champion, where there is one.
        inspection: through the candidate's network, where there is one.

    Raises:
        WeightsError: the backbone's weights are no longer those that the features were computed with.
        RegistryError: the registry takes no changes.
    """
    client = connect(workspace)
    _begin_model(client, name)
    with turn(client, name) as mine:
        settle(client, name)
        known = find_candidate(client, name, candidate.fingerprint)
        if known is None:
            with progress("register", total=1, unit="model") as advance:
                reference = evaluation.report / REFERENCE
                uri = log_model(run_id, dataset, preprocessed, features, candidate, workspace, reference)
                advance(1)
            tags = _tags(config, dataset, features, candidate, evaluation, comparison)
            with _files_of(client, uri) as files:
                evidence = Evidence(dataset, candidate, evaluation, comparison, inspection, files)
                tags |= findings_as_tags(with_further(config.gates, evidence), evidence)
            mine.check()
            keeper = keeper_of(client, client.get_run(run_id), "evaluation").info.run_id
            about = card(
                run_id, keeper, dataset, preprocessed, features, candidate, evaluation, comparison, inspection
            )  # fmt: skip
            made = client.create_model_version(
                name, uri, run_id, tags, description=about, model_id=uri.removeprefix("models:/")
            )
        decide(mine)
        return _record(client, name, int((known or made).version), known, config.gates)


@contextmanager
def _files_of(client: MlflowClient, uri: str) -> Iterator[Path]:
    """The folder of a model that was logged: where it lies on this machine, else a copy for as long as the block takes,
    since each candidate would leave a whole model."""
    if lies_here(client.get_logged_model(uri.removeprefix("models:/")).artifact_location):
        yield fetch(client, uri)
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        yield fetch(client, uri, Path(folder))


def _begin_model(client: MlflowClient, name: str) -> None:
    try:
        client.create_registered_model(name, description=WELCOME.format(name=name))
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _tags(
    config: RegisterConfig, dataset: Dataset, features: FeatureSet, candidate: Candidate, evaluation: Evaluation,
    comparison: Comparison | None,
) -> dict[str, str]:  # fmt: skip
    """All that anyone has to know of a version; its run may be deleted."""
    merit = Merit.measured(dataset, candidate, evaluation)
    duel = Duel.fought(comparison)
    learned_from = [*EARLIER.split(","), *[PARTIAL] * bool(dataset.further)]
    learned_from += [dataset.choose_on] * candidate.cross_validated
    backbones = [f"{each.backbone}/{each.weights}" for each in features.sets]
    return {
        CANDIDATE: candidate.fingerprint, DATA: dataset.version, PROMOTE: config.promote,
        HELD_OUT: held_out(dataset, evaluation), "backbone": " + ".join(backbones),
        "method": candidate.method, LEARNED_FROM: ",".join(dict.fromkeys(learned_from)), **merit.tags,
        **(duel.tags if duel else {}), **({TEACHERS: ",".join(candidate.teachers)} if candidate.teachers else {}),
        **_adapted(candidate),
        **({BACKBONES: str(len(backbones))} if len(backbones) > 1 else {}),
    }  # fmt: skip


def _adapted(candidate: Candidate) -> dict[str, str]:
    """Whether what a method of adaptation has kept is the adapted model; of other methods nothing is said."""
    adapted = candidate.chosen.get("adapted")
    return {} if adapted is None else {ADAPTED: "yes" if adapted else "no"}


def _record(
    client: MlflowClient, name: str, number: int, known: Version | None, gates: Sequence[Gate]
) -> RegisteredModel:
    aliases = aliases_of(get_model(client, name)).get(number, [])
    alias = next((alias for alias in (CHAMPION, CHALLENGER) if alias in aliases), None)
    version = client.get_model_version(name, str(number))
    verdict = version.tags[VERDICT]
    if known and VERDICT in known.tags:
        verdict = f"nothing changed: this is version {number}"
        if others := [gate.gate for gate in gates if not is_measured(gate, version)]:
            verdict += f"; as {'they are' if len(others) > 1 else 'it is'} written now, it was not judged by "
            verdict += ", ".join(others)
    return RegisteredModel(
        fingerprint=f"{name}/{number}/{alias or ''}", name=name, version=number, alias=alias, verdict=verdict,
        rulings=rulings_of(version), pending=alias != CHAMPION and version.tags.get(APPROVAL) == PENDING,
        new=known is None,
    )  # fmt: skip


def log_model(
    run_id: str, dataset: Dataset, preprocessed: Preprocessed, features: FeatureSet, candidate: Candidate,
    workspace: Workspace, reference: Path | None = None,
) -> str:  # fmt: skip
    """Package a candidate and log it under a run; returns the model's URI.

    Args:
        reference: what the model is used to, if there is such a file.

    Raises:
        WeightsError: the backbone's weights are no longer those that the features were computed with.
    """
    # A run that has nothing new to register does without torch.
    from tasks.model.classifier import package
    from tasks.model.eyes import eyes_of

    told = [Told.of(target) for target in dataset.targets]
    eye, *beside = eyes_of(features, preprocessed, dataset.limits, workspace)
    manifest = dataset.read_manifest()
    example = dataset.image(manifest.loc[manifest["split"] == dataset.report_on, "hash"].iloc[0]).read_bytes()
    with tempfile.TemporaryDirectory() as bundle, _code_for_others() as code:
        package(
            Path(bundle), **vars(eye), head=candidate.head, classes=dataset.classes,
            reference=reference if reference and reference.is_file() else None, beside=beside, told=told,
            further=candidate.further,
        )  # fmt: skip
        mlflow.set_tracking_uri(workspace.tracking_uri)
        with mlflow.start_run(run_id=run_id):
            info = mlflow.pyfunc.log_model(
                name="model",
                python_model=str(code / "register" / "served.py"),
                artifacts={"bundle": bundle},
                code_paths=[str(code)],
                signature=signature(told),
                input_example=pd.DataFrame({"image": [base64.b64encode(example).decode()]}),
                pip_requirements=[f"{name}=={installed(name)}" for name in _needed(features)],
            )
    return info.model_uri


def _needed(features: FeatureSet) -> tuple[str, ...]:
    named = [each.backbone for each in features.sets]
    return (*NEEDED, "timm") if any(name.startswith(TIMM) for name in named) else NEEDED


@contextmanager
def _code_for_others() -> Iterator[Path]:
    """The code that a packaged model carries, as a package whose name is this code's alone: whoever loads the model may
    have a module ``tasks``, or another model with other code."""
    own = Path(__file__).parents[1]
    with tempfile.TemporaryDirectory() as folder:
        code = Path(folder) / f"headstart_{code_version(own)}"
        shutil.copytree(own, code, ignore=shutil.ignore_patterns("__pycache__", "weights", "facts"))
        rename_imports(code, {__name__.removesuffix(".register.door"): code.name})
        sys.path.insert(0, folder)  # MLflow runs the model's file when it logs it
        try:
            yield code
        finally:
            sys.path.remove(folder)
