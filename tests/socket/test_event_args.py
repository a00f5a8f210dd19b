"""Hold `SocketAsyncEventArgs` to what it says: its properties, its reuse, its end.

What is set on it has its tests in test_configured_operation, its event in test_completed_event.

Modules: _socket.event_args_operation.
"""

from __future__ import annotations

import contextvars
import gc
import math
import weakref
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from tests.helpers import (
    BIG,
    Ends,
    connected,
    ends as ends,
    kind as kind,
    never_called,
    nothing_to_read,
    read_exactly,
    send_big,
    unix as unix,
)
from trio_send import (
    ObjectDisposedError,
    OperationInProgressError,
    Socket,
    SocketAsyncEventArgs,
    SocketAsyncOperation,
    SocketError,
    SocketException,
    SocketFlags,
    open_initiator,
)
from trio_send.testing import Blocked, ScriptedPort

# A fresh object -------------------------------------------------------------------------------


@pytest.mark.fact("F136")
def test_a_fresh_object() -> None:
    """F136."""
    args = SocketAsyncEventArgs()
    assert args.buffer is None
    assert args.buffer_list is None
    assert (args.offset, args.count, args.bytes_transferred) == (0, 0, 0)
    assert args.last_operation is SocketAsyncOperation.NONE
    assert args.socket_error is SocketError.SUCCESS
    assert args.socket_flags is SocketFlags.NONE
    assert args.user_token is None
    assert args.remote_end_point is None
    assert args.accept_socket is None
    assert args.connect_socket is None
    assert args.connect_by_name_error is None
    assert args.disconnect_reuse_socket is False
    assert args.outcome is None
    assert args.remaining == []
    assert args.pending is False
    assert args.activation == 0
    assert args.timeout == math.inf
    assert args.stall_timeout == math.inf
    assert len(args.completed) == 0
    assert args.cancel() is False
    assert repr(args) == "<SocketAsyncEventArgs: NONE, SUCCESS, 0 of 0 bytes accepted>"


def test_the_constructor_takes_what_the_setters_do() -> None:
    token = object()
    buffer = bytearray(b"0123456789")
    args = SocketAsyncEventArgs(buffer, 2, 5, user_token=token)
    assert args.buffer is buffer
    assert (args.offset, args.count) == (2, 5)
    assert args.user_token is token
    members = [b"a", b"b"]
    args = SocketAsyncEventArgs(buffer_list=members)
    assert args.buffer_list is members  # F111
    with pytest.raises(ValueError, match=r"^buffer and buffer_list exclude each other"):
        SocketAsyncEventArgs(b"x", buffer_list=[b"y"])
    with pytest.raises(ValueError, match=r"^offset is 4"):
        SocketAsyncEventArgs(b"abc", 4)
    with pytest.raises(ValueError, match=r"^count is 3"):
        SocketAsyncEventArgs(b"abc", 1, 3)


# What remains ---------------------------------------------------------------------------------


def test_what_remains_shares_memory_and_is_the_new_message_once_one_was_set() -> None:
    buffer = bytearray(b"0123456789")
    args = SocketAsyncEventArgs(buffer, 2, 5)
    [view] = args.remaining
    assert view.obj is buffer
    assert bytes(view) == b"23456"
    view.release()
    buffer += b"..."  # nothing is locked once the view is gone


async def test_what_remains_after_a_send_until_a_message_is_set(unix: Ends) -> None:
    socket, peer = unix
    args = SocketAsyncEventArgs(b"hello")
    async with open_initiator():
        assert socket.send_async(args) is False
        assert args.remaining == []
        args.set_range(1)
        assert b"".join(args.remaining) == b"ello"  # the count is about the earlier message
        assert args.bytes_transferred == 5
        assert socket.send_async(args) is False
        args.set_buffer(None)
        args.buffer_list = [b"a", b"bc"]
        assert b"".join(args.remaining) == b"abc"
    assert await read_exactly(peer, 9) == b"helloello"


# The token ------------------------------------------------------------------------------------


@pytest.mark.page("S18", "S19")
@pytest.mark.fact("F145")
async def test_the_token_is_never_touched(ends: Ends) -> None:
    """F145."""
    socket, peer = ends
    token: list[Any] = []
    args = SocketAsyncEventArgs(BIG, user_token=token)
    async with open_initiator():
        assert socket.send_async(args) is True
        assert args.user_token is token
        assert await read_exactly(peer, len(BIG)) == BIG
        await args.wait()
        assert args.user_token is token
        args.close()
    assert args.user_token is token
    assert token == []


# Telling, and starting anew -------------------------------------------------------------------


@pytest.mark.fact("F129")
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_on_completed_can_be_overridden(unix: Ends, asynchronous: bool) -> None:
    """Instead of a handler, or around them (F129)."""
    socket, peer = unix
    log: list[Any] = []
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

    class Told(SocketAsyncEventArgs):
        def on_completed(self) -> None:
            log.append((self.bytes_transferred, self.pending, variable.get()))
            super().on_completed()

    class ToldLater(SocketAsyncEventArgs):
        async def on_completed(self) -> None:
            await trio.lowlevel.checkpoint()
            log.append((self.bytes_transferred, self.pending, variable.get()))
            super().on_completed()

    args = (ToldLater if asynchronous else Told)(BIG)
    async with open_initiator():
        variable.set("at the start")
        assert socket.send_async(args) is True
        variable.set("later")
        assert log == []
        assert await read_exactly(peer, len(BIG)) == BIG
        await args.wait()
        await wait_all_tasks_blocked()
        assert log == [(len(BIG), False, "at the start")]
        args.completed += lambda *_: log.append("handler")
        await send_big(socket, peer, args)
        assert log[1:] == [(len(BIG), False, "later"), "handler"]
        args.set_buffer(b"x")
        assert socket.send_async(args) is False  # on the spot: nobody is told
        await wait_all_tasks_blocked()
        assert len(log) == 3


@pytest.mark.fact("F130")
async def test_a_handler_may_reconfigure_and_restart_its_args(ends: Ends) -> None:
    """They are free before Completed is raised, and each pending start raises it once (F130)."""
    socket, peer = ends
    log: list[int] = []
    starts: list[bool] = []
    messages = [BIG, b"small", BIG[:150_000], BIG]
    sizes = [len(message) for message in messages]

    def handler(sender: Socket, args: SocketAsyncEventArgs) -> None:
        assert sender is socket
        assert not args.pending
        assert args.socket_error is SocketError.SUCCESS
        log.append(args.bytes_transferred)
        while messages:
            args.set_buffer(messages.pop(0))
            starts.append(sender.send_async(args))
            if starts[-1]:
                return
            log.append(args.bytes_transferred)

    args = SocketAsyncEventArgs(messages[0])
    args.completed += handler
    whole = b"".join(messages)
    async with open_initiator():
        del messages[0]
        assert socket.send_async(args) is True
        assert await read_exactly(peer, len(whole)) == whole
        while args.pending:
            await args.wait()
    assert log == sizes
    assert args.activation == 1 + sum(starts)  # only what was pending has a number


@pytest.mark.fact("F225")
async def test_activations_are_numbered_and_a_stop_can_be_aimed_at_one(unix: Ends) -> None:
    socket, peer = unix
    in_front = SocketAsyncEventArgs(BIG)
    args = SocketAsyncEventArgs(b"x")
    async with open_initiator():
        assert socket.send_async(args) is False
        assert await read_exactly(peer, 1) == b"x"
        assert args.activation == 0  # only what is pending gets a number
        assert socket.send_async(in_front) is True
        assert socket.send_async(args) is True
        assert args.activation == 1
        assert args.cancel(activation=2) is False
        assert args.cancel(activation=0) is False
        assert args.pending
        assert args.cancel("enough", activation=1) is True
        assert args.cancel() is False
        assert await args.wait() == 0
        assert args.socket_error is SocketError.OPERATION_ABORTED
        assert args.outcome is not None
        with pytest.raises(SocketException, match=r"enough$"):
            args.outcome.unwrap()
        assert socket.send_async(args) is True
        assert args.activation == 2
        assert args.cancel(activation=1) is False
        assert await read_exactly(peer, len(BIG) + 1) == BIG + b"x"
        assert await args.wait() == 1


@pytest.mark.fact("F130", "F139", "F146", "F154", "F159")
async def test_one_args_object_on_each_side_leads_a_connection_through_its_life() -> None:
    """Accept, connect, send, receive and disconnect, each start from the handler of the one before.

    What the last operation was is known from its start on; offset, count, flags, token and address are left alone.
    """
    log: list[tuple[object, str, int]] = []
    ended = trio.Event()
    told = 0

    def go_on(start: Callable[[SocketAsyncEventArgs], bool], args: SocketAsyncEventArgs) -> None:
        kind = start.__name__.removesuffix("_async").upper()
        configured = (args.offset, args.count, args.socket_flags, args.remote_end_point)
        pending = start(args)
        assert args.last_operation is SocketAsyncOperation[kind]
        assert (args.offset, args.count, args.socket_flags, args.remote_end_point) == configured
        if not pending:
            handler(None, args)

    def handler(_: Socket | None, args: SocketAsyncEventArgs) -> None:
        nonlocal told
        told += _ is not None
        assert args.socket_error is SocketError.SUCCESS
        kind = args.last_operation
        log.append((args.user_token, kind.name, args.bytes_transferred))
        if args.user_token == "server":
            if kind is SocketAsyncOperation.ACCEPT:
                assert args.accept_socket is not None
                args.set_buffer(bytearray(b"........"), 2, 4)
                go_on(args.accept_socket.receive_async, args)
            elif kind is SocketAsyncOperation.RECEIVE:
                assert args.accept_socket is not None
                if args.bytes_transferred:
                    go_on(args.accept_socket.send_async, args)
                else:
                    args.accept_socket.close()
                    ended.set()
            else:
                assert args.accept_socket is not None
                go_on(args.accept_socket.receive_async, args)
        elif kind is SocketAsyncOperation.CONNECT:
            assert args.connect_socket is client
            args.set_buffer(b"ping")
            go_on(client.send_async, args)
        elif kind is SocketAsyncOperation.SEND:
            args.set_buffer(bytearray(4))
            go_on(client.receive_async, args)
        elif kind is SocketAsyncOperation.RECEIVE:
            assert args.buffer == b"ping"
            go_on(client.disconnect_async, args)

    with closing(Socket()) as listener, closing(Socket()) as client:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        async with open_initiator():
            for token in ("server", "client"):
                args = SocketAsyncEventArgs(user_token=token)
                args.completed += handler
                if token == "server":
                    go_on(listener.accept_async, args)
                else:
                    args.remote_end_point = listener.local_end_point
                    go_on(client.connect_async, args)
            await ended.wait()
    assert [entry[1:] for entry in log if entry[0] == "server"] == [
        ("ACCEPT", 0),
        ("RECEIVE", 4),
        ("SEND", 4),
        ("RECEIVE", 0),
    ]
    assert [entry[1:] for entry in log if entry[0] == "client"] == [
        ("CONNECT", 0),
        ("SEND", 4),
        ("RECEIVE", 4),
        ("DISCONNECT", 0),
    ]
    assert told >= 3


# wait -----------------------------------------------------------------------------------------


async def test_waiting_on_idle_args_is_a_checkpoint_and_gives_the_latest_count(unix: Ends) -> None:
    socket, peer = unix
    args = SocketAsyncEventArgs(b"hello")
    with assert_checkpoints():
        assert await args.wait() == 0
    async with open_initiator():
        assert socket.send_async(args) is False
        with assert_checkpoints():
            assert await args.wait() == 5
        args.socket_flags = SocketFlags.PARTIAL
        assert socket.send_async(args) is False
        with assert_checkpoints():
            assert await args.wait() == 0  # it raises no error of the operation
    assert await read_exactly(peer, 5) == b"hello"


async def test_waiting_on_idle_args_waits_for_no_later_start(unix: Ends) -> None:
    """They are started anew in its checkpoint; the end of that is not what was asked for."""
    socket, _ = unix
    args = SocketAsyncEventArgs(b"hello")

    class StartsAnew(trio.abc.Instrument):
        def before_io_wait(self, timeout: float) -> None:
            if not args.pending:
                args.set_buffer(BIG)
                assert context.run(socket.send_async, args)

    async with open_initiator():
        context = contextvars.copy_context()
        assert socket.send_async(args) is False
        instrument = StartsAnew()
        trio.lowlevel.add_instrument(instrument)
        with trio.fail_after(5):
            assert await args.wait() == 5
        trio.lowlevel.remove_instrument(instrument)
        assert args.pending
        args.cancel()


async def test_a_waiter_gets_the_count_of_the_activation_it_waited_for(ends: Ends) -> None:
    """Also when a handler starts the args anew before the waiter runs; it returns after the synchronous handlers."""
    socket, peer = ends
    log: list[Any] = []
    messages = [BIG, BIG[:200_000], BIG[:100_000]]

    def handler(_: Socket, args: SocketAsyncEventArgs) -> None:
        log.append("handler")
        if messages:
            args.set_buffer(messages.pop(0))
            assert socket.send_async(args) is True

    args = SocketAsyncEventArgs(messages.pop(0))
    args.completed += handler

    async def wait(count: int) -> None:
        for _ in range(count):
            log.append(await args.wait())

    async with open_initiator(), trio.open_nursery() as nursery:
        assert socket.send_async(args) is True
        nursery.start_soon(wait, 3)
        nursery.start_soon(wait, 1)
        await wait_all_tasks_blocked()
        received = await read_exactly(peer, 600_000)
        assert received == BIG + BIG[:200_000] + BIG[:100_000]
    expected = ["handler", 300_000, 300_000, "handler", 200_000, "handler", 100_000]
    assert log == expected


async def test_a_wait_that_is_cancelled_leaves_the_operation_and_other_waiters_alone(
    unix: Ends,
) -> None:
    socket, peer = unix
    log: list[int] = []
    args = SocketAsyncEventArgs(BIG)
    async with open_initiator(), trio.open_nursery() as nursery:
        assert socket.send_async(args) is True

        @nursery.start_soon
        async def _() -> None:
            log.append(await args.wait())

        async with trio.open_nursery() as others:
            others.start_soon(args.wait)
            others.start_soon(args.wait)
            await wait_all_tasks_blocked()
            others.cancel_scope.cancel()
        assert args.pending
        assert await read_exactly(peer, len(BIG)) == BIG
    assert log == [len(BIG)]


async def test_a_waiter_is_released_although_a_handler_raises(unix: Ends) -> None:
    socket, peer = unix
    args = SocketAsyncEventArgs(BIG)
    counts: list[int] = []

    def handler(_: Socket, __: SocketAsyncEventArgs) -> None:
        raise KeyError("handler")

    async def wait() -> None:
        counts.append(await args.wait())

    args.completed += handler
    with pytest.RaisesGroup(KeyError, flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            async with open_initiator():
                assert socket.send_async(args) is True
                nursery.start_soon(wait)
                await wait_all_tasks_blocked()
                assert await read_exactly(peer, len(BIG)) == BIG
                await trio.sleep_forever()
    assert counts == [len(BIG)]


async def test_waiting_for_what_another_task_awaits(unix: Ends) -> None:
    """`wait` is also for args that somebody sends with `await socket.send(args)`."""
    socket, peer = unix
    args = SocketAsyncEventArgs(BIG)
    args.completed += never_called
    async with trio.open_nursery() as nursery:
        nursery.start_soon(socket.send, args)
        await wait_all_tasks_blocked()
        assert args.pending
        with pytest.raises(OperationInProgressError):
            args.set_buffer(b"x")
        nursery.start_soon(read_exactly, peer, len(BIG))
        assert await args.wait() == len(BIG)
    assert not args.pending


# close ----------------------------------------------------------------------------------------


@pytest.mark.fact("F108", "F155")
def test_closing_idle_args_is_immediate_and_repeatable() -> None:
    """F155, F108."""
    args = SocketAsyncEventArgs(b"hello", user_token="token")
    args.close()
    args.close()
    assert args.buffer is None
    assert (args.offset, args.count) == (0, 0)
    assert args.remaining == []
    assert repr(args) == "<SocketAsyncEventArgs: closed>"
    changes: list[Callable[[], None]] = [
        lambda: args.set_buffer(b"x"),
        lambda: args.set_buffer(None),
        lambda: args.set_range(0),
        lambda: setattr(args, "buffer_list", [b"x"]),
        lambda: setattr(args, "buffer_list", None),
    ]
    for change in changes:
        with pytest.raises(ObjectDisposedError, match=r"^these args were closed"):
            change()
    args = SocketAsyncEventArgs(buffer_list=[b"x"])
    args.close()
    assert args.buffer_list is None


def test_a_with_statement_closes_them() -> None:
    with SocketAsyncEventArgs(b"x") as args:
        assert args.buffer == b"x"
    assert args.buffer is None
    with pytest.raises(KeyError):
        with SocketAsyncEventArgs(b"x") as args:
            raise KeyError
    assert args.buffer is None


@pytest.mark.fact("F088")
async def test_closed_args_cannot_be_started(unix: Ends) -> None:
    """F088, also right after the socket has seen them."""
    socket, peer = unix
    args = SocketAsyncEventArgs(b"x")
    async with open_initiator():
        assert socket.send_async(args) is False
        assert socket.send_async(args) is False
        args.close()
        with pytest.raises(ObjectDisposedError, match=r"^these args were closed"):
            socket.send_async(args)
        with pytest.raises(ObjectDisposedError, match=r"^these args were closed"):
            await socket.send(args)
    assert args.bytes_transferred == 1  # how it went can still be read
    assert args.socket_error is SocketError.SUCCESS
    assert await read_exactly(peer, 2) == b"xx"
    assert nothing_to_read(peer)


@pytest.mark.fact("F090", "F156", "F157", "F158")
async def test_closing_args_in_use_is_deferred_to_their_end(ends: Ends) -> None:
    """It cancels nothing and touches no socket; Completed is raised, and restarting is refused there (F156 to F158)."""
    socket, peer = ends
    log: list[Any] = []

    def handler(sender: Socket, args: SocketAsyncEventArgs) -> None:
        log.append((args.bytes_transferred, args.buffer))
        for start in (sender.send_async, sender.accept_async, sender.connect_async):
            with pytest.raises(ObjectDisposedError, match=r"^these args were closed"):
                start(args)

    args = SocketAsyncEventArgs(BIG)
    args.completed += handler
    async with open_initiator():
        assert socket.send_async(args) is True
        args.close()
        args.close()
        assert args.pending
        assert args.buffer is BIG
        with pytest.raises(OperationInProgressError):  # F090
            socket.send_async(args)
        with pytest.raises(OperationInProgressError):
            args.set_buffer(None)
        assert await read_exactly(peer, len(BIG)) == BIG
        assert await args.wait() == len(BIG)
        assert log == [(len(BIG), None)]
        assert args.buffer is None
        assert await socket.send(b"the socket is open") == 18
    assert await read_exactly(peer, 18) == b"the socket is open"


@pytest.mark.fact("F156")
async def test_closing_args_that_a_task_awaits_is_deferred_too(unix: Ends) -> None:
    """F156: it takes effect at the end, whichever face the operation was started through."""
    socket, peer = unix
    args = SocketAsyncEventArgs(BIG)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(socket.send, args)
        await wait_all_tasks_blocked()
        args.close()
        assert args.buffer is BIG
        assert await read_exactly(peer, len(BIG)) == BIG
    assert args.bytes_transferred == len(BIG)
    assert args.buffer is None
    with pytest.raises(ObjectDisposedError, match=r"^these args were closed"):
        args.set_buffer(b"x")


@pytest.mark.fact("F156", "F157", "F158")
@pytest.mark.parametrize("kind", ["receive", "accept", "connect"])
async def test_closing_args_that_do_not_send_is_deferred_too(kind: str) -> None:
    """The operation ends normally and is told; the socket is not touched, and the args cannot be started."""
    log: list[SocketError] = []
    args = SocketAsyncEventArgs()

    def handler(_: Socket, e: SocketAsyncEventArgs) -> None:
        log.append(e.socket_error)
        with pytest.raises(ObjectDisposedError, match=r"^these args were closed"):
            start(e)

    args.completed += handler
    with closing(Socket()) as listener, connected("unix") as (socket, peer):
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with closing(Socket()) as client:
            if kind == "receive":
                args.set_buffer(bytearray(8))
                start = socket.receive_async
            elif kind == "accept":
                start = listener.accept_async
            else:
                args.remote_end_point = listener.local_end_point
                start = client.connect_async
            async with open_initiator():
                assert start(args) is True
                args.close()
                args.close()
                assert args.pending
                if kind == "receive":
                    peer.send(b"hello")
                elif kind == "accept":
                    await client.connect(listener.local_end_point)
                await args.wait()
                await wait_all_tasks_blocked()
                assert log == [SocketError.SUCCESS]
                assert args.bytes_transferred == (5 if kind == "receive" else 0)
                if args.accept_socket is not None:
                    args.accept_socket.close()
                assert min(socket.fileno(), listener.fileno(), client.fileno()) >= 0


async def test_closing_a_handlers_own_args(unix: Ends) -> None:
    socket, peer = unix
    args = SocketAsyncEventArgs(BIG)
    args.completed += lambda _, e: e.close()
    async with open_initiator():
        assert socket.send_async(args) is True
        assert await read_exactly(peer, len(BIG)) == BIG
        assert await args.wait() == len(BIG)
    assert repr(args) == "<SocketAsyncEventArgs: closed>"


# Context --------------------------------------------------------------------------------------


@pytest.mark.fact("F267", "F268")
async def test_handlers_run_in_the_context_of_each_start(ends: Ends) -> None:
    """Captured at each start that has a handler, never cached (F268); what a handler sets stays in its copy."""
    socket, peer = ends
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    seen: list[str] = []

    def handler(_: Socket, __: SocketAsyncEventArgs) -> None:
        seen.append(variable.get("nothing"))
        variable.set("set by a handler")

    async def async_handler(_: Socket, __: SocketAsyncEventArgs) -> None:
        await trio.lowlevel.checkpoint()
        seen.append(variable.get("nothing"))

    one, two = SocketAsyncEventArgs(), SocketAsyncEventArgs()
    for args in (one, two):
        args.completed += handler
        args.completed += async_handler
    async with open_initiator():
        for value in ("one", "two"):
            variable.set(value)
            await send_big(socket, peer, one)
        assert seen == ["one", "set by a handler", "two", "set by a handler"]
        del seen[:]
        for args in (one, two):
            variable.set(f"two at once: {1 if args is one else 2}")
            args.set_buffer(BIG)
            assert socket.send_async(args) is True
        variable.set("later")
        assert await read_exactly(peer, 2 * len(BIG)) == 2 * BIG
        await two.wait()
        await wait_all_tasks_blocked()
    assert sorted(seen) == sorted(
        ["two at once: 1", "two at once: 2", "set by a handler", "set by a handler"]
    )
    assert variable.get() == "later"


@pytest.mark.fact("F269")
async def test_the_context_need_not_flow(ends: Ends) -> None:
    """Then handlers run in a copy of the initiator's (F269), each in a new one."""
    socket, peer = ends
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    seen: list[str] = []

    def handler(_: Socket, __: SocketAsyncEventArgs) -> None:
        seen.append(variable.get("nothing"))
        variable.set("set by a handler")

    args = SocketAsyncEventArgs(flow_context=False)
    args.completed += handler
    variable.set("when the initiator was opened")
    async with open_initiator():
        for value in ("one", "two"):
            variable.set(value)
            await send_big(socket, peer, args)
    assert seen == ["when the initiator was opened"] * 2


# Letting go -----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["on the spot", "pending", "awaited", "aborted", "refused"])
async def test_args_that_nobody_needs_are_gone(how: str) -> None:
    """Once an operation has ended, nothing of the library holds on to it, its buffer or its handlers.

    The socket, the initiator and the tasks of both are still there. Without the collector of cycles.
    """

    class Buffer(bytearray):
        pass

    port = ScriptedPort([Blocked()] if how in ("pending", "awaited", "aborted") else [])
    with closing(Socket.from_port(port)) as socket:
        async with open_initiator(), trio.open_nursery() as nursery:
            buffer = Buffer(b"hello")
            args = SocketAsyncEventArgs(buffer, user_token=set())
            args.completed += lambda *_: None
            gone: list[Callable[[], object]] = [weakref.ref(args), weakref.ref(buffer)]
            gc.collect()
            gc.disable()
            try:
                if how == "awaited":
                    nursery.start_soon(socket.send, args)
                    await wait_all_tasks_blocked()
                elif how == "refused":
                    args.socket_flags = SocketFlags.PARTIAL
                    assert socket.send_async(args) is False
                else:
                    assert socket.send_async(args) is (how != "on the spot")
                if how == "aborted":
                    args.cancel()
                port.unblock()
                await args.wait()
                await wait_all_tasks_blocked()
                del args, buffer
                assert [reference() for reference in gone] == [None, None]
            finally:
                gc.enable()


@pytest.mark.parametrize("pending", [False, True])
async def test_args_do_not_keep_a_socket_alive(pending: bool) -> None:
    """Args that wait in a pool must not hold the last connection they served."""
    args = SocketAsyncEventArgs(b"hello")
    args.completed += lambda *_: None
    async with open_initiator():
        socket = Socket.from_port(ScriptedPort([Blocked(0)] if pending else []))
        for _ in range(2):
            assert socket.send_async(args) is pending
            await args.wait()
            await wait_all_tasks_blocked()
            pending = False
        socket.close()
        reference = weakref.ref(socket)
        del socket
        gc.collect()
        assert reference() is None
    assert args.bytes_transferred == 5
