"""A model's life on real servers: scheduled, trained again on new data, held back, approved on Prefect's page, rolled
back; and all of it in the ledger. It waits for states, and never sleeps and hopes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient
from PIL import Image
from sklearn.datasets import load_digits

from flows.servers.access import secret_of
from flows.servers.environment import prefect_home
from flows.servers.server import server_status
from tests.flows.asking import ask
from tests.flows.homes import eventually
from tests.flows.stores import POSTGRES, postgresql, tracking_server
from tests.flows.test_stores import Member

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.chromium]

PATIENCE = 300
"""Seconds until something has come about, also on a busy machine."""


@pytest.fixture(scope="module")
def member(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Member]:
    """A workspace beside a team's MLflow server, which keeps its records in PostgreSQL where that is installed."""
    shared, root = tmp_path_factory.mktemp("shared"), tmp_path_factory.mktemp("anna")
    (root / "elsewhere").mkdir()
    with ExitStack() as stack:
        store = f"sqlite:///{shared}/team.db"
        if (POSTGRES / "initdb").exists():
            store = stack.enter_context(postgresql())
        member = Member(root, stack.enter_context(tracking_server(shared, store, str(shared / "artifacts"))))
        yield member
        member.headstart("ui", "--stop", "--force")


def draw(folder: Path, labels: str, first: int, last: int) -> None:
    """Digits as pictures in class folders."""
    digits = load_digits()
    for number in range(first, last):
        if str(digits.target[number]) in labels:
            path = folder / str(digits.target[number]) / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.asarray(digits.images[number] * 15, np.uint8)
            Image.fromarray(pixels).save(path)


def champion(member: Member) -> int | None:
    """Which version is champion, as MLflow says."""
    client = MlflowClient(member.store)
    found = [model for model in client.search_registered_models() if model.name == "digits"]
    return int(found[0].aliases["champion"]) if found and "champion" in found[0].aliases else None


def versions(member: Member) -> int:
    return len(MlflowClient(member.store).search_model_versions("name = 'digits'"))


def suspended(member: Member) -> list[dict[str, Any]]:
    """Flow runs that wait for a person."""
    return [run for run in member.flow_runs() if run["state_name"] == "Suspended"]


def approve_on_prefects_page(member: Member, flow_run: str, why: str, who: str) -> None:
    """As a person does it: log in, open the run, resume it, fill in the form."""
    from playwright.sync_api import sync_playwright

    server = server_status(member.root)
    assert server is not None
    page, secret = server.dashboard, secret_of(prefect_home(member.root))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        shown = browser.new_page(viewport={"width": 1280, "height": 900})
        shown.set_default_timeout(120_000)
        shown.goto(f"{page}/headstart#{secret}")
        shown.wait_for_url(lambda url: "headstart" not in url)
        shown.goto(f"{page}/runs/flow-run/{flow_run}")
        shown.get_by_role("button", name="Resume").first.click()
        form = shown.get_by_role("dialog")
        form.get_by_text("gate champion").wait_for()
        choice = form.locator(".p-select-button__control").first
        choice.focus()
        shown.keyboard.press("ArrowDown")
        shown.locator(".p-select-option").filter(has_text="approve").first.wait_for()
        shown.keyboard.press("Enter")
        for place, text in enumerate((why, who)):
            form.locator("textarea").nth(place).fill(text)
        form.get_by_role("button", name="Submit").click()
        form.wait_for(state="hidden")
        browser.close()


def test_a_models_life(member: Member) -> None:
    photos, config = member.root / "photos", member.root / "digits.yaml"
    config.write_text(
        "name: digits\ningest: {source: {folder: photos}}\nextract: {backbone: resnet_32px, weights: builtin}\n"
        "preprocess: {size: 32}\nevaluate: {robustness: 0, explain: 0}\n"
    )
    draw(photos, "012", 0, 500)
    scheduler = member.start("schedule", str(config), "--watch", "1")
    try:
        assert eventually(lambda: champion(member) == 1, PATIENCE)
        # New data that it is as good on: the second version becomes champion by itself.
        draw(photos, "012", 500, 900)
        assert eventually(lambda: champion(member) == 2, PATIENCE)
        # A class is gone, and a version that does not know it is not let through without a person.
        shutil.rmtree(photos / "2")
        assert eventually(lambda: versions(member) == 3 and suspended(member), PATIENCE)
        assert champion(member) == 2
        [waiting] = suspended(member)
        assert "3" in member.does("models", "--pending")
        approve_on_prefects_page(member, waiting["id"], "twos are sorted elsewhere now", "Anna")
        assert eventually(lambda: champion(member) == 3, PATIENCE)
        assert eventually(lambda: not suspended(member), PATIENCE)
    finally:
        scheduler.terminate()
        out, err = scheduler.communicate(timeout=120)
    assert err == "" and "Traceback" not in out
    assert "champion is version 2 (was version 3)" in member.does("rollback", "digits", "--why", "twos are back")
    assert champion(member) == 2
    ledger = json.loads(member.does("models", "digits", "--history", "--json"))
    told = [(move["previous"], move["version"], move["action"]) for move in ledger]
    assert told == [(None, 1, "promote"), (1, 2, "promote"), (2, 3, "promote"), (3, 2, "rollback")]
    assert "Anna" in ledger[2]["who"] and ledger[2]["why"].endswith("twos are sorted elsewhere now")
    assert all(move["facts"]["run"] and move["facts"]["data"] and move["facts"]["gates"] for move in ledger)
    states = [run["state_type"] for run in member.flow_runs()]
    assert set(states) == {"COMPLETED"}, states
    assert set(all_statuses(member)) == {"FINISHED"}


def all_statuses(member: Member) -> list[str]:
    client = MlflowClient(member.store)
    runs = client.search_runs([each.experiment_id for each in client.search_experiments()])
    return [run.info.status for run in runs]


def test_prefect_lists_what_was_asked(member: Member) -> None:
    found = ask(member.root, "/flows/filter", {"flows": {"name": {"any_": ["approval"]}}})
    assert len(found) == 1
