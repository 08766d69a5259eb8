"""A version that is better on average and worse on one domain, as whole runs on photos, paintings and sketches."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tasks.register.tags import GATE
from tests.flows.homes import Home

pytestmark = [pytest.mark.slow, pytest.mark.shared]

DOMAINS = ("art_painting", "cartoon", "photo", "sketch")
TRAIN, VAL, TEST = 200, 120, 20
"""Images of a domain: what is learned from at most, what both versions are held against each other on, and the rest."""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path)
    yield home
    home.headstart("ui", "--stop")


def drawn(archive: Path, folder: Path) -> pd.DataFrame:
    """Some images of each domain as files, and a table of them."""
    with tarfile.open(archive) as tar:
        files = pd.DataFrame({"path": sorted(name for name in tar.getnames() if name.endswith(".jpg"))})
        files[["domain", "label"]] = files["path"].str.split("/", expand=True)[[0, 1]]
        rows = files.groupby("domain").sample(TRAIN + VAL + TEST, random_state=0)
        chosen = set(rows["path"])
        tar.extractall(folder, (member for member in tar if member.name in chosen), filter="data")
    place = rows.groupby("domain").cumcount()
    rows["split"] = np.select([place < TRAIN, place < TRAIN + VAL], ["train", "val"], "test")
    return rows


def test_a_version_that_has_lost_the_sketches_waits_for_a_person(home: Home, shared: Path) -> None:
    rows = drawn(shared / "datasets/pacs-128.tar.gz", home.root)
    settings = {
        "name": "pacs",
        "ingest": {"source": {"table": str(home.root / "pacs.csv")}},
        "preprocess": {"size": 128},
        "extract": {
            "backbone": "mobilenet_v2", "weights": str(shared / "weights/mobilenet_v2-imagenet.safetensors"),
        },
        "train": {"method": "linear"},
        "evaluate": {"robustness": 0, "explain": 0},
        "register": {"gates": ["slices"]},
    }  # fmt: skip
    (home.root / "pacs.yaml").write_text(json.dumps(settings))

    def run(learned: dict[str, int]) -> dict[str, str]:
        number = rows.groupby(["domain", "split"]).cumcount()
        kept = (rows["split"] != "train") | (number < rows["domain"].map(learned))
        rows[kept].to_csv(home.root / "pacs.csv", index=False)
        finished = home.headstart("run", str(home.root / "pacs.yaml"), "--quiet")
        assert finished.returncode == 0 and finished.stderr == "", finished.stderr
        newest = max(home.client.search_model_versions("name='pacs'"), key=lambda version: int(version.version))
        return dict(newest.tags)

    run(dict.fromkeys(DOMAINS, 10) | {"sketch": TRAIN})
    tags = run(dict.fromkeys(DOMAINS, TRAIN) | {"sketch": 0})
    said = {each["settings"]["gate"]: each["ruling"] for each in map(json.loads, gates_of(tags))}
    assert said["champion"]["outcome"] == "pass" and said["champion"]["reason"].startswith("better")
    assert said["slices"]["outcome"] == "needs approval"
    assert said["slices"]["reason"].startswith("worse on domain sketch: ")
    assert int(home.client.get_model_version_by_alias("pacs", "champion").version) == 1
    listed = home.headstart("models", "--pending").stdout
    assert "worse on domain sketch" in " ".join(listed.split())


def gates_of(tags: dict[str, str]) -> list[str]:
    """What each gate said, as a version's tags keep it."""
    return [text for key, text in tags.items() if key.startswith(GATE)]
