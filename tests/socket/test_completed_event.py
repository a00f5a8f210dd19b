"""Hold the event of `SocketAsyncEventArgs` to what it says: who is called, in which order, and when no more."""

from __future__ import annotations

import contextvars
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.helpers import BIG, Ends, connected, read_exactly, send_big, unix as unix
from trio_send import Socket, SocketAsyncEventArgs, open_initiator


@pytest.mark.fact("F127", "F128")
async def test_handlers_run_in_the_order_in_which_they_were_added(unix: Ends) -> None:
    """F127; the latest of equal ones is taken off first, and one that is not there does no harm."""
    socket, peer = unix
    log: list[str] = []

    def a(sender: Socket, args: SocketAsyncEventArgs) -> None:
        log.append("a")

    def b(sender: Socket, args: SocketAsyncEventArgs) -> None:
        log.append("b")

    class Holder:
        def method(self, sender: Socket, args: SocketAsyncEventArgs) -> None:
            log.append("method")

    holder = Holder()
    args = SocketAsyncEventArgs()
    async with open_initiator():
        steps: list[tuple[list[Any], list[Any], list[str]]] = [
            ([a, b, holder.method], [], ["a", "b", "method"]),
            ([a, a], [], ["a", "b", "method", "a", "a"]),
            ([], [a], ["a", "b", "method", "a"]),
            ([], [holder.method], ["a", "b", "a"]),  # a bound method is found by its equality
            ([], [holder.method, print], ["a", "b", "a"]),
            ([], [b, a, a], []),  # F128
        ]
        for adds, takes_off, expected in steps:
            for handler in adds:
                args.completed += handler
            for handler in takes_off:
                args.completed -= handler
            assert len(args.completed) == len(expected)
            del log[:]
            await send_big(socket, peer, args)
            assert log == expected


def test_the_event_can_only_be_added_to_and_taken_from() -> None:
    args = SocketAsyncEventArgs()
    event = args.completed
    event += print
    assert args.completed is event
    assert len(event) == 1
    assert bool(event)
    assert repr(event) == "<CompletedEvent: 1 handler>"
    with pytest.raises(AttributeError, match=r"add a handler with \+="):
        args.completed = print  # type: ignore[assignment]
    with pytest.raises(AttributeError, match=r"^completed cannot be replaced"):
        args.completed = SocketAsyncEventArgs().completed
    with pytest.raises(
        TypeError, match=r"^handler must be a function of \(socket, args\), not int"
    ):
        args.completed += 5  # type: ignore[arg-type]
    assert len(args.completed) == 1


async def test_handlers_may_come_and_go_while_the_operation_is_pending(unix: Ends) -> None:
    """Those that are there at the end are called, each once, also when one of them changes the list."""
    socket, peer = unix
    log: list[str] = []
    args = SocketAsyncEventArgs(BIG)

    def late(_: Socket, __: SocketAsyncEventArgs) -> None:
        log.append("late")

    def early(_: Socket, __: SocketAsyncEventArgs) -> None:
        log.append("early")

    def last(_: Socket, __: SocketAsyncEventArgs) -> None:
        log.append("last")
        args.completed -= last
        args.completed += late

    args.completed += early
    async with open_initiator():
        assert socket.send_async(args) is True
        args.completed -= early
        args.completed += late
        args.completed += last
        assert await read_exactly(peer, len(BIG)) == BIG
        await args.wait()
        await wait_all_tasks_blocked()
        assert log == ["late", "last"]
        del log[:]
        await send_big(socket, peer, args)
        assert log == ["late", "late"]


async def test_handlers_added_while_pending_get_no_context_of_an_earlier_start(
    unix: Ends,
) -> None:
    """What there was no handler for when it started runs in a copy of the initiator's context."""
    socket, peer = unix
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    seen: list[str] = []
    args = SocketAsyncEventArgs(b"x")

    def handler(_: Socket, __: SocketAsyncEventArgs) -> None:
        seen.append(variable.get())

    async with open_initiator():
        args.completed += handler
        variable.set("an earlier start")
        assert socket.send_async(args) is False
        assert await read_exactly(peer, 1) == b"x"
        args.completed -= handler
        args.set_buffer(BIG)
        assert socket.send_async(args) is True
        args.completed += handler
        assert await read_exactly(peer, len(BIG)) == BIG
        await args.wait()
        assert seen == ["unset"]


async def test_asynchronous_handlers_run_as_tasks_one_after_the_other(unix: Ends) -> None:
    """Synchronous ones before the first asynchronous one run at once, and `wait` waits for those only."""
    socket, peer = unix
    log: list[str] = []
    go_on = trio.Event()

    def first(_: Socket, __: SocketAsyncEventArgs) -> None:
        log.append("first")

    async def second(_: Socket, __: SocketAsyncEventArgs) -> None:
        log.append("second begins")
        await go_on.wait()
        log.append("second ends")

    def third(_: Socket, __: SocketAsyncEventArgs) -> None:
        log.append("third")

    async def fourth(_: Socket, __: SocketAsyncEventArgs) -> None:
        await trio.lowlevel.checkpoint()
        log.append("fourth")

    args = SocketAsyncEventArgs(BIG)
    for handler in (first, second, third, fourth):
        args.completed += handler
    async with open_initiator():
        assert socket.send_async(args) is True
        assert await read_exactly(peer, len(BIG)) == BIG
        await args.wait()
        assert log[:1] == ["first"]
        await wait_all_tasks_blocked()
        assert log == ["first", "second begins"]
        assert not args.pending
        # Another operation of the same initiator is told meanwhile.
        other = SocketAsyncEventArgs(BIG)
        other.completed += lambda *_: log.append("other")
        await send_big(socket, peer, other)
        assert log == ["first", "second begins", "other"]
        go_on.set()  # and leaving waits for the handlers
    assert log == ["first", "second begins", "other", "second ends", "third", "fourth"]


@pytest.mark.fact("F126")
async def test_the_sender_of_a_restart_on_another_socket() -> None:
    """All handlers of one end hear of the same socket, although the first has started the args on another (F126)."""
    log: list[tuple[str, Socket]] = []
    with connected("tcp4") as (one, one_peer), connected("unix") as (two, two_peer):

        def restart(sender: Socket, args: SocketAsyncEventArgs) -> None:
            log.append(("restart", sender))
            if sender is one:
                assert two.send_async(args) is True

        args = SocketAsyncEventArgs(BIG)
        args.completed += restart
        args.completed += lambda sender, _: log.append(("watch", sender))
        async with open_initiator():
            assert one.send_async(args) is True
            assert await read_exactly(one_peer, len(BIG)) == BIG
            assert await read_exactly(two_peer, len(BIG)) == BIG
            while args.pending:
                await args.wait()
        assert log == [("restart", one), ("watch", one), ("restart", two), ("watch", two)]
