"""When a scheduled pipeline is due, read before a server is started."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.deployments import read_schedule
from tasks.errors import ConfigurationError

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("cron", ["61 * * * *", "0 24 * * *", "0 3 * *", "", "H 3 * * *", "every night", "0 0 30 2 *"])
def test_a_cron_expression_that_names_no_time_is_one_line(cron: str) -> None:
    with pytest.raises(ConfigurationError, match=r"names no time.*'0 3 \* \* \*'") as told:
        read_schedule(cron, None, None)
    assert len(str(told.value).splitlines()) == 1


def test_a_time_is_of_the_zone_that_is_named_and_the_next_three_are_shown() -> None:
    schedule, words = read_schedule("30 2 29 2 *", None, "Europe/Berlin")
    assert (schedule.cron, schedule.timezone) == ("30 2 29 2 *", "Europe/Berlin")
    assert words.count(" 29 Feb ") == words.count(" 02:30") == 3 and words.endswith("(Europe/Berlin)")


@pytest.mark.slow
def test_a_time_is_the_machines_own_by_default() -> None:
    code = "from flows.deployments import read_schedule; print(read_schedule('0 3 * * *', None, None)[0].timezone)"
    there = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, env=os.environ | {"TZ": "Asia/Tokyo"}
    )
    assert there.stdout.strip() == "Asia/Tokyo"


@pytest.mark.parametrize("zone", ["Mars", "../etc/passwd", "/etc/localtime", "Europe"])
def test_an_unknown_zone_is_one_line(zone: str) -> None:
    with pytest.raises(ConfigurationError, match="no such zone; give one as Europe/Berlin"):
        read_schedule("0 3 * * *", None, zone)


def test_one_way_of_saying_when_is_wanted() -> None:
    assert read_schedule(None, 15, None)[1] == "every 15 s"
    for both in ((None, None), ("0 3 * * *", 15)):
        with pytest.raises(ConfigurationError, match="either --cron or --interval"):
            read_schedule(*both, None)


@pytest.mark.slow
def test_a_bad_schedule_starts_no_server(tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "HEADSTART_"))}
    finished = subprocess.run(
        [sys.executable, "-m", "flows.cli", "serve", str(ROOT / "configs/digits.yaml"), "--cron", "61 * * * *"],
        cwd=ROOT, capture_output=True, text=True, env=kept | {"HEADSTART_WORKSPACE": str(tmp_path)},
    )  # fmt: skip
    assert finished.returncode == 2 and finished.stdout == "" and len(finished.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "mlruns/prefect/server.json").exists()
