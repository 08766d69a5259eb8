"""Where a team's data, runs and caches lie."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import subprocess
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from urllib.parse import quote, unquote

from tasks.errors import ConfigurationError

LONGEST_NAME = 255
"""Bytes of a file's or folder's name."""


@dataclass(frozen=True)
class Workspace:
    """The folder that a team works in: normally a clone of this project or a DVC repository of their own.

    ``data/`` and ``data.dvc`` hold the dataset, ``mlruns/`` what runs leave behind, ``.headstart/`` caches that
    may be deleted at any time.
    """

    root: Path

    @classmethod
    def find(cls) -> Workspace:
        """The folder named by ``HEADSTART_WORKSPACE``, else the nearest one above the current folder that DVC
        knows, else the current folder."""
        if named := os.environ.get("HEADSTART_WORKSPACE"):
            return cls(_expanded(named).resolve())
        here = Path.cwd()
        return cls(next((folder for folder in (here, *here.parents) if (folder / ".dvc").is_dir()), here))

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def dvc_file(self) -> Path:
        return self.root / "data.dvc"

    @property
    def mlruns(self) -> Path:
        return self.root / "mlruns"

    @property
    def artifacts(self) -> Path:
        """Where the runs and models of the workspace's own store lie, in a folder for each experiment."""
        return self.mlruns / "artifacts"

    @property
    def tracking_uri(self) -> str:
        """The MLflow store: ``MLFLOW_TRACKING_URI`` where it is set, else ``mlruns/mlflow.db``."""
        return os.environ.get("MLFLOW_TRACKING_URI", "").strip() or sqlite_url(self.mlruns / "mlflow.db")

    @property
    def own_store(self) -> Path | None:
        """The file ``mlruns/mlflow.db``, however it is named; None where the MLflow store is another one."""
        path, named = self.mlruns / "mlflow.db", sqlite_file(self.tracking_uri)
        return path if named and named.resolve() == path.resolve() else None

    @property
    def is_begun(self) -> bool:
        """Whether headstart or DVC has left something here; nothing is to be looked for where neither has."""
        left = (self.mlruns, self.dvc_file, self.root / ".dvc", self.root / ".headstart")
        return any(os.path.lexists(path) for path in left)

    @property
    def commit(self) -> str | None:
        """Git's name for the state that the workspace begins from; None where it lies in no repository, or where Git is
        not installed."""
        try:
            asked = subprocess.run(["git", "rev-parse", "HEAD"], cwd=self.root, capture_output=True, text=True)
        except OSError:
            return None
        return asked.stdout.strip() if asked.returncode == 0 else None

    @property
    def cache(self) -> Path:
        """``.headstart``; a folder of the user's own for a workspace that may only be read."""
        if self.is_writable:
            return self.root / ".headstart"
        own = Path(os.environ.get("XDG_CACHE_HOME") or _expanded("~/.cache"))
        if not own.is_absolute():  # a container's user may have no home
            own = Path(tempfile.gettempdir(), f"cache-of-{os.getuid()}")
        return own / "headstart" / hashlib.sha256(os.fsencode(self.root)).hexdigest()[:16]

    @property
    def is_writable(self) -> bool:
        """Whether this user may leave something here: in ``mlruns``, or by making it."""
        there = next(folder for folder in (self.mlruns, self.root, *self.root.parents) if folder.is_dir())
        return os.access(there, os.W_OK)

    def resolve(self, path: str | Path) -> Path:
        """A path as a configuration writes it: ``~`` expanded, relative to the workspace."""
        return (self.root / _expanded(path)).resolve()

    def check_writable(self) -> None:
        """Raise before any work is done if a run could not leave its results.

        Raises:
            ConfigurationError: ``mlruns/`` or the cache folder cannot be created or written.
        """
        for folder in (self.mlruns, self.cache):
            try:
                folder.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryFile(dir=folder) as probe:
                    probe.write(bytes(4096))  # a full disk still takes an empty file
            except OSError as error:
                raise ConfigurationError(
                    f"{folder} cannot be written ({error.strerror}): a run leaves its results there. "
                    "Make room or mend its permissions, or name another workspace in HEADSTART_WORKSPACE"
                ) from error


def sqlite_url(path: Path, driver: str = "sqlite") -> str:
    """Where SQLAlchemy finds a SQLite file.

    A question mark would begin the URL's query, and SQLAlchemy knows no escape for one. SQLite itself does, in its own
    URIs (https://www.sqlite.org/uri.html); slashes are escaped with it because MLflow would make folders of them.
    """
    if "?" not in str(path):
        return f"{driver}:///{path}"
    return f"{driver}:///file:{quote(str(path), safe='')}?uri=true"


def sqlite_file(url: str) -> Path | None:
    """The SQLite file that a URL of SQLAlchemy's names, as in `sqlite_url`; None where it names none.

    A relative one begins where the process was started.
    """
    named = _file_named(url)
    return None if named is None else Path(named).absolute()


def _file_named(url: str) -> str | None:
    """The file of `sqlite_file` as it is named there, which may be relative."""
    scheme, _, named = url.partition(":///")
    name = named.partition("?")[0]
    if not scheme.startswith("sqlite") or not name:
        return None
    return unquote(name.removeprefix("file:")) if name.startswith("file:") else name


def absolute_url(url: str) -> str:
    """The address of a store as it is in every folder: a relative SQLite file's begins at the current one."""
    named = _file_named(url)
    if named is None or named.startswith(":memory:") or Path(named).is_absolute():
        return url
    scheme, _, rest = url.partition(":///")
    file, query = Path(named).absolute(), rest.partition("?")[2]
    if not rest.startswith("file:") and "?" not in str(file):
        return f"{scheme}:///{file}" + (f"?{query}" if query else "")
    marks = [query] if query else []
    marks += ["uri=true"] if "uri=" not in query else []
    return f"{scheme}:///file:{quote(str(file), safe='')}?{'&'.join(marks)}"


def shown(uri: str) -> str:
    """A store's address as it may be printed: without a password."""
    return re.sub(r"(://[^/?#:]*:)[^/?#]+@", r"\1***@", uri)


def shown_store(uri: str) -> str:
    """What people know an MLflow store by: the workspace whose own it is, else its address."""
    file = sqlite_file(uri)
    return str(file.parents[1]) if file and file.parts[-2:] == ("mlruns", "mlflow.db") else shown(uri)


def write_whole(path: Path, content: str | bytes, mode: int = 0o666) -> None:
    """Write a file that others find complete or not at all, with permissions of at most `mode`."""
    # By chance: threads share a process's number, and so may containers that share a disk.
    unfinished = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _expanded(path: str | Path) -> Path:
    """With the home folder in place of ``~``, where that is known."""
    with suppress(RuntimeError):  # no user has that name, or this one has no home
        return Path(path).expanduser()
    return Path(path)


@contextmanager
def fresh_folder(final: Path) -> Iterator[Path]:
    """Fill a folder that appears under its name complete or not at all.

    Yields an empty folder beside ``final``. When the block ends well, it takes that name (what another process
    has put there meanwhile stays); when it does not, it is removed.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        dir=final.parent, prefix=f".{final.name}-", ignore_cleanup_errors=True
    ) as temporary:
        filling = Path(temporary) / final.name
        filling.mkdir()
        yield filling
        if not final.exists():
            try:
                filling.replace(final)
            except OSError:
                if not final.is_dir():  # else another process was faster, with the same content
                    raise


def keep_beside(path: Path, ending: str) -> Path:
    """Move what stands at a path out of the way, to a free name in its folder: ``NAME.ending``, ``NAME.ending.2``...

    A name that would be longer than file systems allow is cut. Nothing is overwritten.
    """
    for number in count(1):
        suffix = f".{ending}.{number}" if number > 1 else f".{ending}"
        name = f"{path.name}{suffix}"
        if len(os.fsencode(name)) > LONGEST_NAME:
            name = os.fsencode(path.name)[: LONGEST_NAME - len(suffix)].decode(errors="ignore") + suffix
        kept = path.with_name(name)
        if not os.path.lexists(kept):
            os.rename(path, kept)
            return kept
    raise AssertionError("there is always a free name")


def check_output(output: Path | None, endings: Collection[str] = ()) -> None:
    """Raise where a file that is to be written could not be, before any work is done for it.

    Args:
        endings: those that its name may have, any if empty.

    Raises:
        ConfigurationError: its name ends otherwise, its folder is not there or cannot be written, or it is a folder.
    """
    if output is None:
        return
    if endings and output.suffix not in endings:
        raise ConfigurationError(f"{output} must end in {' or '.join(endings)}")
    if not output.parent.is_dir():
        raise ConfigurationError(
            f"{output.parent} is no folder: {output.name} cannot be written there; make it, or name another place "
            "with -o"
        )
    if output.is_dir():
        raise ConfigurationError(f"{output} is a folder: name a file with -o")
    if not os.access(output.parent, os.W_OK):  # where it is written before it has its name
        raise ConfigurationError(f"{output.parent} cannot be written: name another place for {output.name} with -o")
