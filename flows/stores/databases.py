"""What is wrong with a workspace's database, told before Prefect or MLflow meets it.

Both keep a SQLite file whose schema they change from version to version with Alembic. A damaged one MLflow tries again
for minutes, and either ends in a long traceback.
"""

from __future__ import annotations

import os
import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from flows.stores.remote import check_answer, check_known
from tasks.errors import StorageError
from tasks.workspace import Workspace, sqlite_file

# Looking at every page costs some 10 ms for this many bytes.
LOOKED_THROUGH = 2**25

_REVISION = re.compile(r"^(down_)?revision\b[^=]*=\s*(.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Database:
    """A SQLite file: the package whose it is, where that package's migrations lie, what the loss of the file means, and
    the command that brings an older one up to date, where the package does not do so by itself."""

    path: Path
    package: str
    migrations: str
    loss: str
    upgrade: str | None = None

    def check(self) -> None:
        """Do nothing where the package can use the file, or will make it.

        Raises:
            StorageError: the file is damaged or of another version; the message says the way out.
        """
        if not self.path.is_file() or not self.path.stat().st_size:
            return
        try:
            revision = self._revision()
        except sqlite3.OperationalError:
            return  # locked, or no table of Alembic's
        except sqlite3.DatabaseError as error:
            raise StorageError(self.damaged(str(error))) from error
        if not revision:
            return
        known, newest = self._revisions()
        if revision not in known:
            raise StorageError(
                f"{self.path} was written by another version of {self.package} than the installed "
                f"{version(self.package)}, which does not know its schema {revision}: install that version again "
                f"(pip install -U {self.package}), or {self._start_anew()}"
            )
        if self.upgrade and revision not in newest:
            raise StorageError(
                f"{self.path} was written by an older version of {self.package} than the installed "
                f"{version(self.package)}: copy the file somewhere safe, then run `{self.upgrade}`"
            )

    def damaged(self, why: str) -> str:
        """One line about a file that SQLite cannot read."""
        return f"{self.path} is damaged ({why}): restore it from a backup, or {self._start_anew()}"

    def _start_anew(self) -> str:
        # A write-ahead log that stays behind would be written into the new file.
        return f"move {self.path.name}* out of {self.path.parent}: {self.loss}"

    def _revision(self) -> str:
        with closing(sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            if self.path.stat().st_size <= LOOKED_THROUGH:
                [finding] = connection.execute("PRAGMA quick_check(1)").fetchone()
                if finding != "ok":
                    raise sqlite3.DatabaseError(" ".join(finding.split()))
            [revision] = connection.execute("SELECT version_num FROM alembic_version").fetchone() or [""]
        return str(revision)

    def _revisions(self) -> tuple[set[str], set[str]]:
        """The schemas that the installed package knows, and those of them that none follows."""
        package = find_spec(self.package)
        assert package is not None and package.origin is not None
        known: set[str] = set()
        followed: set[str] = set()
        for path in (Path(package.origin).parent / self.migrations).glob("*.py"):
            for before, value in _REVISION.findall(path.read_text()):
                (followed if before else known).update(re.findall(r"\w+", value))
        return known, known - followed


def prefect_database(home: Path) -> Database:
    """Prefect's history of a workspace."""
    loss = "Prefect then begins a new history of runs (MLflow's records, models and data lie elsewhere)"
    return Database(home / "prefect.db", "prefect", "server/database/_migrations/versions/sqlite", loss)


def check_records(workspace: Workspace) -> None:
    """Look at the MLflow store before it is used: at a file, or whether a team's server answers.

    Raises:
        StorageError: it is damaged, or of another version of MLflow.
        ServerError: it does not answer.
        ConfigurationError: a variable names no store that MLflow knows.
    """
    file = sqlite_file(workspace.tracking_uri)
    if registry := os.environ.get("MLFLOW_REGISTRY_URI"):
        check_known(registry, "MLFLOW_REGISTRY_URI")
    if file is None:
        check_known(workspace.tracking_uri, "MLFLOW_TRACKING_URI")
        check_answer(workspace.tracking_uri)
        return
    loss = "MLflow then begins anew, without the runs and models so far"
    upgrade = f"mlflow db upgrade '{workspace.tracking_uri}'"
    Database(file, "mlflow", "store/db_migrations/versions", loss, upgrade).check()
