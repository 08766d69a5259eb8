"""Teachers: the registered versions that a pipeline names to learn from, and what they see in its images."""

from __future__ import annotations

import time
from pathlib import Path

from flows.config import PipelineConfig
from tasks.errors import RegistryError
from tasks.extract.stage import extract
from tasks.fingerprint import fingerprint
from tasks.model.bundle import DESCRIPTION
from tasks.progress import tell
from tasks.records import Dataset, FeatureSet, Preprocessed
from tasks.register.registry import CHAMPION, get_version, parted
from tasks.register.rivals import find_teacher, looks_of, packaged_teacher
from tasks.register.store import connect
from tasks.rival import Rival
from tasks.teachers import Teachers, name_of
from tasks.train.distillation.check import check_classes
from tasks.train.distillation.config import Distillation
from tasks.workspace import Workspace


def teachers_of(
    config: PipelineConfig, dataset: Dataset, preprocessed: Preprocessed, workspace: Workspace
) -> Teachers | None:
    """Those that the method names, who have looked at all images; None where it names none.

    What each of them sees is kept in the feature store, so it looks at an image, and at a view, once: for all students,
    temperatures and runs.

    Raises:
        RegistryError: there is no such version, or its files are gone.
        ConfigurationError: a teacher does not know all classes.
    """
    if not (found := find_teachers(config, workspace)):
        return None
    versions, heads = zip(*found, strict=True)
    for version in versions:
        check_classes(version, dataset)
    features = tuple(_looked(version, config, dataset, preprocessed) for version in versions)
    named = [(version.name, version.version, version.fingerprint) for version in versions]
    name = fingerprint(named, *(each.fingerprint for each in features))
    return Teachers(fingerprint=name, versions=versions, heads=heads, features=features)


def find_teachers(config: PipelineConfig, workspace: Workspace) -> list[tuple[Rival, Path]]:
    """The versions that the method names, and the files of their heads.

    Raises:
        RegistryError: there is no such version, or its files are gone.
    """
    section = config.train
    return [_find(which, workspace) for which in section.teacher] if isinstance(section, Distillation) else []


def _find(which: str, workspace: Workspace) -> tuple[Rival, Path]:
    if (workspace.resolve(which) / DESCRIPTION).is_file():
        return packaged_teacher(workspace.resolve(which))
    name, wanted = parted(which)
    try:
        version = get_version(connect(workspace), name, wanted or CHAMPION)
    except RegistryError as error:
        raise RegistryError(f"train.teacher: {error}") from error
    return find_teacher(version, workspace)


def _looked(teacher: Rival, config: PipelineConfig, dataset: Dataset, preprocessed: Preprocessed) -> FeatureSet:
    """What a teacher sees in all images, and in the augmented views that the student learns from."""
    started = time.time()
    looks = looks_of(teacher, config.extract)
    sees = preprocessed.seen_as(teacher.geometry).model_copy(update={"augmented": preprocessed.augmented})
    features = extract(looks, dataset, sees)
    parts = [features]
    assert isinstance(config.train, Distillation)
    if config.train.pool and dataset.counts.get("pool"):
        parts.append(extract(looks, dataset, sees, ("pool",)))
    new = sum(part.new for part in parts if part.made >= started)
    known = sum(part.new + part.reused for part in parts) - new
    tell(f"teach\t{name_of(teacher)} looked at {new:,} images, {known:,} it knew\t{time.time() - started:.1f} s")
    return features
