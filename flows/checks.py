"""What can be known to go wrong is told before the first stage, and before a server is started for it."""

from __future__ import annotations

import json
import platform
import shutil
from pathlib import Path

from flows.config import PipelineConfig, PretrainConfig
from flows.contenders import contenders
from tasks.errors import ConfigurationError, StorageError, WeightsError
from tasks.evaluate.check import check_kind, check_leading
from tasks.extract.check import check_workers, look_through, weights_file, weights_state
from tasks.extract.config import ExtractConfig
from tasks.fingerprint import code_version, fingerprint
from tasks.records import Dataset
from tasks.register.check import check_gates, check_gates_of_kind, check_gates_of_task
from tasks.train.check import check_attack, check_labels, check_parts, check_tasks, check_teacher, check_trainable
from tasks.train.distillation.check import check_kind as check_teachers_kind
from tasks.train.distillation.config import Distillation
from tasks.workspace import Workspace, check_output, write_whole

LEAST = 50 * 2**20
"""Bytes that a run leaves behind at least, and the databases that record it."""

TASKS = Path(__file__).parent.parent / "tasks"


def check_pipeline(config: PipelineConfig, workspace: Workspace) -> None:
    """Raise what would end a run later: a source, weights, layers, devices, teachers or a package that are not there, a
    method that the labels or the network are not made for, no room.

    Looking at the network takes seconds; a pipeline whose network was found right is not looked at again while the
    weights stay where they were. Weights to be downloaded are downloaded here.

    Raises:
        HeadstartError: of the kind that the stage would raise.
    """
    source = config.ingest.source
    source.check(workspace)
    targets = source.targets()
    check_labels(config.train, str(source), targets[0].kind)
    check_tasks(config.train, targets)
    check_teacher(config.train)
    check_attack(config.train)
    if isinstance(config.train, Distillation):
        from flows.teaching import find_teachers  # which imports MLflow

        for teacher, _ in find_teachers(config, workspace):
            check_teachers_kind(teacher, targets[0].kind, str(source))
    check_kind(config.evaluate, targets[0].kind)
    check_parts(config.train, config.extract)
    check_workers(config.extract.workers)
    check_gates(config.register_, config.evaluate)
    check_gates_of_kind(config.register_, targets[0].kind)
    check_room(workspace)
    competing = list(contenders(config).values())
    # Those that nobody has named are tried, and left out where they do not suit.
    for each in competing if getattr(config.train, "backbones", None) else competing[:1]:
        check_once(each, workspace)


def check_once(config: PipelineConfig, workspace: Workspace) -> None:
    """Look at the network of a pipeline, unless it was found right before and nothing has changed."""
    found_right = workspace.cache / "checked" / f"{_network_of(config, workspace)}.json"
    if not _still_holds(found_right):
        weights = _check_network(config, workspace)
        # A registered model holds the weights, and is put together beside where it goes.
        check_room(workspace, LEAST + 2 * sum(each.stat().st_size for each in weights))
        _keep(found_right, weights)


def check_classes(config: PipelineConfig, dataset: Dataset) -> None:
    """Raise what would end an evaluation, as soon as it is known which classes there are.

    Raises:
        ConfigurationError: costs, the operating point or a gate name other classes.
    """
    check_leading(config.evaluate, dataset.target)
    check_gates_of_task(config.register_, dataset.target)


def check_pretraining(config: PretrainConfig, output: Path, workspace: Workspace) -> None:
    """As `check_pipeline`, for a pretraining, its probes, and where its weights go.

    Raises:
        HeadstartError: of the kind that the work would raise.
    """
    check_output(output, (".safetensors",))
    for source in (config.source, *(probe.source for probe in config.probes.values())):
        source.check(workspace)
    check_room(workspace)
    for probe in config.probes.values():
        look_through(ExtractConfig(weights="random", layer=probe.layer, pool=probe.pool), config.size, workspace)


def check_room(workspace: Workspace, needed: int = LEAST) -> None:
    """Whether so many bytes are free wherever a run writes.

    Raises:
        StorageError: they are not.
    """
    for folder in (workspace.root, workspace.mlruns, workspace.cache):
        free = shutil.disk_usage(folder).free if folder.is_dir() else needed
        if free < needed:
            raise StorageError(
                f"the disk of {folder} has {free / 2**20:,.0f} MiB left, and a run needs {needed / 2**20:,.0f} MiB at "
                "least: make room, or name another workspace in HEADSTART_WORKSPACE"
            )


def _network_of(config: PipelineConfig, workspace: Workspace) -> str:
    """Name of all that a look at the network depends on."""
    sections = [section.model_dump() for section in (config.extract, config.preprocess, config.train)]
    return fingerprint(sections, weights_state(config.extract, workspace), code_version(TASKS), platform.node())


def _check_network(config: PipelineConfig, workspace: Workspace) -> list[Path]:
    """Look at each network and at what trains it; returns the files of their weights."""
    files = []
    for place, (alone, looks) in enumerate(config.extract.alone(config.preprocess.model_dump())):
        try:
            network, backbone, device = look_through(alone, looks["size"], workspace)
        except (ConfigurationError, WeightsError) as error:
            if not place:
                raise
            raise type(error)(f"extract.beside.{place - 1} ({alone.backbone}): {error}") from error
        check_trainable(config.train, network, backbone, device, looks["size"])
        files.append(weights_file(alone, workspace))
    return [file for file in files if file]


def _still_holds(found_right: Path) -> bool:
    """Whether a network was found right, and its weights are where they were then."""
    try:
        weights = json.loads(found_right.read_text())
    except (OSError, ValueError):
        return False
    return isinstance(weights, list) and all(Path(each).is_file() for each in weights)


def _keep(found_right: Path, weights: list[Path]) -> None:
    found_right.parent.mkdir(parents=True, exist_ok=True)
    write_whole(found_right, json.dumps([str(each) for each in weights]))
