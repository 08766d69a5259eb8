"""A student learns from a registered model, from the command to the card, as a user does it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.artifacts import download_artifacts

from tests.flows.homes import DIGITS, Home

pytestmark = pytest.mark.slow

QUICK = ("-s", "evaluate.robustness=0", "-s", "evaluate.explain=0")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A workspace with a teacher."""
    home = Home(tmp_path_factory.mktemp("home"))
    made = home.headstart("run", DIGITS, "--quiet", *QUICK)
    assert made.returncode == 0, made.stderr
    yield home
    home.headstart("ui", "--stop", "--force")


def test_a_student_names_its_teacher_wherever_it_is_told_of(home: Home, tmp_path: Path) -> None:
    (config := tmp_path / "student.yaml").write_text(
        "name: student\ningest: {source: {embedded: digits}, split: {shots: 5}}\npreprocess: {size: 32}\n"
        "train: {method: distill, teacher: digits}\n"
    )
    made = home.headstart("run", str(config), *QUICK)
    assert made.returncode == 0 and made.stderr == "", made.stderr
    assert "digits@1 looked at 0 images, 1,797 it knew" in made.stdout and "taught by digits@1" in made.stdout
    assert "pass: chance, champion, leak, parity" in made.stdout
    version = home.client.get_model_version_by_alias("student", "champion")
    assert version.tags["teachers"] == "digits@1" and "| **teachers** | digits@1 |" in version.description
    metrics = home.client.get_run(version.run_id).data.metrics
    # Fifty labels, and a teacher that had a thousand.
    assert metrics["test/accuracy"] > 0.95 and metrics["test/teacher_accuracy"] > 0.97
    told = home.headstart("lineage", "student").stdout
    assert "teachers: digits@1" in told
    tracking = f"sqlite:///{home.root}/mlruns/mlflow.db"
    page = Path(
        download_artifacts(run_id=version.run_id, artifact_path="report.html", tracking_uri=tracking)
    ).read_text()
    assert "<dt>teachers</dt><dd>digits@1</dd>" in page and "teacher accuracy" in page
