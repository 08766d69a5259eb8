"""``python -m tests.flows.filling FOLDER STAGE CONFIG``: a run whose disk is filled by another when a stage is done."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing, suppress
from pathlib import Path

COMMAND = [sys.executable, "-m", "flows.cli"]


def fill(path: Path) -> None:
    """Leave no byte free."""
    size = 2**16
    with path.open("ab", buffering=0) as file:
        while size:
            try:
                file.write(bytes(size))
            except OSError:
                size //= 2


def main(folder: Path, stage: str, config: str) -> None:
    environment = os.environ | {"HEADSTART_WORKSPACE": str(folder), "COLUMNS": "120"}
    run = subprocess.Popen(
        [*COMMAND, "run", config], env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert run.stdout is not None and run.stderr is not None
    told: list[str] = []
    listening = threading.Thread(target=told.extend, args=(run.stderr,))
    listening.start()
    said = []
    for line in run.stdout:
        said.append(line)
        if line.startswith(f"✓ {stage} "):
            fill(folder / "ballast")
    listening.join()
    with suppress(FileNotFoundError):
        (folder / "ballast").unlink()
    with closing(sqlite3.connect(folder / "mlruns" / "mlflow.db")) as connection:
        runs = connection.execute("SELECT status FROM runs").fetchall()
    subprocess.run([*COMMAND, "ui", "--stop"], env=environment, stdout=subprocess.DEVNULL)
    print(json.dumps({"code": run.wait(), "told": told, "said": said, "runs": [status for (status,) in runs]}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
