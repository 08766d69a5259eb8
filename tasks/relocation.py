"""This package under another name, for the processes of others, who may have a module ``tasks`` of their own."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

from tasks.errors import HeadstartError


class UnclearImport(HeadstartError):
    """An import that cannot be given another name without changing what it binds."""


def rename_imports(folder: Path, names: Mapping[str, str]) -> None:
    """Give the absolute imports of a copied or moved package's files other names.

    Args:
        names: new names by old ones, both of packages: ``{"tasks": "headstart.tasks"}``.

    Raises:
        UnclearImport: a file says ``import tasks.x`` without ``as``, which binds ``tasks``.
    """
    for path in folder.rglob("*.py"):
        path.write_bytes(renamed(path.read_bytes(), names, path))


def renamed(code: bytes, names: Mapping[str, str], path: Path) -> bytes:
    """A file's code with its absolute imports under other names; all else stays as it is, byte by byte."""
    lines = code.splitlines(keepends=True)
    # From the last to the first: what stands before a place does not move.
    for line, column, old, new in sorted(_places(ast.parse(code), names, path), reverse=True):
        head, tail = lines[line - 1][:column], lines[line - 1][column:]
        lines[line - 1] = head + tail.replace(old.encode(), new.encode(), 1)
    return b"".join(lines)


def _places(tree: ast.Module, names: Mapping[str, str], path: Path) -> Iterator[tuple[int, int, str, str]]:
    """Line, column, and what is to be replaced by what from there on."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not node.level and (new := _new(node.module or "", names)):
            yield node.lineno, node.col_offset, f"from {node.module}", f"from {new}"
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if new := _new(alias.name, names):
                    if "." in alias.name and not alias.asname:
                        raise UnclearImport(f"{path}, line {alias.lineno}: `import {alias.name}` needs an `as`")
                    yield alias.lineno, alias.col_offset, alias.name, new if alias.asname else f"{new} as {alias.name}"


def _new(module: str, names: Mapping[str, str]) -> str | None:
    root, dot, rest = module.partition(".")
    return names[root] + dot + rest if root in names else None
