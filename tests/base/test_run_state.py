"""Hold what runs between two tasks to being known, and what wakes tasks to being put off there."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable

import pytest
import trio
import trio.testing

from tests.between_tasks import do_at_the_end, do_between_tasks, falling_asleep
from trio_send._base.run_state import between_tasks, nobody_may_be_woken, put_off, run_soon


def test_where_no_trio_runs_nothing_is_between_tasks() -> None:
    assert not between_tasks()
    assert not nobody_may_be_woken()
    assert not put_off(pytest.fail)


async def test_a_task_is_not_between_tasks() -> None:
    assert not between_tasks()
    assert not put_off(pytest.fail)
    await trio.testing.wait_all_tasks_blocked()


async def test_another_thread_is_not_between_tasks() -> None:
    """Even if Trio runs in that of the test."""
    assert not await trio.to_thread.run_sync(between_tasks)
    assert not await trio.to_thread.run_sync(put_off, pytest.fail)


async def test_what_trios_loop_calls_is_between_tasks() -> None:
    seen: list[bool] = []
    await do_between_tasks(lambda: seen.append(between_tasks()))
    assert seen == [True]


async def look(seen: list[bool]) -> None:
    seen.append(nobody_may_be_woken())


async def test_nobody_may_be_woken_between_tasks_nor_where_a_task_falls_asleep() -> None:
    seen = [nobody_may_be_woken()]
    with falling_asleep():
        seen.append(nobody_may_be_woken())
        assert not between_tasks()
        async with trio.open_nursery() as nursery:
            # Another task is awake, whatever this one does.
            nursery.start_soon(look, seen)
    await do_between_tasks(lambda: seen.append(nobody_may_be_woken()))
    seen.append(await trio.to_thread.run_sync(nobody_may_be_woken))
    assert seen == [False, True, False, True, False]


async def test_what_is_put_off_is_done_once_and_where_a_task_runs() -> None:
    done: list[tuple[bool, int]] = []
    answers: list[bool] = []

    def action() -> None:
        done.append((trio.lowlevel.in_trio_task(), threading.get_ident()))

    def strike() -> None:
        answers.append(put_off(action))
        assert done == []

    await do_between_tasks(strike)
    await trio.testing.wait_all_tasks_blocked()
    assert answers == [True]
    assert done == [(True, threading.get_ident())]


async def test_soon_is_not_at_once_and_in_the_order_of_the_calls() -> None:
    done: list[str] = []
    assert run_soon(lambda: done.append("first"))
    assert run_soon(lambda: done.append("second"))
    assert done == []
    await trio.testing.wait_all_tasks_blocked()
    assert done == ["first", "second"]


@pytest.mark.parametrize("later", [run_soon, put_off])
def test_at_the_end_of_a_run_nothing_is_done_soon(
    later: Callable[[Callable[[], object]], bool],
) -> None:
    """So whoever calls does it at once, and nobody is there whom that could harm."""
    answers: list[tuple[bool, bool]] = []

    async def main() -> None:
        do_at_the_end(lambda: answers.append((between_tasks(), later(pytest.fail))))

    trio.run(main)
    assert answers == [(True, False)]


async def test_in_a_run_that_has_crashed_nothing_is_done_soon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its tasks are still there, but the socket is closed that would wake it."""

    class Token:
        def run_sync_soon(self, action: Callable[[], object]) -> None:
            raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(trio.lowlevel, "current_trio_token", Token)
    assert not run_soon(pytest.fail)
