"""Rows of registered models in MLflow's SQLite file: what is asked of them and done to them, and what they say.

It is what MLflow 3.17 does to them. That holds for `REVISION`, the schema that version made: whoever opens a file of
that schema has to understand what MLflow 3.17 wrote into it, whichever version they have.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from typing import Any

from tasks.register.client import Declined

REVISION = "dc11669786a5"
"""The schema whose rows are known here."""

# Asks for SQLite's JSON as well, which the other statements need.
KNOWN = """
SELECT version_num, json('true') FROM alembic_version
WHERE NOT EXISTS (SELECT 1 FROM registered_models WHERE workspace <> 'default')
    AND NOT EXISTS (SELECT 1 FROM webhooks WHERE workspace <> 'default')
"""


def no_prompt(models: str) -> str:
    """SQL for rows that MLflow's prompts, models with a tag, have no part in.

    Args:
        models: the table's name in the statement; it has workspaces and names of models.
    """
    return f"""NOT EXISTS (SELECT 1 FROM registered_model_tags AS p WHERE p.workspace = {models}.workspace
        AND p.name = {models}.name AND p.key = 'mlflow.prompt.is_prompt' AND p.value = 'true')"""


MODELS = f"""
SELECT name, creation_time,
    (SELECT json_group_object(key, value) FROM registered_model_tags AS t
        WHERE t.workspace = m.workspace AND t.name = m.name),
    (SELECT json_group_object(alias, version) FROM registered_model_aliases AS a
        WHERE a.workspace = m.workspace AND a.name = m.name)
FROM registered_models AS m
WHERE workspace = 'default' AND {no_prompt("m")}
"""

# A version that was deleted stays as a row of a stage of its own.
VERSIONS = """
SELECT name, version, creation_time, description, run_id,
    (SELECT json_group_object(key, value) FROM model_version_tags AS t
        WHERE t.workspace = v.workspace AND t.name = v.name AND t.version = v.version)
FROM model_versions AS v
WHERE workspace = 'default' AND current_stage <> 'Deleted_Internal' AND name = ?
"""
TAGGED = """ AND EXISTS (SELECT 1 FROM model_version_tags AS t
    WHERE t.workspace = v.workspace AND t.name = v.name AND t.version = v.version AND key = ? AND value = ?)"""

ADD_MODEL = """
INSERT INTO registered_models (workspace, name, creation_time, last_updated_time, description)
VALUES ('default', ?1, ?2, ?2, ?3)
"""
PUT_MODEL_TAG = """
INSERT OR REPLACE INTO registered_model_tags (workspace, name, key, value) VALUES ('default', ?, ?, ?)
"""
DROP_MODEL_TAG = "DELETE FROM registered_model_tags WHERE workspace = 'default' AND name = ? AND key = ?"
PUT_ALIAS = """
INSERT OR REPLACE INTO registered_model_aliases (workspace, name, alias, version) VALUES ('default', ?, ?, ?)
"""
DROP_ALIAS = "DELETE FROM registered_model_aliases WHERE workspace = 'default' AND name = ? AND alias = ?"
DROP_ALIASES = "DELETE FROM registered_model_aliases WHERE workspace = 'default' AND name = ? AND version = ?"
PLACE = """
SELECT coalesce(nullif(storage_location, ''), source) FROM model_versions
WHERE workspace = 'default' AND name = ? AND version = ?
"""
LAST_NUMBER = "SELECT coalesce(max(version), 0) FROM model_versions WHERE workspace = 'default' AND name = ?"
ADD_VERSION = """
INSERT INTO model_versions
    (workspace, name, version, creation_time, last_updated_time, description, current_stage, source, storage_location,
    status)
VALUES ('default', ?1, ?2, ?3, ?3, ?4, 'None', ?5, ?5, 'READY')
"""
DESCRIBE_VERSION = """
UPDATE model_versions SET description = ?, last_updated_time = ?
WHERE workspace = 'default' AND name = ? AND version = ?
"""
DELETE_VERSION = """
UPDATE model_versions SET current_stage = 'Deleted_Internal', last_updated_time = ?, description = NULL, user_id = NULL,
    source = 'REDACTED-SOURCE-PATH', run_id = 'REDACTED-RUN-ID', run_link = 'REDACTED-RUN-LINK', status_message = NULL
WHERE workspace = 'default' AND name = ? AND version = ?
"""
PUT_VERSION_TAG = """
INSERT OR REPLACE INTO model_version_tags (workspace, name, version, key, value) VALUES ('default', ?, ?, ?, ?)
"""
TOUCH = "UPDATE registered_models SET last_updated_time = ? WHERE workspace = 'default' AND name = ?"

LONGEST = 100_000
"""Signs of a tag's value that MLflow takes."""


@dataclass(frozen=True)
class OwnVersion:
    """See `tasks.register.client.Version`."""

    name: str
    version: int
    creation_timestamp: int
    description: str | None
    run_id: str | None
    tags: dict[str, str]


@dataclass(frozen=True)
class OwnModel:
    """See `tasks.register.client.Model`."""

    name: str
    creation_timestamp: int
    tags: dict[str, str]
    aliases: dict[str, int]


def find_model(database: sqlite3.Connection, name: str) -> OwnModel:
    """A registered model; prompts, which MLflow keeps among them, are none.

    Raises:
        Declined: there is none of that name.
    """
    for row in database.execute(f"{MODELS} AND name = ?", (name,)):
        return as_model(row)
    raise Declined(f"there is no registered model {name!r}", "RESOURCE_DOES_NOT_EXIST")


def find_version(database: sqlite3.Connection, name: str, version: str | int) -> OwnVersion:
    """A version that was not deleted.

    Raises:
        Declined: there is none, or that is no number.
    """
    find_model(database, name)
    try:
        number = int(version)
    except ValueError as error:
        raise Declined(f"{version!r} is no number of a version", "INVALID_PARAMETER_VALUE") from error
    for row in database.execute(f"{VERSIONS} AND version = ?", (name, number)):
        return as_version(row)
    raise Declined(f"registered model {name!r} has no version {version}", "RESOURCE_DOES_NOT_EXIST")


def as_model(row: tuple[Any, ...]) -> OwnModel:
    """A row of `MODELS`."""
    name, born, tags, aliases = row
    return OwnModel(name, born, json.loads(tags), json.loads(aliases))


def as_version(row: tuple[Any, ...]) -> OwnVersion:
    """A row of `VERSIONS`."""
    name, number, born, description, run, tags = row
    return OwnVersion(name, number, born, description, run, json.loads(tags))


def whole(value: str) -> str:
    """A tag's value, as MLflow takes it.

    Raises:
        Declined: it is longer.
    """
    if len(value) > LONGEST:
        raise Declined(f"a tag's value has {len(value):,} signs, of which {LONGEST:,} fit", "INVALID_PARAMETER_VALUE")
    return value
