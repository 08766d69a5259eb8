"""A new gate is one file and one line: that which docs/gates.md shows."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT
from tests.register.test_gates import evidence

FILE, REGISTRATION = "tasks/register/gates/sharp.py", "from tasks.register.gates.sharp import Sharp"

MEASURED = """
import sys
from pathlib import Path

from tasks.records import Candidate, Dataset, Evaluation
from tasks.register.config import RegisterConfig
from tasks.register.gating import Evidence

folder = Path(sys.argv[1])
records = [kind.model_validate_json((folder / kind.__name__).read_text()) for kind in (Dataset, Candidate, Evaluation)]
gate = RegisterConfig.model_validate({"gates": [{"gate": "sharp", "share": 0.95}, "slices"]}).gates[-2]
print(gate.measure(Evidence(*records, None, None, folder)))
"""


def test_the_gate_that_the_page_shows_is_found_by_its_name_and_measures(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "gates.md").read_text()
    (source,) = re.findall(rf"```python\n(# {FILE}\n.*?)```", page, re.DOTALL)
    assert f"```python\n{REGISTRATION}\n```" in page
    shutil.copytree(ROOT / "tasks", tmp_path / "tasks", ignore=shutil.ignore_patterns("__pycache__", "weights"))
    (tmp_path / FILE).write_text(source)
    module = tmp_path / "tasks/register/gates/__init__.py"
    after = "from tasks.register.gates.size"
    module.write_text(module.read_text().replace(after, f"{REGISTRATION}\n{after}", 1))
    about = evidence(tmp_path)
    for record in (about.dataset, about.candidate, about.evaluation):
        (tmp_path / type(record).__name__).write_text(record.model_dump_json())
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(tmp_path)], cwd=tmp_path, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "passed=True, reason='1.0000 of the answers are sure', threshold='at least 0.95'" in done.stdout
