"""What Git and DVC leave alone in a workspace: what runs leave behind, caches, and, for Git, the images."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from tasks.workspace import Workspace, write_whole

RUNS = ("/mlruns/", "/.headstart/")


def is_in_git(workspace: Workspace) -> bool:
    """Whether the workspace is a Git repository, or a folder in one."""
    return any((folder / ".git").exists() for folder in (workspace.root, *workspace.root.parents))


def leave_out(workspace: Workspace) -> None:
    """Add to the workspace's ``.gitignore`` and ``.dvcignore`` what they lack, where there are such repositories.

    DVC would take each ``.dvc`` file that it finds for a folder of images to look after, Git the store for sources.
    """
    if is_in_git(workspace):
        _add(workspace.root / ".gitignore", ("/data", *RUNS))
    if (workspace.root / ".dvc").is_dir():
        _add(workspace.root / ".dvcignore", RUNS)


def _add(file: Path, patterns: tuple[str, ...]) -> None:
    """Add patterns to the end of a file of which nothing else is changed; one that is there in any form, or its
    opposite, is the user's word on it."""
    file = file.resolve()
    before = b""
    with suppress(FileNotFoundError):
        before = file.read_bytes()
    there = {line.strip().lstrip("!").strip("/") for line in before.decode(errors="replace").splitlines()}
    lacking = [pattern for pattern in patterns if pattern.strip("/") not in there]
    if not lacking:
        return
    end = b"\r\n" if b"\r\n" in before else b"\n"
    begun = before + end if before and not before.endswith(b"\n") else before
    mode = file.stat().st_mode & 0o777 if file.exists() else 0o666
    write_whole(file, begun + b"".join(pattern.encode() + end for pattern in lacking), mode)
