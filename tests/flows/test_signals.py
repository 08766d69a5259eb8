"""Signals are heard at once in a wait, and else when the work is done."""

from __future__ import annotations

import os
import signal
import time
import weakref

import pytest

from flows.servers.signals import End, Ended, heard_again


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_wait_and_lets_work_finish(number: int) -> None:
    end, before = End(), signal.getsignal(number)
    with end.heard():
        os.kill(os.getpid(), number)
        time.sleep(0.01)  # work goes on
        assert end.is_told
        with pytest.raises(Ended), end.interrupts():
            raise AssertionError("a wait after the signal is not begun")
    waiting = End()
    with waiting.heard():
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), number))
        with pytest.raises(Ended), waiting.interrupts():
            time.sleep(30)
    assert signal.getsignal(number) is before


@pytest.mark.parametrize(
    ("number", "raised"), [(signal.SIGTERM, "TerminationSignal"), (signal.SIGINT, "KeyboardInterrupt")]
)
def test_a_signal_that_comes_where_no_exception_gets_through_is_heard_all_the_same(
    number: int, raised: str, capsys: pytest.CaptureFixture[str]
) -> None:
    class TerminationSignal(BaseException):
        """As Prefect's."""

    kind = {"TerminationSignal": TerminationSignal, "KeyboardInterrupt": KeyboardInterrupt}[raised]

    def hear(*_: object) -> None:
        raise kind

    class Image:
        pass

    def lose(_: object) -> None:
        os.kill(os.getpid(), number)
        time.sleep(0.01)

    before = signal.signal(number, hear)
    try:
        with pytest.raises(kind), heard_again():
            image = Image()
            reference = weakref.ref(image, lose)
            del image
            time.sleep(30)
    finally:
        signal.signal(number, before)
    assert reference() is None and "Exception ignored" not in capsys.readouterr().err
