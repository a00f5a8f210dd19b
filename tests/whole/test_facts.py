"""What .NET's documentation or its implementations say, and the tests of no module happen to show."""

from __future__ import annotations

import contextvars
import gc
import inspect
import os
import signal
import socket as stdlib_socket
import struct
import sys
import threading
import weakref
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
import trio
from trio.testing import assert_no_checkpoints, wait_all_tasks_blocked

from tests.helpers import (
    BIG,
    FACES,
    KINDS,
    Ends,
    connected,
    failure_on_the_spot,
    never_called,
    nothing_to_read,
    read_exactly,
    read_to_end,
    reset_on_close,
    scripted,
    tcp as tcp,
)
from trio_send import (
    AsyncResult,
    ObjectDisposedError,
    Socket,
    SocketAsyncEventArgs,
    SocketError,
    SocketException,
    SocketFlags,
    SocketShutdown,
    from_thread,
    open_initiator,
)
from trio_send.testing import Blocked

every_face = pytest.mark.parametrize("face", FACES)


# The call -------------------------------------------------------------------------------------


@pytest.mark.page("B04")
@pytest.mark.parametrize("name", ["begin_send", "try_begin_send"])
async def test_begin_takes_what_the_page_says_in_that_order(tcp: Ends, name: str) -> None:
    """All by position; what is the error code there is returned."""
    socket, peer = tcp
    begin: Callable[..., Any] = getattr(socket, name)
    parameters = [*inspect.signature(begin).parameters]
    assert parameters == ["buffer_or_list", "offset", "size", "socket_flags", "callback", "state"]
    told: list[AsyncResult] = []
    state = object()
    async with open_initiator():
        answer = begin(b"0123456789", 2, 5, SocketFlags.DONT_ROUTE, told.append, state)
        if name == "try_begin_send":
            answer, error = answer
            assert error is SocketError.SUCCESS
        await wait_all_tasks_blocked()
        assert told == [answer]
        assert answer.async_state is state
        assert socket.end_send_nowait(answer) == 5
    assert await read_exactly(peer, 5) == b"23456"
    assert nothing_to_read(peer)


@pytest.mark.fact("F055")
@pytest.mark.parametrize("name", ["begin_send", "try_begin_send"])
async def test_a_failure_that_comes_later_comes_out_of_the_end(tcp: Ends, name: str) -> None:
    """When the call returned there was none, so it said SUCCESS."""
    socket, peer = tcp
    async with open_initiator():
        if name == "begin_send":
            result: AsyncResult | None = socket.begin_send(BIG)
        else:
            result, error = socket.try_begin_send(BIG)
            assert error is SocketError.SUCCESS
        assert result is not None
        reset_on_close(peer)
        peer.close()
        with pytest.raises(SocketException) as caught:
            await socket.end_send(result)
        assert caught.value.socket_error_code is SocketError.CONNECTION_RESET
        assert caught.value.bytes_transferred == result.bytes_transferred > 0


@pytest.mark.fact("F047")
async def test_a_task_that_waits_for_the_end_hears_of_a_close(tcp: Ends) -> None:
    """Without reading another byte of the peer's, and in both forms."""
    socket, _ = tcp
    told: list[object] = []

    async def end(result: AsyncResult) -> None:
        with pytest.raises(SocketException) as caught:
            await socket.end_send(result)
        told.append((caught.value.socket_error_code, caught.value.bytes_transferred))

    async def try_end(result: AsyncResult) -> None:
        told.append(await socket.try_end_send(result))

    async with open_initiator(), trio.open_nursery() as nursery:
        first, second = socket.begin_send(BIG), socket.begin_send(b"x")
        nursery.start_soon(end, first)
        nursery.start_soon(try_end, second)
        await wait_all_tasks_blocked()
        assert told == []
        count = first.bytes_transferred
        socket.close()
        await wait_all_tasks_blocked()
        aborted = SocketError.OPERATION_ABORTED
        assert sorted(told, key=str) == sorted([(aborted, count), (0, aborted)], key=str)


@pytest.mark.fact("F079")
@pytest.mark.parametrize("called_back", [False, True])
async def test_a_failed_result_that_nobody_takes_is_dropped_in_silence(
    tcp: Ends, called_back: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no event for exceptions that nobody has seen, and no warning."""
    socket, _ = tcp
    unseen: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", unseen.append)
    called: list[bool] = []
    state: set[int] = set()
    gone = weakref.ref(state)
    async with open_initiator():
        result = socket.begin_send(
            BIG,
            callback=(lambda _: called.append(True)) if called_back else None,
            state=state,
        )
        assert result.cancel()
        await wait_all_tasks_blocked()
        assert called == [True] * called_back
        socket.forget_torn()
        del result, state
        gc.collect()
        assert gone() is None
    assert unseen == []


# Where handlers run ---------------------------------------------------------------------------


@pytest.mark.page("B28")
@pytest.mark.fact("F065", "F132")
@pytest.mark.parametrize("size", [1, len(BIG)])
async def test_who_is_told_is_told_in_the_trio_thread_and_in_a_task_of_its_own(
    tcp: Ends, size: int
) -> None:
    """Not inside the call, and not in a thread that would need a lock."""
    socket, peer = tcp
    where: list[tuple[int, trio.lowlevel.Task]] = []

    def note(*_: object) -> None:
        where.append((threading.get_ident(), trio.lowlevel.current_task()))

    async with open_initiator():
        socket.begin_send(BIG[:size], callback=note)
        args = SocketAsyncEventArgs(BIG)
        args.completed += note
        assert socket.send_async(args) is True
        assert await read_exactly(peer, size + len(BIG))
        await args.wait()
        await wait_all_tasks_blocked()
    (first, task), (second, same_task) = where
    assert first == second == threading.get_ident()
    assert task is same_task is not trio.lowlevel.current_task()


@pytest.mark.fact("F267", "F268")
async def test_the_context_of_a_start_is_let_go_at_its_end() -> None:
    """Args that wait in a pool keep nothing alive that was in it."""

    class Value:
        pass

    variable: contextvars.ContextVar[Value] = contextvars.ContextVar("variable")
    seen: list[type[Value]] = []
    socket, port = scripted(Blocked())
    args = SocketAsyncEventArgs(b"hello")
    args.completed += lambda *_: seen.append(type(variable.get()))
    async with open_initiator():
        value = Value()
        gone = weakref.ref(value)
        token = variable.set(value)
        assert socket.send_async(args) is True
        variable.reset(token)
        del value, token
        gc.collect()
        assert gone() is not None
        port.unblock()
        await args.wait()
        await wait_all_tasks_blocked()
        gc.collect()
        assert gone() is None
    assert seen == [Value]


# How much is sent -----------------------------------------------------------------------------


@pytest.mark.fact("F167")
@pytest.mark.parametrize("waits", [False, True])
async def test_a_system_call_that_takes_nothing_is_no_end(waits: bool) -> None:
    """A success means all of the message, so it is tried again."""
    socket, port = scripted(0, *[Blocked(0)] * waits, 0, 3, 0)
    async with open_initiator():
        args = SocketAsyncEventArgs(b"0123456789")
        assert socket.send_async(args) is True
        assert args.bytes_transferred == 0
        assert await args.wait() == 10
        assert args.socket_error is SocketError.SUCCESS
    assert port.accepted == b"0123456789"


@pytest.mark.fact("F172")
@every_face
async def test_an_empty_message_tells_of_a_connection_that_is_shut_down(
    tcp: Ends, face: str
) -> None:
    """It is sent like any other, and so finds out."""
    socket, peer = tcp
    socket.shutdown(SocketShutdown.SEND)
    async with open_initiator():
        assert await failure_on_the_spot(face, socket, b"") == (SocketError.SHUTDOWN, 0)
    assert await read_to_end(peer) == b""


@pytest.mark.fact("F169")
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
async def test_signals_do_not_show(tcp: Ends) -> None:
    """Whatever a signal interrupts is taken up again, and nothing is lost or doubled."""
    socket, peer = tcp
    struck = 0

    def strike(*_: object) -> None:
        nonlocal struck
        struck += 1

    previous = signal.signal(signal.SIGALRM, strike)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.0001)
        async with open_initiator():
            while struck < 100:
                args = SocketAsyncEventArgs(BIG)
                assert socket.send_async(args) is True
                assert await read_exactly(peer, len(BIG)) == BIG
                assert await args.wait() == len(BIG)
                assert args.socket_error is SocketError.SUCCESS
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


@pytest.mark.fact("F181")
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has the option in another form")
async def test_the_systems_timeout_for_sending_does_not_apply(tcp: Ends) -> None:
    """It is for calls that block, and there are none."""
    socket, peer = tcp
    socket.setsockopt(
        stdlib_socket.SOL_SOCKET, stdlib_socket.SO_SNDTIMEO, struct.pack("ll", 0, 1000)
    )
    async with open_initiator():
        args = SocketAsyncEventArgs(BIG)
        assert socket.send_async(args) is True
        await trio.sleep(0.02)  # twenty times as long
        assert args.pending
        assert await read_exactly(peer, len(BIG)) == BIG
        assert await args.wait() == len(BIG)


@pytest.mark.fact("F162", "F202")
@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not tell")
async def test_no_socket_blocks_from_the_beginning() -> None:
    """Wherever it comes from, and before anything was started."""
    with closing(Socket()) as listener:
        assert not os.get_blocking(listener.fileno())
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        plain = stdlib_socket.create_connection(listener.local_end_point)
        assert plain.getblocking()
        with closing(Socket.from_stdlib(plain)) as client:
            assert not os.get_blocking(client.fileno())
            with closing(await listener.accept()) as accepted:
                assert not os.get_blocking(accepted.fileno())


# Order ----------------------------------------------------------------------------------------


@pytest.mark.fact("F191", "F192", "F193", "F194")
async def test_messages_of_several_threads_are_never_mixed(tcp: Ends) -> None:
    """Each arrives whole, and those of one thread in its order; big and small ones by turns."""
    socket, peer = tcp
    threads, rounds = 4, 20
    received: list[bytes] = []

    def message(thread: int, number: int) -> bytes:
        size = 9000 if number % 2 else 20
        return bytes([thread, number]) + bytes([16 * thread + number % 16]) * size

    def work(thread: int) -> None:
        results = [
            from_thread.begin_send(socket, message(thread, number)) for number in range(rounds)
        ]
        for number, result in enumerate(results):
            assert from_thread.end_send(result) == len(message(thread, number))

    async def read() -> None:
        for _ in range(threads * rounds):
            head = await read_exactly(peer, 2)
            received.append(head + await read_exactly(peer, len(message(*head)) - 2))

    async with open_initiator(), trio.open_nursery() as nursery:
        nursery.start_soon(read)
        for thread in range(threads):
            nursery.start_soon(trio.to_thread.run_sync, work, thread)
    for thread in range(threads):
        mine = [each for each in received if each[0] == thread]
        assert mine == [message(thread, number) for number in range(rounds)]
    assert nothing_to_read(peer)


# The end --------------------------------------------------------------------------------------


@pytest.mark.fact("F213")
@pytest.mark.parametrize("kind", KINDS[:2])
@pytest.mark.parametrize("lingers", [False, True])
async def test_a_plain_close_leaves_the_rest_to_the_linger_option(kind: str, lingers: bool) -> None:
    """With nothing pending, the library has no reason of its own for a reset."""
    with connected(kind) as (socket, peer):
        if lingers:
            reset_on_close(socket)
        assert await socket.send(b"x") == 1
        assert await read_exactly(peer, 1) == b"x"
        socket.close()
        if lingers:
            with pytest.raises(ConnectionResetError):
                await read_to_end(peer)
        else:
            assert await read_to_end(peer) == b""


# Being cancelled ------------------------------------------------------------------------------


@pytest.mark.fact("F226")
async def test_bad_arguments_and_closed_sockets_come_before_a_cancellation(tcp: Ends) -> None:
    """They are raised without a checkpoint, as everywhere in Trio."""
    socket, peer = tcp
    closed = SocketAsyncEventArgs(b"x")
    closed.close()
    with trio.CancelScope() as scope:
        scope.cancel()
        with assert_no_checkpoints():
            with pytest.raises(TypeError):
                await socket.send(None)  # type: ignore[arg-type]
            with pytest.raises(ValueError, match=r"^args has nothing to send"):
                await socket.send(SocketAsyncEventArgs())
            with pytest.raises(ObjectDisposedError):
                await socket.send(closed)
            socket.close()
            with pytest.raises(ObjectDisposedError):
                await socket.send(b"x")
    assert not scope.cancelled_caught
    assert await read_to_end(peer) == b""


@pytest.mark.fact("F227", "F231")
@pytest.mark.parametrize("with_args", [False, True])
async def test_a_list_is_cancelled_like_anything_else(tcp: Ends, with_args: bool) -> None:
    """With the exact count, and the rest at hand."""
    socket, peer = tcp
    pieces = [BIG[:100_000], BIG[100_000:200_000], b"", BIG[200_000:]]
    args = SocketAsyncEventArgs(buffer_list=pieces)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(socket.send, args if with_args else pieces)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert socket.torn is not None
    count = socket.torn.bytes_transferred
    assert 0 < count < len(BIG)
    assert b"".join(socket.torn.remaining) == BIG[count:]
    if with_args:
        assert args.bytes_transferred == count
        assert args.socket_error is SocketError.OPERATION_ABORTED
    async with trio.open_nursery() as nursery:
        nursery.start_soon(socket.send_rest)
        assert await read_exactly(peer, len(BIG)) == BIG


# Args -----------------------------------------------------------------------------------------


@pytest.mark.fact("F110", "F140")
def test_results_can_only_be_read() -> None:
    """They say how the operation went; nobody else has anything to say there."""
    args: Any = SocketAsyncEventArgs(b"x")
    for name in ("socket_error", "bytes_transferred", "last_operation", "outcome"):
        with pytest.raises(AttributeError):
            setattr(args, name, None)


@pytest.mark.fact("F096")
@pytest.mark.parametrize("face", ["send_async", "send args"])
async def test_args_are_free_after_a_start_that_failed(face: str) -> None:
    """Whatever way it was refused, they can be set and started again."""
    with closing(Socket()) as unconnected, connected("unix") as (socket, peer):
        args = SocketAsyncEventArgs(b"x")
        args.completed += never_called
        async with open_initiator():
            for _ in range(2):
                if face == "send args":
                    with pytest.raises(SocketException):
                        await unconnected.send(args)
                else:
                    assert unconnected.send_async(args) is False
                assert args.socket_error is SocketError.NOT_CONNECTED
                assert not args.pending
            args.set_buffer(b"y")
            assert socket.send_async(args) is False
            assert await read_exactly(peer, 1) == b"y"
