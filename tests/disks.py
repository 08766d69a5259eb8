"""Disks of a size that a test can fill."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest


def small_disk() -> list[str]:
    """A command that runs another with mounts of its own."""
    for command in (["unshare", "-m"], ["unshare", "-rm"], ["sudo", "-nE", "unshare", "-m"]):
        attempt = [*command, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
        if shutil.which(command[0]) and subprocess.run(attempt, capture_output=True).returncode == 0:
            return command
    if "CI" in os.environ:
        pytest.fail("no file system can be mounted")
    pytest.skip("no file system can be mounted")
