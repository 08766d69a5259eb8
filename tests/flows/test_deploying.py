"""Pipelines that Prefect's own workers run: a real server, a real worker, real runs."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from uuid import uuid4

import pytest

from tests.flows.asking import ask, client
from tests.flows.homes import DIGITS, ROOT, Home, eventually

pytestmark = pytest.mark.slow

QUICK = "-s", "evaluate.explain=0", "-s", "evaluate.robustness=0"
RUN = 400
"""Seconds in which a run is done, also on a busy machine."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    home = Home(tmp_path_factory.mktemp("deployed"))
    yield home
    home.headstart("ui", "--stop", "--force")


@pytest.fixture(scope="module")
def worker(home: Home) -> Iterator[subprocess.Popen[str]]:
    """A worker of the pool ``local``, to which digits are deployed."""
    deployed = home.headstart("deploy", DIGITS, "--pool", "local", *QUICK)
    assert deployed.returncode == 0 and "in the process pool local (new)" in deployed.stdout, deployed.stderr
    process = home.start("worker", "local")
    yield process
    process.send_signal(signal.SIGINT)
    try:
        process.communicate(timeout=60)
    except subprocess.TimeoutExpired:  # Prefect's worker misses one now and then, and obeys the second
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


def trigger(home: Home, **train: object) -> str:
    """Start a run as Prefect's form does."""
    [deployment] = ask(home.root, "/deployments/filter", {"deployments": {"name": {"like_": "digits-local-"}}})
    config = deployment["parameters"]["config"]
    values = {"config": config | {"train": train} if train else config}
    made = ask(home.root, f"/deployments/{deployment['id']}/create_flow_run", {"parameters": values})
    return str(made["id"])


def state(home: Home, flow_run: str) -> str:
    return next(run["state_name"] for run in home.flow_runs() if run["id"] == flow_run)


def statuses(home: Home) -> list[str]:
    [experiment] = [each for each in home.client.search_experiments() if each.name == "digits"]
    return [run.info.status for run in home.client.search_runs([experiment.experiment_id])]


def test_a_worker_does_what_prefects_form_says_and_ends_what_its_page_cancels(
    home: Home, worker: subprocess.Popen[str]
) -> None:
    first = trigger(home)
    assert eventually(lambda: state(home, first) == "Completed", RUN), state(home, first)
    assert statuses(home) == ["FINISHED"]
    assert home.client.get_model_version_by_alias("digits", "champion").version in (1, "1")
    second = trigger(home, method="mlp", epochs=100_000)
    assert eventually(lambda: statuses(home) == ["RUNNING", "FINISHED"], RUN)
    ask(home.root, f"/flow_runs/{second}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})
    assert eventually(lambda: state(home, second) == "Cancelled", 90), state(home, second)
    home.headstart("models")
    assert statuses(home) == ["KILLED", "FINISHED"]


def test_what_is_deployed_again_is_brought_up_to_date_and_a_form_that_is_wrong_is_refused(
    home: Home, worker: subprocess.Popen[str]
) -> None:
    again = home.headstart("deploy", DIGITS, "--pool", "local", "-s", "train.method=ridge")
    assert again.returncode == 0 and "(new)" not in again.stdout
    [deployment] = ask(home.root, "/deployments/filter", {"deployments": {"name": {"like_": "digits-local-"}}})
    assert deployment["parameters"]["config"]["train"]["method"] == "ridge"
    assert deployment["parameter_openapi_schema"]["definitions"]["SplitConfig"]
    missing = home.headstart("worker", "locall")
    assert missing.returncode == 2 and "there is no work pool locall" in missing.stderr
    wrong = home.headstart("deploy", DIGITS, "--pool", "cluster", "--type", "kubernetes")
    assert wrong.returncode == 2 and "--claim NAME" in wrong.stderr and len(wrong.stderr.splitlines()) == 1


def test_what_a_worker_cannot_begin_ends_with_an_exit_code(home: Home) -> None:
    """By which Prefect's worker knows that nobody will tell of the run."""
    environment = home.environment | {"PREFECT__FLOW_RUN_ID": str(uuid4())}
    command = [sys.executable, "-m", "flows.cli", "execute"]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ended.returncode != 0, ended.stdout


def test_a_pool_whose_template_takes_nothing_of_ours_is_told_in_one_line(home: Home) -> None:
    home.headstart("deploy", DIGITS, "--pool", "narrow")
    variables = {"type": "object", "properties": {"command": {"type": "integer"}}}
    template = {"job_configuration": {"command": "{{ command }}"}, "variables": variables}
    with client(home.root) as asking:
        asking.patch("/work_pools/narrow", json={"base_job_template": template}).raise_for_status()
    refused = home.headstart("deploy", DIGITS, "--pool", "narrow")
    assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1, refused.stderr
    assert "the job template of the pool narrow does not take" in refused.stderr


def test_prefects_own_command_deploys_from_the_checkout(home: Home) -> None:
    home.headstart("deploy", DIGITS, "--pool", "gpu")
    code = (
        "import runpy, sys; from pathlib import Path; from flows.servers.server import ensure_server;"
        "ensure_server(Path(sys.argv[1])); sys.argv = ['prefect', '--no-prompt', 'deploy', '--all'];"
        "runpy.run_module('prefect', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(home.root)], cwd=ROOT, env=home.environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    [deployment] = ask(home.root, "/deployments/filter", {"deployments": {"name": {"any_": ["digits"]}}})
    assert deployment["job_variables"] == {"command": "headstart execute"}
    assert deployment["parameters"] == {"config": {"name": "digits"}}
