import os
import signal
from contextlib import ExitStack

import pytest

from deploycost import cli
from deploycost.termination import Terminated, interrupted_code, sigterm_interrupts


def test_a_sigterm_is_an_interrupt_within_and_ends_the_process_again_after() -> None:
    with ExitStack() as started:
        put_away: list[str] = []
        started.callback(put_away.append, "what was started")
        with pytest.raises(Terminated) as told, sigterm_interrupts(), started:
            os.kill(os.getpid(), signal.SIGTERM)
    assert put_away == ["what was started"]
    assert interrupted_code(told.value) == 143
    assert interrupted_code(KeyboardInterrupt()) == 130
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_whoever_handles_or_ignores_sigterm_goes_on_doing_so() -> None:
    for handler in (signal.SIG_IGN, lambda *_: None):
        signal.signal(signal.SIGTERM, handler)
        try:
            with sigterm_interrupts():
                os.kill(os.getpid(), signal.SIGTERM)
                assert signal.getsignal(signal.SIGTERM) == handler
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def test_a_command_that_is_terminated_says_so_by_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "app", lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM))
    assert cli.main(["doctor"]) == 143
    assert capsys.readouterr().err.startswith("deploycost: interrupted; ")
