"""Cancel three programs that are not ours before each of their steps: each mistake is found, and named at its place."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tests.programs import (
    Connection,
    ConnectionPool,
    CorrectedConnectionPool,
    CorrectedHandoverLock,
    CorrectedWorkQueue,
    HandoverLock,
    WorkQueue,
    line_of,
)
from trio_send.testing import Case, ExplorationError, Report, cancel_everywhere


def report_of(test: Any, *args: Any) -> Report:
    """What a decorated test finds; it has to find something."""
    with pytest.raises(ExplorationError) as caught:
        test(*args)
    return caught.value.report


# The tests that a user would write ------------------------------------------------------------


@cancel_everywhere(orders=1)
async def nothing_is_lost(case: Case, kind: type[WorkQueue]) -> None:
    queue = kind()
    put: list[str] = []
    got: list[str] = []
    case.finally_(
        lambda: case.check(sorted([*got, *queue.items]) == sorted(put), "an item is lost")
    )

    async def take(count: int) -> None:
        for _ in range(count):
            got.append(await queue.get())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take, 2)
        for item in ("first", "second"):
            queue.put(item)
            put.append(item)
            await trio.sleep(1)


@cancel_everywhere(orders=1)
async def the_lock_is_free_in_the_end(case: Case, kind: type[HandoverLock]) -> None:
    lock = kind()
    inside: list[int] = []

    async def use(number: int) -> None:
        with case.cancellable(trio.CancelScope(), f"user {number}"):
            async with lock:
                inside.append(number)
                case.check(len(inside) == 1, "two are inside")
                try:
                    await trio.sleep(1)
                finally:
                    inside.remove(number)

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(use, number)
    case.check(not lock.locked, "nobody is inside, but the lock is locked")


@cancel_everywhere()
async def every_slot_comes_back(case: Case, kind: type[ConnectionPool]) -> None:
    made: list[Connection] = []

    async def connect() -> Connection:
        made.append(await Connection.open())
        return made[-1]

    pool = kind(2, connect)

    @case.finally_
    def look() -> None:
        case.check(pool.slots.value == 2, "a slot is lost")
        case.check(
            all(connection in pool.idle or connection.is_closed for connection in made),
            "a connection is neither idle nor closed",
        )

    async def use() -> None:
        async with pool.connection() as connection:
            await connection.query()

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(use)


# What they find -------------------------------------------------------------------------------


def test_the_queue_loses_an_item_where_it_writes_its_log() -> None:
    report = report_of(nothing_is_lost, WorkQueue)
    (finding,) = report.findings
    assert finding.sentence == "an item is lost"
    place = finding.struck[0]
    assert str(place) == f"_write_log:{line_of(WorkQueue._write_log, 'checkpoint()')}"
    assert place.call == "checkpoint"
    # The simplest run stands for all.
    assert len(finding.decisions) == 1
    assert report.exhausted


def test_the_lock_is_handed_to_nobody_if_a_waiter_was_cancelled() -> None:
    report = report_of(the_lock_is_free_in_the_end, HandoverLock)
    # The users behind the one who has gone wait for ever; if it was the last one, the lock merely stays locked.
    assert {finding.sentence.partition(":")[0] for finding in report.findings} == {
        "the program waits for ever",
        "nobody is inside, but the lock is locked",
    }
    place = f"acquire:{line_of(HandoverLock.acquire, 'turn.wait()')}"
    assert {str(finding.struck[0]) for finding in report.findings} == {place}
    assert report.exhausted


def test_the_pool_loses_slots_where_it_connects_and_where_it_resets() -> None:
    report = report_of(every_slot_comes_back, ConnectionPool)
    # Behind a context manager it is still the program's own line and what it waits in that are named.
    assert {finding.struck[0].call for finding in report.findings} == {"sleep"}
    found = sorted((finding.sentence, str(finding.struck[0])) for finding in report.findings)
    connecting = f"open:{line_of(Connection.open, 'trio.sleep')}"
    resetting = f"reset:{line_of(Connection.reset, 'trio.sleep')}"
    # A cancelled query comes to the reset as well, so that accounts for both.
    assert found == sorted(
        [
            ("a slot is lost", connecting),
            ("a slot is lost", resetting),
            ("a connection is neither idle nor closed", resetting),
        ]
    )
    assert report.exhausted


def test_the_message_of_a_failure_is_the_report() -> None:
    with pytest.raises(ExplorationError) as caught:
        every_slot_comes_back(ConnectionPool)
    assert str(caught.value.report) in str(caught.value)
    assert "a slot is lost" in str(caught.value)
    assert "only={'cancel " in str(caught.value)


def test_nothing_is_wrong_with_the_corrected_programs() -> None:
    nothing_is_lost(CorrectedWorkQueue)
    the_lock_is_free_in_the_end(CorrectedHandoverLock)
    every_slot_comes_back(CorrectedConnectionPool)
