"""Hold the FIFO to its order, to its one attempt at a time, and to leaving no trace of what has left it."""

from __future__ import annotations

import errno
import gc
import inspect
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from contextvars import copy_context
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.between_tasks import falling_asleep
from tests.helpers import FACES, Told, bytes_of, failure_on_the_spot, scripted, ten
from tests.scripted import RecordingOwner, SpyPort, join, nothing, start
from tests.worker_threads import Worker, outliving
from trio_send import (
    ExitPolicy,
    ObjectDisposedError,
    Socket,
    SocketAsyncEventArgs,
    SocketAsyncOperation,
    SocketError,
    SocketException,
    SocketFlags,
    TracedOperation,
    add_instrument,
    from_thread,
    open_initiator,
)
from trio_send._messages.buffers import Message, Piece
from trio_send._operations import bulk_ends
from trio_send._operations.gate import BUSY, CLOSED, STEP
from trio_send._operations.operation import Operation, Step
from trio_send._operations.queue import OPERATION_COST, OperationQueue
from trio_send._operations.send_calls import PLAIN_FLAGS
from trio_send._operations.send_queue import SendQueue
from trio_send._operations.states import ABORTED, DONE, FAILED, IDLE, QUEUED
from trio_send._owners.engine import SOCKET_ALLOWANCE
from trio_send._tracing.instruments import current_instruments
from trio_send.abc import Instrument
from trio_send.testing import Blocked, ScriptedPort

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

ABORTED_CODE = int(SocketError.OPERATION_ABORTED)
FAULT = int(SocketError.FAULT)


class ListedStep(Step):
    """A step whose attempts come from a list: True succeeds, None would block, an exception is raised."""

    __slots__ = ("abandoned", "lines", "made")

    def __init__(self, *lines: object) -> None:
        self.lines = list(lines)
        self.made = 0
        self.abandoned = 0

    def attempt(self, operation: Operation) -> None:
        self.made += 1
        line = self.lines.pop(0) if self.lines else True
        if line is None:
            raise BlockingIOError
        if isinstance(line, BaseException):
            raise line
        if callable(line):
            line()

    def abandon(self, socket: object) -> None:
        self.abandoned += 1


def stepping(*lines: object) -> tuple[Operation, ListedStep]:
    operation, step = Operation(), ListedStep(*lines)
    operation.step = step
    operation.reset_results()
    return operation, step


def sending(data: Any, message: Message | None = None) -> Operation:
    operation = Operation()
    operation.message = message or Message((Piece(data, 0, len(data)),))
    operation.flags = PLAIN_FLAGS
    operation.reset_results()
    return operation


def members(queue: OperationQueue) -> list[Operation]:
    """Walk the queue both ways and return what stands in it."""
    found: list[Operation] = []
    operation = queue.head
    before = None
    while operation is not None:
        assert operation.queue is queue
        assert operation.previous is before
        assert operation.state == QUEUED
        found.append(operation)
        before, operation = operation, operation.next
    assert queue.tail is before
    assert queue.length == len(found)
    assert bool(queue.gate & BUSY) == bool(found)
    assert queue.watcher is (found[0].owner if found else None)
    return found


def assert_no_trace(operation: Operation) -> None:
    assert operation.next is None
    assert operation.previous is None


# The list and the order, without a kernel


@pytest.mark.parametrize("removed", [(0,), (1,), (2,), (3,), (1, 2), (0, 1), (2, 3), (3, 0, 2, 1)])
def test_whoever_leaves_leaves_no_trace_and_the_others_in_order(removed: tuple[int, ...]) -> None:
    queue, owner = OperationQueue(ScriptedPort()), RecordingOwner()
    operations = [stepping(None)[0] for _ in range(4)]
    for operation in operations:
        assert start(queue, operation, owner)
    assert members(queue) == operations
    left = list(operations)
    for index in removed:
        operation = operations[index]
        assert queue.stop(operation, ABORTED_CODE, "stopped")
        left.remove(operation)
        assert members(queue) == left
        assert_no_trace(operation)
        # Once is enough, and there is nobody left to hit.
        assert not queue.stop(operation, ABORTED_CODE, "again")
        assert operation.detail == "stopped"
    assert owner.endings == [operations[index] for index in removed]
    # What was stopped may come back, to the end.
    owner.tell()
    again = operations[removed[0]]
    assert again.state == IDLE
    if left:
        start(queue, again, owner)
        assert members(queue) == [*left, again]


def test_only_the_first_of_an_empty_queue_is_attempted_at_once() -> None:
    queue, owner = OperationQueue(ScriptedPort()), RecordingOwner()
    done, done_step = stepping(True)
    assert not start(queue, done, owner)
    assert (done.state, done_step.made, done.activation) == (IDLE, 1, 0)
    assert owner.joins == 0
    assert owner.endings == []
    assert members(queue) == []

    head, head_step = stepping(None, None, True)
    follower, follower_step = stepping(True)
    assert start(queue, head, owner)
    assert start(queue, follower, owner)
    assert owner.joins == 2
    # Ready or not, it waits its turn.
    assert (head_step.made, follower_step.made) == (1, 0)
    queue.drain(10**9)
    assert (head_step.made, follower_step.made) == (2, 0)
    assert members(queue) == [head, follower]
    assert owner.watched == {queue}
    queue.drain(10**9)
    assert (head_step.made, follower_step.made) == (3, 1)
    assert members(queue) == []
    assert owner.endings == [head, follower]
    assert [operation.state for operation in owner.endings] == [DONE, DONE]
    assert owner.watched == set()
    # Draining an empty queue costs nothing.
    assert queue.drain(10**9) == 0


def test_an_error_ends_the_head_only() -> None:
    queue, owner = OperationQueue(ScriptedPort()), RecordingOwner()
    failed, _ = stepping(None, OSError(13, "no"))
    second, _ = stepping(True)
    start(queue, failed, owner)
    start(queue, second, owner)
    queue.drain(10**9)
    assert [operation.state for operation in owner.endings] == [FAILED, DONE]
    assert (failed.code, failed.errno) == (int(SocketError.ACCESS_DENIED), 13)
    # On the spot it is no state at all, only a result.
    at_once, _ = stepping(OSError(13, "no"))
    assert not start(queue, at_once, owner)
    assert at_once.state == IDLE
    assert (at_once.code, at_once.errno) == (int(SocketError.ACCESS_DENIED), 13)


def test_what_is_not_an_error_of_the_system_is_nobodys_outcome() -> None:
    queue, owner = OperationQueue(ScriptedPort()), RecordingOwner()
    operation, _ = stepping(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        start(queue, operation, owner)
    assert members(queue) == []
    assert operation.state == IDLE


def test_stopping_what_is_not_here() -> None:
    here, there = OperationQueue(ScriptedPort()), OperationQueue(ScriptedPort())
    owner = RecordingOwner()
    operation, step = stepping(None)
    start(here, operation, owner)
    assert not there.stop(operation, ABORTED_CODE, "wrong queue")
    assert not here.stop(stepping()[0], ABORTED_CODE, "never started")
    assert members(here) == [operation]
    assert here.stop(operation, ABORTED_CODE, "right queue")
    assert operation.state == ABORTED
    assert step.abandoned == 1
    # Ended and not told yet: it keeps what it ended with.
    assert not here.stop(operation, 1, "too late")
    assert (operation.code, operation.detail) == (ABORTED_CODE, "right queue")
    assert step.abandoned == 1


def test_the_owner_of_the_head_watches_and_nobody_else() -> None:
    queue = OperationQueue(ScriptedPort())
    first, second = RecordingOwner(), RecordingOwner()
    operations = [stepping(None)[0], *(stepping()[0] for _ in range(3))]
    for operation, owner in zip(operations, [first, second, second, first], strict=True):
        start(queue, operation, owner)
        assert (first.watched, second.watched) == ({queue}, set())
    queue.stop(operations[1], ABORTED_CODE, None)
    assert (first.watched, second.watched) == ({queue}, set())
    queue.stop(operations[0], ABORTED_CODE, None)
    assert (first.watched, second.watched) == (set(), {queue})
    members(queue)
    queue.drain(10**9)
    members(queue)
    assert (first.watched, second.watched) == (set(), set())


def test_an_owner_that_leaves_takes_its_own_with_it_in_order() -> None:
    queue = OperationQueue(ScriptedPort())
    first, second = RecordingOwner(), RecordingOwner()
    operations = [stepping(None)[0] for _ in range(5)]
    for operation, owner in zip(operations, [first, second, first, second, first], strict=True):
        start(queue, operation, owner)
    queue.stop_owner(first, ABORTED_CODE, "left")
    assert first.endings == [operations[0], operations[2], operations[4]]
    assert second.endings == []
    assert {operation.detail for operation in first.endings} == {"left"}
    assert members(queue) == [operations[1], operations[3]]
    assert (first.watched, second.watched) == (set(), {queue})
    # Leaving twice, or from where one has nothing, is nothing.
    queue.stop_owner(first, ABORTED_CODE, "left again")
    queue.stop_owner(RecordingOwner(), ABORTED_CODE, "a stranger")
    assert members(queue) == [operations[1], operations[3]]


def test_stopping_a_step_may_stop_the_rest() -> None:
    # Abandoning a connect closes the socket, and so ends what the walk through the queue was about to look at.
    queue, owner = OperationQueue(ScriptedPort()), RecordingOwner()

    class Closing(ListedStep):
        def abandon(self, socket: object) -> None:
            queue.close(nothing)

    head, tail = Operation(), stepping(None)[0]
    head.step = Closing(None)
    head.reset_results()
    start(queue, head, owner)
    start(queue, tail, owner)
    other, foreign = RecordingOwner(), stepping(None)[0]
    start(queue, foreign, other)
    queue.stop_owner(owner, 1, "left")
    # The owner's own are stopped as such. The close comes at the end of the step, and ends the others.
    assert owner.endings == [head, tail]
    assert [operation.code for operation in owner.endings] == [1, 1]
    assert other.endings == [foreign]
    assert foreign.code == ABORTED_CODE
    assert members(queue) == []


def test_handing_over_to_an_adopter() -> None:
    queue = OperationQueue(ScriptedPort())
    first, second, adopter = RecordingOwner(), RecordingOwner(), RecordingOwner()
    operations = [stepping(None)[0], *(stepping()[0] for _ in range(3))]
    for operation, owner in zip(operations, [first, second, first, second], strict=True):
        start(queue, operation, owner)
    queue.hand_over(first, adopter)
    assert members(queue) == operations
    assert adopter.joins == 2
    assert (first.watched, adopter.watched) == (set(), {queue})
    queue.drain(10**9)
    assert first.endings == []
    assert adopter.endings == [operations[0], operations[2]]
    assert second.endings == [operations[1], operations[3]]


def end_in_another_queue_first(
    monkeypatch: pytest.MonkeyPatch, owner: RecordingOwner, queue: OperationQueue
) -> bulk_ends.OwnerEnds:
    """Have an owner's operations end, of which another queue holds too many for one trip; ``queue`` is told later."""
    monkeypatch.setattr(bulk_ends, "ENDS_PER_TRIP", 2)
    crowded = OperationQueue(ScriptedPort())
    for _ in range(3):
        start(crowded, stepping(None)[0], owner)
    ends = bulk_ends.OwnerEnds(owner, ABORTED_CODE, "left", [crowded, queue])
    ends.begin()
    assert ends.is_ending
    assert len(owner.endings) == 2
    owner.endings.clear()
    return ends


async def test_what_has_to_end_as_the_owners_is_not_handed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queue, owner, adopter = OperationQueue(ScriptedPort()), RecordingOwner(), RecordingOwner()
    operations = [stepping(None)[0] for _ in range(3)]
    for operation in operations:
        start(queue, operation, owner)
    ends = end_in_another_queue_first(monkeypatch, owner, queue)
    queue.hand_over(owner, adopter)
    assert not ends.is_ending
    assert owner.endings == operations
    assert {(each.code, each.detail) for each in operations} == {(ABORTED_CODE, "left")}
    assert (adopter.joins, adopter.watched) == (0, set())
    assert members(queue) == []
    assert queue.gate == 0


async def test_what_was_started_after_the_stop_of_its_owner_is_not_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where the queue that holds both has yet to be told of the stop, and the start has yet to be made."""
    queue, owner = OperationQueue(ScriptedPort()), RecordingOwner()
    doomed, (late, step) = stepping(None)[0], stepping()
    start(queue, doomed, owner)
    ends = end_in_another_queue_first(monkeypatch, owner, queue)
    with falling_asleep():
        assert not queue.request(nothing)
        assert start(queue, late, owner)
        assert ends.is_ending
    queue.drain(10**9)
    assert not ends.is_ending
    while late not in owner.endings:
        await trio.lowlevel.checkpoint()
        queue.drain(10**9)
    assert [each for each in owner.endings if each in (doomed, late)] == [doomed, late]
    assert (doomed.state, late.state) == (ABORTED, DONE)
    assert step.made == 1


def test_closing_stops_everything_in_order_and_for_good() -> None:
    queue, owner = OperationQueue(ScriptedPort()), RecordingOwner()
    operations = [stepping(None)[0] for _ in range(3)]
    for operation in operations:
        start(queue, operation, owner)
    queue.close(nothing)
    assert queue.gate == CLOSED
    assert owner.endings == operations
    assert {operation.code for operation in operations} == {ABORTED_CODE}
    assert {operation.detail for operation in operations} == {
        "the socket was closed while the operation was pending"
    }
    assert owner.watched == set()
    assert members(queue) == []
    queue.close(nothing)
    assert len(owner.endings) == 3


# How much a drain does


async def test_a_drain_stops_at_its_allowance() -> None:
    port = ScriptedPort([Blocked()])
    queue, owner = SendQueue(port, refuse_torn=True), RecordingOwner()
    size = 100_000
    operations = [sending(bytes(size)) for _ in range(6)]
    for operation in operations:
        start(queue, operation, owner)
    port.unblock()
    # One at a time, as large as they are, and never one more once the allowance is used up.
    used = queue.drain(1)
    assert used == size + OPERATION_COST
    assert owner.endings == operations[:1]
    assert owner.watched == {queue}
    used = queue.drain(2 * (size + OPERATION_COST))
    assert used == 2 * (size + OPERATION_COST)
    assert owner.endings == operations[:3]
    used = queue.drain(2 * (size + OPERATION_COST) + 1)
    assert used == 3 * (size + OPERATION_COST)
    assert owner.endings == operations
    assert members(queue) == []
    assert owner.watched == set()
    assert queue.drain(0) == 0


async def test_messages_that_share_a_call_count_for_what_they_were() -> None:
    port = ScriptedPort([Blocked()])
    queue, owner = SendQueue(port, refuse_torn=True), RecordingOwner()
    operations = [sending(b"ten bytes.") for _ in range(5)]
    for operation in operations:
        start(queue, operation, owner)
    port.unblock()
    assert queue.drain(10**9) == 5 * (10 + OPERATION_COST)
    assert port.attempts == 2
    assert owner.endings == operations


async def test_a_part_counts_for_what_it_was() -> None:
    port = ScriptedPort([Blocked(), 50_000, 20_000])
    queue, owner = SendQueue(port, refuse_torn=True), RecordingOwner()
    operation = sending(bytes(100_000))
    start(queue, operation, owner)
    port.unblock()
    assert queue.drain(10**9) == 50_000 + OPERATION_COST
    # The kernel took less than was offered, so it is full: asking again at once would be in vain.
    assert port.attempts == 2
    assert operation.transferred == 50_000
    assert queue.drain(10**9) == 20_000 + OPERATION_COST
    assert queue.drain(10**9) == 30_000 + OPERATION_COST
    assert owner.endings == [operation]


async def test_one_that_waits_alone_and_fails_leaves_nobody_who_watches() -> None:
    port = ScriptedPort([Blocked(), "EMSGSIZE"])
    queue, owner = SendQueue(port, refuse_torn=True), RecordingOwner()
    operation = sending(b"too long")
    start(queue, operation, owner)
    assert owner.watched == {queue}
    port.unblock()
    queue.drain(10**9)
    assert owner.endings == [operation]
    assert members(queue) == []
    assert owner.watched == set()


async def test_a_crowd_of_tiny_operations_counts_as_work_too() -> None:
    port = ScriptedPort([Blocked()])
    queue, owner = SendQueue(port, refuse_torn=True), RecordingOwner()
    operations = [sending(b"x") for _ in range(4000)]
    for operation in operations:
        start(queue, operation, owner)
    port.unblock()
    told = 0
    while queue.head is not None:
        used = queue.drain(SOCKET_ALLOWANCE)
        ended = len(owner.endings) - told
        told += ended
        # Each costs what it costs, whether or not it shared its system call with others.
        assert used >= ended * OPERATION_COST
    assert owner.endings == operations


# Application code in the middle of an attempt: a buffer of a class with a `__buffer__` of its own, or a finaliser


class Interrupting(Message):
    """A message whose opening runs application code, the first time or every time."""

    __slots__ = ("hook", "times")

    def __init__(self, data: bytes, hook: Callable[[], object], times: int = 1) -> None:
        super().__init__((Piece(bytearray(data), 0, len(data)),))
        self.hook = hook
        self.times = times

    def open(self, *args: Any) -> int:
        if self.times:
            self.times -= 1
            self.hook()
        return super().open(*args)


@pytest.mark.parametrize("alone", [True, False])
async def test_an_attempt_during_which_the_head_was_stopped_sends_nothing(alone: bool) -> None:
    port = SpyPort()
    queue, owner = SendQueue(port, refuse_torn=True), RecordingOwner()
    head, follower = sending(b""), sending(b"xyz")
    head.message = Interrupting(b"abc", lambda: queue.stop(head, ABORTED_CODE, "in the middle"))
    join(queue, head, owner)
    if not alone:
        join(queue, follower, owner)
    queue.drain(10**9)
    assert head.state == ABORTED
    assert head.transferred == 0
    assert owner.endings == [head]
    assert port.offers == []
    queue.drain(10**9)
    assert members(queue) == []
    assert port.offers == ([] if alone else [b"xyz"])


async def test_a_stop_before_the_step_forbids_the_attempt() -> None:
    """It comes between the checks of a start and its step."""
    port = SpyPort()
    queue, owner = SendQueue(port, refuse_torn=True), RecordingOwner()
    operation = sending(b"stopped")
    operation.claim()
    operation.halt("before the step")
    assert queue.start(operation, owner) is True
    assert owner.endings == [operation]
    assert (operation.state, operation.detail) == (ABORTED, "before the step")
    assert port.calls == []
    # That one alone.
    assert start(queue, sending(b"later"), owner) is False
    assert port.offers == [b"later"]


@pytest.mark.parametrize("later", ["with flags", "list", "range"])
async def test_a_stop_that_came_too_late_forbids_nothing_to_those_behind(later: str) -> None:
    """The kernel had taken everything by then, in a start that goes the long way."""
    port = SpyPort()
    answers: list[bool] = []
    async with open_initiator():
        with closing(Socket.from_port(port)) as socket:
            first = SocketAsyncEventArgs(b"first")
            first.socket_flags = SocketFlags.DONT_ROUTE
            port.on_call = lambda _: answers.append(first.cancel())
            assert socket.send_async(first) is False
            assert answers == [True]
            assert first.bytes_transferred == 5
            port.on_call = None
            args = SocketAsyncEventArgs()
            if later == "list":
                args.buffer_list = [b"la", bytearray(b"ter")]
            elif later == "range":
                args.set_buffer(bytearray(b"<later>"), 1, 5)
            else:
                args.set_buffer(b"later")
                args.socket_flags = SocketFlags.DONT_ROUTE
            assert socket.send_async(args) is False
            assert args.bytes_transferred == 5
    assert port.offers == [b"first", b"later"]


async def test_a_follower_stopped_while_views_are_opened_is_not_sent() -> None:
    port = SpyPort()
    queue, owner = SendQueue(port, refuse_torn=True), RecordingOwner()
    head, follower, last = sending(b"abc"), sending(b"def"), sending(b"")
    last.message = Interrupting(b"ghi", lambda: queue.stop(follower, ABORTED_CODE, "in the middle"))
    for operation in (head, follower, last):
        join(queue, operation, owner)
    # The views of the attempt that was dropped are gone, and the next attempt is about what still is there. An
    # attempt that was dropped may end the drain; whoever watches then starts another.
    while queue.head is not None:
        queue.drain(10**9)
    assert [operation.state for operation in (head, follower, last)] == [DONE, ABORTED, DONE]
    assert port.offers == [b"abcghi"]


#: The ways to begin: with a first attempt, and behind others without one.
begins = pytest.mark.parametrize("begin", [start, join])


@begins
async def test_a_start_in_the_middle_of_a_first_attempt_goes_behind_it(
    begin: Callable[..., bool],
) -> None:
    port = ScriptedPort([Blocked()])
    queue, owner = SendQueue(port, refuse_torn=True), RecordingOwner()
    inner, outer = sending(b"inner"), sending(b"")
    answers = []
    outer.message = Interrupting(b"outer", lambda: answers.append(begin(queue, inner, owner)))
    assert start(queue, outer, owner)
    assert answers == [True]
    assert port.attempts == 1
    assert members(queue) == [outer, inner]
    port.unblock()
    queue.drain(10**9)
    assert port.accepted == b"outerinner"
    assert owner.joins == 2
    assert owner.endings == [outer, inner]


@begins
async def test_a_start_in_the_middle_of_an_attempt_that_completes_is_attempted_behind_it(
    begin: Callable[..., bool],
) -> None:
    port = ScriptedPort()
    queue, owner = SendQueue(port, refuse_torn=True), RecordingOwner()
    inner, outer = sending(b"inner"), sending(b"")
    answers = []
    outer.message = Interrupting(b"outer", lambda: answers.append(begin(queue, inner, owner)))
    assert not start(queue, outer, owner)
    assert answers == [True]
    assert port.accepted == b"outerinner"
    # It was answered "pending", so its owner is told.
    assert owner.endings == [inner]
    assert (inner.state, inner.transferred) == (DONE, 5)
    assert queue.gate == 0


async def test_a_close_in_the_middle_of_a_first_attempt() -> None:
    port = ScriptedPort()
    queue, owner = SendQueue(port, refuse_torn=True), RecordingOwner()
    operation = sending(b"")
    operation.message = Interrupting(b"abc", lambda: queue.close(nothing))
    assert not start(queue, operation, owner)
    assert port.attempts == 0
    assert operation.state == IDLE
    assert operation.code == ABORTED_CODE
    assert members(queue) == []


async def test_a_drain_in_the_middle_of_an_attempt_is_made_at_its_end() -> None:
    port = SpyPort([Blocked(0), Blocked(0)])
    queue, owner = SendQueue(port, refuse_torn=True), RecordingOwner()
    operation = sending(b"")
    used: list[int] = []

    def drain() -> None:
        used.append(queue.drain(10**9))
        assert port.calls == []

    operation.message = Interrupting(b"abc", drain)
    assert start(queue, operation, owner)
    # Whoever drains is told that nothing was sent; the step of the start has seen to all of it.
    assert used == [0]
    assert port.results == ["EAGAIN", "EAGAIN"]
    assert members(queue) == [operation]
    assert owner.watched == {queue}
    assert queue.gate == BUSY


class Notes(Instrument):
    """Notes what it is told, each with the size of the message."""

    def __init__(self) -> None:
        self.notes: list[tuple[Any, ...]] = []

    def operation_started(self, operation: TracedOperation) -> None:
        self.notes.append(("started", operation.size))

    def operation_queued(self, operation: TracedOperation, ahead: int) -> None:
        self.notes.append(("queued", operation.size, ahead))

    def operation_completed(
        self,
        operation: TracedOperation,
        error: SocketError,
        count: int,
        queue_delay: float | None,
        detail: str | None,
    ) -> None:
        self.notes.append(("completed", operation.size, error, count, queue_delay))


@pytest.mark.parametrize("sent", [0, 3])
async def test_an_instrument_that_comes_in_the_middle_of_a_start_is_told_when_that_returns(
    sent: int,
) -> None:
    port = SpyPort()
    instrument = Notes()
    async with open_initiator():
        with closing(Socket.from_port(port)) as socket:
            assert socket.send_async(SocketAsyncEventArgs(b"warm")) is False
            port.inner.add(*([sent] if sent else []), Blocked())
            port.on_call = lambda _: add_instrument(instrument)
            args = SocketAsyncEventArgs(b"message")
            assert socket.send_async(args) is True
            assert instrument.notes == [("started", 7), ("queued", 7, 0)]
            assert args.bytes_transferred == sent


async def test_an_instrument_that_comes_in_the_middle_of_a_drain_is_told_when_that_is_over() -> (
    None
):
    queue, owner, instrument = OperationQueue(ScriptedPort()), RecordingOwner(), Notes()
    queue.instruments = current_instruments()

    def fail() -> None:
        add_instrument(instrument)
        raise ConnectionResetError(errno.ECONNRESET, "reset")

    operation, _ = stepping(None, fail)
    operation.kind = SocketAsyncOperation.RECEIVE
    start(queue, operation, owner)
    queue.drain(10**9)
    assert owner.endings == [operation]
    assert instrument.notes == [("completed", 0, SocketError.CONNECTION_RESET, 0, None)]


async def test_a_send_from_inside_a_port_is_told_to_instruments_behind_the_one_it_came_in() -> None:
    port = SpyPort()
    instrument = Notes()
    inner = SocketAsyncEventArgs(b"inner")
    async with open_initiator():
        with closing(Socket.from_port(port)) as socket, add_instrument(instrument):

            def start_inner(_: object) -> None:
                port.on_call = None
                assert socket.send_async(inner) is True

            port.on_call = start_inner
            assert socket.send_async(SocketAsyncEventArgs(b"the outer")) is False
            assert await inner.wait() == 5
    assert port.accepted == b"the outerinner"
    assert instrument.notes == [
        ("started", 9),
        ("started", 5),
        ("completed", 5, SocketError.SUCCESS, 5, 0.0),
        ("completed", 9, SocketError.SUCCESS, 9, 0.0),
    ]


async def test_a_send_of_another_thread_that_is_taken_in_by_a_port_goes_behind() -> None:
    """It has its number already, by which that thread may stop it, and keeps it."""
    port = SpyPort()
    told = Told()
    inner, other = told.args("inner"), told.args("other")
    elsewhere, _ = scripted(Blocked())
    async with open_initiator() as host:
        with closing(Socket.from_port(port)) as socket, closing(elsewhere):

            def post() -> None:
                assert from_thread.send_async(socket, inner, host=host)
                assert from_thread.send_async(elsewhere, other, host=host)

            def take_in(_: object) -> None:
                port.on_call = None
                worker = Worker(outliving, host, post)
                worker.thread.join()
                worker.take()
                assert inner.activation == other.activation == 1
                assert port.offers == [b"outer"]
                # What is stopped has to be taken in first, with whatever was posted before.
                assert other.cancel()
                assert port.offers == [b"outer"]
                assert inner.pending

            port.on_call = take_in
            assert socket.send_async(SocketAsyncEventArgs(b"outer")) is False
            assert port.offers == [b"outer", ten("inner")]
            await wait_all_tasks_blocked()
            assert inner.activation == other.activation == 1
            assert not inner.pending
    assert told.events == [
        ("other", SocketError.OPERATION_ABORTED, 0),
        ("inner", SocketError.SUCCESS, 10),
    ]


class RaisingPort(SpyPort):
    """A port that is asked again at once, and raises what is no error of a socket when it is told to.

    Attributes:
      error: what to raise; None to send.
      after: how many calls come first.
    """

    refills = True
    error: BaseException | None = None
    after = 0

    def send(self, buffer: Any, flags: int, /) -> int:
        if self.error is not None and len(self.calls) >= self.after:
            raise self.error
        return super().send(buffer, flags)


#: The faces, and how each starts a message; of args also where they do not go the short way.
RAISED_AT: dict[str, Callable[[Socket], Any]] = {
    "send_async": lambda socket: socket.send_async(SocketAsyncEventArgs(b"message")),
    "send_async with flags": lambda socket: socket.send_async(with_flags(b"message")),
    "begin_send": lambda socket: socket.begin_send(b"message"),
    "try_begin_send": lambda socket: socket.try_begin_send(bytearray(b"message")),
    "send": lambda socket: socket.send(b"message"),
}


def with_flags(message: bytes) -> SocketAsyncEventArgs:
    args = SocketAsyncEventArgs(message)
    args.socket_flags = SocketFlags.DONT_ROUTE
    return args


@pytest.mark.parametrize("sent", [0, 3])
@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("face", RAISED_AT)
async def test_a_start_whose_second_call_raises_what_is_no_error_of_a_socket(
    face: str, later: bool, sent: int
) -> None:
    """The caller gets the exception, and nothing is written behind the part that went out."""
    port = RaisingPort([4, sent] if later else [sent])
    async with open_initiator():
        with closing(Socket.from_port(port)) as socket:
            if later:
                assert socket.send_async(SocketAsyncEventArgs(b"warm")) is False
            port.error, port.after = ZeroDivisionError(), len(port.calls) + 1
            with pytest.raises(ZeroDivisionError):
                answer = RAISED_AT[face](socket)
                if inspect.isawaitable(answer):
                    await answer
            assert socket.queued_operations == 0
            assert not socket._core.sends.gate & STEP
            port.error = None
            if sent:
                assert socket.torn is not None
                assert (socket.torn.bytes_transferred, socket.torn.size) == (3, 7)
                behind = SocketAsyncEventArgs(b"behind")
                assert socket.send_async(behind) is False
                assert behind.socket_error is SocketError.CONNECTION_ABORTED
                assert await socket.send_rest() == 4
            assert socket.torn is None
            assert socket.send_async(SocketAsyncEventArgs(b"next")) is False
    whole = b"message" if sent else b""
    assert port.accepted == (b"warm" if later else b"") + whole + b"next"


@pytest.mark.parametrize("how", ["the same args", "fresh args", "send_rest"])
async def test_a_rest_whose_call_raises_what_is_no_error_of_a_socket_is_still_to_be_sent(
    how: str,
) -> None:
    port = RaisingPort([3])
    port.refills = False
    async with open_initiator():
        with closing(Socket.from_port(port)) as socket:
            args = SocketAsyncEventArgs(b"message")
            assert socket.send_async(args)
            args.cancel()
            await args.wait()
            port.error = ZeroDivisionError()
            rest = args
            with pytest.raises(ZeroDivisionError):
                if how == "send_rest":
                    await socket.send_rest()
                else:
                    if how == "fresh args":
                        rest = SocketAsyncEventArgs(b"sage")
                    socket.resume(rest)
            assert socket.torn is not None
            assert b"".join(socket.torn.remaining) == b"sage"
            assert (rest.pending, rest.socket_error) == (False, SocketError.OPERATION_ABORTED)
            assert args.bytes_transferred == 3
            port.error = None
            assert socket.resume(rest) is False
            assert socket.torn is None
    assert port.accepted == b"message"


@pytest.mark.parametrize("face", ["send_async", "begin_send"])
async def test_a_start_in_the_middle_whose_call_raises_is_tried_again_by_who_drains(
    face: str,
) -> None:
    """The call that it came in the middle of is answered as ever, and so are all others."""
    port = RaisingPort()
    begun: list[Any] = []

    def start_another(_: object) -> None:
        if len(port.calls) == 1:
            message = b"second" if face == "begin_send" else SocketAsyncEventArgs(b"second")
            begun.append(getattr(socket, face)(message))
            port.error, port.after = ZeroDivisionError(), 1

    port.on_call = start_another
    async with open_initiator():
        with closing(Socket.from_port(port)) as socket:
            assert socket.send_async(SocketAsyncEventArgs(b"first")) is False
            assert port.accepted == b"first"
            assert socket.queued_operations == 1
            port.error = None
            third = SocketAsyncEventArgs(b"third")
            assert socket.send_async(third)
            assert await third.wait() == 5
    assert port.accepted == b"firstsecondthird"


async def test_a_start_in_the_middle_whose_call_raises_for_ever_ends_the_initiator() -> None:
    port = RaisingPort()
    second = SocketAsyncEventArgs(b"second")

    def start_another(_: object) -> None:
        port.error, port.after = ZeroDivisionError(), 1
        assert socket.send_async(second)

    port.on_call = start_another
    first = SocketAsyncEventArgs(b"first")
    with closing(Socket.from_port(port)) as socket:
        with pytest.raises(BaseExceptionGroup) as caught:
            async with open_initiator():
                assert socket.send_async(first) is False
                await trio.sleep_forever()
        assert caught.group_contains(ZeroDivisionError)
        assert (first.pending, first.socket_error) == (False, SocketError.SUCCESS)
        assert (second.pending, second.socket_error) == (False, SocketError.OPERATION_ABORTED)
        assert second.bytes_transferred == 0
        assert socket.queued_operations == 0
    assert port.inner.closed


def test_what_was_noted_is_done_although_something_of_it_raises() -> None:
    """And the step ends. The last error is the one that is raised, with those before it as its context."""
    queue = SendQueue(SpyPort(), refuse_torn=True)
    done: list[int] = []

    def fail(number: int) -> None:
        done.append(number)
        raise ValueError(number)

    def note() -> None:
        for number in range(4):
            action = fail if number % 2 else done.append
            assert not queue.request(partial(action, number))

    with pytest.raises(ValueError, match="3") as caught:
        queue.request(note)
    assert str(caught.value.__context__) == "1"
    assert done == [0, 1, 2, 3]
    assert queue.gate == 0
    assert queue.request(partial(done.append, 4))
    assert done[-1] == 4


class ActingList(list[bytes]):
    """A list that does something each time that it is looked at."""

    def __init__(self, action: Callable[[], object], *members: bytes) -> None:
        super().__init__(members)
        self.action = action

    def __iter__(self) -> Iterator[bytes]:
        self.action()
        return super().__iter__()


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("face", ["begin_send", "try_begin_send", "send"])
async def test_a_close_in_the_middle_of_the_checks_of_a_start_ends_it(
    face: str, held: bool
) -> None:
    """Whether the close is obeyed at once, or when Trio runs a task."""
    port = SpyPort()
    async with open_initiator():
        with closing(Socket.from_port(port)) as socket:

            def close() -> None:
                with falling_asleep() if held else nullcontext():
                    socket.close()

            data = ActingList(close, b"mes", b"sage")
            ended = await failure_on_the_spot(face, socket, data)
            assert ended == (SocketError.OPERATION_ABORTED, 0)
            with pytest.raises(ObjectDisposedError):
                await socket.send(b"later")
    assert port.calls == []
    assert port.inner.closed


# A step that is held until Trio runs a task


async def test_a_start_finishes_first_what_is_held() -> None:
    socket, port = scripted(Blocked())
    told = Told()
    head, args = told.args("head"), told.args("next")
    async with open_initiator():
        assert socket.send_async(head) is True
        with falling_asleep():
            assert head.cancel()
        assert socket.queued_operations == 1
        port.unblock()
        # The head has left by now, so there is nothing to wait behind.
        assert socket.send_async(args) is False
        assert socket.queued_operations == 0
        assert args.bytes_transferred == 10
        await wait_all_tasks_blocked()
    assert told.events == [("head", SocketError.OPERATION_ABORTED, 0)]
    assert port.accepted == ten("next")


@pytest.mark.parametrize("face", FACES)
async def test_a_start_that_tears_the_stream_by_what_is_held_is_refused(face: str) -> None:
    socket, port = scripted(3)
    head = SocketAsyncEventArgs(b"message")
    async with open_initiator():
        assert socket.send_async(head) is True
        with falling_asleep():
            assert head.cancel()
        assert socket.torn is None
        refused = await failure_on_the_spot(face, socket, b"behind")
        assert refused == (SocketError.CONNECTION_ABORTED, 0)
        assert socket.torn is not None
        assert socket.torn.bytes_transferred == 3
        assert await socket.send_rest() == 4
    assert port.accepted == b"message"


@pytest.mark.parametrize("how", ["left", "closed"])
async def test_a_start_that_is_held_sends_nothing_after_the_stop(how: str) -> None:
    socket, port = scripted(Blocked())
    told = Told()
    async with open_initiator():
        head, late = told.args("head"), told.args("late")
        assert socket.send_async(head) is True
        with falling_asleep():
            assert head.cancel()
            assert socket.send_async(late) is True
        assert late.pending
        port.unblock()
        if how == "closed":
            socket.close()
            assert socket.queued_operations == 0
    assert told.events == [
        ("head", SocketError.OPERATION_ABORTED, 0),
        ("late", SocketError.OPERATION_ABORTED, 0),
    ]
    error = error_of(late)
    assert isinstance(error, ObjectDisposedError) == (how == "closed")
    assert (
        error.native_error_code == errno.ECANCELED
    )  # the kernel has said nothing; this stands for it
    assert port.attempts == 1


def error_of(args: SocketAsyncEventArgs) -> SocketException:
    """The error of args that failed."""
    with pytest.raises(SocketException) as caught:
        assert args.outcome is not None
        args.outcome.unwrap()
    return caught.value


# The three faces together


class Faces:
    """Starts sends through the three faces for several owners and notes how each ended, in order.

    Attributes:
      ended: the names of operations, in the order in which they were told.
      counts: how many bytes each got accepted.
      errors: how each ended.
    """

    def __init__(self, socket: Socket, nursery: trio.Nursery) -> None:
        self.socket = socket
        self.nursery = nursery
        self.ended: list[str] = []
        self.counts: dict[str, int] = {}
        self.errors: dict[str, SocketError] = {}
        self.pending: dict[str, bool] = {}

    def _tell(self, name: str, count: int, error: SocketError) -> None:
        assert name not in self.counts, f"{name} was told twice"
        self.ended.append(name)
        self.counts[name] = count
        self.errors[name] = error

    def start(self, face: str, name: str, data: bytes, context: Any) -> Any:
        def start() -> Any:
            if face == "args":
                args = SocketAsyncEventArgs(data)
                args.completed += lambda _, args: self._tell(
                    name, args.bytes_transferred, args.socket_error
                )
                self.pending[name] = self.socket.send_async(args)
                if not self.pending[name]:
                    self._tell(name, args.bytes_transferred, args.socket_error)
                return args

            def callback(result: Any) -> None:
                count, error = self.socket.try_end_send_nowait(result)
                self._tell(name, count, error)

            result = self.socket.begin_send(data, callback=callback)
            self.pending[name] = not result.is_completed
            return result

        if face == "await":
            return self.nursery.start_soon(self._await, name, data)
        return context.run(start)

    async def _await(self, name: str, data: bytes) -> None:
        try:
            count = await self.socket.send(data)
        except SocketException as error:
            self._tell(name, error.bytes_transferred, error.socket_error_code)
        else:
            self._tell(name, count, SocketError.SUCCESS)


@pytest.mark.fact("F191", "F199")
async def test_one_order_for_all_faces_and_owners(autojump_clock: MockClock) -> None:
    port = SpyPort([2, Blocked(1), 7, Blocked(1), 1, 1, Blocked(1), 30, Blocked(1), 0, 4])
    socket = Socket.from_port(port)
    stream = bytes_of(120)
    async with trio.open_nursery() as nursery:
        faces = Faces(socket, nursery)
        async with open_initiator(ExitPolicy.JOIN):
            first = copy_context()
            async with open_initiator(ExitPolicy.JOIN):
                second = copy_context()
                at = 0
                order = ["args", "await", "begin", "await", "begin", "args", "await", "args"] * 2
                for index, face in enumerate(order):
                    size = index % 5 + 3 * (index % 2)
                    faces.start(
                        face,
                        f"{index}",
                        stream[at : at + size],
                        first if index % 3 else second,
                    )
                    at += size
                    # An awaiting task needs its turn to start; nothing is accepted meanwhile.
                    await wait_all_tasks_blocked()
                # All but the first were started while others waited, and made no attempt of their own.
                assert port.offers[0] == stream[:0] or len(port.calls) >= 1
                assert socket.queued_operations > 0
        await trio.sleep(100)
        nursery.cancel_scope.cancel()
    assert port.accepted == stream[:at]
    assert set(faces.errors.values()) == {SocketError.SUCCESS}
    assert sorted(faces.ended, key=int) == [str(index) for index in range(16)]
    assert socket.queued_operations == 0


@pytest.mark.fact("F196")
async def test_a_start_behind_others_makes_no_attempt_even_if_the_socket_is_ready() -> None:
    port = SpyPort([Blocked()])
    socket = Socket.from_port(port)
    async with trio.open_nursery() as nursery:
        faces = Faces(socket, nursery)
        async with open_initiator(ExitPolicy.JOIN):
            context = copy_context()
            faces.start("args", "0", b"ab", context)
            assert port.offers == [b"ab"]
            port.inner.unblock()
            # The engine has not had its turn: now a jumper of the queue would be seen.
            faces.start("begin", "1", b"cd", context)
            faces.start("args", "2", b"ef", context)
            assert port.offers == [b"ab"]
            assert faces.pending == {"0": True, "1": True, "2": True}
            assert socket.queued_operations == 3
    assert faces.ended == ["0", "1", "2"]
    assert port.accepted == b"abcdef"


@pytest.mark.fact("F197", "F198")
async def test_events_come_in_order_of_termination(autojump_clock: MockClock) -> None:
    port = ScriptedPort([Blocked(1)])
    socket = Socket.from_port(port)
    async with trio.open_nursery() as nursery:
        faces = Faces(socket, nursery)
        async with open_initiator():
            context = copy_context()
            args = [
                faces.start("begin" if index % 2 else "args", f"{index}", b"ab", context)
                for index in range(6)
            ]
            assert args[4].cancel()
            assert args[1].cancel()
            await trio.sleep(2)
            # One that ends on the spot and has a callback is told in its order too.
            faces.start("begin", "6", b"c", context)
            assert faces.ended == ["4", "1", "0", "2", "3", "5"]
            await wait_all_tasks_blocked()
    assert faces.ended == ["4", "1", "0", "2", "3", "5", "6"]
    assert port.accepted == b"ab" * 4 + b"c"


# Cancelling


async def test_cancelling_a_follower_leaves_no_trace_of_it(autojump_clock: MockClock) -> None:
    port = ScriptedPort([Blocked(1)])
    socket = Socket.from_port(port)
    async with open_initiator():
        others = [SocketAsyncEventArgs(data) for data in (b"ab", b"ef", b"ij")]
        doomed = SocketAsyncEventArgs(b"cd")
        result = None
        assert socket.send_async(others[0])
        assert socket.send_async(doomed)
        assert socket.send_async(others[1])
        result = socket.begin_send(b"gh")
        assert socket.send_async(others[2])
        assert doomed.cancel("not wanted")
        assert result.cancel()
        # Twice is once too often.
        assert not doomed.cancel()
        assert not result.cancel()
        assert socket.queued_operations == 3
        assert not doomed.pending  # with nothing to call, its end is told on the spot
        assert await doomed.wait() == 0
        assert doomed.socket_error is SocketError.OPERATION_ABORTED
        assert "not wanted" in str(doomed.outcome)
        assert b"".join(doomed.remaining) == b"cd"
        # Free again at once: its second activation stands where it was started, behind the others.
        assert socket.send_async(doomed)
        assert socket.torn is None
        with pytest.raises(SocketException) as caught:
            await socket.end_send(result)
        assert caught.value.socket_error_code is SocketError.OPERATION_ABORTED
        assert "the operation was cancelled" in str(caught.value)
        assert await doomed.wait() == 2
    assert port.accepted == b"abefijcd"


async def test_cancelling_the_head_before_its_first_byte(autojump_clock: MockClock) -> None:
    port = ScriptedPort([Blocked(1)])
    socket = Socket.from_port(port)
    async with open_initiator():
        head, follower = SocketAsyncEventArgs(b"ab"), SocketAsyncEventArgs(b"cd")
        socket.send_async(head)
        socket.send_async(follower)
        assert head.cancel()
        assert await follower.wait() == 2
        assert head.socket_error is SocketError.OPERATION_ABORTED
        assert head.bytes_transferred == 0
        assert follower.socket_error is SocketError.SUCCESS
        assert socket.torn is None
        assert trio.current_time() == pytest.approx(1)
    assert port.accepted == b"cd"


async def test_cancelling_what_is_not_pending() -> None:
    port = ScriptedPort()
    socket = Socket.from_port(port)
    args = SocketAsyncEventArgs(b"ab")
    assert not args.cancel()
    async with open_initiator():
        assert not socket.send_async(args)
        assert not args.cancel()
        assert args.socket_error is SocketError.SUCCESS
        result = socket.begin_send(b"cd", callback=lambda _: None)
        # Done, and only to be told.
        assert not result.cancel()
        assert await socket.end_send(result) == 2
        assert not result.cancel()


async def test_a_cancel_never_hits_the_next_activation(autojump_clock: MockClock) -> None:
    port = ScriptedPort([Blocked(1)])
    socket = Socket.from_port(port)
    seen: list[tuple[int, int]] = []
    args = SocketAsyncEventArgs(b"ab")

    def restart(_: object, args: SocketAsyncEventArgs) -> None:
        seen.append((args.activation, args.bytes_transferred))
        if args.activation < 5:
            port.add(Blocked(1))
            assert socket.send_async(args)

    args.completed += restart
    async with open_initiator():
        assert socket.send_async(args)
        for aimed in range(1, 5):
            activation = args.activation
            assert activation == aimed
            await args.wait()
            # The handler has restarted it by now; the late stop is aimed at the one before.
            assert args.activation == activation + 1
            assert not args.cancel(activation=activation)
            assert args.pending
        await args.wait()
        assert args.socket_error is SocketError.SUCCESS
    assert seen == [(number, 2) for number in range(1, 6)]


async def test_waiting_is_for_the_activation_it_was_called_in(autojump_clock: MockClock) -> None:
    port = ScriptedPort([1, Blocked(1)])
    socket = Socket.from_port(port)
    args = SocketAsyncEventArgs(b"abc")
    counts: list[int] = []

    def restart(_: object, args: SocketAsyncEventArgs) -> None:
        if args.activation == 1:
            args.set_buffer(b"defgh")
            port.add(2, Blocked(1))
            assert socket.send_async(args)

    args.completed += restart

    async def wait() -> None:
        counts.append(await args.wait())

    async with open_initiator():
        assert socket.send_async(args)
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(wait)
            await wait_all_tasks_blocked()
            with trio.move_on_after(0.5) as scope:
                await args.wait()
            assert scope.cancelled_caught
            assert args.pending
        assert counts == [3, 3, 3]
        assert args.bytes_transferred == 2
        assert await args.wait() == 5


@pytest.mark.fact("F228")
@pytest.mark.parametrize(
    "doomed", [[0], [1], [2], [3], [0, 1], [1, 2], [0, 2], [0, 1, 2], [0, 1, 2, 3]]
)
async def test_a_cancelled_await_ends_its_operation_and_leaves_the_others_in_order(
    doomed: list[int],
) -> None:
    port = ScriptedPort([Blocked()])
    socket = Socket.from_port(port)
    names = [b"ab", b"cd", b"ef", b"gh"]
    args = [SocketAsyncEventArgs(name) for name in names]
    scopes = [trio.CancelScope() for _ in names]

    async def send(index: int) -> None:
        with scopes[index]:
            # Bare bytes or args: there are two ways to wait.
            await socket.send(names[index] if index % 2 else args[index])

    async with trio.open_nursery() as nursery:
        for index in range(4):
            nursery.start_soon(send, index)
            await wait_all_tasks_blocked()
        assert socket.queued_operations == 4
        for index in doomed:
            scopes[index].cancel()
        await wait_all_tasks_blocked()
        assert socket.queued_operations == 4 - len(doomed)
        port.unblock()
    assert port.accepted == b"".join(
        name for index, name in enumerate(names) if index not in doomed
    )
    assert [scope.cancelled_caught for scope in scopes] == [index in doomed for index in range(4)]
    for index in (0, 2):
        if index in doomed:
            assert args[index].socket_error is SocketError.OPERATION_ABORTED
            assert "the awaiting task was interrupted" in str(args[index].outcome)
        assert args[index].bytes_transferred == (0 if index in doomed else 2)


@pytest.mark.parametrize("first", [0, 1, 2])
async def test_awaits_that_are_cancelled_in_one_step_run_in_any_order(first: int) -> None:
    # Which of the tasks runs first after a cancel is up to Trio. Here it is up to the test: the operation of one is
    # stopped in the very step of the cancel, as the task itself does when it runs.
    port = ScriptedPort([Blocked()])
    socket = Socket.from_port(port)
    args = [SocketAsyncEventArgs(name) for name in (b"ab", b"cd", b"ef")]
    async with trio.open_nursery() as nursery:
        for each in args:
            nursery.start_soon(socket.send, each)
            await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        args[first].cancel()
    assert [each.socket_error for each in args] == [SocketError.OPERATION_ABORTED] * 3
    assert socket.queued_operations == 0
    assert port.accepted == b""


@pytest.mark.parametrize("bare", [True, False])
async def test_a_complete_send_beats_a_cancel_of_the_same_moment(bare: bool) -> None:
    # The task of the follower is told of the cancel, but before it runs, somebody else has the queue drained.
    port = ScriptedPort([Blocked()])
    socket = Socket.from_port(port)
    args = SocketAsyncEventArgs(b"def")
    ended: list[object] = []

    async def send() -> None:
        try:
            ended.append(await socket.send(b"def" if bare else args))
        except trio.Cancelled:
            ended.append("cancelled")
            raise

    async with open_initiator():
        head = SocketAsyncEventArgs(b"abc")
        assert socket.send_async(head)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
            port.unblock()
            socket._core.sends.drain(SOCKET_ALLOWANCE)
    # Whichever way it went, the answer and the stream agree.
    assert bytes(port.accepted) == (b"abc" if ended == ["cancelled"] else b"abcdef")
    if not bare:
        assert args.bytes_transferred == len(port.accepted) - 3


async def test_a_second_stop_in_the_middle_of_an_attempt_is_answered_like_the_first() -> None:
    """The operation is stopped when the attempt is over, whoever asks how often."""
    answers: list[bool] = []
    args = SocketAsyncEventArgs(b"abc")
    port = SpyPort([1], on_call=lambda _: answers.extend((args.cancel(), args.cancel())))
    socket = Socket.from_port(port)
    async with open_initiator():
        assert socket.send_async(args)
        assert answers == [True, True]
        await args.wait()
        assert (args.socket_error, args.bytes_transferred) == (SocketError.OPERATION_ABORTED, 1)
    assert port.accepted == b"a"


async def test_args_of_a_send_that_was_cancelled_before_it_began() -> None:
    port = ScriptedPort()
    socket = Socket.from_port(port)
    args = SocketAsyncEventArgs(b"abc")
    with trio.CancelScope() as scope:
        scope.cancel()
        await socket.send(args)
    assert scope.cancelled_caught
    assert port.attempts == 0
    # Not a success of 0 bytes: success means all of them.
    assert args.bytes_transferred == 0
    assert args.outcome is None or args.socket_error is SocketError.OPERATION_ABORTED
    assert b"".join(args.remaining) == b"abc"


async def test_a_cancel_from_elsewhere_ends_an_await_with_its_reason(
    autojump_clock: MockClock,
) -> None:
    port = ScriptedPort([Blocked()])
    socket = Socket.from_port(port)
    head, follower = SocketAsyncEventArgs(b"ab"), SocketAsyncEventArgs(b"cd")
    errors: list[SocketException] = []

    async def send(args: SocketAsyncEventArgs) -> None:
        with pytest.raises(SocketException) as caught:
            await socket.send(args)
        errors.append(caught.value)

    async with trio.open_nursery() as nursery:
        for args in (head, follower):
            nursery.start_soon(send, args)
            await wait_all_tasks_blocked()
            assert args.pending
            assert args.socket_error is SocketError.IO_PENDING
        assert follower.cancel("first", activation=1)
        await wait_all_tasks_blocked()
        assert head.cancel("second")
    assert [error.socket_error_code for error in errors] == [SocketError.OPERATION_ABORTED] * 2
    assert [str(error).rpartition(": ")[2] for error in errors] == ["first", "second"]


async def test_nothing_of_a_stopped_operation_is_kept() -> None:
    port = ScriptedPort([Blocked()])
    socket = Socket.from_port(port)

    class Token:
        pass

    gc.collect()
    gc.disable()
    try:
        async with open_initiator():
            head = SocketAsyncEventArgs(b"ab")
            socket.send_async(head)
            gone = []
            for index in range(3):
                args = SocketAsyncEventArgs(b"cd", user_token=Token())
                gone.append(weakref.ref(args.user_token))
                socket.send_async(args)
                if index != 1:
                    args.cancel()
            last = SocketAsyncEventArgs(b"ef")
            socket.send_async(last)
            del args
            # Whoever told of them may hold the latest batch, so let there be another.
            await wait_all_tasks_blocked()
            last.cancel()
            await wait_all_tasks_blocked()
            assert [reference() is None for reference in gone] == [True, False, True]
    finally:
        gc.enable()


# Closing


@pytest.mark.fact("F206")
async def test_close_ends_everyone_in_order_with_exact_counts(autojump_clock: MockClock) -> None:
    port = ScriptedPort([3, Blocked()])
    socket = Socket.from_port(port)
    async with trio.open_nursery() as nursery:
        faces = Faces(socket, nursery)
        async with open_initiator() as first:
            outer = copy_context()
            async with open_initiator():
                inner = copy_context()
                for index, face in enumerate(["args", "begin", "args", "args", "begin"]):
                    faces.start(face, f"{index}", b"abcde", outer)
                    faces.start(face, f"i{index}", b"abcde", inner)
                faces.start("await", "awaited", b"xyz", None)
                await wait_all_tasks_blocked()
                assert socket.queued_operations == 11
                socket.close()
                assert socket.torn is None
                assert socket.queued_operations == 0
                await wait_all_tasks_blocked()
                assert first.pending_operations == 0
    assert [name for name in faces.ended if len(name) == 1] == list("01234")
    assert [name for name in faces.ended if len(name) == 2] == ["i0", "i1", "i2", "i3", "i4"]
    assert faces.ended.count("awaited") == 1
    assert set(faces.errors.values()) == {SocketError.OPERATION_ABORTED}
    assert faces.counts == {name: 3 if name == "0" else 0 for name in faces.ended}
    assert port.accepted == b"abc"
    assert port.closed
    assert port.was_reset


async def test_close_resets_only_what_the_peer_could_misread() -> None:
    def closed(script: list[int | Blocked], **kwargs: Any) -> tuple[Socket, ScriptedPort]:
        port = ScriptedPort(script, **kwargs)
        return Socket.from_port(port), port

    async with open_initiator():
        # Nothing was ever sent, or all of it was.
        socket, port = closed([])
        socket.close()
        assert (port.closed, port.was_reset) == (True, False)
        socket, port = closed([])
        assert not socket.send_async(SocketAsyncEventArgs(b"abc"))
        socket.close()
        assert (port.closed, port.was_reset) == (True, False)

        # Pending, in part or not at all.
        for line in (2, Blocked()):
            socket, port = closed([line])
            assert socket.send_async(SocketAsyncEventArgs(b"abc"))
            socket.close()
            assert (port.closed, port.was_reset) == (True, True)

        # Torn, with nothing pending any more; given up, and so in order again.
        for give_up in (False, True):
            socket, port = closed([2])
            args = SocketAsyncEventArgs(b"abc")
            assert socket.send_async(args)
            args.cancel()
            await args.wait()
            if give_up:
                socket.forget_torn()
            socket.close()
            assert port.was_reset is not give_up
            # Of the cut message nothing can follow any more, so the args are ordinary ones again.
            assert args._operation.state == IDLE
            assert args.bytes_transferred == 2

        # Pending datagrams are whole or not there.
        socket, port = closed([Blocked()], is_stream=False)
        assert socket.send_async(SocketAsyncEventArgs(b"abc"))
        socket.close()
        assert (port.closed, port.was_reset) == (True, False)

        # The caller knows better.
        socket, port = closed([2])
        assert socket.send_async(SocketAsyncEventArgs(b"abc"))
        socket.close(reset=False)
        assert (port.closed, port.was_reset) == (True, False)
        socket, port = closed([])
        socket.close(reset=True)
        assert (port.closed, port.was_reset) == (True, True)
        # A second close changes nothing.
        socket.close(reset=False)
        assert port.was_reset


@pytest.mark.fact("F209")
@pytest.mark.parametrize("bare", [True, False])
async def test_a_closed_socket_wakes_the_awaits_of_it(bare: bool) -> None:
    port = ScriptedPort([1, Blocked()])
    socket = Socket.from_port(port)
    counts: list[int] = []

    async def send() -> None:
        with pytest.raises(SocketException, match="closed") as caught:
            await socket.send(b"abc" if bare else SocketAsyncEventArgs(b"abc"))
        assert caught.value.socket_error_code is SocketError.OPERATION_ABORTED
        counts.append(caught.value.bytes_transferred)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(send)
            await wait_all_tasks_blocked()
        socket.close()
    assert sorted(counts) == [0, 0, 1]
    assert port.accepted == b"a"


async def test_flags_are_the_calls_own(autojump_clock: MockClock) -> None:
    port = SpyPort([Blocked(1)])
    socket = Socket.from_port(port)
    async with open_initiator(ExitPolicy.JOIN):
        for flags in (SocketFlags.NONE, SocketFlags.OUT_OF_BAND, SocketFlags.NONE):
            socket.begin_send(b"ab", socket_flags=flags)
    plain = port.calls[0].flags
    assert [call.flags != plain for call in port.calls] == [False, False, True, False]
    assert port.offers == [b"ab", b"ab", b"ab", b"ab"]
