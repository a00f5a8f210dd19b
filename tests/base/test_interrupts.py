"""Hold a step to being one for Ctrl-C where no Trio runs, and to giving the interrupt back.

What consists of such steps is struck in ``tests/whole/test_strikes.py``.
"""

from __future__ import annotations

import signal
from _thread import interrupt_main

import pytest

from tests.helpers import python_handles_ctrl_c as python_handles_ctrl_c
from trio_send._base import interrupts

pytestmark = pytest.mark.usefixtures("python_handles_ctrl_c")


def be_interrupted() -> None:
    """Let Python look at signals, which it does where a function begins."""


# Finalisers -----------------------------------------------------------------------------------


def test_a_finaliser_is_silent_and_gives_the_interrupt_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Python prints what a finaliser raises, and throws it away."""
    thrown_away: list[object] = []
    monkeypatch.setattr("sys.unraisablehook", thrown_away.append)
    done: list[str] = []

    class Ends:
        def __del__(self) -> None:
            _ = [*map(interrupt_main, interrupts.quietly(self.end))]

        @interrupts.one_step
        def end(self) -> None:
            if not done:
                signal.raise_signal(signal.SIGINT)
                done.append("ended")

    ends = Ends()
    with pytest.raises(KeyboardInterrupt):
        del ends
        be_interrupted()
    assert (done, thrown_away) == (["ended"], [])


def test_a_finaliser_that_is_struck_before_its_step_begins_again() -> None:
    done: list[str] = []

    def step() -> None:
        done.append("begun")
        if len(done) == 1:
            raise KeyboardInterrupt

    assert interrupts.quietly(step) == [signal.SIGINT]
    assert done == ["begun", "begun"]


def test_a_handler_of_the_programs_own_is_called_behind_the_step() -> None:
    """Once, by its own number, and it need not raise."""
    happened: list[object] = []

    @interrupts.one_step
    def step() -> str:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        happened.append("stepped")
        return "done"

    def handler(number: int, _: object) -> None:
        happened.append(signal.Signals(number))

    signal.signal(signal.SIGINT, handler)
    answer = step()
    be_interrupted()
    assert answer == "done"
    assert happened == ["stepped", signal.SIGINT]
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.SIG_DFL])
def test_a_handler_that_is_not_pythons_stays(handler: signal.Handlers) -> None:
    seen: list[object] = []
    signal.signal(signal.SIGINT, handler)
    interrupts.one_step(lambda: seen.append(signal.getsignal(signal.SIGINT)))()
    assert seen == [handler]


def test_results_come_through_a_step() -> None:
    assert interrupts.one_step(max)(1, 2) == 2
    assert interrupts.one_step(max).__name__ == "max"
    with pytest.raises(ZeroDivisionError):
        interrupts.one_step(divmod)(1, 0)
