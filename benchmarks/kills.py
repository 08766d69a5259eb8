"""Is anything lost, doubled or left hanging when something is killed? `kill -9` of scheduler, run, Prefect's server,
MLflow's server and a work pool's worker, each in four stages of a run that registers a new version.

After each the scheduler and the servers are started again, as a service manager does it, until the version is there; a
run that failed, since MLflow was gone, is tried again by its schedule (`--retries 3`). Then: every configuration has
one version, one version is champion, the last entry of the ledger names it, and no run, in MLflow or in Prefect, is
at work.

Command: PYTHONPATH=. python benchmarks/kills.py      (some twenty minutes on two cores)
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
from extract import machine
from mlflow import MlflowClient

from flows.runs import leases
from flows.schedules import store
from flows.servers.server import server_status
from tasks.register.ledger import read_ledger
from tasks.workspace import Workspace
from tests.flows.asking import ask
from tests.flows.homes import eventually
from tests.flows.stores import tracking_server
from tests.flows.test_stores import Member

TARGETS = ("scheduler", "run", "Prefect's server", "MLflow's server", "worker")
MOMENTS = ("ingest", "train", "register", "report")
"""Stages of the run, in which something is killed: as soon as Prefect says that one is at work, or in the cache."""

PATIENCE = 600.0
FINAL = {"COMPLETED", "FAILED", "CANCELLED", "CRASHED"}


class Story:
    """A workspace beside an MLflow server, both of which may be killed."""

    def __init__(self, folder: Path) -> None:
        (folder / "anna" / "elsewhere").mkdir(parents=True)
        self.folder, self.port = folder, 0
        self.stack = ExitStack()
        self.store = self._serve()
        self.member = Member(folder / "anna", self.store)
        self.workspace = Workspace(self.member.root)
        self.config = self.member.root / "digits.yaml"
        self.missed = 0

    def _serve(self) -> str:
        self.stack = ExitStack()
        server = tracking_server(
            self.folder, f"sqlite:///{self.folder}/team.db", str(self.folder / "artifacts"), port=self.port
        )
        address = self.stack.enter_context(server)
        self.port = int(address.rpartition(":")[2])
        return address

    def write(self, number: int) -> None:
        """A configuration that makes a candidate of its own."""
        self.config.write_text(
            "name: digits\nextract: {backbone: resnet_32px, weights: builtin}\npreprocess: {size: 32}\n"
            f"train: {{method: mlp, seed: {number}}}\nevaluate: {{robustness: 0, explain: 0}}\n"
        )

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(self.store)

    def versions(self) -> int:
        return len(self.client.search_model_versions("name = 'digits'"))

    def judged(self) -> int:
        """Versions of which the gates have said what is to become."""
        return sum("verdict" in version.tags for version in self.client.search_model_versions("name = 'digits'"))

    @contextmanager
    def begun(self, target: str) -> Iterator[Callable[[], subprocess.Popen[str]]]:
        """A run under way, by a scheduler or a worker; yields what starts that again."""
        if target == "worker":
            self.member.does("deploy", str(self.config), "--pool", "local", "--replace")
            again = lambda: self.member.start("worker", "local")  # noqa: E731
            self.process = again()
            self.trigger()
        else:
            self.miss()
            again = lambda: self.member.start("schedule")  # noqa: E731
            self.process = again()
        try:
            yield again
        finally:
            self.process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                self.process.communicate(timeout=60)
            self.process.kill()

    def miss(self) -> None:
        """As if the machine had been off for hours; another one each time, for a time has one run."""
        self.missed += 1
        store.save("digits", store.State(time.time() - 3600 * (self.missed + 1)), self.workspace)

    def trigger(self) -> None:
        [deployment] = ask(
            self.member.root, "/deployments/filter", {"deployments": {"name": {"like_": "digits-local"}}}
        )
        ask(self.member.root, f"/deployments/{deployment['id']}/create_flow_run", {})

    def kill(self, target: str) -> None:
        """`kill -9`."""
        if target in ("scheduler", "worker"):
            self.process.kill()
            self.process.wait()
        elif target == "run":
            for lease in leases.live(self.workspace):
                with suppress(psutil.Error):
                    psutil.Process(lease.owner.pid).kill()
        elif target == "Prefect's server":
            if server := server_status(self.member.root):
                os.kill(server.pid, signal.SIGKILL)
        else:
            for process in psutil.process_iter(["cmdline"]):
                with suppress(psutil.Error):
                    if "mlflow" in (told := " ".join(process.info["cmdline"] or [])) and f"{self.port}" in told:
                        process.kill()
            self.stack.close()
            self._serve()

    def unfinished(self) -> list[str]:
        """What is at work, or says so, in Prefect and in MLflow."""
        with suppress(Exception):
            runs = [run["state_name"] for run in self.member.flow_runs() if run["state_type"] not in FINAL]
            return runs + [run.info.status for run in self.runs() if run.info.status in ("RUNNING", "SCHEDULED")]
        return ["Prefect's server does not answer"]

    def runs(self) -> list[Any]:
        experiments = [each.experiment_id for each in self.client.search_experiments()]
        return list(self.client.search_runs(experiments, max_results=1000))

    def faults(self, expected: int) -> list[str]:
        """What is not as it has to be."""
        model = self.client.get_registered_model("digits")
        versions = self.client.search_model_versions("name = 'digits'")
        candidates = [version.tags.get("candidate") for version in versions]
        found = [f"{len(versions)} versions, not {expected}"] * (len(versions) != expected)
        found += ["a version twice"] * (len(set(candidates)) < len(candidates))
        found += ["a version without a verdict"] * any("verdict" not in version.tags for version in versions)
        moves = read_ledger(self.client, model)
        champion = int(model.aliases.get("champion", 0))
        found += ["no champion"] * (not champion)
        found += [f"the ledger ends at {moves[-1].version}, champion is {champion}"] * (moves[-1].version != champion)
        found += ["the ledger has a gap"] * any(before.version != after.previous for before, after in pairwise(moves))
        left = self.unfinished()
        return found + [f"left: {', '.join(left)}"] * bool(left)


def at_work(story: Story, stage: str, known: set[str]) -> bool:
    """Whether a new flow run has come to a stage."""
    with suppress(Exception):
        new = {"flow_runs": {"id": {"not_any_": sorted(known)}}} if known else {}
        tasks = ask(story.member.root, "/task_runs/filter", new | {"sort": "EXPECTED_START_TIME_DESC", "limit": 50})
        return any(task["name"].startswith(stage) for task in tasks)
    return False


def killed(story: Story, target: str, stage: str, number: int) -> tuple[float, list[str]]:
    """Kill something in a stage; returns the seconds until all is well again, and what is not."""
    story.write(number)
    known = {run["id"] for run in story.member.flow_runs()}
    with story.begun(target) as again:
        eventually(lambda: at_work(story, stage, known) or story.versions() > number, PATIENCE)
        story.kill(target)
        began = time.monotonic()
        if story.process.poll() is not None:
            story.process = again()
        if target == "worker" and not eventually(lambda: story.versions() > number, 60):
            story.trigger()  # Prefect says crashed, and a person starts it again
        if target == "run":
            story.process.send_signal(signal.SIGTERM)  # and the next scheduler catches up
            story.process.communicate(timeout=120)
            story.miss()
            story.process = again()
        eventually(lambda: story.judged() > number and not story.unfinished(), PATIENCE)
        took = time.monotonic() - began
    story.member.headstart("models")  # the next command of any kind closes what died
    eventually(lambda: not story.unfinished(), 60)
    return took, story.faults(number + 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", nargs="+", default=TARGETS, choices=TARGETS)
    arguments = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        story = Story(Path(folder))
        story.write(0)
        story.member.does("run", str(story.config), "--quiet")
        first = story.member.start(
            "schedule", str(story.config), "--interval", "3600", "--retries", "3", "--backoff", "5"
        )
        eventually(lambda: bool(store.scheduler_of("digits", story.workspace)), PATIENCE)
        first.terminate()
        first.communicate()
        print("\n| killed | in stage | well again after | what is wrong |\n|---|---|---|---|")
        number = 0
        try:
            for target in arguments.targets:
                for stage in MOMENTS:
                    number += 1
                    took, faults = killed(story, target, stage, number)
                    print(f"| {target} | {stage} | {took:.0f} s | {'; '.join(faults) or 'nothing'} |", flush=True)
        finally:
            story.member.headstart("ui", "--stop", "--force")
            story.stack.close()


if __name__ == "__main__":
    main()
