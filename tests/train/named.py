"""A process that makes candidates in a workspace from nothing, and prints their names; see `tests.train.test_door`."""

from __future__ import annotations

import sys
from pathlib import Path

from tasks.train.methods.full import Full
from tasks.train.methods.linear import Linear
from tasks.workspace import Workspace
from tests.train.prepared import prepare

if __name__ == "__main__":
    root = Path(sys.argv[1])
    ready = prepare({"folder": "photos"}, Workspace(root))
    for method in (Linear(), Full(epochs=1, batch_size=8)):
        print(method.method, ready.train(method, root).fingerprint)
