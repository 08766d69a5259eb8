"""Ctrl-C: what becomes of the work is said where it goes on."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from flows import cli
from tests.flows.homes import DIGITS, Home

FROM_HERE = "interrupted: the same command goes on from here"
SAID = {
    "run pipeline.yaml -q": FROM_HERE,
    "predict digits photos": FROM_HERE,
    "suggest pipeline.yaml": FROM_HERE,
    "data ingest pipeline.yaml": FROM_HERE,
    "rank pipeline.yaml -b a,b": f"{FROM_HERE}, with the features that are computed",
    "pretrain pretrain.yaml -o out": "interrupted: the same command goes on after the last epoch that was over",
    "ui": "",
    "schedule pipeline.yaml": "",
    "worker gpu": "",
    "data list": "",
    "": "",
}


@pytest.mark.parametrize("by", ["Typer", "Python"])
@pytest.mark.parametrize("command", SAID)
def test_what_goes_on_after_an_interruption_is_said(
    command: str, by: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def app(**_: Any) -> int:
        if by == "Python":
            raise KeyboardInterrupt
        return 130

    monkeypatch.setattr(cli, "app", app)
    monkeypatch.setattr(sys, "argv", ["headstart", *command.split()])
    with pytest.raises(SystemExit) as end:
        cli.main()
    told = capsys.readouterr()
    assert (end.value.code, told.out, told.err.strip()) == (130, "", SAID[command])


def test_what_a_library_makes_of_an_interruption_is_one_all_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def app(**_: Any) -> int:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)
        except KeyboardInterrupt:
            raise SystemError("in the middle of an import") from None
        return 0

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(cli, "app", app)
    monkeypatch.setattr(sys, "argv", ["headstart", "run", "x.yaml"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert (end.value.code, capsys.readouterr().err.strip()) == (130, FROM_HERE)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.slow
def test_a_run_that_is_interrupted_says_that_it_goes_on(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.serve_at_a_port_of_its_own()
    try:
        process = home.start("run", DIGITS)
        assert process.stdout is not None and process.stdout.readline().startswith("✓ ingest")
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=120)
    finally:
        home.headstart("ui", "--stop")
    assert (process.returncode, told.splitlines()) == (130, [FROM_HERE])
