"""A new method is one file and one line: those that docs/methods.md shows."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.train.prepared import Prepared

FILE, REGISTRATION = "tasks/train/methods/nearest.py", "from tasks.train.methods.nearest import Nearest"

FITTED = f"""
import sys
from pathlib import Path

import tasks.train.methods.nearest
from flows.config import PipelineConfig, read_config
from tasks.records import Dataset, FeatureSet, Preprocessed
from tasks.train.door import train_head
from tasks.workspace import Workspace

assert Path(tasks.train.methods.nearest.__file__) == Path.cwd() / "{FILE}"
config = read_config(Path("nearest.yaml"), ("train.seed=1",), PipelineConfig)
records = [
    kind.model_validate_json(Path(kind.__name__).read_text()) for kind in (Dataset, Preprocessed, FeatureSet)
]
candidate = train_head(config.train, *records, Workspace(Path("home")))
print(candidate.method, config.train.shrink, candidate.score)
"""


@pytest.mark.slow
def test_the_method_that_the_page_shows_is_found_by_its_name_and_learns(digits: Prepared, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "methods.md").read_text()
    (source,) = re.findall(rf"```python\n(# {FILE}\n.*?)```", page, re.DOTALL)
    assert f"```python\n{REGISTRATION}\n```" in page
    for name in ("tasks", "flows"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / FILE).write_text(source)
    register(tmp_path / "tasks/train/methods/__init__.py")
    for record in (digits.dataset, digits.preprocessed, digits.features):
        (tmp_path / type(record).__name__).write_text(record.model_dump_json())
    (tmp_path / "nearest.yaml").write_text("name: x\ntrain: {method: nearest, shrink: 0.1}\n")
    done = subprocess.run(
        [sys.executable, "-c", FITTED], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    method, shrink, score = done.stdout.split()
    assert (method, shrink) == ("nearest", "0.1") and float(score) > 0.8


def register(module: Path) -> None:
    """Write the line after the imports that are there already."""
    lines = module.read_text().splitlines()
    last = max(number for number, line in enumerate(lines) if line.startswith("from tasks.train.methods."))
    module.write_text("\n".join([*lines[: last + 1], REGISTRATION, *lines[last + 1 :]]) + "\n")
