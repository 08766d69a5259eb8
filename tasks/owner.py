"""Which process something belongs to, and whether that is known to be no more."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path

import psutil

from tasks.machine import user_name


@dataclass(frozen=True)
class Owner:
    """A process; ``machine`` names where its ``pid`` means something, ``began`` is in seconds since that machine was
    started."""

    who: str
    host: str
    machine: str
    pid: int
    began: float

    @classmethod
    def here(cls) -> Owner:
        return cls.of(os.getpid())

    @classmethod
    def of(cls, pid: int) -> Owner:
        """A process of this user on this machine.

        Raises:
            psutil.NoSuchProcess: it is no more.
        """
        return cls(user_name(), socket.gethostname(), this_machine(), pid, _began(psutil.Process(pid)))

    @property
    def is_elsewhere(self) -> bool:
        """Whether nothing is known of its processes here."""
        return self.machine != this_machine()

    @property
    def is_dead(self) -> bool:
        """Whether this machine knows that the process is no more; of other machines it knows nothing."""
        if self.is_elsewhere:
            return False
        try:
            process = psutil.Process(self.pid)
            # A process that has ended keeps its number until its parent has heard of it.
            return abs(_began(process) - self.began) > 1 or process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True


def _began(process: psutil.Process) -> float:
    # Linux reckons both by its clock of the moment, which somebody may have set.
    return process.create_time() - (psutil.boot_time() if psutil.LINUX else 0.0)


def this_machine() -> str:
    """A name for the machine since it was started, and for the processes that see each other there: containers of one
    host name are apart."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # no Linux: no containers
        return f"{socket.gethostname()} {psutil.boot_time():.0f}"
