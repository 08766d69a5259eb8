"""A configuration's file: YAML, as people and their editors save it."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from tasks.encoding import encoding_of
from tasks.errors import ConfigurationError


class _Loader(yaml.SafeLoader):
    """YAML as PyYAML reads it safely, but no key may stand twice: the last one would win without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode) and name in lines:
                raise yaml.constructor.ConstructorError(
                    problem=f"the key {name!r} stands twice, in line {lines[name]:,} and here: keep one of them",
                    problem_mark=key.start_mark,
                )
            lines[name] = line
        return super().construct_mapping(node, deep)


def read_document(path: Path) -> dict[str, Any]:
    """The keys and values of a YAML file, which may be UTF-8, or UTF-16 with a byte order mark.

    Raises:
        ConfigurationError: the file is missing, is no text or no YAML, or holds anything but keys and values.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be read: {error.strerror}. Name a .yaml file; configs/ has examples"
        ) from error
    try:
        values = yaml.load(_decoded(content, path), _Loader)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path} is no valid YAML: {_told(error)}") from error
    except (ValueError, RecursionError) as error:  # a date such as 2026-13-45; brackets in thousands of brackets
        raise ConfigurationError(f"{path} is no valid YAML: {error}") from error
    if not isinstance(values, dict):
        what = "is empty" if values is None else f"holds {'a list' if isinstance(values, list) else repr(values)}"
        raise ConfigurationError(f"{path} {what}: it must hold keys and values, such as 'name: digits'")
    return values


def _decoded(content: bytes, path: Path) -> str:
    encoding = encoding_of(content) or "utf-8"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].replace(b"\r\n", b"\n").replace(b"\r", b"\n").count(b"\n") + 1
        raise ConfigurationError(f"{path}: line {line:,} is not {encoding.upper()}: save the file as UTF-8") from error


def _told(error: yaml.YAMLError) -> str:
    """What is wrong, and in which line."""
    problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
    if not problem or mark is None:
        return " ".join(str(error).split())
    if "'\\t'" in problem:
        problem = "a tab stands where YAML takes spaces only"
    return f"line {mark.line + 1:,}, column {mark.column + 1:,}: {problem}"
