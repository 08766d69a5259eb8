"""The door of the extract stage."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import as_completed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from tasks.extract.check import check_workers
from tasks.extract.config import ExtractConfig, WorkersConfig
from tasks.extract.joined import join
from tasks.extract.look_alikes import confirm
from tasks.extract.precision import choose_device
from tasks.extract.space import Space, open_space, wanted_keys
from tasks.extract.store import FeatureStore
from tasks.extract.work import Work, fill, fill_on, shard_size
from tasks.fingerprint import code_version, fingerprint
from tasks.machine import usable_cores
from tasks.preprocess.recipe import Recipe
from tasks.progress import progress
from tasks.records import Dataset, FeatureSet, Preprocessed, Split
from tasks.workspace import Workspace, fresh_folder


def extract_features(
    config: ExtractConfig, dataset: Dataset, preprocessed: Preprocessed, workspace: Workspace,
    splits: tuple[Split, ...] = (),
) -> FeatureSet:  # fmt: skip
    """Bring the feature store up to date with a dataset.

    Args:
        splits: whose images are wanted; by default all that are learned from or evaluated on.

    Raises:
        WeightsError: the weights are missing, unreachable or of another architecture.
        ConfigurationError: there is no such backbone, layer, device or runner.
        StorageError: the features cannot be written or are damaged.
    """
    sets = [
        _extract(alone, dataset, preprocessed, geometry, workspace, splits)
        for alone, geometry in config.alone(preprocessed.geometry)
    ]
    features = join(sets)
    changes: dict[str, Any] = {} if splits else _look_alikes(dataset, sets[0], workspace)
    return features.model_copy(update={"extraction": config.model_dump(mode="json"), **changes})


def _extract(
    config: ExtractConfig, dataset: Dataset, preprocessed: Preprocessed, geometry: dict[str, Any],
    workspace: Workspace, splits: tuple[Split, ...],
) -> FeatureSet:  # fmt: skip
    """As `extract_features`, of one backbone, which looks at images by a geometry of its own."""
    started = time.monotonic()
    device = choose_device(config.device)
    recipe = Recipe(**geometry, limits=dataset.limits)
    space = open_space(config, recipe, dataset, workspace, device)
    new = reused = 0
    augmented = 0 if splits else preprocessed.augmented
    for number in range(augmented + 1):
        variant = space.variant(number)
        wanted = wanted_keys(dataset, *(("train", "partial") if number else splits))
        missing = wanted[variant.store.missing(wanted)]
        if len(missing):
            _compute(config, variant, replace(recipe, variant=number), missing, dataset, workspace, device)
        new, reused = new + len(missing), reused + len(wanted) - len(missing)
    return FeatureSet(
        fingerprint=fingerprint(space.about, dataset.fingerprint, augmented, *splits),
        store=space.store.folder,
        variants=tuple(space.variant(number).store.folder for number in range(1, augmented + 1)),
        backbone=space.outline.name,
        weights=config.weights,
        digest=space.weights.digest,
        layers=space.outline.layers,
        pool=config.pool,
        width=sum(space.widths),
        widths=space.widths,
        compiled=space.store.compiled,
        geometry=geometry,
        precision=str(space.precision).removeprefix("torch."),
        device=str(device),
        new=new,
        reused=reused,
        seconds=time.monotonic() - started,
        extraction=config.model_dump(mode="json"),
    )


def _compute(
    config: ExtractConfig, space: Space, recipe: Recipe, missing: np.ndarray, dataset: Dataset, workspace: Workspace,
    device: torch.device,
) -> None:  # fmt: skip
    """Have the missing features computed by whoever is configured to."""
    with tempfile.TemporaryDirectory(dir=workspace.cache, prefix="extract-") as folder:
        keys = Path(folder) / "keys.npy"
        np.save(keys, missing)
        work = Work(
            config.backbone, config.weights, workspace.resolve(config.weights), space.outline.layers, config.pool,
            recipe, str(space.precision).removeprefix("torch."), config.batch_size, config.compile,
            config.decode, space.store.folder, dataset.images, keys, shard_size(sum(space.widths)),
            space.weights.digest,
        )  # fmt: skip
        if config.workers.runner != "none":
            size = config.workers.shard
            shards = [slice(start, start + size) for start in range(0, len(missing), size)]
            flow = extract_shards.with_options(task_runner=_runner(config.workers))
            flow(work, config.device, shards, _cores(config))
        elif config.device in ("auto", "cuda") and torch.cuda.device_count() > 1:
            fill_on([torch.device("cuda", index) for index in range(torch.cuda.device_count())], work)
        else:
            fill(work, device)


@flow(name="extract shards", validate_parameters=False)
def extract_shards(work: Work, device: str, shards: list[slice], cores: int) -> None:
    """Map the shards of the missing images to the workers of the flow's task runner."""
    with progress("extract", shards[-1].stop, "img") as advance:
        futures = [extract_shard.submit(work, device, shard, cores) for shard in shards]
        for future in as_completed(futures):
            advance(future.result())


@task(name="extract shard", retries=3, retry_delay_seconds=2, cache_policy=NO_CACHE, persist_result=False)
def extract_shard(work: Work, device: str, shard: slice, cores: int) -> int:
    """Compute what is missing of a shard, on the device that this worker has; returns the images of the shard."""
    fill(work, choose_device(device), shard, cores)
    return len(work.read_keys(shard))


def _cores(config: ExtractConfig) -> int:
    """Cores that a shard is computed by: the slots of a cluster's workers stand for a core each."""
    if config.workers.runner != "threads":
        return 1
    return max(1, usable_cores() // (config.workers.count or 1))


def _runner(workers: WorkersConfig) -> TaskRunner[Any]:
    """Prefect's task runner for a configuration.

    Raises:
        ConfigurationError: the package that speaks to this kind of cluster is not installed.
    """
    check_workers(workers)
    match workers.runner:
        case "dask":
            from prefect_dask import DaskTaskRunner

            begun = {"n_workers": workers.count, "threads_per_worker": 1, "dashboard_address": None}
            return DaskTaskRunner(address=workers.address, cluster_kwargs=None if workers.address else begun)
        case "ray":
            from prefect_ray import RayTaskRunner

            begun = {"num_cpus": workers.count} if workers.count and not workers.address else {}
            return RayTaskRunner(address=workers.address, init_kwargs=begun)
        case _:
            return ThreadPoolTaskRunner(max_workers=workers.count or 1)


def _look_alikes(dataset: Dataset, features: FeatureSet, workspace: Workspace) -> dict[str, Any]:
    """What a backbone's features say about the pairs that look alike, where there are any."""
    with (dataset.report / "near_duplicates.csv").open() as pairs:
        if sum(1 for _ in islice(pairs, 2)) < 2:
            return {}
    code = code_version(Path(__file__).parent)
    name = fingerprint(code, features.store.name, dataset.fingerprint, dataset.report.name)
    final = workspace.cache / "look_alikes" / name
    with fresh_folder(final) as folder:
        confirmed, straddling = confirm(dataset, FeatureStore(features.store), folder)
    return {"look_alikes": final, "confirmed": confirmed, "straddling": straddling}
