"""Registered models and their versions, looked up."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from pydantic import ValidationError

from tasks.errors import RegistryError
from tasks.model.bundle import DESCRIPTION, HEAD, backbone_file, bundle_in
from tasks.records import Alias
from tasks.register.client import Model, Registry, Version, refusals
from tasks.register.series import FLEETING
from tasks.register.tags import BACKBONES, CANDIDATE, GATE, PREFIX, entry_of, number_of
from tasks.ruling import Ruling
from tasks.workspace import Workspace, fresh_folder, shown_store

CHAMPION: Alias = "champion"
CHALLENGER: Alias = "challenger"


def parted(which: str) -> tuple[str, str]:
    """A model's name, and the version or alias that is asked for, or nothing: of NAME, NAME@VERSION or NAME@ALIAS, and
    of the addresses that MLflow's page shows, ``models:/NAME/VERSION`` and ``models:/NAME@ALIAS``."""
    name, _, wanted = which.removeprefix("models:/").replace("/", "@").partition("@")
    return name, wanted


def looked_in(tracking_uri: str) -> str:
    """Where registered models are looked for, for a message: a workspace, or the store that a variable names."""
    return shown_store(os.environ.get("MLFLOW_REGISTRY_URI", "").strip() or tracking_uri)


def get_model(client: Registry, name: str) -> Model:
    """Look a registered model up.

    Raises:
        RegistryError: there is none of that name; the message lists those that there are.
    """
    try:
        return client.get_registered_model(name)
    except refusals() as error:
        if error.error_code in FLEETING:
            raise
        known = [model.name for model in all_models(client)]
        raise RegistryError(
            f"there is no registered model {name!r}; "
            + (
                f"there are: {', '.join(known)}"
                if known
                else f"none has been registered yet in {looked_in(client.tracking_uri)}: `headstart run CONFIG` does"
            )
        ) from error


def get_version(client: Registry, name: str, which: str | int) -> Version:
    """Look a version up by its number or alias.

    Raises:
        RegistryError: there is no such model, version or alias.
    """
    model = get_model(client, name)
    try:
        if str(which).isdigit():
            return client.get_model_version(name, str(which))
        return client.get_model_version_by_alias(name, str(which))
    except refusals() as error:
        if error.error_code in FLEETING:
            raise
        numbers = ", ".join(map(str, sorted(all_versions(client, name)))) or "none"
        raise RegistryError(
            f"model {name!r} has no version or alias {which!r}; versions: {numbers}; "
            f"aliases: {', '.join(model.aliases) or 'none'}"
        ) from error


def all_models(client: Registry) -> list[Model]:
    """All registered models, but for those that are none (see `tasks.register.series`)."""
    return [model for model in every(client.search_registered_models) if not model.name.startswith(PREFIX)]


def all_versions(client: Registry, name: str) -> dict[int, Version]:
    """All versions of a model by their numbers, the oldest first."""
    found = every(lambda **page: client.search_model_versions(f"name = {name!r}", **page))
    return dict(sorted((int(version.version), version) for version in found))


def find_candidate(client: Registry, name: str, fingerprint: str) -> Version | None:
    """The newest version that a candidate was registered as and whose files are there."""
    versions = reversed(all_versions(client, name).values())
    same = (version for version in versions if version.tags.get(CANDIDATE) == fingerprint)
    return next((version for version in same if missing_files(client, version) is None), None)


def aliases_of(model: Model) -> dict[int, list[str]]:
    """The aliases of each version that has any."""
    found: dict[int, list[str]] = {}
    for alias, version in model.aliases.items():
        found.setdefault(int(version), []).append(alias)
    return found


def missing_files(client: Registry, version: Version) -> str | None:
    """Which files of a version are gone, and from where; None where all are there, or nobody can tell."""
    needed = {"MLmodel"}
    if CANDIDATE in version.tags:
        count = int(number_of(version.tags, BACKBONES) or 1)
        needed |= {DESCRIPTION, HEAD, *map(backbone_file, range(1, count + 1))}
    try:
        folder = place_of(client, version)
        gone = sorted(needed - _files(folder, client.tracking_uri))
    except Exception:  # a store that does not answer has lost nothing yet
        return None
    return f"{', '.join(gone)} in {folder}" if gone else None


def place_of(client: Registry, version: Version) -> str:
    """Address of a version's files."""
    return client.get_model_version_download_uri(version.name, str(version.version))


def fetch_bundle(client: Registry, version: Version, workspace: Workspace) -> Path:
    """The folder of a version's packaged classifier: where it lies on this machine, else a copy among the workspace's
    caches, made once."""
    # By its name MLflow would first write a note into the folder of the model, which may belong to another user.
    place = place_of(client, version)
    if lies_here(place):
        return bundle_in(fetch(client, place))
    folder = workspace.cache / "bundles" / version.name / f"{version.version}-{version.creation_timestamp}"
    if not folder.exists():
        with fresh_folder(folder) as filling:
            fetch(client, place, filling)
    return bundle_in(folder)


def fetch(client: Registry, address: str, into: Path | None = None) -> Path:
    """What an address of MLflow's names, as a path on this machine.

    Args:
        into: an empty folder for a copy; None only for what lies here, since nobody would remove MLflow's own copy.
    """
    import mlflow

    to = str(into) if into else None
    return Path(mlflow.artifacts.download_artifacts(address, dst_path=to, tracking_uri=client.tracking_uri))


def lies_here(place: str) -> bool:
    """Whether files lie where this machine's own do, so that they need not be copied."""
    return urlsplit(place).scheme in ("", "file")


def check_files(client: Registry, version: Version) -> None:
    """Raise where files of a version are gone.

    Raises:
        RegistryError: they are; the message says which.
    """
    if gone := missing_files(client, version):
        raise RegistryError(
            f"model {version.name!r} version {version.version} has lost its files ({gone}): restore them, or run its "
            "configuration again, which registers it anew"
        )


def _files(folder: str, tracking_uri: str) -> set[str]:
    """Names of the files of a model, but for its code."""
    if here := _on_this_machine(folder):
        return set(_lying(here)) if here.is_dir() else set()
    return set(_listed(folder, tracking_uri))


def _on_this_machine(folder: str) -> Path | None:
    """A folder that can be looked into without MLflow, whose import takes seconds."""
    parts = urlsplit(folder)
    return Path(url2pathname(parts.path)) if parts.scheme == "file" and not parts.netloc else None


def _lying(folder: Path) -> Iterator[str]:
    for path in folder.iterdir():
        if not path.is_dir():
            yield path.name
        elif path.name != "code":
            yield from _lying(path)


def _listed(folder: str, tracking_uri: str) -> Iterator[str]:
    import mlflow

    for file in mlflow.artifacts.list_artifacts(artifact_uri=folder, tracking_uri=tracking_uri):
        name = file.path.rpartition("/")[2]
        if not file.is_dir:
            yield name
        elif name != "code":
            yield from _listed(f"{folder.rstrip('/')}/{name}", tracking_uri)


def every(search: Callable[..., Any]) -> Iterator[Any]:
    """What a search finds, page by page."""
    token = None
    while True:
        page = search(page_token=token)
        yield from page
        if not (token := page.token):
            return


def rulings_of(version: Version) -> tuple[Ruling, ...]:
    """What the gates said of a version, as far as it can be read; empty where it was not judged, or not by gates."""
    found = []
    for entry in _kept_of_gates(version):
        with suppress(KeyError, ValidationError):  # not judged yet, or edited outside headstart
            found.append(Ruling.model_validate(entry["ruling"]))
    return tuple(found)


def gates_of(version: Version) -> tuple[str, ...]:
    """Names of the gates that have measured a version; empty where it was not made by a run with gates."""
    kept = (entry.get("settings") for entry in _kept_of_gates(version))
    return tuple(settings["gate"] for settings in kept if isinstance(settings, dict) and "gate" in settings)


def _kept_of_gates(version: Version) -> Iterator[dict[str, Any]]:
    return filter(None, (entry_of(version.tags, key) for key in gate_tags(version)))


def gate_tags(version: Version) -> list[str]:
    """The tags of the gates, in the order in which they were named."""
    numbered = (key for key in version.tags if key.startswith(GATE) and key.removeprefix(GATE).isdigit())
    return sorted(numbered, key=lambda key: int(key.removeprefix(GATE)))
