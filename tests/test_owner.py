"""Whether a process is known to be no more."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import psutil
import pytest

from tasks.owner import Owner


def test_a_process_lives_until_it_ends_and_another_machines_is_not_known() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner = Owner.of(process.pid)
    assert not owner.is_dead and not owner.is_elsewhere
    assert replace(owner, began=owner.began - 2).is_dead, "its number was another's"
    process.kill()
    process.wait()
    assert owner.is_dead
    there = replace(owner, machine="another")
    assert there.is_elsewhere and not there.is_dead


def test_setting_the_clock_ends_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    owner, later = Owner.here(), psutil.boot_time() + 3600
    for module in (psutil, psutil._psplatform):
        monkeypatch.setattr(module, "boot_time", lambda: later)
    assert psutil.Process(os.getpid()).create_time() > owner.began and not owner.is_dead
