"""Hold initiators to how they are left: what is stopped, who is told, what leaves, and what stays behind.

Most of it runs on scripted ports, which block until they are told otherwise, so that nothing depends on the size of a
buffer. Where a test needs several sockets under one engine, or a hand-over between engines, it takes real ones too.

Modules: _owners.current, _owners.exception_groups, _owners.scope, _owners.scope_owner.
"""

from __future__ import annotations

import contextvars
import gc
import os
import socket as stdlib_socket
import sys
import threading
import traceback
import types
import weakref
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import trio
from trio.testing import (
    assert_checkpoints,
    assert_no_checkpoints,
    wait_all_tasks_blocked,
)

import trio_send
from tests.files import open_descriptors
from tests.helpers import Told, connected, fill, nothing_to_read, read_exactly, scripted, ten
from trio_send import (
    AsyncResult,
    ExitPolicy,
    Initiator,
    InvalidOperationError,
    Socket,
    SocketAsyncEventArgs,
    SocketError,
    SocketException,
    SocketFlags,
    current_initiator,
    open_initiator,
)
from trio_send._owners.exiting_owner import START_BUDGET
from trio_send.testing import Blocked, ScriptedPort

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup, ExceptionGroup

ABORTED = SocketError.OPERATION_ABORTED
CUT_OFF = SocketError.CONNECTION_ABORTED
SUCCESS = SocketError.SUCCESS

ABORT = ExitPolicy.ABORT
JOIN = ExitPolicy.JOIN


class Left(Exception):
    """What a body raises to leave its initiator."""


#: The ways to leave an initiator that end what is pending, whichever of ABORT and JOIN is its policy.
STOPPING_WAYS = (
    "exception",
    "own scope",
    "own deadline",
    "outer scope",
    "outer deadline",
    "outer scope, unnoticed",
)

every_stop = pytest.mark.parametrize(
    ("policy", "way"),
    [(ABORT, "end"), *((policy, way) for policy in (ABORT, JOIN) for way in STOPPING_WAYS)],
)


async def leave(
    way: str, start: Callable[[], object], policy: ExitPolicy = ABORT
) -> tuple[Initiator, trio.CancelScope]:
    """Open an initiator, start something in it, and leave it in one of the ways.

    Returns:
      The initiator, and the scope around it.
    """
    with trio.CancelScope() as outer:
        try:
            async with open_initiator(policy) as initiator:
                start()
                if way == "exception":
                    raise Left
                if way == "own scope":
                    initiator.cancel_scope.cancel(reason="enough")
                    await trio.sleep_forever()
                elif way == "own deadline":
                    initiator.cancel_scope.deadline = trio.current_time() + 10
                    await trio.sleep_forever()
                elif way == "outer scope":
                    outer.cancel(reason="enough")
                    await trio.sleep_forever()
                elif way == "outer deadline":
                    outer.deadline = trio.current_time() + 10
                    await trio.sleep_forever()
                elif way == "outer scope, unnoticed":
                    # The body ends well, so that engine, dispatcher and exit are the first to hear of the cancel.
                    outer.cancel(reason="enough")
        except Left:
            assert way == "exception"
    return initiator, outer


def queued(*names: str, told: Told, script: tuple[Any, ...]) -> tuple[Socket, ScriptedPort, Any]:
    """A scripted socket, and args for so many operations that are to be queued on it."""
    socket, port = scripted(*script)
    return socket, port, [told.args(name) for name in names]


# What is stopped ------------------------------------------------------------------------------


@pytest.mark.page("B41", "B42")
@every_stop
async def test_everything_ends_once_in_order_with_exact_counts(
    policy: ExitPolicy, way: str, autojump_clock: trio.testing.MockClock
) -> None:
    """All that is pending ends as its own stop, and everybody has been told when the block is left."""
    told = Told()
    socket, port, args = queued("a", "b", "c", told=told, script=(3, Blocked()))

    def start() -> None:
        for each in args:
            assert socket.send_async(each)
        assert current_initiator().pending_operations == 3

    initiator, _ = await leave(way, start, policy)
    # No checkpoint lies between the end of the block and here.
    expected = [("a", ABORTED, 3), ("b", ABORTED, 0), ("c", ABORTED, 0)]
    assert told.events == expected
    assert port.accepted == ten("a")[:3]
    assert initiator.pending_operations == 0
    assert not any(each.pending for each in args)
    assert [bytes(view) for view in args[0].remaining] == [ten("a")[3:]]
    # Nothing comes later, not even when the port would take it.
    attempts = port.attempts
    port.unblock()
    await wait_all_tasks_blocked()
    assert told.events == expected
    assert port.attempts == attempts


@every_stop
async def test_every_socket_is_stopped(
    policy: ExitPolicy, way: str, autojump_clock: trio.testing.MockClock
) -> None:
    """Operations that stand on many sockets end all, in order of their start on each of them."""
    told = Told()
    sockets = [queued(f"{n}a", f"{n}b", told=told, script=(n, Blocked())) for n in range(1, 8)]

    def start() -> None:
        for index in (0, 1):
            for socket, _, args in sockets:
                assert socket.send_async(args[index])

    await leave(way, start, policy)
    assert len(told.events) == 14
    for n, (_, port, _) in enumerate(sockets, 1):
        mine = [event for event in told.events if event[0][:-1] == str(n)]
        assert mine == [(f"{n}a", ABORTED, n), (f"{n}b", ABORTED, 0)]
        assert port.accepted == ten(f"{n}a")[:n]


@every_stop
async def test_what_is_done_is_told_as_done(
    policy: ExitPolicy, way: str, autojump_clock: trio.testing.MockClock
) -> None:
    """After many starts in a row one is answered "pending" although it is done; no stop can change that."""
    told = Told()
    socket, port = scripted(*[10] * (START_BUDGET + 1), Blocked())
    done, blocked = told.args("done"), told.args("blocked")

    def start() -> None:
        for _ in range(START_BUDGET):
            assert not socket.send_async(SocketAsyncEventArgs(ten("x")))
        assert socket.send_async(done)
        assert socket.send_async(blocked)

    await leave(way, start, policy)
    assert told.events == [("done", SUCCESS, 10), ("blocked", ABORTED, 0)]
    assert port.accepted == ten("x") * START_BUDGET + ten("done")


@pytest.mark.page("B42")
async def test_a_result_that_was_begun_keeps_its_count() -> None:
    """The results of the begin methods end like args, and are read after the initiator has exited."""
    socket, _ = scripted(3, Blocked())
    called: list[AsyncResult] = []
    async with open_initiator():
        first = socket.begin_send(ten("a"), callback=called.append)
        second = socket.begin_send(ten("b"), callback=called.append)
    assert called == [first, second]
    assert socket.try_end_send_nowait(first) == (3, ABORTED)
    with pytest.raises(SocketException) as caught:
        socket.end_send_nowait(second)
    assert caught.value.socket_error_code is ABORTED
    assert caught.value.bytes_transferred == 0


@pytest.mark.parametrize("whose", ["own", "outer"])
async def test_the_reason_of_a_cancel_is_in_the_error(whose: str) -> None:
    """The error says why, with the reason that was given to the scope."""
    told = Told()
    socket, _, (args,) = queued("a", told=told, script=(3, Blocked()))
    await leave(f"{whose} scope", lambda: socket.send_async(args))
    with pytest.raises(SocketException, match="enough") as caught:
        args.outcome.unwrap()
    assert caught.value.bytes_transferred == 3
    assert not isinstance(caught.value.__context__, trio.Cancelled)


@pytest.mark.parametrize("policy", [ABORT, JOIN])
@pytest.mark.parametrize("whose", ["own", "outer"])
async def test_a_cancel_reaches_the_operations_of_a_body_that_cleans_up(
    policy: ExitPolicy, whose: str
) -> None:
    """Aborts do not wait for a body that sits behind a shield."""
    told = Told()
    socket, port, args = queued("a", "b", told=told, script=(3, Blocked()))
    with trio.CancelScope() as outer:
        async with open_initiator(policy) as initiator:
            for each in args:
                assert socket.send_async(each)
            (initiator.cancel_scope if whose == "own" else outer).cancel()
            with trio.CancelScope(shield=True):
                await wait_all_tasks_blocked()
                assert told.events == [("a", ABORTED, 3), ("b", ABORTED, 0)]
                assert "leaving" in repr(initiator)
                assert current_initiator() is initiator
    assert told.events == [("a", ABORTED, 3), ("b", ABORTED, 0)]
    assert port.accepted == ten("a")[:3]


async def test_a_cancel_that_comes_before_the_first_step_is_noticed() -> None:
    """Under a scope that is cancelled already, operations are stopped and told like any others."""
    told = Told()
    socket, _, (args,) = queued("a", told=told, script=(3, Blocked()))
    with trio.CancelScope() as outer:
        outer.cancel()
        async with open_initiator():
            assert socket.send_async(args)
    assert outer.cancelled_caught
    assert told.events == [("a", ABORTED, 3)]


# Handlers at the exit -------------------------------------------------------------------------


class Stages:
    """An asynchronous handler that remembers how far it has come."""

    def __init__(self, seconds: float = 0) -> None:
        self.reached: list[str] = []
        self._seconds = seconds

    async def __call__(self, socket: Socket, args: SocketAsyncEventArgs) -> None:
        self.reached.append("called")
        await trio.sleep(self._seconds)
        self.reached.append("went on")


@every_stop
async def test_asynchronous_handlers_run_on_if_nothing_is_cancelled(
    policy: ExitPolicy, way: str, autojump_clock: trio.testing.MockClock
) -> None:
    """Every handler is called. An asynchronous one runs to its end at a normal exit, else to its first checkpoint."""
    told = Told()
    stages = Stages()
    socket, _, args = queued("a", "b", told=told, script=(3, Blocked()))
    for each in args:
        each.completed += stages

    await leave(way, lambda: [socket.send_async(each) for each in args], policy)
    assert told.events == [("a", ABORTED, 3), ("b", ABORTED, 0)]
    if way == "end":
        assert sorted(stages.reached) == ["called", "called", "went on", "went on"]
    else:
        assert stages.reached == ["called", "called"]


@pytest.mark.parametrize("policy", [ABORT, JOIN])
async def test_a_normal_exit_waits_for_slow_handlers(
    policy: ExitPolicy, autojump_clock: trio.testing.MockClock
) -> None:
    """However long an asynchronous handler takes, it is inside the block."""
    stages = Stages(1000)
    socket, _ = scripted(Blocked(1))
    args = SocketAsyncEventArgs(b"hello")
    args.completed += stages
    async with open_initiator(policy):
        assert socket.send_async(args)
    assert stages.reached == ["called", "went on"]
    assert args.socket_error is (ABORTED if policy is ABORT else SUCCESS)


async def test_an_outside_cancel_ends_the_wait_for_slow_handlers(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A handler that is running at a normal exit can still be cancelled from outside."""
    stages = Stages(1000)
    socket, _ = scripted(Blocked())
    args = SocketAsyncEventArgs(b"hello")
    args.completed += stages
    with trio.move_on_after(10) as outer:
        async with open_initiator():
            assert socket.send_async(args)
    assert outer.cancelled_caught
    assert stages.reached == ["called"]
    assert trio.current_time() < 1000


# JOIN -----------------------------------------------------------------------------------------


async def test_join_waits_for_what_is_pending() -> None:
    """The block ends when the last operation has, and not before."""
    told = Told()
    socket, port, args = queued("a", "b", told=told, script=(3, Blocked(), 10, Blocked()))
    left = False

    async def body() -> None:
        nonlocal left
        async with open_initiator(JOIN):
            for each in args:
                assert socket.send_async(each)
        left = True

    async with trio.open_nursery() as nursery:
        nursery.start_soon(body)
        await wait_all_tasks_blocked()
        assert told.events == []
        port.unblock()
        await wait_all_tasks_blocked()
        assert told.events == [("a", SUCCESS, 10)]
        assert not left
        port.unblock()
        await wait_all_tasks_blocked()
        assert left
    assert told.events == [("a", SUCCESS, 10), ("b", SUCCESS, 10)]
    assert port.accepted == ten("a") + ten("b")


async def test_join_waits_for_what_handlers_start() -> None:
    """A chain of operations, each started by the handler of the one before, is seen through to its end."""
    told = Told()
    socket, port = scripted(*[Blocked(0), 10] * 5)
    names = iter("bcde")

    def start_next(socket: Socket, args: SocketAsyncEventArgs) -> None:
        name = next(names, None)
        if name is not None:
            start(name)

    def start(name: str) -> None:
        args = told.args(name)
        args.completed += start_next
        assert socket.send_async(args)

    async with open_initiator(JOIN):
        start("a")
    assert told.events == [(name, SUCCESS, 10) for name in "abcde"]
    assert port.accepted == b"".join(map(ten, "abcde"))


async def test_join_waits_for_what_asynchronous_handlers_start(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Nothing is pending while such a handler sleeps, and yet there is something to wait for."""
    told = Told()
    socket, port = scripted(Blocked(1), 10, Blocked(1), 10)
    second = told.args("b")

    async def handler(socket: Socket, args: SocketAsyncEventArgs) -> None:
        await trio.sleep(100)
        assert current_initiator().pending_operations == 0
        assert socket.send_async(second)

    first = told.args("a")
    first.completed += handler
    async with open_initiator(JOIN):
        assert socket.send_async(first)
    assert told.events == [("a", SUCCESS, 10), ("b", SUCCESS, 10)]
    assert port.accepted == ten("a") + ten("b")


async def test_join_with_nothing_pending_just_ends() -> None:
    """There is nothing to wait for, and everything is closed."""
    async with open_initiator(JOIN) as initiator:
        pass
    assert "exited" in repr(initiator)


async def test_join_gives_up_when_a_handler_raises() -> None:
    """The error of a handler ends the wait: what is still pending is aborted."""
    told = Told()
    socket, port, args = queued("a", "b", told=told, script=(Blocked(0), 10, 3, Blocked()))

    def fail(socket: Socket, args: SocketAsyncEventArgs) -> None:
        raise Left

    args[0].completed += fail
    with pytest.raises(ExceptionGroup) as caught:
        async with open_initiator(JOIN):
            for each in args:
                assert socket.send_async(each)
    assert [type(error) for error in caught.value.exceptions] == [Left]
    assert told.events[0] == ("a", SUCCESS, 10)
    assert told.events[1][:2] == ("b", ABORTED)
    assert len(port.accepted) == 10 + told.events[1][2]


# Starts after the stop, and after the exit ----------------------------------------------------


def socket_in_state(state: str) -> tuple[Socket, ScriptedPort]:
    """A socket on which a start goes, or fails, in one of the ways there are."""
    if state == "unconnected":
        port = ScriptedPort()
        return Socket.from_port(port, connected=False), port
    return scripted(*["ECONNRESET"] if state == "broken" else [3, Blocked()] * (state == "torn"))


@pytest.mark.parametrize("state", ["fresh", "used", "torn", "broken", "unconnected", "flags"])
@pytest.mark.parametrize("where", ["handler", "shielded body"])
async def test_starts_after_the_stop_end_on_the_spot(state: str, where: str) -> None:
    """They end with OPERATION_ABORTED without a system call, whatever else would be in their way."""
    socket, port = socket_in_state(state)
    blocked, _ = scripted(Blocked())
    told = Told()
    late = told.args("late")
    done = False
    if state == "flags":
        late.socket_flags = SocketFlags.PARTIAL

    def start_late(*_: object) -> None:
        nonlocal done
        attempts = port.attempts
        assert socket.send_async(late) is False
        # Flags that no send may have are refused first; but that answer is as final, and comes on the spot too.
        expected = SocketError.OPERATION_NOT_SUPPORTED if state == "flags" else ABORTED
        assert late.socket_error is expected
        assert late.bytes_transferred == 0
        flags = late.socket_flags
        with pytest.raises(SocketException) as caught:
            socket.begin_send(ten("x"), socket_flags=flags, callback=pytest.fail)
        assert caught.value.socket_error_code is expected
        result, error = socket.try_begin_send(ten("x"), socket_flags=flags, callback=pytest.fail)
        assert result is None
        assert error is expected
        assert port.attempts == attempts
        done = True

    trigger = SocketAsyncEventArgs(b"hello")
    if where == "handler":
        trigger.completed += start_late
    with trio.CancelScope() as scope:
        async with open_initiator() as initiator:
            if state == "used":
                assert socket.send_async(SocketAsyncEventArgs(b"hello")) is False
            elif state == "torn":
                cut = SocketAsyncEventArgs(ten("cut"))
                assert socket.send_async(cut)
                cut.cancel()
            elif state == "broken":
                assert socket.send_async(SocketAsyncEventArgs(b"hello")) is False
                assert not socket.connected
            assert blocked.send_async(trigger)
            if where == "shielded body":
                initiator.cancel_scope.cancel()
                with trio.CancelScope(shield=True):
                    await wait_all_tasks_blocked()
                    start_late()
    assert done
    assert told.events == []
    assert not scope.cancelled_caught


async def test_connect_and_accept_are_not_started_after_the_stop() -> None:
    """They end alike: nothing is accepted, and no connection is begun."""
    with (
        stdlib_socket.socket() as raw,
        stdlib_socket.socket() as visitor,
        stdlib_socket.socket() as other,
    ):
        for each in (raw, other):
            each.bind(("127.0.0.1", 0))
            each.listen()
        visitor.connect(raw.getsockname())
        listener = Socket.from_stdlib(raw)
        client = Socket()
        accept, connect = SocketAsyncEventArgs(), SocketAsyncEventArgs()
        connect.remote_end_point = other.getsockname()
        async with open_initiator() as initiator:
            initiator.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await wait_all_tasks_blocked()
                assert listener.accept_async(accept) is False
                assert client.connect_async(connect) is False
                for begin in (listener.begin_accept, lambda: client.begin_connect(("::1", 1))):
                    with pytest.raises((SocketException, TypeError, ValueError)):
                        begin()
        for args in (accept, connect):
            assert args.socket_error is ABORTED
        assert accept.accept_socket is None
        assert not client.connected
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            other.accept()
        client.close()
        listener.close()


@every_stop
async def test_handlers_that_restart_blindly_do_no_harm(
    policy: ExitPolicy, way: str, autojump_clock: trio.testing.MockClock
) -> None:
    """A server's handlers send on and on. At the exit each is refused once and told nothing more."""
    told = Told()
    socket, port, args = queued("a", "b", "c", told=told, script=(3, Blocked()))
    answers: list[tuple[str, bool]] = []

    def again(socket: Socket, args: SocketAsyncEventArgs) -> None:
        if len(answers) < 20:  # ends the test even if the refusals do not end
            answers.append((args.user_token, socket.send_async(args)))

    for each in args:
        each.completed += again
    await leave(way, lambda: [socket.send_async(each) for each in args], policy)
    assert answers == [("a", False), ("b", False), ("c", False)]
    assert told.events == [("a", ABORTED, 3), ("b", ABORTED, 0), ("c", ABORTED, 0)]
    assert [each.socket_error for each in args] == [ABORTED] * 3
    # The one that was cut can still be resumed, for it knows how far it came.
    assert args[0].bytes_transferred == 3
    assert socket.torn is not None
    assert socket.torn.operation is args[0]
    args[0].completed -= again
    async with open_initiator():
        assert socket.resume(args[0])
        port.unblock()
        await args[0].wait()
    assert port.accepted == ten("a")
    assert args[0].socket_error is SUCCESS


async def test_handlers_that_resume_blindly_do_no_harm() -> None:
    """A resume after the stop is refused too, and the count is kept."""
    socket, port = scripted(3, Blocked())
    args = SocketAsyncEventArgs(ten("a"))
    answers: list[bool] = []
    args.completed += lambda socket, args: answers.append(socket.resume(args))
    async with open_initiator():
        assert socket.send_async(args)
    assert answers == [False]
    assert args.socket_error is ABORTED
    assert args.bytes_transferred == 3
    assert socket.torn is not None
    assert port.accepted == ten("a")[:3]


async def test_a_task_that_outlives_its_initiator_is_told_so() -> None:
    """Such a task has inherited an initiator that is no more: every start raises and changes nothing."""
    socket, port = scripted()
    torn, torn_port = scripted(3, Blocked())
    exited = trio.Event()
    used, cut, fresh = (SocketAsyncEventArgs(ten(name)) for name in ("used", "cut", "fresh"))
    done = False

    async def child() -> None:
        nonlocal done
        await exited.wait()
        starts: list[Callable[[], object]] = [
            current_initiator,
            lambda: socket.send_async(used),
            lambda: socket.send_async(fresh),
            lambda: socket.begin_send(b"x"),
            lambda: socket.try_begin_send(b"x"),
            lambda: torn.send_async(cut),
            lambda: torn.send_async(fresh),
            lambda: torn.resume(cut),
        ]
        for number, start in enumerate(starts):
            with pytest.raises(InvalidOperationError):
                pytest.fail(f"start {number} returned {start()!r}")
        with pytest.raises(InvalidOperationError, match="inherited has exited"):
            socket.send_async(fresh)
        assert port.attempts == 1
        assert cut.bytes_transferred == 3
        assert fresh.activation == 0
        # The awaiting form needs no initiator, and one of the task's own serves as ever.
        assert await socket.send(b"y") == 1
        async with open_initiator():
            assert socket.send_async(used) is False
        done = True

    async with trio.open_nursery() as nursery:
        async with open_initiator():
            assert socket.send_async(used) is False
            assert torn.send_async(cut)
            nursery.start_soon(child)
            await wait_all_tasks_blocked()
        exited.set()
    assert done
    assert port.accepted == ten("used") + b"y" + ten("used")
    assert torn_port.accepted == ten("cut")[:3]


async def test_after_the_exit_the_enclosing_initiator_owns_again() -> None:
    """The task that left the block is back where it was."""
    told = Told()
    socket, _, args = queued("a", "b", told=told, script=(Blocked(),))
    with pytest.raises(InvalidOperationError, match="no initiator is open here"):
        current_initiator()
    async with open_initiator() as outer:
        async with open_initiator() as inner:
            assert current_initiator() is inner
            assert socket.send_async(args[0])
        assert current_initiator() is outer
        assert socket.send_async(args[1])
        assert outer.pending_operations == 1
    with pytest.raises(InvalidOperationError, match="no initiator is open here"):
        socket.send_async(args[0])
    assert [name for name, _, _ in told.events] == ["a", "b"]


# Several initiators ---------------------------------------------------------------------------


class TwoOwners:
    """A blocked socket with operations of an inner initiator and of the one around it, by turns.

    Args:
      starts: whose operations to start, in order, as letters: i for the inner one, o for the outer one.
    """

    def __init__(self, socket: Socket, starts: str) -> None:
        self.socket = socket
        self.starts = starts
        self.told = {"i": Told(), "o": Told()}
        self.args: list[SocketAsyncEventArgs] = []
        self.data = b""

    async def run(self, meanwhile: Callable[[], Awaitable[object]]) -> None:
        """Start everything, leave the inner initiator, and go on inside the outer one."""
        async with open_initiator(JOIN) as self.outer:
            as_outer = contextvars.copy_context()
            async with open_initiator() as self.inner:
                for number, letter in enumerate(self.starts):
                    name = f"{letter}{number}"
                    args = self.told[letter].args(name)
                    args.completed += self.check
                    self.args.append(args)
                    if letter == "i":
                        assert self.socket.send_async(args)
                    else:
                        assert as_outer.run(self.socket.send_async, args)
                assert self.inner.pending_operations == self.starts.count("i")
                assert self.outer.pending_operations == self.starts.count("o")
            assert self.inner.pending_operations == 0
            await meanwhile()

    def check(self, socket: Socket, args: SocketAsyncEventArgs) -> None:
        """See that the handler runs in the context of whoever started the operation."""
        assert current_initiator() is (self.inner if args.user_token[0] == "i" else self.outer)


async def test_leaving_cuts_off_the_followers_of_others() -> None:
    """First all its own end as stopped, in order; then those of others, which would follow half a message."""
    socket, port = scripted(3, Blocked())
    owners = TwoOwners(socket, "ioio")

    async def meanwhile() -> None:
        await wait_all_tasks_blocked()
        assert owners.told["o"].events == [("o1", CUT_OFF, 0), ("o3", CUT_OFF, 0)]

    await owners.run(meanwhile)
    assert owners.told["i"].events == [("i0", ABORTED, 3), ("i2", ABORTED, 0)]
    assert len(owners.told["o"].events) == 2
    assert port.accepted == ten("i0")[:3]
    assert socket.torn is not None
    assert socket.torn.operation is owners.args[0]


async def test_a_stream_that_may_be_torn_goes_on_behind_a_cut() -> None:
    """Where the application allows it, the operations of others stay where they are."""
    socket, port = scripted(3, Blocked(), on_torn="allow")
    owners = TwoOwners(socket, "ioio")

    async def meanwhile() -> None:
        port.unblock()

    await owners.run(meanwhile)
    assert owners.told["i"].events == [("i0", ABORTED, 3), ("i2", ABORTED, 0)]
    assert owners.told["o"].events == [("o1", SUCCESS, 10), ("o3", SUCCESS, 10)]
    assert port.accepted == ten("i0")[:3] + ten("o1") + ten("o3")


@pytest.fixture(params=["epoll", "tasks"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The two ways in which an engine waits."""
    if request.param == "tasks":
        monkeypatch.setattr("trio_send._owners.engine.HAVE_EPOLL", False)
    elif not trio_send._owners.engine.HAVE_EPOLL:
        pytest.skip("this system has no epoll")
    return str(request.param)


@pytest.mark.parametrize("starts", ["ioio", "oioi", "iiooo", "ooi", "ioo"])
async def test_leaving_with_nothing_cut_lets_the_others_go_on(starts: str) -> None:
    """The operations of another initiator move up, are watched by its engine, and reach their end."""
    socket, port = scripted(Blocked())
    owners = TwoOwners(socket, starts)

    async def meanwhile() -> None:
        await wait_all_tasks_blocked()
        assert owners.told["o"].events == []
        port.unblock()

    await owners.run(meanwhile)
    expected = [args.user_token for args in owners.args if args.user_token[0] == "o"]
    assert owners.told["o"].events == [(name, SUCCESS, 10) for name in expected]
    assert owners.told["i"].events == [
        (args.user_token, ABORTED, 0) for args in owners.args if args.user_token[0] == "i"
    ]
    assert port.accepted == b"".join(map(ten, expected))


@pytest.mark.parametrize("starts", ["ioio", "oioi", "iiooo", "ooi", "ioo"])
async def test_the_watch_of_a_real_socket_is_handed_over(starts: str, engine: str) -> None:
    """The same, between engines that watch a descriptor."""
    with connected("unix") as (socket, peer):
        filled = fill(socket)
        owners = TwoOwners(socket, starts)
        expected = b"".join(
            ten(f"{letter}{number}") for number, letter in enumerate(starts) if letter == "o"
        )

        async def meanwhile() -> None:
            await wait_all_tasks_blocked()
            assert owners.told["o"].events == []
            assert await read_exactly(peer, filled) == bytes(filled)

        await owners.run(meanwhile)
        assert await read_exactly(peer, len(expected)) == expected
        assert nothing_to_read(peer)
        assert len(owners.told["i"].events) == starts.count("i")
        assert [error for _, error, _ in owners.told["o"].events] == [SUCCESS] * starts.count("o")


@pytest.mark.parametrize("first", ["inner", "outer"])
async def test_one_engine_drains_what_another_owns(first: str) -> None:
    """What is found writable is drained as far as it goes, and each owner tells of its own."""
    socket, port = scripted(Blocked())
    inner_told, outer_told = Told(), Told()
    async with open_initiator() as outer:
        as_outer = contextvars.copy_context()
        async with open_initiator() as inner:
            mine, other = inner_told.args("inner"), outer_told.args("outer")
            seen: list[Initiator] = []
            for args in (mine, other):
                args.completed += lambda *_: seen.append(current_initiator())
            for name in (first, "outer" if first == "inner" else "inner"):
                if name == "inner":
                    assert socket.send_async(mine)
                else:
                    assert as_outer.run(socket.send_async, other)
            port.unblock()
            await wait_all_tasks_blocked()
            assert inner_told.events == [("inner", SUCCESS, 10)]
            assert outer_told.events == [("outer", SUCCESS, 10)]
            assert set(seen) == {inner, outer}
            assert port.messages == [bytes(port.accepted)], "it took one call"


# What leaves ----------------------------------------------------------------------------------


def fail(error: BaseException) -> None:
    """Raise."""
    raise error


def failing(error: BaseException) -> Callable[..., object]:
    """A handler that raises."""

    def handler(socket: Socket, args: SocketAsyncEventArgs) -> None:
        raise error

    return handler


def failing_later(error: BaseException) -> Callable[..., object]:
    """An asynchronous handler that raises."""

    async def handler(socket: Socket, args: SocketAsyncEventArgs) -> None:
        raise error

    return handler


@pytest.mark.parametrize("pending", [False, True])
@pytest.mark.parametrize(
    "error",
    [
        Left("bare"),
        KeyboardInterrupt("bare"),
        SystemExit(3),
        ExceptionGroup("of its own", [Left("one")]),
        ExceptionGroup("of its own", [Left("one"), ExceptionGroup("inner", [Left("two")])]),
    ],
    ids=["exception", "interrupt", "exit", "group", "nested group"],
)
async def test_the_bodys_own_exception_leaves_as_it_came(
    error: BaseException, pending: bool
) -> None:
    """It is the very object, with nothing added to it, and its traceback shows none of the machinery."""
    told = Told()
    stages = Stages()
    socket, _, args = queued("a", "b", told=told, script=(3, Blocked()))
    args[1].completed += stages  # which is cancelled, and so has an exception of its own
    error.__traceback__ = None
    with pytest.raises(type(error)) as caught:
        async with open_initiator(JOIN):
            if pending:
                for each in args:
                    assert socket.send_async(each)
            await wait_all_tasks_blocked()
            fail(error)
    assert caught.value is error
    assert error.__context__ is None
    assert error.__cause__ is None
    assert not getattr(error, "__notes__", [])
    assert [frame.name for frame in traceback.extract_tb(error.__traceback__)] == [
        "test_the_bodys_own_exception_leaves_as_it_came",
        "fail",
    ]
    assert told.events == ([("a", ABORTED, 3), ("b", ABORTED, 0)] if pending else [])


async def test_an_exception_keeps_its_context() -> None:
    """What was being handled when the body raised is still to be seen."""
    with pytest.raises(Left) as caught:
        async with open_initiator():
            try:
                fail(ValueError("before"))
            except ValueError:
                fail(Left("after"))
    assert isinstance(caught.value.__context__, ValueError)


@pytest.mark.parametrize("policy", [ABORT, JOIN])
@pytest.mark.parametrize("make", [failing, failing_later])
async def test_a_handlers_exception_leaves_in_a_group(
    make: Callable[..., Any], policy: ExitPolicy
) -> None:
    """Even a single one: where handlers run, there may always be several."""
    told = Told()
    socket, port, args = queued("a", "b", "c", told=told, script=(Blocked(),))
    error = Left()
    args[0].completed += make(error)
    with pytest.raises(ExceptionGroup) as caught:
        async with open_initiator(policy) as initiator:
            for each in args:
                assert socket.send_async(each)
            port.unblock()
            await trio.sleep_forever()
    assert caught.value.exceptions == (error,)
    assert initiator.cancel_scope.cancelled_caught
    assert told.events == [(name, SUCCESS, 10) for name in "abc"]


async def test_the_exceptions_of_all_handlers_leave_together() -> None:
    """None hides another, and none keeps another operation from being told."""
    told = Told()
    socket, _, args = queued(*"abcde", told=told, script=(3, Blocked()))
    errors = [Left(name) for name in "bcd"]
    args[1].completed += failing(errors[0])
    args[2].completed += failing_later(errors[1])
    args[3].completed += failing(errors[2])
    with pytest.raises(ExceptionGroup) as caught:
        async with open_initiator():
            for each in args:
                assert socket.send_async(each)
    assert len(caught.value.exceptions) == 3
    assert set(caught.value.exceptions) == set(errors)
    assert [name for name, _, _ in told.events] == list("abcde")


@pytest.mark.parametrize("make", [failing, failing_later])
async def test_the_bodys_exception_comes_first_in_the_group(make: Callable[..., Any]) -> None:
    """If both fail, one group has both, and begins with the body's."""
    told = Told()
    socket, _, args = queued("a", "b", told=told, script=(3, Blocked()))
    body, handler = Left("body"), ValueError("handler")
    args[0].completed += make(handler)
    with pytest.raises(ExceptionGroup) as caught:
        async with open_initiator():
            for each in args:
                assert socket.send_async(each)
            raise body
    assert caught.value.exceptions == (body, handler)
    assert len(told.events) == 2


async def test_a_body_that_fails_after_a_handler_still_comes_first() -> None:
    """The handler's error cancels the body, whose clean-up then fails in its turn."""
    socket, _ = scripted(Blocked(0), 10)
    body, handler = Left("body"), ValueError("handler")
    args = SocketAsyncEventArgs(ten("a"))
    args.completed += failing(handler)
    with pytest.raises(ExceptionGroup) as caught:
        async with open_initiator():
            assert socket.send_async(args)
            try:
                await trio.sleep_forever()
            finally:
                raise body
    assert caught.value.exceptions == (body, handler)


async def test_a_group_of_the_body_stays_whole_beside_a_handlers_error() -> None:
    """The body's group is one member of what leaves; its own members are not mixed with the handler's."""
    socket, _ = scripted(3, Blocked())
    body, handler = ExceptionGroup("of its own", [Left("one"), Left("two")]), ValueError("handler")
    args = SocketAsyncEventArgs(ten("a"))
    args.completed += failing(handler)
    with pytest.raises(ExceptionGroup) as caught:
        async with open_initiator():
            assert socket.send_async(args)
            raise body
    first, second = caught.value.exceptions
    assert isinstance(first, ExceptionGroup)
    assert first.message == "of its own"
    assert first.exceptions == body.exceptions
    assert second is handler


@pytest.mark.parametrize("make", [failing, failing_later])
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
async def test_an_interrupt_in_a_handler_loses_no_event(
    kind: type[BaseException], make: Callable[..., Any]
) -> None:
    """Ctrl-C strikes in a handler: everybody is told all the same, and it leaves in a group."""
    told = Told()
    socket, _, args = queued("a", "b", "c", told=told, script=(3, Blocked()))
    error = kind()
    args[0].completed += make(error)
    with pytest.raises(BaseExceptionGroup) as caught:
        async with open_initiator():
            for each in args:
                assert socket.send_async(each)
    assert caught.value.exceptions == (error,)
    assert told.events == [("a", ABORTED, 3), ("b", ABORTED, 0), ("c", ABORTED, 0)]


@pytest.mark.parametrize("make", [failing, failing_later])
async def test_a_handlers_error_gets_through_an_outside_cancel(make: Callable[..., Any]) -> None:
    """The scope outside takes its cancellation out of the group; the error goes on."""
    told = Told()
    socket, _, args = queued("a", "b", told=told, script=(3, Blocked()))
    error = Left()
    args[0].completed += make(error)
    with pytest.raises(ExceptionGroup) as caught:
        with trio.CancelScope() as outer:
            async with open_initiator() as initiator:
                for each in args:
                    assert socket.send_async(each)
                outer.cancel()
                await trio.sleep_forever()
    members: list[BaseException] = []
    pending: list[BaseException] = [caught.value]
    while pending:
        each = pending.pop()
        if isinstance(each, BaseExceptionGroup):
            pending.extend(each.exceptions)
        else:
            members.append(each)
    assert members == [error]
    assert outer.cancelled_caught
    assert not initiator.cancel_scope.cancelled_caught
    assert len(told.events) == 2


@every_stop
async def test_a_cancellation_leaves_bare_and_is_caught_by_its_scope(
    policy: ExitPolicy, way: str, autojump_clock: trio.testing.MockClock
) -> None:
    """Whoever cancelled catches, and nobody else does; asynchronous handlers do not make a group of it."""
    socket, _ = scripted(3, Blocked())
    stages = Stages()

    def start() -> None:
        for name in "abc":
            args = SocketAsyncEventArgs(ten(name))
            args.completed += stages
            assert socket.send_async(args)

    initiator, outer = await leave(way, start, policy)
    assert outer.cancelled_caught is way.startswith("outer")
    if way.startswith("own"):
        assert initiator.cancel_scope.cancelled_caught
    elif way != "exception":  # then the initiator itself cancels its scope, to end its handlers
        assert not initiator.cancel_scope.cancelled_caught


@pytest.mark.parametrize("policy", [ABORT, JOIN])
@pytest.mark.parametrize("noticed", [True, False])
async def test_the_outer_cancellation_itself_is_what_leaves(
    policy: ExitPolicy, noticed: bool
) -> None:
    """An ``except trio.Cancelled`` around the block works, as it does around anything else."""
    socket, _ = scripted(3, Blocked())
    stages = Stages()
    caught = None
    with trio.CancelScope() as outer:
        try:
            async with open_initiator(policy):
                for name in "abc":
                    args = SocketAsyncEventArgs(ten(name))
                    args.completed += stages
                    assert socket.send_async(args)
                outer.cancel(reason="enough")
                if noticed:
                    await trio.sleep_forever()
        except BaseException as error:
            caught = type(error)
            raise
    assert caught is trio.Cancelled
    assert outer.cancelled_caught


async def test_a_nursery_in_the_body_keeps_its_shape() -> None:
    """A task of the body's own that fails leaves as from any nursery: in one group, not in two."""
    socket, _ = scripted(3, Blocked())
    error = Left()

    async def child() -> None:
        raise error

    with pytest.raises(ExceptionGroup) as caught:
        async with open_initiator():
            assert socket.send_async(SocketAsyncEventArgs(ten("a")))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(child)
    assert caught.value.exceptions == (error,)


@pytest.mark.parametrize("whose", ["own", "outer"])
@pytest.mark.parametrize("pending", [True, False])
async def test_a_cancelled_nursery_in_the_body_keeps_its_shape(whose: str, pending: bool) -> None:
    """Its group has cancellations in it, which the scopes take out, and the errors of its tasks, which are left."""
    socket, _ = scripted(3, Blocked())
    error = Left()

    async def child() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise error

    with pytest.raises(ExceptionGroup) as caught:
        with trio.CancelScope() as outer:
            async with open_initiator() as initiator:
                if pending:
                    assert socket.send_async(SocketAsyncEventArgs(ten("a")))
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(child)
                    nursery.start_soon(trio.sleep_forever)
                    await wait_all_tasks_blocked()
                    (initiator.cancel_scope if whose == "own" else outer).cancel()
    assert caught.value.exceptions == (error,)


# The current initiator, and contexts ----------------------------------------------------------


async def test_whoever_asks_while_an_initiator_is_being_opened_may_start_something_there() -> None:
    """As one of Trio's instruments may, which hears of the two tasks before the block begins."""
    socket, port = scripted(Blocked())
    told = Told()
    found: list[Any] = []

    class Spawned(trio.abc.Instrument):
        def task_spawned(self, task: trio.lowlevel.Task) -> None:
            found.append(current_initiator())
            assert found[-1].run_sync(socket.send_async, told.args(str(len(found))))

    async with open_initiator(JOIN, name="outer"):
        assert socket.send_async(told.args("head"))
        instrument = Spawned()
        trio.lowlevel.add_instrument(instrument)
        async with open_initiator(name="inner") as inner:
            trio.lowlevel.remove_instrument(instrument)
            assert len(found) == 2
            assert found[0] is found[1] is inner
            assert repr(inner) == "<Initiator 'inner': ABORT, open, 2 pending>"
        assert told.events == [("1", ABORTED, 0), ("2", ABORTED, 0)]
        with pytest.raises(InvalidOperationError, match="has exited"):
            found[0].run_sync(pytest.fail)
        port.unblock()
    assert port.accepted == ten("head")


async def test_tasks_inherit_the_innermost_initiator() -> None:
    """A task belongs where it was started, whatever is opened elsewhere meanwhile."""
    seen: dict[str, Initiator] = {}

    async def look(name: str) -> None:
        seen[name] = current_initiator()

    async with open_initiator(name="outer") as outer:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(look, "before")
            async with open_initiator(name="inner") as inner:
                nursery.start_soon(look, "inside")
                await wait_all_tasks_blocked()
            nursery.start_soon(look, "behind")
    assert seen == {"before": outer, "inside": inner, "behind": outer}


@pytest.mark.parametrize("flow_context", [True, False])
async def test_handlers_find_their_initiator(flow_context: bool) -> None:
    """Synchronous or not, in the context of the start or not, a handler is inside."""
    socket, port = scripted(Blocked())
    seen: list[Initiator] = []

    async def later(socket: Socket, args: SocketAsyncEventArgs) -> None:
        await trio.lowlevel.checkpoint()
        seen.append(current_initiator())

    args = SocketAsyncEventArgs(ten("a"), flow_context=flow_context)
    args.completed += lambda *_: seen.append(current_initiator())
    args.completed += later
    async with open_initiator(), open_initiator(JOIN) as initiator:
        assert socket.send_async(args)
        port.unblock()
    assert seen == [initiator, initiator]


variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="nothing")


@pytest.mark.parametrize("flow_context", [True, False])
@pytest.mark.parametrize("asynchronous", [True, False])
async def test_handlers_without_a_context_of_their_own_get_that_of_the_entry(
    flow_context: bool, asynchronous: bool
) -> None:
    """Whoever happens to start the first operation that pends lends the engine and the dispatcher nothing."""
    seen: list[str] = []

    def handler(socket: Socket, args: SocketAsyncEventArgs) -> None:
        seen.append(variable.get())

    async def async_handler(socket: Socket, args: SocketAsyncEventArgs) -> None:
        await trio.lowlevel.checkpoint()
        seen.append(variable.get())

    async def start(name: str) -> None:
        variable.set(name)
        socket, _ = scripted(Blocked(0))
        args = SocketAsyncEventArgs(ten("a"), flow_context=flow_context)
        args.completed += async_handler if asynchronous else handler
        assert socket.send_async(args)
        await args.wait()

    token = variable.set("entry")
    try:
        async with open_initiator(JOIN):
            variable.set("body")
            for name in ("first", "second"):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(start, name)
    finally:
        variable.reset(token)
    assert seen == (["first", "second"] if flow_context else ["entry", "entry"])


async def test_engine_and_dispatcher_run_in_the_context_of_the_entry(engine: str) -> None:
    """Code of the application that the engine runs into, a buffer of its own here, sees that context."""
    if sys.version_info < (3, 12):
        pytest.skip("a class cannot have a __buffer__ before Python 3.12")
    seen: list[str] = []

    class Buffer:
        def __buffer__(self, flags: int) -> memoryview:
            seen.append(variable.get())
            return memoryview(b"0123456789")

    with connected("unix") as (socket, peer):
        filled = fill(socket)
        token = variable.set("entry")
        async with open_initiator(JOIN):
            variable.reset(token)
            args = SocketAsyncEventArgs(Buffer())  # type: ignore[arg-type]
            variable.set("start")
            assert socket.send_async(args)
            seen.clear()
            await wait_all_tasks_blocked()
            await read_exactly(peer, filled)
        assert args.bytes_transferred == 10
    assert set(seen) == {"entry"}


# What can be seen of an initiator -------------------------------------------------------------


async def test_name_policy_and_count() -> None:
    """They can be read, and the representation shows them."""
    socket, port = scripted(Blocked())
    other, _ = scripted(Blocked())
    async with open_initiator(JOIN, name="requests") as initiator:
        assert initiator.name == "requests"
        assert initiator.on_exit is JOIN
        assert initiator.pending_operations == 0
        assert repr(initiator) == "<Initiator 'requests': JOIN, open, 0 pending>"
        for each in (socket, socket, other):
            assert each.send_async(SocketAsyncEventArgs(b"x"))
        assert initiator.pending_operations == 3
        assert repr(initiator) == "<Initiator 'requests': JOIN, open, 3 pending>"
        port.unblock()
        await wait_all_tasks_blocked()
        assert initiator.pending_operations == 1
        other.close()
        assert initiator.pending_operations == 0
    assert repr(initiator) == "<Initiator 'requests': JOIN, exited, 0 pending>"
    async with open_initiator() as nameless:
        assert nameless.name is None
        assert nameless.on_exit is ABORT
        assert repr(nameless) == "<Initiator: ABORT, open, 0 pending>"


async def test_operations_that_end_on_the_spot_are_never_pending() -> None:
    """The count is of what the exit would have to deal with."""
    socket, _ = scripted(10, "EPIPE")
    async with open_initiator() as initiator:
        for _ in range(2):
            assert socket.send_async(SocketAsyncEventArgs(ten("a"))) is False
        assert initiator.pending_operations == 0


@pytest.mark.parametrize("policy", ["abort", "ABORT", None, True, 1])
def test_a_policy_that_is_none_is_refused(policy: Any) -> None:
    """The mistake shows where it is made, before anything is opened."""
    with pytest.raises(TypeError, match=r"on_exit must be an ExitPolicy"):
        open_initiator(policy)


@pytest.mark.parametrize("policy", [ABORT, JOIN])
@pytest.mark.parametrize("pending", [True, False])
async def test_entering_does_not_yield_and_leaving_does(policy: ExitPolicy, pending: bool) -> None:
    """As the docstring says, and as a nursery does."""
    socket, _ = scripted(Blocked(0))
    manager = open_initiator(policy)
    with assert_no_checkpoints():
        await manager.__aenter__()
    if pending:
        assert socket.send_async(SocketAsyncEventArgs(b"x"))
    with assert_checkpoints():
        await manager.__aexit__(None, None, None)


# What stays behind ----------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="no directory lists the descriptors")
@every_stop
async def test_neither_tasks_nor_descriptors_stay_behind(
    policy: ExitPolicy, way: str, engine: str, autojump_clock: trio.testing.MockClock
) -> None:
    """Engine, dispatcher, waiting tasks and epoll sets are gone with the block."""
    autojump_clock.autojump_threshold = 0.01  # so that what is ready is found before a jump
    with connected("unix") as (first, _), connected("unix") as (second, _):
        fill(first)
        fill(second)
        stages = Stages()
        held: list[object] = []

        def start() -> None:
            # What is referred to is not closed by being forgotten.
            held.append(current_initiator()._owner.engine)
            for socket in (first, first, second):
                args = SocketAsyncEventArgs(b"x")
                args.completed += stages
                assert socket.send_async(args)

        tasks = trio.lowlevel.current_statistics().tasks_living
        descriptors = open_descriptors()
        threads = threading.active_count()
        await leave(way, start, policy)
        assert trio.lowlevel.current_statistics().tasks_living == tasks
        assert open_descriptors() == descriptors
        assert threading.active_count() <= threads  # an idle one of Trio's may have ended meanwhile


def is_ours(thing: object) -> bool:
    """Whether something that the collector found would not be there without the library."""
    if isinstance(thing, types.TracebackType):
        thing = thing.tb_frame
    if isinstance(thing, types.CoroutineType):
        return is_in_package(thing.cr_code)
    if isinstance(thing, types.FrameType):
        return is_in_package(thing.f_code)
    return type(thing).__module__.partition(".")[0] == "trio_send"


def is_in_package(code: types.CodeType) -> bool:
    """Whether a frame runs code of the library."""
    return code.co_filename.startswith(os.path.dirname(trio_send.__file__))


@contextmanager
def no_cycles() -> Iterator[None]:
    """See that what the block leaves behind is freed without the help of the collector."""
    gc.collect()
    debug = gc.get_debug()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield
        gc.collect()
        found = [
            f"{type(thing).__name__}: {thing!r:.100}" for thing in gc.garbage if is_ours(thing)
        ]
    finally:
        gc.set_debug(debug)
        gc.garbage.clear()
        gc.enable()
    assert found == []


async def left_at_once() -> None:
    async with open_initiator():
        pass


async def left_with_operations() -> None:
    socket, _ = scripted(3, Blocked())
    async with open_initiator():
        for name in "ab":
            assert socket.send_async(Told().args(name))
            socket.begin_send(b"x", callback=lambda _: None)
    socket.close()


async def left_by_exception() -> None:
    socket, _ = scripted(3, Blocked())
    try:
        async with open_initiator():
            assert socket.send_async(Told().args("a"))
            raise Left
    except Left:
        pass


async def cancelled_outside() -> None:
    socket, _ = scripted(3, Blocked())
    with trio.CancelScope() as scope:
        async with open_initiator():
            args = Told().args("a")
            args.completed += Stages()
            assert socket.send_async(args)
            scope.cancel()
            await trio.sleep_forever()


async def joining_cancelled() -> None:
    socket, _ = scripted(3, Blocked())
    with trio.CancelScope() as scope:
        async with open_initiator(JOIN):
            assert socket.send_async(Told().args("a"))
            scope.cancel()


async def handlers_failed() -> None:
    socket, _ = scripted(3, Blocked())
    first, second = Told().args("a"), Told().args("b")

    # Handlers that hold the error they raise would make a cycle of their own.
    def fail(socket: Socket, args: SocketAsyncEventArgs) -> None:
        raise Left

    async def fail_later(socket: Socket, args: SocketAsyncEventArgs) -> None:
        raise Left

    first.completed += fail
    second.completed += fail_later
    try:
        async with open_initiator():
            for args in (first, second):
                assert socket.send_async(args)
    except ExceptionGroup:
        pass


async def awaited_send_cancelled() -> None:
    socket, _ = scripted(3, Blocked())
    with trio.CancelScope() as scope:
        scope.deadline = trio.current_time() + 1
        await socket.send(ten("a"))


async def awaited_follower_cancelled() -> None:
    socket, _ = scripted(Blocked())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(socket.send, ten("a"))
        await wait_all_tasks_blocked()
        with trio.move_on_after(1):
            await socket.send(ten("b"))
        nursery.cancel_scope.cancel()


async def awaited_send_failed() -> None:
    socket, _ = scripted(3, "ECONNRESET")
    for _ in range(2):
        try:
            await socket.send(ten("a"))
        except SocketException:
            pass


async def end_send_failed() -> None:
    socket, _ = scripted(3, Blocked())
    async with open_initiator():
        results = [socket.begin_send(ten("a")) for _ in range(3)]
        socket.close()
        for result in results[:2]:
            try:
                await socket.end_send(result)
            except SocketException:
                pass
        try:
            socket.end_send_nowait(results[2])
        except SocketException:
            pass


async def begin_send_failed() -> None:
    socket, _ = scripted("ECONNRESET")
    async with open_initiator():
        for _ in range(2):
            try:
                socket.begin_send(ten("a"))
            except SocketException:
                pass


async def unwrapped() -> None:
    socket, _ = scripted(3, Blocked())
    args = Told().args("a")
    async with open_initiator():
        assert socket.send_async(args)
    try:
        assert args.outcome is not None
        args.outcome.unwrap()
    except SocketException:
        pass


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="counts references")
@pytest.mark.parametrize(
    "scenario",
    [
        left_at_once,
        left_with_operations,
        left_by_exception,
        cancelled_outside,
        joining_cancelled,
        handlers_failed,
        awaited_send_cancelled,
        awaited_follower_cancelled,
        awaited_send_failed,
        end_send_failed,
        begin_send_failed,
        unwrapped,
    ],
)
async def test_no_cycle_stays_behind(
    scenario: Callable[[], Awaitable[None]], autojump_clock: trio.testing.MockClock
) -> None:
    """Neither success nor failure leaves anything to the cyclic collector."""
    await scenario()  # the first time fills caches
    with no_cycles():
        await scenario()


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="counts references")
async def test_args_and_initiator_are_freed_with_their_last_reference() -> None:
    """Nobody keeps them: not the socket, not the tasks, not an error that was raised."""
    socket, _ = scripted(3, Blocked())
    gc.disable()
    try:
        async with open_initiator() as initiator:
            args = SocketAsyncEventArgs(ten("a"))
            follower = SocketAsyncEventArgs(ten("b"))
            assert socket.send_async(args)
            assert socket.send_async(follower)
        references = [weakref.ref(follower), weakref.ref(initiator)]
        del follower, initiator
        socket.forget_torn()
        references.append(weakref.ref(args))
        del args
        socket.close()  # until then, the socket remembers the latest initiator
        # Trio itself remembers the latest task until the next one has run.
        await wait_all_tasks_blocked()
        assert [reference() for reference in references] == [None, None, None]
    finally:
        gc.enable()
