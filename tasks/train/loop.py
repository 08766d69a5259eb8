"""What Lightning's loop is kept from doing to the process that it runs in."""

from __future__ import annotations

import logging
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from tasks.progress import hushed


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C stays what it is: the loop would exit by itself, and have no second one heard from then on."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise error.__context__ from None
        raise
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)


@contextmanager
def quiet() -> Iterator[None]:
    """Lightning tells of its devices and advises loader workers, which batches in memory have no use for."""
    with hushed(logging.ERROR, "lightning.pytorch", "lightning.fabric"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        yield
