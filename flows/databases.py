"""What is wrong with a workspace's database, told before Prefect or MLflow meets it.

Both keep a SQLite file whose schema they change from version to version with Alembic. A damaged one MLflow tries again
for minutes, and either ends in a long traceback.
"""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from tasks.errors import StorageError
from tasks.workspace import Workspace, sqlite_url

# Looking at every page costs some 10 ms for this many bytes.
LOOKED_THROUGH = 2**25

_REVISION = re.compile(r"^(down_)?revision\b[^=]*=\s*(.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Database:
    """A SQLite file: which package's it is, where that package's migrations lie, and what its loss means."""

    path: Path
    package: str
    migrations: str
    loss: str

    def check(self) -> None:
        """Do nothing where the package can use the file, or may mend it by itself.

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
        if revision and revision not in self._known():
            raise StorageError(
                f"{self.path} was written by another version of {self.package} than the installed "
                f"{version(self.package)}, which does not know its schema {revision}: install that version again "
                f"(pip install -U {self.package}), or {self._start_anew()}"
            )

    def damaged(self, why: str) -> str:
        """One line about a file that SQLite cannot read."""
        return f"{self.path} is damaged ({why}): restore it from a backup, or {self._start_anew()}"

    def is_older(self) -> bool:
        """Whether the schema is one that the installed package has left behind."""
        return self.path.is_file() and self._revision() not in (None, *self._newest())

    def _start_anew(self) -> str:
        # A write-ahead log that stays behind would be written into the new file.
        return f"move {self.path.name}* out of {self.path.parent}: {self.loss}"

    def _revision(self) -> str | None:
        with closing(sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            if self.path.stat().st_size <= LOOKED_THROUGH:
                [finding] = connection.execute("PRAGMA quick_check(1)").fetchone()
                if finding != "ok":
                    raise sqlite3.DatabaseError(" ".join(finding.split()))
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        return str(row[0]) if row else None

    def _revisions(self) -> list[tuple[set[str], set[str]]]:
        """Of each migration: its name, and those that it follows."""
        package = find_spec(self.package)
        assert package is not None and package.origin is not None
        found = []
        for path in (Path(package.origin).parent / self.migrations).glob("*.py"):
            named = {before: set(re.findall(r"\w+", value)) for before, value in _REVISION.findall(path.read_text())}
            found.append((named.get("", set()), named.get("down_", set())))
        return found

    def _known(self) -> set[str]:
        return set().union(*(names for names, _ in self._revisions()))

    def _newest(self) -> set[str]:
        revisions = self._revisions()
        return set().union(*(names for names, _ in revisions)) - set().union(*(before for _, before in revisions))


def prefect_database(home: Path) -> Database:
    """Prefect's history of a workspace; Prefect brings one of an older version up to date by itself."""
    loss = "Prefect then begins a new history of runs (MLflow's records, models and data lie elsewhere)"
    return Database(home / "prefect.db", "prefect", "server/database/_migrations/versions/sqlite", loss)


def check_records(workspace: Workspace) -> None:
    """Look at the workspace's own MLflow store before it is used.

    Raises:
        StorageError: it is damaged, or of another version of MLflow.
    """
    loss = "MLflow then begins anew, without the runs and models so far"
    database = Database(workspace.mlruns / "mlflow.db", "mlflow", "store/db_migrations/versions", loss)
    own = sqlite_url(database.path)
    if workspace.tracking_uri != own:
        return
    database.check()
    if database.is_older():
        raise StorageError(
            f"{database.path} was written by an older version of MLflow than the installed {version('mlflow')}: copy "
            f"the file somewhere safe, then run `mlflow db upgrade '{own}'`"
        )
