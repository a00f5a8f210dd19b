"""Hold operations to their states, and what can be read of them to what happened.

Modules: _operations.states.
"""

from __future__ import annotations

import ast
import gc
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import outcome
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_send
from tests.helpers import bytes_of, in_flight, unblock
from tests.scripted import RecordingOwner, SpyPort
from trio_send import (
    AsyncResult,
    ExitPolicy,
    InvalidOperationError,
    OperationInProgressError,
    Socket,
    SocketAsyncEventArgs,
    SocketAsyncOperation,
    SocketError,
    SocketException,
    open_initiator,
)
from trio_send._operations.operation import Operation
from trio_send._operations.states import CUT, IDLE, QUEUED, TRANSITIONS, State
from trio_send.testing import Blocked, ScriptedPort

ABORTED_CODE = int(SocketError.OPERATION_ABORTED)
ACCESS_DENIED = int(SocketError.ACCESS_DENIED)

# The transitions


class TornQueue:
    """A queue, as far as an operation knows one."""

    def __init__(self, torn_by: Operation | None) -> None:
        self.torn_by = torn_by

    def is_torn_by(self, operation: Operation) -> bool:
        return operation is self.torn_by


def rest_whole(operation: Operation) -> None:
    operation.rest(TornQueue(None))


def rest_cut(operation: Operation) -> None:
    operation.rest(TornQueue(operation))


def halt(operation: Operation) -> None:
    operation.halt("why")


def enter(operation: Operation) -> None:
    operation.activate(QUEUED, RecordingOwner())


def post(operation: Operation) -> None:
    operation.post(RecordingOwner())


def end_well_later(operation: Operation) -> None:
    operation.set_error(0, 0)
    operation.end_later(RecordingOwner())


def end_badly_later(operation: Operation) -> None:
    operation.set_error(ACCESS_DENIED, 13)
    operation.end_later(RecordingOwner())


def fail(operation: Operation) -> None:
    operation.fail(ACCESS_DENIED, 13, "why")


def abort(operation: Operation) -> None:
    operation.abort(ABORTED_CODE, "why")


def release_whole(operation: Operation) -> None:
    operation.queue = TornQueue(None)
    operation.release()


def release_cut(operation: Operation) -> None:
    operation.queue = TornQueue(operation)
    operation.release()


def uncut(operation: Operation) -> None:
    operation.uncut()


# Every way to change a state, and where it leads.
WAYS: dict[Callable[[Operation], None], State] = {
    Operation.claim: State.TRYING,
    halt: State.HALTED,
    rest_whole: State.IDLE,
    rest_cut: State.CUT,
    post: State.POSTED,
    Operation.arrive: State.ARRIVED,
    enter: State.QUEUED,
    end_well_later: State.DONE,
    end_badly_later: State.FAILED,
    Operation.finish: State.DONE,
    fail: State.FAILED,
    abort: State.ABORTED,
    release_whole: State.IDLE,
    release_cut: State.CUT,
    uncut: State.IDLE,
}

# Two are asked of operations in any state, and do something in one of them only.
ONLY_IN = {halt: State.TRYING, uncut: State.CUT}

# How to get to each state from a new operation.
PATHS: dict[State, list[Callable[[Operation], None]]] = {
    State.IDLE: [],
    State.TRYING: [Operation.claim],
    State.HALTED: [Operation.claim, halt],
    State.POSTED: [Operation.claim, post],
    State.ARRIVED: [Operation.claim, post, Operation.arrive],
    State.QUEUED: [Operation.claim, enter],
    State.DONE: [Operation.claim, enter, Operation.finish],
    State.FAILED: [Operation.claim, enter, fail],
    State.ABORTED: [Operation.claim, enter, abort],
    State.CUT: [Operation.claim, enter, abort, release_cut],
}


def operation_in(state: State) -> Operation:
    operation = Operation()
    for step in PATHS[state]:
        step(operation)
    assert operation.state == state
    return operation


def facts(operation: Operation) -> dict[str, Any]:
    return {
        name: getattr(operation, name)
        for name in Operation.__slots__
        if name not in ("__weakref__", "queue")
    }


def test_a_new_operation_is_idle() -> None:
    operation = Operation()
    assert operation.state == State.IDLE == IDLE
    assert operation.activation == 0
    assert not operation.is_pending
    assert operation.make_outcome() is None
    assert operation.remaining() == []


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__.strip("_"))
def test_every_way_from_every_state(state: State, way: Callable[[Operation], None]) -> None:
    operation = operation_in(state)
    before = facts(operation)
    if ONLY_IN.get(way, state) != state:
        way(operation)
        assert facts(operation) == before
    elif WAYS[way] in TRANSITIONS[state]:
        way(operation)
        assert operation.state == WAYS[way]
        assert operation.is_pending == (WAYS[way] not in (State.IDLE, State.CUT))
    elif way is Operation.claim:
        with pytest.raises(OperationInProgressError, match="in use by an operation that is"):
            way(operation)
        assert facts(operation) == before
    else:
        with pytest.raises(AssertionError, match=f"{state.name} -> {WAYS[way].name}"):
            way(operation)
        # Refused before anything was touched, but for the error that two of the ways set first.
        after = facts(operation)
        if way in (end_well_later, end_badly_later):
            for name in ("code", "errno", "detail"):
                del before[name], after[name]
        assert after == before


def test_a_posted_operation_keeps_the_number_it_was_posted_with() -> None:
    operation = Operation()
    for number in (1, 2):
        operation.claim()
        post(operation)
        assert operation.activation == number
        (enter if number == 1 else end_well_later)(operation)
        assert operation.activation == number
        if number == 1:
            operation.finish()
        release_whole(operation)
    for number in (3, 4):
        operation.claim()
        post(operation)
        operation.arrive()
        operation.claim()
        (enter if number == 3 else end_well_later)(operation)
        assert operation.activation == number
        if number == 3:
            operation.finish()
        release_whole(operation)


def test_the_table_holds_nothing_that_no_method_does() -> None:
    # Which ways are meant for which state; the others only lead to the same place by chance.
    for state, targets in TRANSITIONS.items():
        reached = set()
        for way in WAYS:
            operation = operation_in(state)
            before = operation.state
            try:
                way(operation)
            except (AssertionError, OperationInProgressError):
                continue
            if operation.state != before:
                reached.add(State(operation.state))
        assert reached == targets
    assert set(TRANSITIONS) == set(State)
    # A table without a way out of a state, or into it, would be a trap.
    assert all(TRANSITIONS.values())
    assert set().union(*TRANSITIONS.values()) == set(State)


def test_no_state_is_assigned_outside_its_room() -> None:
    root = Path(trio_send.__file__).parent
    assigned = set()
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            targets = (
                node.targets
                if isinstance(node, ast.Assign)
                else [node.target]
                if isinstance(node, (ast.AugAssign, ast.AnnAssign))
                else []
            )
            for target in targets:
                for part in ast.walk(target):
                    if isinstance(part, ast.Attribute) and part.attr == "state":
                        assigned.add((path.name, ast.unparse(part.value)))
    # The fast path of `send_async` moves args from IDLE to TRYING and back; a call for that would cost too much.
    assert assigned == {("operation.py", "self"), ("send.py", "operation")}


def test_results_that_a_transition_leaves() -> None:
    operation = Operation()
    owner = RecordingOwner()
    operation.claim()
    operation.kind = SocketAsyncOperation.SEND
    operation.transferred = 3
    operation.activate(QUEUED, owner)
    assert operation.owner is owner
    assert operation.activation == 1
    assert operation.make_outcome() is None
    operation.fail(ACCESS_DENIED, 13, "why")
    # The owner has yet to be told: there is no outcome to be seen before.
    assert operation.make_outcome() is None
    assert operation.owner is owner
    operation.release()
    assert (operation.owner, operation.queue) == (None, None)
    error = operation.make_error()
    assert (error.error_code, error.native_error_code, error.bytes_transferred) == (10013, 13, 3)
    assert str(error).endswith("why")

    operation.claim()
    operation.activate(QUEUED, owner)
    assert operation.activation == 2
    operation.abort(ABORTED_CODE, "stopped")
    operation.release()
    # An abort has no errno of its own; the exception shows the usual one for its code.
    assert operation.errno == 0
    assert str(operation.make_error()).endswith("stopped")
    assert operation.make_error().bytes_transferred == 3

    operation.reset_results()
    assert operation.make_outcome() == outcome.Value(0)
    operation.claim()
    operation.transferred = 7
    operation.end_later(owner)
    assert operation.state == State.DONE
    assert operation.activation == 3
    assert operation.owner is owner
    assert operation.make_outcome() is None
    operation.release()
    assert operation.make_outcome() == outcome.Value(7)


def test_release_hands_over_the_context_and_the_waiters_and_keeps_neither() -> None:
    operation = operation_in(State.DONE)
    context: Any = object()
    operation.context, operation.waiters = context, []
    waiters = operation.waiters
    found = operation.release()
    assert found[0] is context
    assert found[1] is waiters
    assert operation.context is None
    assert operation.waiters is None


def test_an_operation_that_is_cut_is_released_from_where_it_was_cut_only() -> None:
    # What stands in no queue was not cut in one, whatever another stream is torn by.
    operation = operation_in(State.ABORTED)
    operation.queue = TornQueue(Operation())
    operation.release()
    assert operation.state == State.IDLE


# What can be read


def seen(args: SocketAsyncEventArgs) -> tuple[int, str, str, bool, int]:
    """Return what args tell of their operation, but for the message."""
    return (
        args.bytes_transferred,
        args.socket_error.name,
        args.last_operation.name,
        args.pending,
        args.activation,
    )


async def test_results_of_args_from_first_to_last(autojump_clock: MockClock) -> None:
    port = ScriptedPort([4, Blocked(5), 3, Blocked(5)])
    socket = Socket.from_port(port)
    message = bytes_of(9)
    args = SocketAsyncEventArgs(message)
    assert seen(args) == (0, "SUCCESS", "NONE", False, 0)
    assert args.outcome is None
    assert b"".join(args.remaining) == message
    async with open_initiator():
        assert socket.send_async(args)
        for count, wait in [(4, 0), (4, 1), (7, 5), (7, 1)]:
            # Exact at any time, though nothing has ended.
            await trio.sleep(wait)
            await wait_all_tasks_blocked()
            assert seen(args) == (count, "IO_PENDING", "SEND", True, 1)
            assert b"".join(args.remaining) == message[count:]
            assert args.outcome is None
        assert await args.wait() == 9
        assert trio.current_time() == pytest.approx(10, abs=0.01)
        assert seen(args) == (9, "SUCCESS", "SEND", False, 1)
        assert args.remaining == []
        # Another message: what is read of the latest send stays, what remains is all of the new one.
        args.set_buffer(b"xyz")
        assert seen(args) == (9, "SUCCESS", "SEND", False, 1)
        assert args.outcome == outcome.Value(9)
        assert b"".join(args.remaining) == b"xyz"
        # On the spot: no activation, for nothing was pending.
        assert not socket.send_async(args)
        assert seen(args) == (3, "SUCCESS", "SEND", False, 1)
        assert args.remaining == []
        assert args.outcome == outcome.Value(3)


async def test_the_outcome_is_made_anew_for_each_reader(autojump_clock: MockClock) -> None:
    port = ScriptedPort([3, Blocked(1), "EACCES"])
    socket = Socket.from_port(port)
    async with open_initiator():
        args = SocketAsyncEventArgs(b"abcdef")
        socket.send_async(args)
        await args.wait()
        socket.forget_torn()
        port.add(3, Blocked(1), "EPERM")
        result = socket.begin_send(b"abcdef")
        await result.async_wait_handle.wait_one()
        pairs: list[tuple[Any, int]] = [(args, 13), (result, 1)]
        for operation, native in pairs:
            first, second = operation.outcome, operation.outcome
            assert isinstance(first, outcome.Error)
            assert isinstance(second, outcome.Error)
            assert first is not second
            assert first.error is not second.error
            for found in (first, second):
                with pytest.raises(SocketException) as caught:
                    found.unwrap()
                assert caught.value.socket_error_code is SocketError.ACCESS_DENIED
                assert caught.value.native_error_code == native
                assert caught.value.bytes_transferred == 3
                with pytest.raises(outcome.AlreadyUsedError):
                    found.unwrap()
        # Reading has not used up the end method's call either.
        count, error = socket.try_end_send_nowait(result)
        assert (count, error) == (3, SocketError.ACCESS_DENIED)
        with pytest.raises(InvalidOperationError):
            socket.try_end_send_nowait(result)
        assert isinstance(result.outcome, outcome.Error)
        socket.forget_torn()
        assert not socket.send_async(args)
        success = args.outcome
        assert success is not None
        assert success.unwrap() == 6
        with pytest.raises(outcome.AlreadyUsedError):
            success.unwrap()
        assert args.outcome == outcome.Value(6)


async def test_results_of_a_begun_send(autojump_clock: MockClock) -> None:
    port = ScriptedPort([2, Blocked(1)])
    socket = Socket.from_port(port)
    async with open_initiator():
        state = object()
        result = socket.begin_send(b"abcdef", 1, 4, state=state)
        assert result.async_state is state
        assert (result.is_completed, result.completed_synchronously) == (False, False)
        assert result.outcome is None
        assert result.bytes_transferred == 2
        assert b"".join(result.remaining) == b"de"
        handle = result.async_wait_handle
        assert not await handle.wait_one(0)
        assert await socket.end_send(result) == 4
        assert (result.is_completed, result.completed_synchronously) == (True, False)
        assert await handle.wait_one(0)
        assert result.outcome == outcome.Value(4)
        assert result.remaining == []
        # Cancelling what has ended is too late.
        assert not result.cancel()
        at_once = socket.begin_send(b"xyz")
        assert (at_once.is_completed, at_once.completed_synchronously) == (True, True)
        assert at_once.outcome == outcome.Value(3)
        assert await at_once.async_wait_handle.wait_one(0)
        assert socket.end_send_nowait(at_once) == 3
    assert port.accepted == b"bcdexyz"


async def test_activations_are_numbered_as_they_pend(autojump_clock: MockClock) -> None:
    port = ScriptedPort()
    socket = Socket.from_port(port)
    args = SocketAsyncEventArgs(b"abc")
    async with open_initiator():
        for number in range(1, 5):
            assert not socket.send_async(args)
            assert args.activation == number - 1
            port.add(Blocked(1))
            assert socket.send_async(args)
            assert args.activation == number
            await args.wait()
        # Aiming at a past or a future one misses, aiming at nothing in particular does not.
        port.add(Blocked(1))
        assert socket.send_async(args)
        assert not args.cancel(activation=4)
        assert not args.cancel(activation=6)
        assert args.pending
        assert args.cancel(activation=5)
        assert not args.pending  # with nothing to call, it is told at once
        assert not args.cancel(activation=5)
        await args.wait()
        assert args.socket_error is SocketError.OPERATION_ABORTED
        # An awaited send of the args counts too.
        port.unblock()
        port.add(Blocked(1))
        assert await socket.send(args) == 3
        assert args.activation == 6


@pytest.mark.parametrize("another", ["waits for room", "is held back as well"])
async def test_whoever_waits_is_told_of_that_activation_though_another_has_begun(
    another: str,
) -> None:
    """The end of the first is held back for them, and whoever goes on first starts the next one."""
    port = ScriptedPort()
    socket = Socket.from_port(port)
    args = SocketAsyncEventArgs(b"first")
    told: list[tuple[int, int]] = []

    def start_until_it_pends() -> None:
        while not socket.send_async(args):
            pass

    async def wait() -> None:
        told.append((await args.wait(), args.activation))
        if len(told) == 1:
            args.set_buffer(b"the second")
            if another == "waits for room":
                port.add(3, Blocked())
            start_until_it_pends()

    async with open_initiator():
        start_until_it_pends()
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(wait)
        assert told == [(5, 1), (5, 2), (5, 2)]
        assert in_flight(args)
        if another == "waits for room":
            assert args.bytes_transferred == 3
            await unblock(port)
        assert await args.wait() == 10
        assert args.activation == 2


@pytest.mark.parametrize("when", ["on the spot", "later"])
@pytest.mark.parametrize("words", [("the tunnel is closed",), ()])
async def test_an_error_without_a_number_is_told_by_its_words(
    words: tuple[str, ...], when: str
) -> None:
    """A port makes it by hand, and it is no reason to give the connection up."""

    def fail(_: object) -> None:
        port.on_call = None
        raise OSError(*words)

    port = SpyPort([Blocked()] if when == "later" else [])
    socket = Socket.from_port(port)
    async with open_initiator():
        args = SocketAsyncEventArgs(b"abc")
        if when == "later":
            assert socket.send_async(args)
            await wait_all_tasks_blocked()
            port.on_call = fail
            port.inner.unblock()
            assert await args.wait() == 0
        else:
            port.on_call = fail
            assert not socket.send_async(args)
        assert args.socket_error is SocketError.SOCKET_ERROR
        assert isinstance(args.outcome, outcome.Error)
        error = args.outcome.error
        assert isinstance(error, SocketException)
        assert (error.native_error_code, error.bytes_transferred) == (0, 0)
        assert str(error).endswith("the tunnel is closed") == bool(words)
        assert not str(error).endswith(": ")
        assert not socket.send_async(args)
        assert args.socket_error is SocketError.SUCCESS


async def test_what_is_pending_cannot_be_touched(autojump_clock: MockClock) -> None:
    port = ScriptedPort([1, Blocked(1)])
    socket = Socket.from_port(port)
    async with open_initiator(ExitPolicy.JOIN):
        args = SocketAsyncEventArgs(b"abc")
        assert socket.send_async(args)
        with pytest.raises(OperationInProgressError):
            args.set_buffer(b"x")
        with pytest.raises(OperationInProgressError):
            args.set_buffer(None)
        with pytest.raises(OperationInProgressError):
            args.set_range(0, 1)
        with pytest.raises(OperationInProgressError):
            args.buffer_list = [b"x"]
        with pytest.raises(OperationInProgressError):
            args.buffer_list = None
        with pytest.raises(OperationInProgressError):
            socket.send_async(args)
        with pytest.raises(OperationInProgressError):
            await socket.send(args)
        assert (args.bytes_transferred, args.activation, args.buffer) == (1, 1, b"abc")
    assert args.bytes_transferred == 3
    assert port.accepted == b"abc"


async def test_what_is_cut_cannot_be_touched_until_its_stream_is_settled() -> None:
    port = ScriptedPort([1])
    socket = Socket.from_port(port)
    async with open_initiator():
        args = SocketAsyncEventArgs(b"abc")
        assert socket.send_async(args)
        args.cancel()
        await args.wait()
        assert args._operation.state == CUT
        with pytest.raises(InvalidOperationError, match="cut after 1 byte and") as caught:
            args.set_buffer(b"x")
        assert not isinstance(caught.value, OperationInProgressError)
        with pytest.raises(InvalidOperationError, match=r"resume\(\).*forget_torn\(\)"):
            args.buffer_list = None
        socket.forget_torn()
        assert args._operation.state == IDLE
        assert args.bytes_transferred == 1
        args.set_buffer(b"x")


@pytest.mark.skipif(
    sys.implementation.name != "cpython", reason="objects are freed at once on CPython only"
)
async def test_nobody_keeps_what_has_ended(autojump_clock: MockClock) -> None:
    # Not the one who told of it, and not a cycle either: a stored exception would hold the frames it was raised
    # through, and those the operation, and all of them the buffer.
    gc.collect()
    gc.disable()
    try:
        port = ScriptedPort([1, Blocked(1), "EACCES"])
        socket = Socket.from_port(port, on_torn="allow")
        async with open_initiator():
            args, result = SocketAsyncEventArgs(b"abc"), socket.begin_send(b"de")
            assert socket.send_async(args)
            await args.wait()
            for operation in (args, result):
                assert operation.outcome is not None
                try:
                    operation.outcome.unwrap()
                except SocketException:
                    pass
            gone: list[Any] = [weakref.ref(args), weakref.ref(result)]
            del args, result, operation
            await wait_all_tasks_blocked()
            assert [reference() for reference in gone] == [None, None]
    finally:
        gc.enable()


def test_reprs_tell_state_and_count() -> None:
    assert repr(SocketAsyncEventArgs(b"abc")) == (
        "<SocketAsyncEventArgs: NONE, SUCCESS, 0 of 3 bytes accepted>"
    )
    result = AsyncResult(None, None, None, None)
    result._operation.claim()
    result._operation.activate(QUEUED, RecordingOwner())
    assert result._operation.state == QUEUED
    assert "pending" in repr(result)
