"""What a run was made from, put into a fresh folder: code, dataset, configuration, backbone, libraries."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import yaml

from flows.lineage.origin import CHANGES, CODE, LOCK, SOURCES, installed, read_lock
from flows.lineage.subject import Subject
from tasks.errors import ConfigurationError, RegistryError, WeightsError
from tasks.extract.config import PUBLISHED
from tasks.fingerprint import code_version
from tasks.register.registry import check_files, fetch_bundle, get_version, missing_files
from tasks.register.tags import TEACHERS
from tasks.target import LABEL, Target
from tasks.wording import counted, shorten
from tasks.workspace import Workspace, write_whole

Environment = Literal["same", "here", "new"]

COMPILED = {"True": "always", "False": "never"}
"""What ``extract.compile`` has to be, by what a run says of its features."""

ANY_FILE = (*PUBLISHED, "random")
"""What ``extract.weights`` names that is no file."""


def restore_code(subject: Subject, kept: dict[str, Any], into: Path) -> Path:
    """The folder that holds the run's `tasks` and `flows`: at its commit with its changes, else the code that is here,
    if it is the same.

    Args:
        kept: what the run says of its code.

    Raises:
        RegistryError: the run's code is not to be had here.
    """
    wanted = kept.get("version") or subject.tags.get("code.version")
    commit = kept.get("commit") or subject.tags.get("mlflow.source.git.commit")
    if commit and (archive := _archive(commit)):
        _unpack(archive, into)
        if changes := subject.content(CHANGES):
            _apply(changes, into)
        if code_version(into / "tasks") == wanted:
            return into
    if code_version(CODE / "tasks") == wanted:
        shutil.rmtree(into, ignore_errors=True)
        return CODE
    at = f"commit {commit[:12]}" if commit else f"code {wanted}"
    lost = f" with its changes ({kept['changes']})" if kept.get("changes") else ""
    raise RegistryError(
        f"{subject} was made by {at}{lost}, which this installation neither is nor can restore: `git fetch` in the "
        "checkout that headstart runs from, or install the version that made it, and say it again"
    )


def restore_data(subject: Subject, workspace: Workspace, home: Workspace) -> dict[str, Any]:
    """Put the run's dataset version into a workspace's store, from this workspace's store or its remote.

    Returns:
        The section ``ingest.source`` that reads it.

    Raises:
        RegistryError: the run names no dataset version.
        DataError: neither the store nor the remote has all of it.
    """
    from tasks.ingest.objects import object_path
    from tasks.ingest.remotes import fetch_version
    from tasks.ingest.repository import object_store
    from tasks.ingest.versioning import read_listing, read_targets

    if not (name := subject.tags.get("data.version")):
        raise RegistryError(f"{subject} names no version of a dataset: its run ended before it had one")
    fetch_version(name, workspace)
    store, fresh = object_store(workspace), object_store(home)
    for digest in {name, *read_listing(name, store).values()}:
        target = object_path(fresh, digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        _link(object_path(store, digest), target)
    leading, *others = read_targets(name, home)
    if leading.name == LABEL:
        return {"version": name, "multi_label": leading.kind == "labels"}
    units = {target.name: target.unit for target in _asked(subject)}
    tasks = {each.name: {"kind": each.kind, "unit": units.get(each.name, "")} for each in (leading, *others)}
    return {"version": name, "tasks": tasks}


def _asked(subject: Subject) -> tuple[Target, ...]:
    """The tasks as the run's configuration asks for them: versions do not keep units."""
    from tasks.ingest.config import IngestConfig

    return IngestConfig.model_validate({"source": subject.config["ingest"]["source"]}).source.targets()


def restore_config(
    subject: Subject, source: dict[str, Any], weights: list[str], workspace: Workspace, path: Path
) -> Path:  # fmt: skip
    """Write the run's configuration, which reads the restored version with its splits, the restored backbones, and the
    teachers as they lie packaged.

    Raises:
        RegistryError: a teacher is gone.
    """
    config = subject.config
    if taught := subject.tags.get(TEACHERS):
        config["train"]["teacher"] = [_packaged(teacher, subject, workspace) for teacher in taught.split(",")]
    ingest, extract = config.get("ingest", {}), config.get("extract", {})
    config["ingest"] = ingest | {"source": source, "split": {"by": "given"}}
    first, *others = weights
    beside = [named | {"weights": other} for named, other in zip(extract.get("beside", []), others, strict=True)]
    # By a stopwatch, the forward pass might be compiled this time and not the other, which rounds otherwise.
    compile = COMPILED.get(subject.tags.get("backbone.compiled", ""), extract.get("compile", "auto"))
    config["extract"] = extract | {"weights": first, "compile": compile} | ({"beside": beside} if beside else {})
    # By it, too, as many images would be looked through again as this machine has time for.
    images = {name: subject.metrics.get(f"inspected/{name}") for name in ("robustness", "faithfulness")}
    sampled = {name: int(count) for name, count in images.items() if count is not None}
    config["evaluate"] = config.get("evaluate", {}) | sampled
    write_whole(path, yaml.safe_dump(config, sort_keys=False))
    return path


def _packaged(teacher: str, subject: Subject, workspace: Workspace) -> str:
    """The folder of a teacher, by the name that a run knows it by."""
    name, _, number = teacher.rpartition("@")
    if not number.isdigit():
        return teacher  # a folder
    version = get_version(subject.client, name, number)
    check_files(subject.client, version)
    return str(fetch_bundle(subject.client, version, workspace))


def restore_weights(subject: Subject, workspace: Workspace) -> list[str]:
    """What ``extract.weights``, and each of ``extract.beside``, has to name: weights whose parameters have the hash
    that the run had them at, as the configuration names them or, where these are gone or others, as the registered
    model holds them.

    Raises:
        WeightsError: neither has them.
    """
    extract = subject.config.get("extract", {})
    named = [extract, *extract.get("beside", [])]
    wanted = [*(subject.tags.get("backbone.digest") or "").split(" + "), *[""] * len(named)]
    return [
        _restored(subject, section, digest, place, workspace)
        for place, (section, digest) in enumerate(zip(named, wanted, strict=False), 1)
    ]


def _restored(subject: Subject, section: dict[str, Any], wanted: str, place: int, workspace: Workspace) -> str:
    from tasks.extract.weights import read_weights

    reasons = []
    for source, path in _places_of_weights(subject, section.get("weights", "builtin"), place, workspace):
        try:
            digest = read_weights(section.get("backbone", ""), source, path).digest
        except WeightsError as error:
            reasons.append(str(error))
            continue
        if digest == wanted:
            return source if source in ANY_FILE else str(path)
        reasons.append(f"{source} holds others (SHA-256 {digest[:12]})")
    raise WeightsError(
        f"the backbone of {subject} (SHA-256 {(wanted or 'not kept')[:12]}) is gone: {'; '.join(reasons)}"
    )


def _places_of_weights(subject: Subject, named: str, place: int, workspace: Workspace) -> Iterator[tuple[str, Path]]:
    """What `tasks.extract.weights.read_weights` takes for the first backbone (1), or another, the next where one does
    not do."""
    from tasks.model.bundle import backbone_file

    yield named, Path() if named in ANY_FILE else workspace.resolve(named)
    if subject.version and missing_files(subject.client, subject.version) is None:
        packaged = fetch_bundle(subject.client, subject.version, workspace) / backbone_file(place)
        yield str(packaged), packaged


def restore_environment(subject: Subject, how: Environment, into: Path) -> str:
    """The Python that has the run's libraries.

    Raises:
        RegistryError: the run keeps no lock, or pip cannot install it.
        ConfigurationError: this environment has others, and is asked for the same.
    """
    text = subject.text(LOCK)
    if how == "here":
        return sys.executable
    if text is None:
        raise RegistryError(f"{subject} keeps no lock of its libraries: `--environment here` takes those of this one")
    if how == "new":
        return _new_environment(text, into)
    if others := differing(read_lock(text), installed()):
        raise ConfigurationError(
            f"this environment differs from that of {subject} in {counted(len(others), 'package')}: {shorten(others)}. "
            "`--environment new` installs its lock into an environment of its own, `--environment here` takes this one "
            "and says what comes out"
        )
    return sys.executable


def differing(then: dict[str, str], now: dict[str, str]) -> list[str]:
    """Libraries that are gone or of another version, and which."""
    return [
        f"{name} {version} → {now.get(name, 'not installed')}"
        for name, version in then.items()
        if now.get(name) != version
    ]


def _new_environment(lock: str, into: Path) -> str:
    """A virtual environment with a lock's libraries."""
    write_whole(requirements := into.with_suffix(".txt"), lock)
    python = into / ("Scripts" if os.name == "nt" else "bin") / "python"
    for command in (
        [sys.executable, "-m", "venv", str(into)],
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(requirements)],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            reason = next(reversed([line for line in done.stderr.splitlines() if line.strip()]), "no reason given")
            raise RegistryError(f"{requirements} cannot be installed ({reason}): `--environment here` does without")
    return str(python)


def _archive(commit: str) -> bytes | None:
    """The code at a commit, as tar; None where this code lies in no repository that has it."""
    try:
        asked = subprocess.run(
            ["git", "archive", "--format=tar", commit, "--", *SOURCES], cwd=CODE, capture_output=True
        )
    except OSError:
        return None
    return asked.stdout if asked.returncode == 0 else None


def _unpack(archive: bytes, into: Path) -> None:
    into.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(into, filter="data")


def _apply(changes: bytes, into: Path) -> None:
    """Make the changes of a run's code, whatever repository the folder may lie in."""
    alone = os.environ | {"GIT_CEILING_DIRECTORIES": str(into.parent)}
    done = subprocess.run(["git", "apply", "--binary", "-"], cwd=into, input=changes, capture_output=True, env=alone)
    if done.returncode:
        raise RegistryError(f"the run's changes of the code cannot be applied: {done.stderr.decode(errors='replace')}")


def _link(source: Path, target: Path) -> None:
    """An object of a store in another one; a copy where a disk does not link."""
    if target.exists():
        return
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
