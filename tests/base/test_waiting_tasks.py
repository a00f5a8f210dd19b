"""Hold tasks that wait together to being woken once each, in order, whatever strikes while they fall asleep."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from tests.between_tasks import do_between_tasks
from trio_send._base.waiting_tasks import WaitingTasks


class Scheduled(trio.abc.Instrument):
    """Notes the names of the tasks that are woken.

    Attributes:
      names: in the order in which they were.
    """

    def __init__(self) -> None:
        self.names: list[str] = []

    def task_scheduled(self, task: trio.lowlevel.Task) -> None:
        self.names.append(task.name)


@contextmanager
def scheduled() -> Iterator[list[str]]:
    instrument = Scheduled()
    trio.lowlevel.add_instrument(instrument)
    try:
        yield instrument.names
    finally:
        trio.lowlevel.remove_instrument(instrument)


def never() -> bool:
    return False


async def test_all_are_woken_in_the_order_in_which_they_came_and_told_the_same() -> None:
    waiting = WaitingTasks("old")
    told: list[str] = []

    async def wait() -> None:
        told.append(await waiting.wait(never))

    async with trio.open_nursery() as nursery:
        for name in "abc":
            nursery.start_soon(wait, name=name)
            await wait_all_tasks_blocked()
        assert (len(waiting), told) == (3, [])
        with scheduled() as names:
            waiting.wake("woken")
        assert names == ["a", "b", "c"]
        assert len(waiting) == 0
    assert told == ["woken"] * 3


async def test_whoever_need_not_wait_is_told_what_was_told_last() -> None:
    waiting = WaitingTasks("at first")
    with assert_checkpoints():
        assert await waiting.wait(lambda: True) == "at first"
    waiting.wake("later")
    assert await waiting.wait(lambda: True) == "later"
    assert len(waiting) == 0


async def test_whoever_is_cancelled_waits_no_more_and_the_others_do() -> None:
    waiting = WaitingTasks("old")
    told: list[str] = []

    async def wait(scope: trio.CancelScope) -> None:
        with scope:
            told.append(await waiting.wait(never))

    first, second = trio.CancelScope(), trio.CancelScope()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, first)
        nursery.start_soon(wait, second)
        await wait_all_tasks_blocked()
        first.cancel()
        await wait_all_tasks_blocked()
        assert len(waiting) == 1
        waiting.wake("woken")
    assert (first.cancelled_caught, second.cancelled_caught) == (True, False)
    assert told == ["woken"]


@pytest.mark.parametrize("cancelled", [False, True])
@pytest.mark.parametrize("over", [False, True])
async def test_whoever_is_woken_while_it_looks_falls_not_asleep(
    over: bool, cancelled: bool
) -> None:
    """As by a finaliser that strikes there. What it was told is not lost to a cancel."""
    waiting = WaitingTasks("old")

    def look() -> bool:
        assert len(waiting) == 1
        waiting.wake("woken")
        return over

    with trio.CancelScope() as scope, assert_checkpoints():
        if cancelled:
            scope.cancel()
        assert await waiting.wait(look) == "woken"
    assert not scope.cancelled_caught
    assert len(waiting) == 0


async def test_where_no_task_runs_they_are_woken_as_soon_as_one_does() -> None:
    waiting = WaitingTasks("old")
    told: list[str] = []

    async def wait() -> None:
        told.append(await waiting.wait(never))

    def strike() -> None:
        before = list(names)
        waiting.wake("woken")
        assert names == before
        assert len(waiting) == 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        with scheduled() as names:
            await do_between_tasks(strike)
    assert told == ["woken"]
