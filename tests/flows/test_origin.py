"""What a run keeps of the code and the machine that make it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from flows.lineage import origin
from flows.lineage.origin import code_facts, installed, lock, read_lock
from flows.lineage.restoring import _apply, differing
from flows.runs.tracking import flattened
from flows.servers import environment
from tasks.fingerprint import code_version
from tasks.workspace import Workspace


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A clone whose code is one file."""
    root = tmp_path / "checkout"
    for name in ("tasks", "flows"):
        (root / name).mkdir(parents=True)
    (root / "tasks" / "records.py").write_text("A = 1\n")
    (root / "photos").mkdir()
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "begin")
    return root


def git(root: Path, *command: str) -> str:
    named = ["-c", "user.name=ada", "-c", "user.email=ada@example.org"]
    return subprocess.run(["git", *named, *command], cwd=root, check=True, capture_output=True, text=True).stdout


def test_a_clean_checkout_is_its_commit(checkout: Path) -> None:
    facts, changes = code_facts(checkout)
    assert facts["commit"] == git(checkout, "rev-parse", "HEAD").strip()
    assert facts["dirty"] is False and changes == b"" and "untracked" not in facts


def test_changes_of_code_are_kept_so_that_it_can_be_made_again(checkout: Path, tmp_path: Path) -> None:
    (checkout / "tasks" / "records.py").write_text("A = 2\n")
    (checkout / "tasks" / "new.py").write_text("B = 3\n")
    (checkout / "tasks" / "table.bin").write_bytes(bytes(range(256)))
    (checkout / "tasks" / "staged.py").write_text("C = 4\n")
    git(checkout, "add", "tasks/staged.py")
    (checkout / "photos" / "cat.jpg").write_bytes(b"never this")
    before = git(checkout, "status", "--porcelain")
    facts, changes = code_facts(checkout)
    assert facts["dirty"] is True and facts["untracked"].keys() == {
        "tasks/new.py", "tasks/staged.py", "tasks/table.bin",
    }  # fmt: skip
    assert b"never this" not in changes and "photos" not in str(facts)
    assert git(checkout, "status", "--porcelain") == before
    git(checkout, "worktree", "add", "-q", str(tmp_path / "again"), facts["commit"])
    _apply(changes, tmp_path / "again")
    assert code_version(tmp_path / "again" / "tasks") == facts["version"]
    assert (tmp_path / "again" / "tasks" / "table.bin").read_bytes() == bytes(range(256))


def test_a_large_new_file_is_named_with_its_hash_and_not_kept(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(origin, "LARGEST_FILE", 10)
    (checkout / "tasks" / "weights.bin").write_bytes(bytes(11))
    facts, changes = code_facts(checkout)
    told = facts["untracked"]["tasks/weights.bin"]
    assert told["bytes"] == 11 and len(told["sha256"]) == 64 and not told["kept"] and changes == b""


def test_too_many_changes_are_said_and_not_kept(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(origin, "LARGEST_DIFF", 50)
    (checkout / "tasks" / "records.py").write_text("A = 2\n" * 100)
    facts, changes = code_facts(checkout)
    assert facts["changes"].startswith("left out: ") and changes == b""


def test_code_in_no_repository_is_its_version(tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "flows").mkdir()
    facts, changes = code_facts(tmp_path)
    assert facts["version"] == code_version(tmp_path / "tasks") and "commit" not in facts and changes == b""


def test_without_git_a_run_keeps_no_commit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = git(checkout, "rev-parse", "HEAD").strip()
    assert Workspace(checkout).commit == commit
    monkeypatch.setenv("PATH", str(checkout))
    assert Workspace(checkout).commit is None
    facts, changes = code_facts(checkout)
    assert facts["version"] == code_version(checkout / "tasks") and "commit" not in facts and changes == b""


def test_the_lock_names_what_is_installed_as_pip_reads_it() -> None:
    assert read_lock(lock()) == installed()
    assert "numpy" in installed() and "headstart" not in installed()


def test_libraries_that_differ_are_named() -> None:
    assert differing({"a": "1", "b": "2", "c": "3"}, {"a": "1", "b": "2.1", "d": "4"}) == [
        "b 2 → 2.1", "c 3 → not installed",
    ]  # fmt: skip


def test_classes_with_signs_that_mlflow_takes_in_no_name_are_one_parameter() -> None:
    costs = {"cat": {"*": 5, "dog": 2}, "a (b) & c's": {"cat": 1}}
    settings = {
        "name": "x",
        "preprocess": {"size": 32},
        "evaluate": {"costs": costs},
        "source": {"domains": {"a": {}}},
    }
    assert flattened(settings) == {
        "name": "x", "preprocess.size": 32, "evaluate.costs": costs, "source.domains.a": {},
    }  # fmt: skip
    long = {"evaluate": {"costs": {"k" * 250: {"cat": 1}}}}
    assert flattened(long) == {"evaluate.costs": long["evaluate"]["costs"]}
    assert flattened({"costs": {"cat": {"dog": 2}}}) == {"costs.cat.dog": 2}


def test_an_address_may_end_with_a_slash_and_stand_between_spaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", " http://prefect:4200/api/ ")
    environment._strip_addresses()
    assert os.environ["PREFECT_API_URL"] == "http://prefect:4200/api"
