"""Hold an asynchronous handler to being told of the operation that has ended, and of no later one of the same args.

Trio runs the tasks of a round in the order in which they became ready or in the opposite one, as a coin falls. So each
program runs many times, and comes out the same each time.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.helpers import Told, scripted, ten
from tests.scripted import run_virtual
from trio_send import (
    AsyncResult,
    ExitPolicy,
    InvalidOperationError,
    ObjectDisposedError,
    OperationInProgressError,
    Socket,
    SocketAsyncEventArgs,
    SocketAsyncEventArgsPool,
    SocketError,
    open_initiator,
)
from trio_send.testing import Blocked

#: With that many coins in a row, a wrong order does not stay hidden.
RUNS = 40

ABORTED = SocketError.OPERATION_ABORTED
SUCCESS = SocketError.SUCCESS

Seen = tuple[bool, int, SocketError, bytes]


def run_often(program: Callable[[], Coroutine[Any, Any, None]]) -> None:
    for _ in range(RUNS):
        run_virtual(program)


def look(args: SocketAsyncEventArgs) -> Seen:
    return args.pending, args.bytes_transferred, args.socket_error, bytes(args.buffer or b"")


class Looking:
    """An asynchronous handler that notes what the args say at its first step.

    Attributes:
      seen: what they said, for each event.
    """

    def __init__(self) -> None:
        self.seen: list[Seen] = []

    async def __call__(self, socket: Socket, args: SocketAsyncEventArgs) -> None:
        self.seen.append(look(args))
        await trio.lowlevel.checkpoint()


BOTH = [(False, 5, SUCCESS, b"first"), (False, 6, SUCCESS, b"second")]


def restart(socket: Socket, args: SocketAsyncEventArgs) -> None:
    args.set_buffer(b"second")
    assert socket.send_async(args)


async def _by_a_waiter(socket: Socket, args: SocketAsyncEventArgs) -> None:
    assert await args.wait() == 5
    restart(socket, args)


async def _by_whoever_finds_them_free(socket: Socket, args: SocketAsyncEventArgs) -> None:
    while args.pending:
        await trio.lowlevel.checkpoint()
    restart(socket, args)


async def _by_trial(socket: Socket, args: SocketAsyncEventArgs) -> None:
    while True:
        try:
            args.set_buffer(b"second")
        except OperationInProgressError:
            await trio.lowlevel.checkpoint()
        else:
            break
    assert socket.send_async(args)


restarters = pytest.mark.parametrize(
    "restarter", [_by_a_waiter, _by_whoever_finds_them_free, _by_trial]
)


@restarters
@pytest.mark.parametrize("before", [0, 2])
def test_args_cannot_be_started_anew_before_their_handler_has_begun(
    restarter: Callable[..., Any], before: int
) -> None:
    async def program() -> None:
        socket, port = scripted(Blocked(), 5, Blocked(), 6)
        handler, calls = Looking(), 0

        def count(*_: object) -> None:
            nonlocal calls
            calls += 1

        args = SocketAsyncEventArgs(b"first")
        for _ in range(before):
            args.completed += count
        args.completed += handler
        async with open_initiator(ExitPolicy.JOIN), trio.open_nursery() as nursery:
            assert socket.send_async(args)
            nursery.start_soon(restarter, socket, args)
            for _ in range(10):  # until every task waits, or asks over and over
                await trio.lowlevel.checkpoint()
            port.unblock()
            await wait_all_tasks_blocked()
            port.unblock()
        assert handler.seen == BOTH
        assert calls == 2 * before
        assert port.accepted == b"firstsecond"

    run_often(program)


def test_the_handler_of_a_later_event_comes_after_the_first_step() -> None:
    """Both operations end in one step and are told in one batch."""

    async def program() -> None:
        log: list[str] = []
        socket, port = scripted(Blocked(1), 10, Blocked(1), 6)
        args, behind = SocketAsyncEventArgs(b"first"), SocketAsyncEventArgs(b"other")

        async def handler(socket: Socket, args: SocketAsyncEventArgs) -> None:
            log.append(f"first step, {args.bytes_transferred}")
            await trio.lowlevel.checkpoint()
            log.append("second step")

        def start_the_other(socket: Socket, _: SocketAsyncEventArgs) -> None:
            log.append("later event")
            args.completed -= handler
            restart(socket, args)

        args.completed += handler
        behind.completed += start_the_other
        async with open_initiator(ExitPolicy.JOIN):
            assert socket.send_async(args)
            assert socket.send_async(behind)
        assert log[0] == "first step, 5"
        assert sorted(log[1:]) == ["later event", "second step"]
        assert port.accepted == b"firstothersecond"

    run_often(program)


def test_first_steps_come_in_the_order_of_the_events() -> None:
    """Of handlers and callbacks, asynchronous or not."""

    async def program() -> None:
        log: list[int] = []
        socket, port = scripted(Blocked())

        async def handler(number: int, *_: object) -> None:
            log.append(number)

        def plain(number: int, *_: object) -> None:
            log.append(number)

        async with open_initiator():
            for number in range(12):
                call = partial(plain if number % 4 == 3 else handler, number)
                if number % 2:
                    args = SocketAsyncEventArgs(ten("a"))
                    args.completed += call
                    socket.send_async(args)
                else:
                    socket.begin_send(ten("b"), callback=call)
            await wait_all_tasks_blocked()
            port.unblock()
        assert log == list(range(12))

    run_often(program)


def test_whoever_waits_goes_on_after_the_first_step_and_not_after_the_end() -> None:
    async def program() -> None:
        log: list[str] = []
        socket, port = scripted(3, Blocked())
        may_end = trio.Event()

        async def handler(*_: object) -> None:
            log.append("begins")
            await may_end.wait()
            log.append("ends")

        async def wait() -> None:
            assert await args.wait() == 10
            log.append("goes on")

        args = SocketAsyncEventArgs(ten("a"))
        args.completed += handler
        async with open_initiator(ExitPolicy.JOIN), trio.open_nursery() as nursery:
            socket.send_async(args)
            for _ in range(3):
                nursery.start_soon(wait)
            await wait_all_tasks_blocked()
            port.unblock()
            await wait_all_tasks_blocked()
            assert log == ["begins", *["goes on"] * 3]
            may_end.set()
        assert log[-1] == "ends"

    run_often(program)


def test_a_wait_between_the_event_and_the_first_step_is_for_the_same_operation() -> None:
    """And one that is cancelled there is gone."""

    async def program() -> None:
        counts: list[int] = []
        socket, port = scripted(Blocked())
        scope = trio.CancelScope()

        async def wait() -> None:
            counts.append(await args.wait())

        async def wait_a_little() -> None:
            with scope:
                await args.wait()

        def note(*_: object) -> None:
            # The dispatcher has its turn; what it starts here runs in the next round, as the asynchronous handler does.
            nursery.start_soon(wait)
            scope.cancel()

        async def handler(socket: Socket, args: SocketAsyncEventArgs) -> None:
            assert not args.pending

        args = SocketAsyncEventArgs(ten("a"))
        args.completed += note
        args.completed += handler
        async with trio.open_nursery() as nursery, open_initiator(ExitPolicy.JOIN):
            socket.send_async(args)
            nursery.start_soon(wait_a_little)
            await wait_all_tasks_blocked()
            port.unblock()
        assert counts == [10]
        assert scope.cancelled_caught

    run_often(program)


def test_until_the_first_step_args_are_in_use() -> None:
    """Whatever a task does whose turn comes before, nothing is changed by it."""

    async def program() -> None:
        socket, port = scripted(Blocked())
        seen: list[Seen] = []
        pool = SocketAsyncEventArgsPool()

        async def meddle() -> None:
            if seen:
                return  # the coin has fallen the other way
            assert args.pending
            assert args.outcome is None
            assert not args.cancel()
            for deed in (
                lambda: socket.send_async(args),
                lambda: args.set_buffer(b"other"),
                lambda: pool.push(args),
            ):
                with pytest.raises(OperationInProgressError):
                    deed()
            with pytest.raises(OperationInProgressError):
                await socket.send(args)

        async def handler(socket: Socket, args: SocketAsyncEventArgs) -> None:
            seen.append(look(args))

        def note(*_: object) -> None:
            nursery.start_soon(meddle)

        args = SocketAsyncEventArgs(ten("a"))
        args.completed += note
        args.completed += handler
        async with trio.open_nursery() as nursery, open_initiator(ExitPolicy.JOIN):
            socket.send_async(args)
            await wait_all_tasks_blocked()
            port.unblock()
        assert seen == [(False, 10, SUCCESS, ten("a"))]

    run_often(program)


def test_an_earlier_handler_may_start_the_args_anew() -> None:
    """It has found them free, and so they are. The handlers behind it are told of what is then."""

    async def program() -> None:
        socket, port = scripted(Blocked(1), 5, Blocked(1), 6)
        handler = Looking()
        counts: list[int] = []
        left = [True]

        def again(socket: Socket, args: SocketAsyncEventArgs) -> None:
            if left:
                left.clear()
                restart(socket, args)

        async def wait() -> None:
            counts.append(await args.wait())

        args = SocketAsyncEventArgs(b"first")
        args.completed += again
        args.completed += handler
        async with open_initiator(ExitPolicy.JOIN), trio.open_nursery() as nursery:
            socket.send_async(args)
            nursery.start_soon(wait)
            await wait_all_tasks_blocked()
        assert handler.seen == [(True, 0, SocketError.IO_PENDING, b"second"), BOTH[1]]
        assert counts == [5]
        assert port.accepted == b"firstsecond"

    run_often(program)


def test_the_handler_may_start_them_anew_at_its_first_step() -> None:
    async def program() -> None:
        socket, port = scripted(*[Blocked(1), 6] * 5)
        numbers: list[int] = []

        async def handler(socket: Socket, args: SocketAsyncEventArgs) -> None:
            numbers.append(args.activation)
            if len(numbers) < 5:
                assert socket.send_async(args)
                assert args.pending

        args = SocketAsyncEventArgs(b"second")
        args.completed += handler
        async with open_initiator(ExitPolicy.JOIN):
            socket.send_async(args)
        assert numbers == [1, 2, 3, 4, 5]
        assert port.accepted == b"second" * 5

    run_often(program)


@pytest.mark.parametrize("meanwhile", [None, "resume", "send_rest", "forget_torn", "close"])
def test_the_args_of_a_cut_message_are_told_of_as_cut(meanwhile: str | None) -> None:
    async def program() -> None:
        socket, _ = scripted(3, Blocked())
        seen: list[Seen] = []
        told = Told()

        async def handler(socket: Socket, args: SocketAsyncEventArgs) -> None:
            seen.append(look(args))
            if meanwhile in (None, "resume", "send_rest"):
                with pytest.raises(InvalidOperationError, match="was cut after 3 bytes"):
                    args.set_buffer(None)
            else:
                args.set_buffer(None)

        async def meddle() -> None:
            if seen:
                return
            if meanwhile == "resume":
                with pytest.raises(OperationInProgressError):
                    socket.resume(args)
            elif meanwhile == "send_rest":
                with pytest.raises(OperationInProgressError):
                    await socket.send_rest()

        def note(*_: object) -> None:
            nursery.start_soon(meddle)
            if meanwhile == "forget_torn":
                socket.forget_torn()
            elif meanwhile == "close":
                socket.close()

        args = SocketAsyncEventArgs(ten("a"))
        args.completed += note
        args.completed += told
        args.completed += handler
        async with trio.open_nursery() as nursery, open_initiator():
            socket.send_async(args)
            await wait_all_tasks_blocked()
            args.cancel()
            await args.wait()
        assert seen == [(False, 3, ABORTED, ten("a"))]
        assert told.events == [(None, ABORTED, 3)]

    run_often(program)


@pytest.mark.parametrize("when", ["pending", "between"])
def test_args_that_are_closed_are_told_of_all_the_same(when: str) -> None:
    async def program() -> None:
        socket, port = scripted(Blocked())
        seen: list[str] = []

        async def handler(socket: Socket, args: SocketAsyncEventArgs) -> None:
            seen.append(f"{args.bytes_transferred}, {args.buffer!r}")
            with pytest.raises(ObjectDisposedError):
                socket.send_async(args)

        args = SocketAsyncEventArgs(ten("a"))
        if when == "between":
            args.completed += lambda *_: args.close()
        args.completed += handler
        async with open_initiator():
            socket.send_async(args)
            if when == "pending":
                args.close()
            await wait_all_tasks_blocked()
            port.unblock()
            await args.wait()
        assert seen == ["10, None"]

    run_often(program)


@pytest.mark.parametrize("where", ["outside", "inside"])
def test_in_a_cancelled_scope_the_first_step_is_taken_all_the_same(where: str) -> None:
    async def program() -> None:
        socket, _ = scripted(3, Blocked())
        log: list[object] = []

        async def handler(socket: Socket, args: SocketAsyncEventArgs) -> None:
            log.append(look(args))
            await trio.lowlevel.checkpoint()
            log.append("not reached")

        with trio.CancelScope() as scope:
            async with open_initiator() as initiator:
                args = SocketAsyncEventArgs(ten("a"))
                args.completed += handler
                socket.send_async(args)
                (scope if where == "outside" else initiator.cancel_scope).cancel()
                await trio.sleep_forever()
        assert log == [(False, 3, ABORTED, ten("a"))]
        assert not args.pending

    run_often(program)


def test_the_first_step_is_one_of_the_handlers_own_task() -> None:
    """So a scope or a nursery that it opens there is its own, and its context that of the start."""

    async def program() -> None:
        socket, port = scripted(Blocked())
        tasks: list[trio.lowlevel.Task] = []

        async def handler(socket: Socket, result: AsyncResult | SocketAsyncEventArgs) -> None:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    tasks.append(trio.lowlevel.current_task())
                    nursery.start_soon(trio.sleep_forever)
                    await trio.lowlevel.checkpoint()
                    tasks.append(trio.lowlevel.current_task())
                    scope.cancel()

        args = SocketAsyncEventArgs(ten("a"))
        args.completed += handler
        behind = SocketAsyncEventArgs(ten("b"))
        behind.completed += handler
        async with open_initiator(ExitPolicy.JOIN):
            socket.send_async(args)
            socket.send_async(behind)
            await wait_all_tasks_blocked()
            port.unblock()
        assert len(tasks) == 4
        assert len(set(tasks)) == 2

    run_often(program)
