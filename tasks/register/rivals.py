"""Registered versions that a candidate meets: the champion, which it is held against, and teachers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from tasks.errors import RegistryError
from tasks.extract.config import ExtractConfig
from tasks.fingerprint import file_digest, fingerprint
from tasks.model.bundle import DESCRIPTION, HEAD, backbones_in, describe
from tasks.progress import tell
from tasks.register.client import Version
from tasks.register.registry import CHAMPION, check_files, fetch_bundle, missing_files
from tasks.register.store import connect
from tasks.register.tags import CANDIDATE, DATA, LEARNED_FROM
from tasks.rival import Rival
from tasks.target import LABEL, Target
from tasks.workspace import Workspace

EARLIER = "train,tune"
"""What versions have seen that do not say it."""
GEOMETRY = {"size": None, "fit": None, "crop": 1.0, "interpolation": "bilinear"}
"""What a package says of its recipe, and what those meant that do not say it."""


def find_rival(name: str, candidate: str, workspace: Workspace) -> Rival | None:
    """The champion of a registered model, with its package in reach; None where there is none, it is the candidate
    itself (named by its fingerprint), it was made by other means, or its files are gone.

    Raises:
        MlflowException: the registry does not answer, so nobody knows whether there is one.
    """
    client = connect(workspace)
    version = _champion(client, name)
    if version is None:
        return None
    if version.tags.get(CANDIDATE) == candidate:
        return None
    if CANDIDATE not in version.tags or missing_files(client, version):
        tell(f"compare\tversion {version.version} of {name} cannot be looked at: made by other means, or without files")
        return None
    return _registered(version, fetch_bundle(client, version, workspace))


def _champion(client: MlflowClient, name: str) -> Version | None:
    try:
        aliases = client.get_registered_model(name).aliases
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
    return client.get_model_version(name, str(aliases[CHAMPION])) if CHAMPION in aliases else None


def looks_of(rival: Rival, here: ExtractConfig) -> ExtractConfig:
    """The section by which a registered version looks at images, on the device that is configured here."""
    return ExtractConfig.model_validate(here.model_dump(include={"device", "batch_size", "workers"}) | rival.extraction)


def find_teacher(version: Version, workspace: Workspace) -> tuple[Rival, Path]:
    """A registered version as one that is learned from, and the file of its head.

    Raises:
        RegistryError: it was made by other means, or its files are gone.
    """
    client = connect(workspace)
    if CANDIDATE not in version.tags:
        raise RegistryError(
            f"train.teacher: version {version.version} of {version.name} was made by other means, so nobody knows how "
            "it looks at images: name a version that a pipeline has registered"
        )
    check_files(client, version)
    bundle = fetch_bundle(client, version, workspace)
    return _registered(version, bundle), bundle / HEAD


def packaged_teacher(bundle: Path) -> tuple[Rival, Path]:
    """The folder of a packaged classifier as one that is learned from, and the file of its head; nothing is known of
    the data that it has learned from."""
    files = (bundle / DESCRIPTION, bundle / HEAD, *(weights for _, weights in backbones_in(bundle)))
    content = fingerprint(*map(file_digest, files))
    return _rival(str(bundle), 0, {CANDIDATE: content}, bundle), bundle / HEAD


def _registered(version: Version, bundle: Path) -> Rival:
    return _rival(version.name, int(version.version), version.tags, bundle)


def _rival(name: str, version: int, tags: dict[str, str], bundle: Path) -> Rival:
    about = describe(bundle)
    (first, weights), *others = backbones_in(bundle)
    beside = [_extraction(other, path) | _geometry(other) for other, path in others]
    return Rival(
        fingerprint=tags[CANDIDATE],
        name=name,
        version=version,
        bundle=bundle,
        classes=tuple(about["classes"]),
        targets=tuple(_target(*each) for each in enumerate(about.get("targets", ()))),
        data=tags.get(DATA, ""),
        learned_from=tuple(tags.get(LEARNED_FROM, EARLIER).split(",")),
        extraction=_extraction(first, weights) | {"beside": beside},
        geometry={"views": first["recipe"]["views"], **_geometry(first)},
    )


def _target(place: int, told: dict[str, Any]) -> Target:
    """A task as a package notes it; the first one leads."""
    return Target(**told | {"column": f"{LABEL}:{told['name']}" if place else LABEL})


def _geometry(about: dict[str, Any]) -> dict[str, Any]:
    """How a packaged backbone fits images to what it sees."""
    return {key: about["recipe"].get(key, kept) for key, kept in GEOMETRY.items()}


def _extraction(about: dict[str, Any], weights: Path) -> dict[str, Any]:
    """The section ``extract`` that looks at images as a packaged backbone does."""
    outline = about["backbone"]
    return {
        "backbone": outline["name"], "weights": str(weights), "layer": outline["layers"],
        "pool": outline["pool"], "precision": "bf16" if about["precision"] == "bfloat16" else "fp32",
    }  # fmt: skip
