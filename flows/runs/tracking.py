"""A pipeline run as MLflow sees it: parameters, dataset, curves, figures, and where it all came from."""

from __future__ import annotations

import json
import math
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import pandas as pd
import yaml
from mlflow import MlflowClient
from mlflow.data.pandas_dataset import from_pandas
from mlflow.entities import DatasetInput, InputTag, Metric, Param, RunTag

from flows.causes import explain
from flows.config import PipelineConfig
from flows.lineage.origin import compute_facts, log_origin
from flows.lineage.subject import TRIAL
from flows.runs.leases import close_silent
from flows.runs.relocation import check_place
from flows.runs.summary import describe
from flows.runs.views import NOTE, choose_columns, introduce
from flows.stores.remote import RESTART_SECONDS, check_answer
from flows.stores.shared import beside_another, is_of_another, is_shared, place_of_artifacts
from tasks.choice import Choice
from tasks.errors import ServerError
from tasks.ingest.pointer import pointer_to
from tasks.machine import user_name
from tasks.progress import tell
from tasks.records import (
    Candidate,
    Comparison,
    Dataset,
    Evaluation,
    FeatureSet,
    Inspection,
    Preprocessed,
    Record,
    RegisteredModel,
    Report,
)
from tasks.register.store import connect, keeper_of
from tasks.workspace import Workspace

R = TypeVar("R", bound=Record)

PARAM = re.compile(r"[\w.\- ]{1,250}")
"""What MLflow takes for the name of a parameter, on every system."""

ALWAYS = ("name", "preprocess.size", "extract.backbone", "extract.weights", "train.method")
"""Parameters of every run; others are what differs from the defaults."""

MOST = 1000
"""Metrics that MLflow takes at once."""

RESERVE = 4 * 2**20
"""Bytes that a run keeps from the disk and gives back when it fails, so that MLflow has room to write that it did."""


class TrackedRun:
    """Records what each stage hands over, in MLflow and for whoever watches."""

    def __init__(self, client: MlflowClient, run_id: str, workspace: Workspace) -> None:
        self.client, self.id, self.workspace = client, run_id, workspace
        self._has_features = False
        self._started = time.time()
        self._since = time.monotonic()

    def is_cached(self, record: Record) -> bool:
        """Whether a record was found, not made by this run."""
        return record.made < self._started

    def record(self, record: R) -> R:
        """Log a stage's result and pass it on.

        Raises:
            ServerError: the team's MLflow server is gone.
        """
        check_answer(self.workspace.tracking_uri, RESTART_SECONDS)
        self.log(record)
        now = time.monotonic()
        tell(f"{describe(record, self.is_cached(record))}\t{now - self._since:.1f} s")
        self._since = now
        return record

    def log(self, record: Record) -> None:
        """Log a stage's result without a word."""
        match record:
            case Dataset():
                self._log_dataset(record)
            case Preprocessed():
                self.client.log_artifact(self.id, str(record.preview), "data") if self._is_news(record) else None
            case FeatureSet():
                self._log_features(record)
            case Candidate():
                self._log_curves(record)
                if record.trials and self._is_news(record):
                    self._log_trials(pd.read_parquet(record.trials))
            case Evaluation():
                self._log_evaluation(record)
            case Inspection():
                self._log_inspection(record)
            case Comparison():
                self._log_comparison(record)
            case RegisteredModel():
                self._log_model(record)
            case Report():
                self.client.log_artifact(self.id, str(record.page)) if self._is_news(record) else None
            case Choice():
                self.client.log_artifact(self.id, str(record.steps), "choice")
                self.set_tags(chosen_backbone=record.backbone, chosen_method=record.method, chosen_why=record.why)
                self._log_metrics({"budget": record.budget, "spent": record.spent})

    def set_tags(self, **tags: Any) -> None:
        """Set tags of the run; keys are written with dots for underscores."""
        values = [RunTag(key.replace("_", "."), str(value)) for key, value in tags.items()]
        self.client.log_batch(self.id, tags=values, synchronous=True)

    def _is_news(self, record: Record, report: str = "") -> bool:
        """Whether no earlier run of the experiment has stored this record's files: nothing is stored twice.

        Args:
            report: name of these files, where a record of one fingerprint may have others.
        """
        kind = type(record).__name__.lower()
        run = self.client.get_run(self.id)
        tags = {kind: record.fingerprint} | ({f"{kind}.report": report} if report else {})
        alike = [f"tags.`{tag}` = '{name}'" for tag, name in tags.items()]
        same = self.client.search_runs(
            [run.info.experiment_id], " and ".join([*alike, "attributes.status = 'FINISHED'"]), max_results=1,
            order_by=["attributes.start_time DESC"],
        )  # fmt: skip
        self.client.log_batch(self.id, tags=[RunTag(tag, name) for tag, name in tags.items()], synchronous=True)
        keeper = keeper_of(self.client, same[0], kind) if same else None
        if keeper is None or keeper.info.lifecycle_stage != "active" or f"{kind}.files" in keeper.data.tags:
            return True
        self.client.set_tag(self.id, f"{kind}.files", keeper.info.run_id)
        self.client.set_tag(
            self.id,
            NOTE,
            "Nothing to compute again: pictures and tables of unchanged stages lie with the run that made them, "
            f"[{keeper.info.run_name}](#/experiments/{run.info.experiment_id}/runs/{keeper.info.run_id}).",
        )
        return False

    def _log_dataset(self, dataset: Dataset) -> None:
        manifest = dataset.read_manifest()
        named = from_pandas(manifest, source=str(self.workspace.dvc_file), name=dataset.source, digest=dataset.version)
        entity = named._to_mlflow_entity()
        self.client.log_inputs(self.id, [DatasetInput(entity, [InputTag("mlflow.data.context", "training")])])
        self.set_tags(data_version=dataset.version, data_source=dataset.source)
        if dataset.further or dataset.target.kind == "number":
            told = {target.name: target.kind for target in dataset.targets}
            self.client.log_param(self.id, "tasks", ", ".join(f"{name}: {kind}" for name, kind in told.items()))
        self._log_metrics({f"images/{split}": count for split, count in dataset.counts.items()})
        self._log_metrics({"images/quarantined": dataset.quarantined})
        if self._is_news(dataset, dataset.report.name):  # other things may be kept out of the same images
            # Under its own name DVC would take the copy for a folder of images to look after.
            self.client.log_text(self.id, pointer_to(dataset.version, self.workspace), "data/version.yaml")
            for path in sorted(dataset.report.iterdir()):
                if path != dataset.manifest:
                    self.client.log_artifact(self.id, str(path), "data")

    def _log_features(self, features: FeatureSet) -> None:
        new = 0 if self.is_cached(features) else features.new
        if self._has_features:
            # Those of the backbone as this run tuned it; where it came from is on record already.
            self._log_metrics({"features/tuned": new})
            self.set_tags(backbone_tuned_digest=features.digest)
            return
        self._has_features = True
        self._log_metrics({"features/new": new, "features/reused": features.new + features.reused - new})
        shown = features.model_dump(include={"precision", "device"})
        shown["compiled"] = any(each.compiled for each in features.sets)
        for key in ("backbone", "weights", "digest"):
            shown[key] = " + ".join(getattr(each, key) for each in features.sets)
        shown["layer"] = " + ".join(layer for each in features.sets for layer in each.layers)
        self.set_tags(**{f"backbone_{key}": value for key, value in shown.items()})
        if features.look_alikes:
            self._log_metrics(
                {"look_alikes/confirmed": features.confirmed, "look_alikes/straddling": features.straddling}
            )
            if self._is_news(features):
                for path in sorted(features.look_alikes.iterdir()):
                    self.client.log_artifact(self.id, str(path), "data")

    def _log_curves(self, candidate: Candidate) -> None:
        curves = pd.read_parquet(candidate.curves)
        now = int(time.time() * 1000)
        points = [
            Metric(f"curve/{name}", float(value), now, int(step))
            for name in curves.columns.drop(["step", "images"], errors="ignore")
            for step, value in zip(curves["step"], curves[name], strict=True)
        ]
        self._log(points)
        self._log_metrics({f"chosen/{name}": value for name, value in candidate.chosen.items()})
        if candidate.scores:
            from tasks.evaluate.scores.intervals import mean_interval  # SciPy takes a second

            named = zip(("mean", "low", "high"), mean_interval(list(candidate.scores.values())), strict=True)
            self._log_metrics({f"seeds/{name}": value for name, value in named})
            self._log_metrics({f"seeds/{seed}": score for seed, score in candidate.scores.items()})
        self.set_tags(candidate=candidate.fingerprint)
        if candidate.teachers:
            self.set_tags(teachers=",".join(candidate.teachers))

    def _log_trials(self, trials: pd.DataFrame) -> None:
        """Each trial of a search as a run inside this one."""
        run = self.client.get_run(self.id)
        for trial in trials.to_dict("records"):
            began, ended = (_milliseconds(trial[name]) for name in ("started", "ended"))
            nested = self.client.create_run(
                run.info.experiment_id, start_time=began, run_name=f"{run.info.run_name}-trial-{trial['trial'] + 1}",
                tags={"mlflow.parentRunId": self.id, TRIAL: trial["state"]},
            )  # fmt: skip
            settings = {"method": trial["method"]} | json.loads(trial["settings"])
            params = [Param(f"train.{key}", str(value)) for key, value in settings.items()]
            known = [Metric("score", trial["score"], ended or 0, 0)] if math.isfinite(trial["score"]) else []
            self.client.log_batch(nested.info.run_id, metrics=known, params=params)
            status = "FINISHED" if trial["state"] == "complete" else "KILLED"
            self.client.set_terminated(nested.info.run_id, status, ended)

    def _log_evaluation(self, evaluation: Evaluation) -> None:
        found: dict[str, float] = _with_intervals(evaluation.metrics)
        found |= {f"{split}/groups": count for split, count in evaluation.groups.items()}
        there = {name: count for name, count in evaluation.classes.items() if name.endswith("/f1_macro")}
        found |= {name.replace("/f1_macro", "/classes"): count for name, count in there.items()}
        for split, leak in evaluation.leaks.items():
            figures = {"near": leak.share, "without_near": leak.far[0], "inflation": leak.inflation[0]}
            found |= {f"{split}/{name}": value for name, value in figures.items()}
        self._log_metrics(found | {"suspects": evaluation.suspects})
        if evaluation.findings:
            self.set_tags(findings="\n".join(evaluation.findings))
        choose_columns(self.client, self.client.get_run(self.id).info.experiment_id, evaluation)
        if self._is_news(evaluation):
            for path in sorted(evaluation.report.iterdir()):
                self.client.log_artifact(self.id, str(path), "figures" if path.suffix == ".png" else "tables")

    def _log_inspection(self, inspection: Inspection) -> None:
        self._log_metrics(_with_intervals(inspection.metrics))
        self._log_metrics({f"inspected/{name}": count for name, count in inspection.images.items()})
        if inspection.findings:
            self.set_tags(findings_of_inspection="\n".join(inspection.findings))
        if self._is_news(inspection):
            self.client.log_artifacts(self.id, str(inspection.report), "inspection")

    def _log_comparison(self, comparison: Comparison) -> None:
        self.set_tags(compared_with=comparison.version)
        self._log_metrics(_with_intervals({f"gain/{name}": gain for name, (_, _, *gain) in comparison.metrics.items()}))
        if self._is_news(comparison):
            for path in sorted(comparison.report.iterdir()):
                self.client.log_artifact(self.id, str(path), "comparison")

    def _log_model(self, model: RegisteredModel) -> None:
        self.set_tags(
            model_name=model.name, model_version=model.version, model_alias=model.alias or "", gate=model.verdict
        )

    def _log_metrics(self, values: dict[str, float]) -> None:
        now = int(time.time() * 1000)
        self._log([Metric(key, float(value), now, 0) for key, value in values.items() if not math.isnan(value)])

    def _log(self, metrics: list[Metric]) -> None:
        for start in range(0, len(metrics), MOST):
            self.client.log_batch(self.id, metrics=metrics[start : start + MOST])


def _with_intervals(metrics: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Values with the ends of their intervals as metrics of their own."""
    ends = ("", "_low", "_high")
    return {name + end: value for name in metrics for end, value in zip(ends, metrics[name], strict=True)}


def _milliseconds(seconds: float) -> int | None:
    return None if math.isnan(seconds) else int(1000 * seconds)


@contextmanager
def tracked(
    config: PipelineConfig, workspace: Workspace, run_name: str, announce: Callable[[str], None] = lambda _: None,
    inside: str | None = None,
) -> Iterator[TrackedRun]:  # fmt: skip
    """Open an MLflow run for the configuration; it ends as finished, failed or killed, as the block does.

    Args:
        announce: told the run's id, as soon as there is one.
        inside: the run that it is a part of.

    Raises:
        StorageError: its files would go to where another run has the workspace; see
            `flows.runs.relocation.check_place`.
    """
    check_place(workspace)
    client = connect(workspace)
    if is_shared(workspace):
        close_silent(client)
    with tempfile.TemporaryFile(dir=workspace.mlruns) as reserve:
        reserve.write(os.urandom(RESERVE))
        reserve.flush()
        part = {"mlflow.parentRunId": inside} if inside else None
        run = client.create_run(_experiment(client, config.name, workspace), run_name=run_name, tags=part)
        try:
            announce(run.info.run_id)
            _log_origin(client, run.info.run_id, config, workspace)
            yield (opened := TrackedRun(client, run.info.run_id, workspace))
            opened.set_tags(**{f"machine_{key}": value for key, value in compute_facts().items()})
            client.set_terminated(run.info.run_id, "FINISHED")
        except BaseException as error:
            reserve.close()
            with suppress(Exception):  # what ended the run is what is to be told
                _give_up(client, run.info.run_id, error, workspace)
            raise


def _give_up(client: MlflowClient, run_id: str, error: BaseException, workspace: Workspace) -> None:
    if not isinstance(error, Exception):  # Ctrl-C, and what Prefect makes of a SIGTERM
        client.set_terminated(run_id, "KILLED")
    elif not isinstance(error, ServerError) and not isinstance(explain(error, workspace), ServerError):
        client.set_terminated(run_id, "FAILED")  # a server that is gone would be waited for once more


def _experiment(client: MlflowClient, name: str, workspace: Workspace) -> str:
    place = place_of_artifacts(workspace, name)
    found = client.get_experiment_by_name(name)
    if found and is_of_another(found.artifact_location, workspace):
        name = beside_another(name, workspace)
        found = client.get_experiment_by_name(name)
    if found and found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    # The kind decides which view MLflow's page opens with.
    kind = {"mlflow.experimentKind": "custom_model_development"}
    number = found.experiment_id if found else _begun(client, name, place, kind)
    introduce(client, number, name, found.tags if found else ())
    return number


def _begun(client: MlflowClient, name: str, place: str | None, tags: dict[str, Any]) -> str:
    from mlflow.exceptions import MlflowException

    try:
        return client.create_experiment(name, place, tags)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS" or not (found := client.get_experiment_by_name(name)):
            raise
        return found.experiment_id  # another run was first


def flattened(section: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Settings by dotted names; a mapping with a key that MLflow takes for no name, as a class may be, is one value."""
    flat: dict[str, Any] = {}
    for key, value in section.items():
        name = f"{above}{key}"
        if isinstance(value, dict) and value and all(PARAM.fullmatch(f"{name}.{each}") for each in value):
            flat |= flattened(value, f"{name}.")
        else:
            flat[name] = value
    return flat


def _log_origin(client: MlflowClient, run_id: str, config: PipelineConfig, workspace: Workspace) -> None:
    """Configuration and code version: what it takes to do it again."""
    settings = config.model_dump(mode="json", by_alias=True)
    flat, chosen = map(flattened, (settings, config.model_dump(mode="json", by_alias=True, exclude_defaults=True)))
    params = [
        Param(key, json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else str(value))
        for key, value in flat.items()
        if value is not None and (key in chosen or key in ALWAYS)
    ]
    tags = [
        RunTag("mlflow.user", user_name()),
        RunTag("mlflow.source.type", "LOCAL"),
        RunTag("mlflow.source.name", "headstart run"),
    ]
    if commit := workspace.commit:
        tags.append(RunTag("mlflow.source.git.commit", commit))
    client.log_batch(run_id, params=params, tags=tags)
    client.log_text(run_id, yaml.safe_dump(settings, sort_keys=False), "config.yaml")
    log_origin(client, run_id)
