"""Two networks side by side, from end to end, as a user runs it; then a single one held against them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.commands.backbones import candidates
from tasks.errors import ConfigurationError
from tests.flows.homes import DIGITS, Home

BESIDE = "extract.beside=[{backbone: resnet_32px, weights: random, layer: blocks.1, size: 24, fit: pad}]"
QUICK = ("-s", "evaluate.robustness=8", "-s", "evaluate.explain=2")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    home = Home(tmp_path_factory.mktemp("fused"))
    yield home
    home.headstart("ui", "--stop")


@pytest.mark.slow
def test_a_fused_model_is_registered_explained_and_held_against_a_single_one(home: Home) -> None:
    first = home.headstart("run", DIGITS, "-s", BESIDE, "-s", "train={method: gated_fusion, epochs: 10}", *QUICK)
    assert first.returncode == 0, first.stderr
    assert first.stderr == "" and not re.search(r"warning|traceback", first.stdout, re.IGNORECASE)
    assert "3,594 new, 0 reused" in first.stdout and "digits version 1, champion" in first.stdout
    version = home.client.get_model_version_by_alias("digits", "champion")
    run = home.client.get_run(version.run_id)
    assert run.data.metrics["test/accuracy"] > 0.95 and run.data.metrics["chosen/gate_1"] > 0
    one, other = run.data.tags["backbone.digest"].split(" + ")
    assert len(one) == len(other) == 64 and one != other
    rulings = [json.loads(text)["ruling"] for key, text in version.tags.items() if key.startswith("gate.")]
    assert {each["gate"]: each["outcome"] for each in rulings}["parity"] == "pass"
    features = json.loads(home.headstart("lineage", "digits@champion", "--json").stdout)
    assert one in json.dumps(features) and other in json.dumps(features)

    single = home.headstart("run", DIGITS, *QUICK)
    assert single.returncode == 0, single.stderr
    assert "0 new, 1,797 reused" in single.stdout  # of the first network
    assert "compare" in single.stdout and "digits version 2" in single.stdout

    [second] = (home.root / "mlruns" / "artifacts").rglob("backbone_2.safetensors")
    second.unlink()
    refused = home.headstart("promote", "digits", "1", "--why", "both look")
    assert refused.returncode != 0 and "has lost its files (backbone_2.safetensors in " in refused.stderr


def test_a_ranking_is_of_single_backbones() -> None:
    with pytest.raises(ConfigurationError, match=r"`-s extract\.beside=\[\]` ranks without them"):
        candidates(Path(DIGITS), [BESIDE], "resnet_32px,resnet18")
    assert len(candidates(Path(DIGITS), [BESIDE, "extract.beside=[]"], "resnet_32px,resnet18")) == 2
