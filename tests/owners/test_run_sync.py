"""Hold `Initiator.run_sync` to the initiator that it is called on, from wherever in the Trio thread."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import weakref
from contextlib import closing
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.helpers import BIG, Ends, connected, read_exactly, scripted, unix as unix
from trio_send import (
    ExitPolicy,
    Initiator,
    InvalidOperationError,
    Socket,
    SocketAsyncEventArgs,
    SocketError,
    current_initiator,
    from_thread,
    open_initiator,
)
from trio_send.testing import Blocked

colour: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")


async def test_a_callback_outside_of_the_body_starts_for_it(autojump_clock: Any) -> None:
    """And what it has started ends with the initiator."""
    socket, _ = scripted(4, Blocked())
    args = SocketAsyncEventArgs(b"." * 10)
    token = trio.lowlevel.current_trio_token()
    answers: list[bool] = []

    def callback(initiator: Initiator) -> None:
        with pytest.raises(InvalidOperationError, match=r"starts it with initiator\.run_sync\(\)"):
            socket.send_async(args)
        answers.append(initiator.run_sync(socket.send_async, args))

    async with open_initiator() as initiator:
        token.run_sync_soon(callback, initiator)
        await wait_all_tasks_blocked()
        assert answers == [True]
        assert initiator.pending_operations == 1
    assert args.socket_error is SocketError.OPERATION_ABORTED
    assert args.bytes_transferred == 4
    socket.close()


async def test_a_handler_of_another_initiator_starts_for_it(autojump_clock: Any) -> None:
    one, _ = scripted(Blocked(1), 4)
    two, _ = scripted(Blocked())
    second = SocketAsyncEventArgs(b"." * 4)
    async with open_initiator(name="outer") as outer:

        def handler(socket: Socket, args: SocketAsyncEventArgs) -> None:
            assert current_initiator() is not outer
            assert outer.run_sync(two.send_async, second) is True
            assert current_initiator() is not outer

        async with open_initiator(ExitPolicy.JOIN):
            first = SocketAsyncEventArgs(b"." * 4)
            first.completed += handler
            assert one.send_async(first) is True
        assert second.pending
        assert outer.pending_operations == 1
    assert second.socket_error is SocketError.OPERATION_ABORTED
    one.close()
    two.close()


async def test_one_inside_the_other() -> None:
    async with open_initiator() as outer, open_initiator() as inner:
        seen: list[Any] = []

        def look(*others: Initiator) -> None:
            seen.append(current_initiator())
            if others:
                others[0].run_sync(look, *others[1:])
            seen.append(current_initiator())

        outer.run_sync(look, inner, outer, outer)
        assert seen == [outer, inner, outer, outer, outer, outer, inner, outer]
        assert current_initiator() is inner


async def test_the_context_is_a_copy_of_that_of_the_entry() -> None:
    colour.set("at the entry")

    def change() -> str:
        before = colour.get()
        colour.set("changed")
        return before

    async with open_initiator() as initiator:
        colour.set("later")
        for _ in range(2):
            assert initiator.run_sync(change) == "at the entry"
        assert colour.get() == "later"


async def test_what_is_returned_and_what_is_raised() -> None:
    async with open_initiator() as initiator:
        assert initiator.run_sync(divmod, 7, 2) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            initiator.run_sync(divmod, 7, 0)
        assert current_initiator() is initiator


async def test_an_async_function_is_refused() -> None:
    called: list[None] = []

    async def function() -> None:
        called.append(None)

    async with open_initiator() as initiator:
        with pytest.raises(TypeError, match=r"^function must be synchronous, and it has"):
            initiator.run_sync(function)
    assert called == []


async def test_behind_the_exit_and_behind_the_stop(autojump_clock: Any) -> None:
    socket, _ = scripted()
    args = SocketAsyncEventArgs(b"x")
    async with open_initiator() as initiator:
        initiator.cancel_scope.cancel()
        await wait_all_tasks_blocked()
        # As any other start then.
        assert initiator.run_sync(socket.send_async, args) is False
        assert args.socket_error is SocketError.OPERATION_ABORTED
    called: list[None] = []
    with pytest.raises(InvalidOperationError, match="has exited"):
        initiator.run_sync(called.append, None)
    assert called == []
    socket.close()


async def test_another_thread(unix: Ends) -> None:
    socket, peer = unix
    called: list[None] = []
    async with open_initiator() as initiator:

        def work() -> None:
            with pytest.raises(InvalidOperationError, match="is for the Trio thread; from here"):
                initiator.run_sync(called.append, None)
            trio.from_thread.run_sync(initiator.run_sync, socket.begin_send, b"hello")

        await trio.to_thread.run_sync(work)
    assert called == []
    assert peer.recv(10) == b"hello"


async def test_what_is_for_other_threads_says_so(unix: Ends) -> None:
    socket, _ = unix
    async with open_initiator() as host:
        for call, sentence in (
            (lambda: from_thread.begin_send(socket, b"x", host=host), "begin_send, ..."),
            (
                lambda: from_thread.send_async(socket, SocketAsyncEventArgs(b"x"), host=host),
                "send_async, args",
            ),
        ):
            with pytest.raises(InvalidOperationError) as caught:
                call()
            assert f"host.run_sync(socket.{sentence})" in str(caught.value)


def test_a_button_of_a_host_loop() -> None:
    """Guest mode: a callback of the host's, with a send that has to wait and is told of by its event."""
    events: list[str] = []

    async def main(loop: asyncio.AbstractEventLoop) -> bytes:
        with connected("unix") as (socket, peer), closing(socket):
            args = SocketAsyncEventArgs(BIG)
            args.completed += lambda _, args: events.append(args.socket_error.name)
            async with open_initiator(ExitPolicy.JOIN) as initiator:

                def button() -> None:
                    assert initiator.run_sync(socket.send_async, args) is True
                    events.append("pressed")

                loop.call_soon(button)
                return await read_exactly(peer, len(BIG))

    async def host() -> Any:
        loop = asyncio.get_running_loop()
        over: asyncio.Future[Any] = loop.create_future()
        trio.lowlevel.start_guest_run(
            main,
            loop,
            run_sync_soon_threadsafe=loop.call_soon_threadsafe,
            done_callback=over.set_result,
        )
        return (await over).unwrap()

    assert asyncio.run(host()) == BIG
    assert events == ["pressed", "SUCCESS"]


async def test_an_initiator_that_was_left_keeps_no_context() -> None:
    class Thing:
        """Something that can be waited for to go."""

    thing: contextvars.ContextVar[Any] = contextvars.ContextVar("thing")
    value = Thing()
    gone = weakref.ref(value)
    token = thing.set(value)
    async with open_initiator() as initiator:
        pass
    thing.reset(token)
    del value, token
    await trio.lowlevel.checkpoint()
    gc.collect()
    assert gone() is None
    assert repr(initiator)
