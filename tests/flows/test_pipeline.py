"""The main job from end to end, as a user runs it: real Prefect, MLflow and DVC, in processes of their own."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.flows import payloads
from tests.flows.asking import ask
from tests.flows.homes import DIGITS, ROOT, Home


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    home = Home(tmp_path_factory.mktemp("home with a space"))
    yield home
    home.headstart("ui", "--stop")


@pytest.fixture(scope="module")
def first(home: Home) -> subprocess.CompletedProcess[str]:
    """The first run in a fresh workspace."""
    return home.headstart("run", DIGITS)


@pytest.fixture(scope="module")
def second(home: Home, first: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    """The same run again."""
    return home.headstart("run", DIGITS)


@pytest.fixture(scope="module")
def mlp(home: Home, second: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    """A worse head: version 2."""
    overrides = [
        "-s",
        "train.method=mlp",
        "-s",
        "train.epochs=1",
        "-s",
        "train.batch_size=1024",
        "-s",
        "evaluate.robustness=0",
        "-s",
        "evaluate.explain=0",
    ]
    return home.headstart("run", DIGITS, *overrides, "--quiet")


def test_the_first_run_registers_a_good_champion_and_says_nothing_else(home: Home, first) -> None:
    assert first.returncode == 0, first.stderr
    assert first.stderr == ""
    assert "1,797 new, 0 reused" in first.stdout and "digits version 1, champion" in first.stdout
    assert not re.search(r"warning|traceback", first.stdout, re.IGNORECASE)
    [run] = home.client.search_runs([home.client.get_experiment_by_name("digits").experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.metrics["test/accuracy"] >= 0.97
    assert (
        run.data.metrics["test/accuracy_low"]
        < run.data.metrics["test/accuracy"]
        < run.data.metrics["test/accuracy_high"]
    )
    assert home.client.get_model_version_by_alias("digits", "champion").version in (1, "1")


def test_the_data_version_is_the_one_that_the_project_names(home: Home, first) -> None:
    committed, made = (ROOT / "data.dvc").read_text(), (home.root / "data.dvc").read_text()
    assert made == committed
    [run] = home.client.search_runs(
        [home.client.get_experiment_by_name("digits").experiment_id], max_results=1, order_by=["start_time"]
    )
    assert run.data.tags["data.version"] in committed
    assert run.inputs.dataset_inputs[0].dataset.digest == run.data.tags["data.version"]


def test_the_run_holds_curves_figures_and_tables(home: Home, first) -> None:
    [run] = home.client.search_runs(
        [home.client.get_experiment_by_name("digits").experiment_id], max_results=1, order_by=["start_time"]
    )
    stored = {
        file.path
        for folder in ("figures", "tables", "data")
        for file in home.client.list_artifacts(run.info.run_id, folder)
    }
    assert {
        "figures/test_confusion.png",
        "figures/test_roc.png",
        "figures/curves.png",
        "tables/test_per_class.csv",
        "data/preview.png",
        "data/version.yaml",
    } <= stored
    assert len(home.client.get_metric_history(run.info.run_id, "curve/val/accuracy")) > 3


def test_prefect_knows_all_eight_stages_and_what_depends_on_what(home: Home, first) -> None:
    [run] = [run for run in home.flow_runs() if run["state_type"] == "COMPLETED"][:1]
    tasks = ask(home.root, "/task_runs/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}})
    by_name = {task["name"].rsplit("-", 1)[0]: task for task in tasks}
    assert set(by_name) == {"ingest", "preprocess", "extract", "train", "evaluate", "inspect", "register", "report"}
    assert all(task["state_type"] == "COMPLETED" for task in tasks)
    upstream = {entry["id"] for inputs in by_name["train"]["task_inputs"].values() for entry in inputs}
    assert upstream == {by_name[stage]["id"] for stage in ("ingest", "preprocess", "extract")}


def test_a_second_run_reuses_everything_and_copies_nothing(home: Home, first, second) -> None:
    assert second.returncode == 0 and second.stderr == ""
    assert "0 new, 1,797 reused" in second.stdout and "digits version 1, champion" in second.stdout
    assert len(home.client.search_model_versions("name='digits'")) == 1
    runs = home.client.search_runs(
        [home.client.get_experiment_by_name("digits").experiment_id], order_by=["start_time"]
    )
    assert [run.info.status for run in runs[:2]] == ["FINISHED"] * 2
    assert runs[0].data.metrics["test/accuracy"] == runs[1].data.metrics["test/accuracy"]
    assert [file.path for file in home.client.list_artifacts(runs[1].info.run_id)] == ["config.yaml", "origin"]
    assert len(list((home.root / ".headstart/features").glob("*/part-*.arrow"))) == 1


@pytest.mark.slow
def test_a_damaged_file_of_the_store_is_mended_by_the_next_run(home: Home, second) -> None:
    store = home.root / ".dvc/cache/files/md5"
    damaged = next(path for path in sorted(store.glob("??/*")) if path.read_bytes()[1:4] == b"PNG")
    whole = damaged.read_bytes()
    damaged.chmod(0o644)
    damaged.write_bytes(whole[:-9])
    finished = home.headstart("run", DIGITS)
    assert finished.returncode == 0 and finished.stderr == "", finished.stderr
    assert "damaged files of the store, replaced from the source: 1" in finished.stdout
    assert damaged.read_bytes() == whole and "digits version 1, champion" in finished.stdout


@pytest.mark.slow
def test_a_worse_version_waits_as_challenger_and_quiet_prints_one_line(home: Home, mlp) -> None:
    assert mlp.returncode == 0 and mlp.stderr == ""
    assert len(mlp.stdout.strip().splitlines()) == 1 and "digits version 2 (challenger)" in mlp.stdout


@pytest.mark.slow
def test_a_later_version_is_held_against_the_champion_on_the_same_images(home: Home, mlp) -> None:
    version = home.client.get_model_version("digits", "2")
    run = home.client.get_run(version.run_id)
    assert run.data.tags["compared.with"] == "1"
    difference, low, high = (run.data.metrics[f"gain/val/accuracy{end}"] for end in ("", "_low", "_high"))
    assert low < difference < 0 and difference < high
    stored = {file.path for file in home.client.list_artifacts(version.run_id, "comparison")}
    assert {f"comparison/{name}" for name in ("comparison.json", "val_changes.csv", "test_slices.csv")} <= stored
    told = json.loads(version.tags["compared"])
    # Of the 247, one is nearly the same as an image that was learned from.
    assert (told["version"], told["images"], told["difference"]) == (1, 246, pytest.approx(difference))
    # The champion looks through the same backbone: nothing was computed anew for it.
    assert len(list((home.root / ".headstart/features").glob("*/part-*.arrow"))) == 1


@pytest.mark.slow
def test_promote_and_roll_back_move_the_alias_and_keep_the_reason(home: Home, mlp) -> None:
    assert home.headstart("promote", "digits", "2", "--why", "a try").returncode == 0
    assert str(home.client.get_model_version_by_alias("digits", "champion").version) == "2"
    assert home.headstart("rollback", "digits", "--why", "no good").returncode == 0
    assert str(home.client.get_model_version_by_alias("digits", "champion").version) == "1"
    listed = home.headstart("models", "digits").stdout
    assert "a try" in listed and "no good" in listed and "gate" in listed and "champion" in listed
    moves = json.loads(home.headstart("models", "digits", "--history", "--json").stdout)
    assert [move["action"] for move in moves] == ["promote", "promote", "rollback"]
    assert moves[0]["facts"]["run"] == home.client.get_model_version("digits", "1").run_id


@pytest.mark.slow
def test_a_folder_is_predicted_in_batch_and_bad_images_keep_their_row(home: Home, first, tmp_path: Path) -> None:
    for label in "37":
        shutil.copytree(home.root / "data" / label, tmp_path / "photos" / label)
    (tmp_path / "photos" / "broken.png").write_bytes(b"not an image")
    output = tmp_path / "predictions.parquet"
    finished = home.headstart("predict", "digits@champion", str(tmp_path / "photos"), "-o", str(output))
    assert finished.returncode == 0, finished.stderr
    predictions = pd.read_parquet(output)
    good = predictions[predictions["error"].isna()]
    truth = good["path"].map(lambda path: Path(path).parent.name)
    assert len(predictions) == len(list((tmp_path / "photos").rglob("*.png")))
    assert (good["label"] == truth).mean() > 0.97
    assert "broken.png" in predictions.loc[predictions["error"].notna(), "path"].item()


@pytest.mark.slow
def test_a_search_over_tunings_is_on_record_and_the_tuned_backbone_is_what_predicts(
    home: Home, first, tmp_path: Path
) -> None:
    train = "{method: partial, blocks: 1, epochs: 1, search: {trials: 2}}"
    finished = home.headstart("run", DIGITS, "-s", "name=tuned", "-s", f"train={train}")
    assert finished.returncode == 0 and finished.stderr == ""
    # Those of validation were seen at the end of the training.
    assert "resnet_32px (as tuned): 365 new, 247 reused" in finished.stdout and "0 new, 1,797 reused" in finished.stdout
    [version] = home.client.search_model_versions("name='tuned'")
    experiment = home.client.get_experiment_by_name("tuned").experiment_id
    nested = home.client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{version.run_id}'")
    assert len(nested) == 2 and all(run.data.params["train.method"] == "partial" for run in nested)
    assert max(run.data.metrics["score"] for run in nested) == float(version.tags["score"])
    run = home.client.get_run(version.run_id)
    assert run.data.tags["backbone.tuned.digest"] != run.data.tags["backbone.digest"]
    shutil.copytree(home.root / "data" / "3", tmp_path / "photos" / "3")
    output = tmp_path / "predictions.parquet"
    assert home.headstart("predict", "tuned@champion", str(tmp_path / "photos"), "-o", str(output)).returncode == 0
    assert (pd.read_parquet(output)["label"] == "3").mean() > 0.95


@pytest.mark.slow
def test_a_training_begins_from_features_of_one_view_and_serves_all(home: Home, first) -> None:
    train, views = "train={method: partial, blocks: 1, epochs: 1}", "preprocess.views=mirrored"
    finished = home.headstart("run", DIGITS, "-s", "name=views", "-s", train, "-s", views)
    assert finished.returncode == 0 and finished.stderr == ""
    assert "0 new, 1,797 reused" in finished.stdout and "resnet_32px (as tuned): 365 new, 247" in finished.stdout
    [version] = home.client.search_model_versions("name='views'")
    assert "views: mirrored" in version.description


@pytest.mark.slow
def test_an_application_with_modules_of_the_same_names_loads_the_champion(home: Home, first, tmp_path: Path) -> None:
    for name in ("tasks", "flows"):
        (tmp_path / f"{name}.py").write_text(f"def send(): return {name!r}\n")
    (tmp_path / "application.py").write_text(
        "import flows, tasks, mlflow, sys\n"
        "model = mlflow.pyfunc.load_model('models:/digits@champion')\n"
        "print(tasks.send(), flows.send(), model.predict([sys.argv[1]])['label'][0])\n"
    )
    file = sorted((home.root / "data" / "5").glob("*.png"))[1]
    ran = subprocess.run(
        [sys.executable, "application.py", str(file)], cwd=tmp_path, capture_output=True, text=True,
        env=home.environment | {"MLFLOW_TRACKING_URI": f"sqlite:///{home.root}/mlruns/mlflow.db"},
    )  # fmt: skip
    assert ran.stdout.split() == ["tasks", "flows", "5"], ran.stderr


@pytest.mark.slow
def test_mlflow_serves_the_champion_over_rest(home: Home, first) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # As after `source .venv/bin/activate`: MLflow starts uvicorn by name.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = home.environment | {"MLFLOW_TRACKING_URI": f"sqlite:///{home.root}/mlruns/mlflow.db", "PATH": path}
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "models",
        "serve",
        "-m",
        "models:/digits@champion",
        "--env-manager",
        "local",
        "-p",
        str(port),
        "-h",
        "127.0.0.1",
    ]
    server = subprocess.Popen(
        command,
        env=environment,
        cwd=home.root,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _wait_for(f"http://127.0.0.1:{port}/ping")
        file = sorted((home.root / "data" / "5").glob("*.png"))[1]
        png = base64.b64encode(file.read_bytes()).decode()

        def send(body: dict) -> httpx.Response:
            return httpx.post(f"http://127.0.0.1:{port}/invocations", json=body, timeout=60)

        [answer] = send({"inputs": [png], "params": {"top_k": 3}}).json()["predictions"]
        assert answer["label"] == "5" and answer["probability"] > 0.5 and answer["error"] is None
        assert next(entry["label"] for entry in answer["top_k"]) == "5" and len(answer["top_k"]) == 3
        for body in payloads.answered(file):
            assert [each["label"] for each in send(body).json()["predictions"]] == ["5"], body
        good, bad, last = send({"inputs": {"image": [png, "AAAA", png]}}).json()["predictions"]
        assert good["label"] == last["label"] == "5" and bad["label"] is bad["probability"] is bad["top_k"] is None
        told = "nothing but zero bytes: lost by a disk, or never downloaded"
        assert bad["error"] == f"row 1: the input cannot be decoded as an image: {told}"
        for body, told in payloads.refused(file):
            answer = send(body)
            assert answer.status_code == 400 and answer.json()["message"].startswith(told), answer.text[:500]
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def _wait_for(address: str, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if httpx.get(address, timeout=2).is_success:
                return
        except httpx.HTTPError:
            time.sleep(0.5)
    raise AssertionError(f"{address} never answered")


@pytest.mark.slow
def test_a_schedule_runs_unattended_and_both_runs_are_recorded(home: Home, mlp) -> None:
    before = {run["id"] for run in home.flow_runs()}
    experiment = home.client.get_experiment_by_name("digits").experiment_id
    tracked = len(home.client.search_runs([experiment]))
    process = home.start("schedule", DIGITS, "--interval", "15")
    try:
        deadline = time.monotonic() + 220
        done: list[dict] = []
        while len(done) < 2 and time.monotonic() < deadline:
            time.sleep(2)
            done = [run for run in home.flow_runs() if run["id"] not in before and run["state_type"] == "COMPLETED"]
    finally:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=600)
    assert len(done) >= 2, (out, err)
    assert err == "" and "Traceback" not in out
    lateness = [pd.Timestamp(run["start_time"]) - pd.Timestamp(run["expected_start_time"]) for run in done]
    assert max(lateness) < pd.Timedelta(seconds=60), lateness
    assert len(home.client.search_runs([experiment])) >= tracked + 2


def _photos(folder: Path, classes: int) -> str:
    for label in range(classes):
        (folder / f"c{label}").mkdir(parents=True)
        for index in range(3):
            Image.fromarray(np.full((8, 8, 3), 40 * index + label, np.uint8)).save(
                folder / f"c{label}" / f"{index}.png"
            )
    folder.mkdir(exist_ok=True)
    return str(folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "told"),
    [
        ("missing folder", "does not exist"),
        ("empty folder", "no images in class folders"),
        ("one class", "only one class"),
        ("corrupt archive", "cannot be unpacked"),
        ("another architecture", "does not belong to resnet18"),
        ("no weights", "vgg16-397923af.pth"),
    ],
)
def test_what_the_user_can_mend_is_one_line_and_exit_code_two(
    home: Home, first, tmp_path: Path, case: str, told: str
) -> None:
    broken = tmp_path / "photos.tar.gz"
    broken.write_bytes(b"\x1f\x8b nothing")
    weights = ROOT / "tasks/extract/weights/resnet_32px.safetensors"
    override = {
        "missing folder": [f"ingest.source={{folder: '{tmp_path}/none'}}"],
        "empty folder": [f"ingest.source={{folder: '{_photos(tmp_path / 'a', 0)}'}}"],
        "one class": [f"ingest.source={{folder: '{_photos(tmp_path / 'b', 1)}'}}"],
        "corrupt archive": [f"ingest.source={{archive: '{broken}'}}"],
        "another architecture": ["extract.backbone=resnet18", f"extract.weights={weights}", "extract.layer=null"],
        "no weights": ["extract.backbone=vgg16", "extract.weights=imagenet", "extract.layer=features"],
    }[case]
    if case == "no weights":
        # Wherever the test runs, the download host is not reached.
        home = Home(home.root)
        os.environ.update({"https_proxy": "http://127.0.0.1:9", "TORCH_HOME": str(tmp_path)})
    try:
        finished = home.headstart("run", DIGITS, *(part for each in override for part in ("-s", each)))
    finally:
        for name in ("https_proxy", "TORCH_HOME"):
            os.environ.pop(name, None)
    lines = finished.stderr.strip().splitlines()
    assert finished.returncode == 2, finished.stderr
    assert len(lines) == 1 and lines[0].startswith("error ") and told in lines[0], finished.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [("promote", "nothing", "1"), ("rollback", "nothing"), ("models", "nothing"), ("predict", "nothing", "data")],
)
def test_an_unknown_model_is_told_with_those_that_there_are(home: Home, first, arguments: tuple[str, ...]) -> None:
    if arguments[0] == "predict":
        arguments = ("predict", "nothing", str(home.root / "data"))
    finished = home.headstart(*arguments)
    assert finished.returncode == 2
    assert "no registered model 'nothing'" in finished.stderr and "digits" in finished.stderr


def test_an_unwritable_mlruns_is_told_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "mlruns").write_text("a file in the way")
    finished = Home(tmp_path).headstart("run", DIGITS)
    assert finished.returncode == 2 and "mlruns" in finished.stderr and len(finished.stderr.strip().splitlines()) == 1


def test_a_wrong_key_is_told_before_any_work(home: Home) -> None:
    finished = home.headstart("run", DIGITS, "-s", "train.epoch=3")
    assert finished.returncode == 2 and "did you mean 'epochs'" in finished.stderr


@pytest.mark.slow
def test_help_is_quick_and_has_an_example(home: Home) -> None:
    for command in (
        "run",
        "schedule",
        "ui",
        "models",
        "promote",
        "rollback",
        "predict",
        "pretrain",
        "doctor",
        "lineage",
        "reproduce",
    ):
        finished = home.headstart(command, "--help")
        assert finished.returncode == 0 and "Example: headstart" in finished.stdout


@pytest.mark.slow
@pytest.mark.shared
def test_photos_with_train_and_val_report_on_val_and_choose_on_train(home: Home, shared: Path) -> None:
    weights, archive = shared / "weights/mobilenet_v2-imagenet.safetensors", shared / "datasets/hymenoptera.tar.gz"
    finished = home.headstart(
        "run",
        str(ROOT / "configs/hymenoptera.yaml"),
        "-s",
        f"extract.weights={weights}",
        "-s",
        f"ingest.source={{archive: {archive}}}",
    )
    assert finished.returncode == 0 and finished.stderr == "", finished.stderr
    [run] = home.client.search_runs([home.client.get_experiment_by_name("hymenoptera").experiment_id])
    assert run.data.metrics["images/val"] == 153 and "test/accuracy" not in run.data.metrics
    assert run.data.metrics["val/accuracy"] >= 0.90
