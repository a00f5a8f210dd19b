"""Hold steps to being one after the other, whatever is asked for in the middle of one, and wherever it is asked for."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.between_tasks import do_at_the_end, do_between_tasks, falling_asleep
from trio_send._operations.gate import BUSY, NOTED, STEP
from trio_send._operations.steps import Steps


class Log(Steps):
    """What writes down which step does what.

    Attributes:
      happened: the words, in order.
    """

    __slots__ = ("happened",)

    def __init__(self) -> None:
        super().__init__()
        self.happened: list[str] = []

    def look_after(self) -> None:
        self.happened.append("looked after")

    def write(self, word: str) -> None:
        assert self.gate & STEP
        self.happened.append(word)

    def is_at_rest(self) -> bool:
        return not self.gate and not self.held and not self.notes and not self.halted


def test_what_is_asked_for_at_rest_is_done_at_once() -> None:
    log = Log()
    assert log.request(lambda: log.write("first"))
    assert log.happened == ["first"]
    assert log.is_at_rest()


def test_what_is_asked_for_in_a_step_is_done_at_its_end_in_order() -> None:
    log = Log()
    answers: list[bool] = []

    def later() -> None:
        log.write("later")
        answers.append(log.request(lambda: log.write("last")))
        log.write("still later")

    def step() -> None:
        answers.append(log.request(later))
        answers.append(log.request(lambda: log.write("behind")))
        log.write("step")

    assert log.request(step)
    assert answers == [False, False, False]
    assert log.happened == ["step", "later", "still later", "behind", "last"]
    assert log.is_at_rest()


@pytest.mark.parametrize("halts", [False, True])
def test_a_stop_that_is_asked_for_in_a_step_forbids_it_system_calls(halts: bool) -> None:
    """It has had its effect when it was done, and whatever else is noted does not forbid them."""
    log = Log()
    called: list[int] = []

    def call(number: int) -> int:
        called.append(number)
        return number

    def step() -> None:
        assert log.ask(call, 1) == 1
        log.request(lambda: log.ask(call, 3), halts=halts)
        if halts:
            with pytest.raises(BlockingIOError):
                log.ask(call, 2)
        else:
            assert log.ask(call, 2) == 2

    log.request(step)
    assert called == ([1, 3] if halts else [1, 2, 3])
    log.request(lambda: log.ask(call, 4))
    assert called[-1] == 4


def test_a_step_that_raises_is_over_and_what_was_noted_is_done() -> None:
    log = Log()

    def step() -> None:
        log.request(lambda: log.write("noted"))
        raise MemoryError

    with pytest.raises(MemoryError):
        log.request(step)
    assert log.happened == ["noted"]
    assert log.is_at_rest()


def test_the_other_reasons_of_the_gate_stay_as_they_are() -> None:
    log = Log()
    log.gate = BUSY
    log.request(lambda: log.request(lambda: log.write("noted")))
    assert log.gate == BUSY


async def test_between_tasks_a_step_waits_for_a_task() -> None:
    log = Log()
    answers: list[bool] = []

    def strike() -> None:
        answers.append(log.request(lambda: log.write("first")))
        answers.append(log.request(lambda: log.write("second")))
        assert log.held
        assert log.gate == STEP | NOTED

    await do_between_tasks(strike)
    await wait_all_tasks_blocked()
    assert answers == [False, False]
    assert log.happened == ["looked after", "first", "second"]
    assert log.is_at_rest()


async def test_a_task_that_comes_first_finishes_what_is_held() -> None:
    log = Log()
    with falling_asleep():
        assert not log.request(lambda: log.write("held"))
        assert not log.request(lambda: log.write("held as well"))
    assert log.happened == []
    assert log.request(lambda: log.write("at once"))
    done = ["looked after", "held", "held as well", "at once"]
    assert log.happened == done
    await wait_all_tasks_blocked()
    assert log.happened == done
    assert log.is_at_rest()


async def test_nobody_is_woken_who_falls_asleep_at_this_moment() -> None:
    log = Log()
    with falling_asleep():
        assert not log.request(lambda: log.write("held"))
    await wait_all_tasks_blocked()
    assert log.happened == ["looked after", "held"]
    assert log.is_at_rest()


def test_at_the_end_of_a_run_nothing_is_held() -> None:
    log = Log()
    answers: list[bool] = []

    async def main() -> None:
        do_at_the_end(lambda: answers.append(log.request(lambda: log.write("at once"))))

    trio.run(main)
    assert answers == [True]
    assert log.happened == ["at once"]
    assert log.is_at_rest()


async def test_a_step_keeps_ctrl_c_away() -> None:
    log = Log()
    kept = [trio.lowlevel.currently_ki_protected()]
    log.request(lambda: kept.append(trio.lowlevel.currently_ki_protected()))
    assert kept == [False, True]
