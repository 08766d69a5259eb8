"""The rules of the house, read from the code's imports (see docs/architecture.md)."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
STAGES = ["ingest", "preprocess", "extract", "train", "model", "evaluate", "register", "report"]
# What runs where torch alone is installed, or is started anew for every core: serving images, GPU machines without the
# orchestration, workers.
COMPUTE = [
    "ingest/decode.py", "ingest/examine.py", "preprocess/recipe.py", "extract/backbones.py", "extract/engine.py",
    "extract/weights.py", "extract/residual.py", "train/heads.py", "train/solvers.py",
]  # fmt: skip
# How a function becomes a stage, and images that are shared out to workers.
PREFECT = ["tasks/door.py", "tasks/extract/door.py"]
# Where a network is trained through.
LIGHTNING = ["pretraining.py", "tuning/module.py", "tuning/run.py", "tuning/kept.py", "tuning/watch.py"]
# What only stages need that are not found in the cache, and what only runs need.
COMPUTING = {"torch", "torchvision", "lightning", "sklearn", "matplotlib", "optuna", "dvc"}
ORCHESTRATING = {"prefect", "mlflow"}
SOURCES = sorted((ROOT / "tasks").rglob("*.py"))
FLOWS = sorted((ROOT / "flows").rglob("*.py"))
ALL = [*SOURCES, *FLOWS]
# The packages of `flows`, of which each builds on those before it.
ROOMS = ["stores", "servers", "lineage", "runs", "schedules", "commands"]


@cache
def imports(path: Path) -> tuple[str, ...]:
    """Every module that a file imports, also inside functions."""
    return tuple(_imports(path))


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_a_stage_imports_only_stages_before_it_and_no_flow(path: Path) -> None:
    parts = path.relative_to(ROOT / "tasks").parts
    allowed = set(STAGES[: STAGES.index(parts[0]) + 1]) if parts[0] in STAGES else set()
    for module in imports(path):
        assert module.split(".")[0] != "flows", f"{name(path)} imports {module}"
        below = module.split(".")[1:2]
        if module.startswith("tasks.") and below[0] in STAGES:
            assert below[0] in allowed, f"{name(path)} imports {module}, a later stage"


@pytest.mark.parametrize("path", [path for path in FLOWS if path.parent.name in ROOMS], ids=name)
def test_a_package_of_flows_imports_only_those_before_it(path: Path) -> None:
    allowed = {f"flows.{room}" for room in ROOMS[: ROOMS.index(path.parent.name) + 1]}
    met = {module for module in modules_imported(path) if module.removeprefix("flows.") in ROOMS}
    assert met <= allowed, f"{name(path)} imports from {', '.join(sorted(met - allowed))}"


def test_every_package_of_flows_has_its_place() -> None:
    assert {path.parent.name for path in FLOWS} == {"flows", *ROOMS}


@pytest.mark.slow
@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_prefect_is_met_only_in_stages_and_mlflow_only_in_register(path: Path) -> None:
    modules = set(imports(path))
    used = {module.split(".")[0] for module in modules}
    assert "prefect" not in used or name(path) in PREFECT
    assert "tasks.door" not in modules or path.name == "stage.py"
    assert "mlflow" not in used or path.parent.name == "register"
    assert "lightning" not in used or path.relative_to(ROOT / "tasks" / "train").as_posix() in LIGHTNING


@pytest.mark.parametrize("file", COMPUTE)
def test_compute_code_needs_neither_prefect_nor_mlflow_nor_dvc_however_far_one_follows_its_imports(file: str) -> None:
    seen, waiting = set(), [ROOT / "tasks" / file]
    while waiting:
        path = waiting.pop()
        seen.add(path)
        for module in imports(path):
            assert module.split(".")[0] not in {"prefect", "mlflow", "dvc", "pydantic", "lightning"}, (
                name(path),
                module,
            )
            for target in (ROOT / f"{module.replace('.', '/')}{ending}" for ending in (".py", "/__init__.py")):
                if target.is_file() and target not in seen:
                    waiting.append(target)


def modules_imported(path: Path) -> set[str]:
    """The modules of this project that a file imports, and the packages that these lie in but the file does not."""
    own = module_name(path)
    found = set()
    for module in imports(path):
        parts = module.split(".")
        packages = {".".join(parts[:count]) for count in range(1, len(parts) + 1)}
        found |= {package for package in packages & MODULES if not f"{own}.".startswith(f"{package}.")}
    return found


def module_name(path: Path) -> str:
    return name(path).removesuffix(".py").replace("/", ".").removesuffix(".__init__")


MODULES = {module_name(source) for source in ALL}


def test_imports_go_one_way() -> None:
    TopologicalSorter({module_name(path): modules_imported(path) for path in ALL}).prepare()


@pytest.mark.parametrize(
    ("module", "unneeded"),
    [
        ("flows.config", {*COMPUTING, *ORCHESTRATING, "pandas", "numpy", "pyarrow", "PIL"}),
        ("flows.cli", {*COMPUTING, *ORCHESTRATING, "pandas", "numpy", "pyarrow", "PIL", "pydantic"}),
        ("flows.transfer", COMPUTING),
        ("tasks.register.door", COMPUTING),
    ],
)
def test_what_takes_seconds_to_import_is_imported_where_it_is_used(module: str, unneeded: set[str]) -> None:
    code = f"import sys, {module}; print(*{{name.split('.')[0] for name in sys.modules}})"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not unneeded & set(loaded.split())


def test_what_a_stage_keeps_is_named_by_the_code_of_all_of_it() -> None:
    """As the flow's cache has it: else a changed stage would be done again, and find what it kept before."""
    own = re.compile(r"code_version\(Path\(__file__\)\.parent(?:s\[(\d)\])?\)")
    folders = {path: path.parents[int(above or 0)] for path in SOURCES for above in own.findall(path.read_text())}
    assert len(folders) > 5
    for path, folder in folders.items():
        assert folder in {ROOT / "tasks" / stage for stage in STAGES}, f"{name(path)} names it by {name(folder)}"


def test_what_a_docstring_points_at_is_there() -> None:
    pointed = re.compile(r"`((?:tasks|flows|tests)(?:\.\w+)+)`")
    files = [path for folder in ("tasks", "flows", "tests") for path in sorted((ROOT / folder).rglob("*.py"))]
    lost = {f"{name(path)}: {each}" for path in files for each in pointed.findall(path.read_text()) if is_lost(each)}
    assert not lost


def is_lost(dotted: str) -> bool:
    """Whether a module is not there, or what is named inside it is defined nowhere in its source."""
    parts = dotted.split(".")
    for count in range(1, len(parts) + 1):
        if (file := ROOT.joinpath(*parts[:count]).with_suffix(".py")).is_file():
            defined = (rf"^ *(?:(?:def|class) )?{part}\b *[(:=]" for part in parts[count:])
            return not all(re.search(each, file.read_text(), re.MULTILINE) for each in defined)
    return not ROOT.joinpath(*parts).is_dir()


@pytest.mark.parametrize("stage", STAGES)
def test_importing_a_stages_package_imports_nothing(stage: str) -> None:
    assert list(imports(ROOT / "tasks" / stage / "__init__.py")) == []


@pytest.mark.parametrize("path", ALL, ids=name)
def test_no_file_holds_two_ideas(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400
