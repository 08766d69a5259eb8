"""In other people's processes nothing of ours is called `tasks` or `flows`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tasks.relocation import UnclearImport, rename_imports, renamed

ROOT = Path(__file__).parents[1]
NAMES = {"tasks": "ours.tasks", "flows": "ours.flows"}


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("from tasks.x import tasks, flows", "from ours.tasks.x import tasks, flows"),
        ("from tasks import x as y", "from ours.tasks import x as y"),
        ("import tasks", "import ours.tasks as tasks"),
        ("import os, tasks, flows.x as x", "import os, ours.tasks as tasks, ours.flows.x as x"),
        ("if 1:\n    é = 'é'; import tasks as t # tasks", "if 1:\n    é = 'é'; import ours.tasks as t # tasks"),
        ("def f():\r\n\tfrom flows.cli import (\r\n\t\tx)", "def f():\r\n\tfrom ours.flows.cli import (\r\n\t\tx)"),
        *[(same, same) for same in ("from .tasks import x", "import tasksy", "from x.tasks import y", "'import tasks'")]
    ],
)  # fmt: skip
def test_absolute_imports_and_nothing_else_are_renamed(code: str, expected: str) -> None:
    assert renamed(code.encode(), NAMES, Path("a.py")).decode() == expected


def test_an_import_that_binds_the_old_name_is_told() -> None:
    with pytest.raises(UnclearImport, match=r"^a\.py, line 2: `import tasks\.x` needs an `as`$"):
        renamed(b"\nimport tasks.x\n", NAMES, Path("a.py"))


def test_all_code_can_be_renamed(tmp_path: Path) -> None:
    for name in NAMES:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    rename_imports(tmp_path, NAMES)
    for path in tmp_path.rglob("*.py"):
        code = path.read_text()
        assert "from tasks" not in code and "from flows" not in code, path
        compile(code, path, "exec")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel, unpacked as an installation does."""
    folder = tmp_path_factory.mktemp("wheel")
    (folder / "source").mkdir()
    for name in ("flows", "tasks", "pyproject.toml", "setup.py", "README.md", "LICENSE"):
        place = ROOT / name
        copy = shutil.copytree if place.is_dir() else shutil.copyfile
        copy(place, folder / "source" / name)
    build = "import setuptools.build_meta as b, sys; b.build_wheel(sys.argv[1])"
    subprocess.run(
        [sys.executable, "-c", build, str(folder)], cwd=folder / "source", check=True, capture_output=True, text=True
    )
    [wheel] = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


def test_the_wheel_takes_one_name(site: Path) -> None:
    assert {path.name for path in site.iterdir() if path.suffix != ".dist-info"} == {"headstart"}
    [commands] = site.glob("*.dist-info/entry_points.txt")
    assert "headstart = headstart.flows.cli:main" in commands.read_text()
    weights = ROOT / "tasks/extract/weights"
    assert {path.name for path in weights.iterdir() if path.is_file()} <= {
        path.name for path in (site / "headstart/tasks/extract/weights").iterdir()
    }


@pytest.mark.slow
def test_it_runs_beside_modules_of_the_same_names(site: Path, tmp_path: Path) -> None:
    for name in NAMES:
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the module of someone else')")
    config = tmp_path / "digits.yaml"
    config.write_text((ROOT / "configs/digits.yaml").read_text())
    code = "import sys; from headstart.flows.cli import main; sys.argv = ['headstart', *sys.argv[1:]]; main()"
    ran = subprocess.run(
        [sys.executable, "-c", code, "data", "ingest", str(config)], cwd=tmp_path, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{site}", "HEADSTART_WORKSPACE": str(tmp_path / "home")},
    )  # fmt: skip
    assert ran.returncode == 0 and "1,185 train" in ran.stdout, ran.stdout + ran.stderr
