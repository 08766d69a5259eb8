"""The workspace as a DVC repository: made where there is none, and how it hands out files."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from tasks.ingest.ignored import is_in_git, leave_out
from tasks.progress import tell
from tasks.workspace import Workspace

if TYPE_CHECKING:
    from dvc.repo import Repo

BESIDE = ".dvc-init"
"""Folder in which a repository is made before it takes its place."""

LINKS = "reflink,copy"
"""What files in ``data/`` are, by preference. A copy-on-write clone, where the disk can do that, costs no space; a
copy does. Both may be edited without the store's noticing, which hard links may not. It is DVC's own default, too."""

HARD_LINKS = "reflink,hardlink,copy"
"""What earlier versions of headstart wrote there."""


def object_store(workspace: Workspace) -> Path:
    """Folder of DVC's content-addressed store; makes the workspace a DVC repository if it is none."""
    if not (workspace.root / ".dvc").is_dir() or (workspace.root / BESIDE).exists():
        with lock(workspace, "init"):
            _init(workspace)
    with opened(workspace) as repo:
        if not (workspace.root / ".dvc" / "config").exists():  # `git stash` takes away what no commit has yet
            with lock(workspace, "init"):
                _set_up(repo, is_in_git(workspace))
        if repo.config.load_one("repo")["cache"].get("type") == HARD_LINKS:
            _loosen(repo, workspace)
        return Path(repo.cache.local.path)


def find_store(workspace: Workspace) -> Path | None:
    """The same folder for who only reads: None where the workspace is no DVC repository, and it does not become one."""
    if not (workspace.root / ".dvc").is_dir():
        return None
    with opened(workspace) as repo:
        return Path(repo.cache.local.path)


@contextmanager
def opened(workspace: Workspace) -> Iterator[Repo]:
    """The workspace as DVC's repository.

    One that was copied without its ``.git``, as images of containers are built, is still called Git's in
    ``.dvc/config``, and DVC would refuse it.
    """
    from dvc.repo import Repo

    with Repo(str(workspace.root), config=None if is_in_git(workspace) else {"core": {"no_scm": True}}) as repo:
        yield repo


def link_types(workspace: Workspace) -> list[str]:
    """How files get from the store into ``data/``, best first: reflink, hardlink, symlink or copy.

    ``dvc config cache.type`` sets it; a copy is what always works.
    """
    from dvc.config import Config

    told = Config(str(workspace.root / ".dvc"))["cache"].get("type") or LINKS.split(",")
    return [*told, "copy"]


def lock(workspace: Workspace, name: str) -> FileLock:
    """A lock between the processes of a workspace."""
    workspace.cache.mkdir(parents=True, exist_ok=True)
    return FileLock(workspace.cache / f"{name}.lock")


def _init(workspace: Workspace) -> None:
    """Initialise DVC beside, then move: killed in between, it would take half a repository for its own."""
    from dvc.repo import Repo

    beside = workspace.root / BESIDE
    shutil.rmtree(beside, ignore_errors=True)
    if (workspace.root / ".dvc").is_dir():
        return  # another process was faster
    beside.mkdir()
    logging.getLogger("dvc").setLevel(logging.WARNING)  # else it says that it has initialised a repository
    has_git = is_in_git(workspace)
    with Repo.init(str(beside), no_scm=True) as repo:
        _set_up(repo, has_git)
    shutil.rmtree(repo.site_cache_dir, ignore_errors=True)  # goes by the folder's name
    if not (workspace.root / ".dvcignore").exists():
        os.rename(beside / ".dvcignore", workspace.root / ".dvcignore")
    os.rename(beside / ".dvc", workspace.root / ".dvc")
    shutil.rmtree(beside)
    leave_out(workspace)
    if has_git:
        with opened(workspace):
            pass  # DVC now tells Git what to leave out
        _stage(workspace, ".dvc/config", ".dvc/.gitignore", ".dvcignore")


def _set_up(repo: Repo, has_git: bool) -> None:
    with repo.config.edit("repo") as config:
        config["cache"]["type"] = LINKS
        config["core"] = {"analytics": False, "check_update": False} | ({} if has_git else {"no_scm": True})


def _stage(workspace: Workspace, *names: str) -> None:
    """Have Git's next commit hold files, as `dvc init` does; where Git refuses, that can be made up for."""
    asked = ["git", "-C", str(workspace.root), "add", "--", *names]
    try:
        done = subprocess.run(asked, capture_output=True, text=True)
        refusal = next(iter(done.stderr.splitlines()), "it failed") if done.returncode else None
    except OSError as error:
        refusal = str(error)
    if refusal:
        tell(f"ingest\tGit does not take {', '.join(names)} ({refusal}): add them yourself where you work with Git")


def _loosen(repo, workspace: Workspace) -> None:  # type: ignore[no-untyped-def]
    """Have files in ``data/`` be their own from now on, where an earlier headstart chose hard links."""
    with lock(workspace, "init"), repo.config.edit("repo") as config:
        config["cache"]["type"] = LINKS
    tell(
        f"check out\tcache.type in .dvc/config is {LINKS} now: files in data/ may be edited, those of the store stay "
        "as they are"
    )
