"""Every other operation of a socket, started by a thread that does not run Trio."""

from __future__ import annotations

import contextvars
import socket as stdlib_socket
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from tests.helpers import connected, scripted
from tests.worker_threads import KINDS_OF_THREAD, Worker
from trio_send import (
    AsyncResult,
    Initiator,
    InvalidOperationError,
    ManualResetEvent,
    ObjectDisposedError,
    OperationInProgressError,
    SendPacketsElement,
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
    open_tcp_listeners,
    socketpair,
)
from trio_send._threads import any_start
from trio_send.abc import Instrument


@pytest.fixture(params=KINDS_OF_THREAD.values(), ids=KINDS_OF_THREAD.keys())
def run(request: pytest.FixtureRequest) -> Any:
    async def hosted(host: Initiator, function: Callable[..., Any], *arguments: Any) -> Any:
        def work() -> Any:
            with from_thread.initiator(host=host):
                return function(*arguments)

        return await request.param(work)

    return hosted


def through_args(method: Callable[[SocketAsyncEventArgs], bool], args: SocketAsyncEventArgs) -> int:
    """Start an operation of args, wait for its event and return its count, or raise its error."""
    raised = ManualResetEvent()
    args.completed += lambda socket, args: raised.set()
    assert from_thread.start(method, args) is True
    assert from_thread.wait_one(raised, 10)
    assert args.outcome is not None
    return args.outcome.unwrap()


# Each kind of operation -----------------------------------------------------------------------------------------------


def test_every_start_of_a_socket_is_one_here() -> None:
    starts = {
        name
        for name in dir(Socket)
        if name.startswith(("begin_", "try_begin_"))
        or (name.endswith("_async") and name[0] != "_" and name != "cancel_connect_async")
    }
    assert starts == {*any_start._SENDS, *any_start._KINDS}


async def test_a_connection_from_its_begin_to_its_end(run: Any) -> None:
    [listener] = await open_tcp_listeners(0, host="127.0.0.1")
    async with listener, Socket() as client, open_initiator() as host:

        def work() -> None:
            accepting = from_thread.start(listener.socket.begin_accept)
            address = listener.socket.local_end_point
            assert from_thread.end(from_thread.start(client.begin_connect, address)) is None
            server = from_thread.end(accepting)
            assert isinstance(server, Socket)
            buffer = bytearray(10)
            receiving = from_thread.start(server.begin_receive, buffer, 2, size=5)
            assert from_thread.end(from_thread.start(client.begin_send, b"hello, world", 0, 5)) == 5
            assert from_thread.end(receiving) == 5
            assert buffer == b"\0\0hello\0\0\0"
            other, error = from_thread.start(server.try_begin_receive, buffer)
            assert error is SocketError.SUCCESS and other is not None
            sending, error = from_thread.start(client.try_begin_send, b"again")
            assert error is SocketError.SUCCESS and sending is not None
            assert from_thread.end(other) == from_thread.end(sending) == 5
            for method in (client.disconnect_async, server.disconnect_async):
                assert through_args(method, SocketAsyncEventArgs()) == 0
            trio.from_thread.run_sync(server.close, trio_token=token)

        token = trio.lowlevel.current_trio_token()
        await run(host, work)


async def test_a_connection_by_args(run: Any) -> None:
    [listener] = await open_tcp_listeners(0, host="127.0.0.1")
    async with listener, Socket() as client, open_initiator() as host:

        def work() -> None:
            connecting, accepting = SocketAsyncEventArgs(), SocketAsyncEventArgs()
            connecting.remote_end_point = listener.socket.local_end_point
            through_args(client.connect_async, connecting)
            assert connecting.connect_socket is client
            through_args(listener.socket.accept_async, accepting)
            server = accepting.accept_socket
            assert server is not None
            assert through_args(client.send_async, SocketAsyncEventArgs(b"hello")) == 5
            receiving = SocketAsyncEventArgs(bytearray(10))
            assert through_args(server.receive_async, receiving) == 5
            assert receiving.last_operation is SocketAsyncOperation.RECEIVE
            packets = SocketAsyncEventArgs()
            packets.send_packets_elements = [
                SendPacketsElement(b"two "),
                SendPacketsElement(b"parts"),
            ]
            assert through_args(client.send_packets_async, packets) == 9
            assert through_args(server.receive_async, receiving) == 9
            trio.from_thread.run_sync(server.close, trio_token=token)

        token = trio.lowlevel.current_trio_token()
        await run(host, work)


async def test_datagrams(run: Any) -> None:
    async with (
        Socket(type=stdlib_socket.SOCK_DGRAM) as one,
        Socket(type=stdlib_socket.SOCK_DGRAM) as other,
        open_initiator() as host,
    ):
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        here, there = one.local_end_point, other.local_end_point

        def work() -> None:
            buffer = bytearray(10)
            receiving = from_thread.start(other.begin_receive_from, buffer)
            sending = from_thread.start(one.begin_send_to, b"first", remote_end_point=there)
            assert from_thread.end(sending) == 5
            assert from_thread.end(receiving) == (5, here)
            args = SocketAsyncEventArgs(b"second")
            args.remote_end_point = there
            assert through_args(one.send_to_async, args) == 6
            informed = from_thread.start(other.begin_receive_message_from, buffer)
            assert from_thread.end(informed)[:3] == (6, SocketFlags.NONE, here)
            for method in (other.receive_from_async, other.receive_message_from_async):
                through_args(one.send_to_async, args)
                into = SocketAsyncEventArgs(bytearray(10))
                assert through_args(method, into) == 6
                assert into.remote_end_point == here

        await run(host, work)


# What is told, and when -----------------------------------------------------------------------------------------------


async def test_nothing_waits_for_trio_and_everything_is_in_use_at_once() -> None:
    with connected("unix") as (socket, peer):
        async with open_initiator() as host:
            args = SocketAsyncEventArgs(bytearray(10))
            told: list[Any] = []

            def work() -> AsyncResult:
                block.__enter__()
                assert from_thread.start(socket.receive_async, args)
                assert args.pending
                assert args.socket_error is SocketError.IO_PENDING
                with pytest.raises(OperationInProgressError, match="in use"):
                    from_thread.start(socket.receive_async, args)
                with pytest.raises(OperationInProgressError):
                    args.set_buffer(None)
                result = from_thread.start(
                    socket.begin_receive, bytearray(10), callback=told.append, state="mine"
                )
                assert not result.is_completed
                assert result.async_state == "mine"
                return result

            block = from_thread.initiator(host=host)
            worker = Worker(work)
            worker.thread.join()  # Trio stands still meanwhile
            result = worker.take()
            assert args.pending
            with pytest.raises(OperationInProgressError):
                socket.receive_async(args)
            activation = args.activation
            await trio.testing.wait_all_tasks_blocked()
            assert args.activation == activation
            assert not result.is_completed
            peer.send(b"x")
            assert await args.wait() == 1
            peer.send(b"yz")
            assert await socket.end_receive(result) == 2
            assert told == [result]
            assert not result.completed_synchronously


async def test_what_has_come_already_is_told_like_all_else(run: Any) -> None:
    """The method ends on the spot in the Trio thread, and the thread was told that it is pending."""
    with connected("unix") as (socket, peer):
        async with open_initiator() as host:
            peer.send(b"abc")

            def work() -> list[bool]:
                told: list[Any] = []
                done = ManualResetEvent()
                called = [told.append, lambda ar: done.set()]
                results = [
                    from_thread.start(socket.begin_receive, bytearray(1), callback=each)
                    for each in (*called, None)
                ]
                assert [from_thread.end(each) for each in results] == [1, 1, 1]
                assert from_thread.wait_one(done, 10)
                assert told == results[:1]
                return [each.completed_synchronously for each in results]

            assert await run(host, work) == [False, False, False]


async def test_the_errors_of_the_call_are_told_in_the_end(run: Any) -> None:
    socket, _ = scripted()
    fresh = Socket()
    async with open_initiator() as host:

        def code_of(method: Callable[..., AsyncResult], *arguments: Any) -> SocketException:
            result = from_thread.start(method, *arguments)
            with pytest.raises(SocketException) as caught:
                from_thread.end(result)
            return caught.value

        def work() -> None:
            error = code_of(fresh.begin_receive, b"read-only")
            assert error.socket_error_code is SocketError.INVALID_ARGUMENT
            assert "must be writable" in str(error)
            error = code_of(fresh.begin_accept)
            assert error.socket_error_code is SocketError.SOCKET_ERROR
            assert "does not listen" in str(error)
            error = code_of(fresh.begin_receive, bytearray(1))
            assert error.socket_error_code is SocketError.NOT_CONNECTED
            error = code_of(socket.begin_receive, bytearray(1))
            assert error.socket_error_code is SocketError.OPERATION_NOT_SUPPORTED
            args = SocketAsyncEventArgs()
            with pytest.raises(SocketException, match="nothing to receive into"):
                through_args(fresh.receive_async, args)
            assert args.socket_error is SocketError.INVALID_ARGUMENT
            assert not args.pending

        await run(host, work)
    fresh.close()


async def test_a_callback_is_told_of_a_failure_too(run: Any) -> None:
    async with Socket() as fresh, open_initiator() as host:
        told: list[AsyncResult] = []
        result = await run(
            host, partial(from_thread.start, fresh.begin_accept, callback=told.append)
        )
        assert told == [result]
        with pytest.raises(SocketException, match="does not listen"):
            fresh.end_accept_nowait(result)


async def test_what_can_be_seen_from_the_thread_is_told_at_once(run: Any) -> None:
    ours, other = socketpair()
    async with open_initiator() as host:

        def work() -> None:
            for wrong in (print, Socket.begin_accept, ours.receive, ours.close, None, "x"):
                with pytest.raises(TypeError, match=r"must be one of a trio_send\.Socket that"):
                    from_thread.start(wrong)  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="missing"):
                from_thread.start(ours.begin_receive)  # type: ignore[call-arg]
            with pytest.raises(TypeError, match="callback must be a function"):
                from_thread.start(ours.begin_accept, 5)  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="args must be"):
                from_thread.start(ours.receive_async, b"x")  # type: ignore[arg-type]
            closed = SocketAsyncEventArgs(bytearray(1))
            closed.close()
            with pytest.raises(ObjectDisposedError):
                from_thread.start(ours.receive_async, closed)
            trio.from_thread.run_sync(other.close, trio_token=token)
            with pytest.raises(ObjectDisposedError):
                from_thread.start(other.begin_receive, bytearray(1))
            with pytest.raises(TypeError, match="result is None"):
                from_thread.end(None)  # type: ignore[arg-type]
            with pytest.raises(ValueError, match=r"what start\(\) returned"):
                from_thread.end("x")  # type: ignore[arg-type]

        token = trio.lowlevel.current_trio_token()
        await run(host, work)
    ours.close()


async def test_in_the_trio_thread_it_says_what_to_call() -> None:
    async with Socket() as socket, open_initiator():
        with pytest.raises(InvalidOperationError, match=r"call socket\.begin_accept\(\)"):
            from_thread.start(socket.begin_accept)
        with pytest.raises(InvalidOperationError, match="await the end method"):
            from_thread.end(None)  # type: ignore[arg-type]


async def test_without_a_host() -> None:
    async with Socket() as socket:
        with pytest.raises(InvalidOperationError, match=r"host= to from_thread.start\(\)"):
            await trio.to_thread.run_sync(from_thread.start, socket.begin_accept)


# Who ends it ----------------------------------------------------------------------------------------------------------


async def test_it_ends_with_its_thread_and_with_its_host(run: Any) -> None:
    with connected("unix") as (socket, _):
        async with open_initiator() as host:
            result = await run(host, partial(from_thread.start, socket.begin_receive, bytearray(1)))
            with pytest.raises(SocketException) as caught:
                socket.end_receive_nowait(result)
            assert caught.value.socket_error_code is SocketError.OPERATION_ABORTED
        started = threading.Event()

        def work(host: Initiator) -> None:
            with from_thread.initiator(host=host):
                result = from_thread.start(socket.begin_receive, bytearray(1))
                started.set()
                from_thread.end(result)

        async with open_initiator() as host:
            worker = Worker(work, host)
            await trio.to_thread.run_sync(started.wait)
        with pytest.raises(SocketException) as caught:
            await worker.join()
        assert caught.value.socket_error_code is SocketError.OPERATION_ABORTED


async def test_it_can_be_stopped_also_on_its_way(run: Any) -> None:
    with connected("unix") as (socket, peer):
        async with open_initiator() as host:

            def work() -> None:
                result = from_thread.start(socket.begin_receive, bytearray(1))
                from_thread.cancel(result, "no more")
                with pytest.raises(SocketException, match="no more"):
                    from_thread.end(result)

            await run(host, work)
            peer.send(b"x")
            assert await socket.receive() == b"x"


async def test_a_socket_that_is_closed_while_the_start_is_on_its_way(run: Any) -> None:
    ours, other = socketpair()
    async with open_initiator() as host:
        block = from_thread.initiator(host=host)

        def work() -> AsyncResult:
            block.__enter__()
            return from_thread.start(ours.begin_receive, bytearray(1))

        worker = Worker(work)
        worker.thread.join()
        ours.close()
        result = worker.take()
        with pytest.raises(ObjectDisposedError, match="closed while"):
            await trio.to_thread.run_sync(from_thread.end, result)
    other.close()


async def test_who_watches_sees_what_was_started_and_nothing_else(run: Any) -> None:
    seen: list[str] = []

    class Watcher(Instrument):
        def operation_started(self, operation: TracedOperation) -> None:
            seen.append("started")

        def operation_completed(
            self, operation: TracedOperation, error: SocketError, *_: Any
        ) -> None:
            seen.append(error.name)

        def event_raised(self, operation: TracedOperation) -> None:
            seen.append("raised")

    with connected("unix") as (socket, peer), add_instrument(Watcher()):
        async with open_initiator() as host:
            peer.send(b"abc")
            args = SocketAsyncEventArgs(bytearray(1))

            def work() -> None:
                assert through_args(socket.receive_async, args) == 1
                args.set_buffer(None)
                with pytest.raises(SocketException):
                    through_args(socket.receive_async, args)

            await run(host, work)
    assert seen == ["started", "SUCCESS", "raised"]


async def test_handlers_run_in_the_context_of_the_start_and_are_told_the_socket(run: Any) -> None:
    """Also if the operation ended on the spot in the Trio thread."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    with connected("unix") as (socket, peer):
        async with open_initiator() as host:
            peer.send(b"ab")
            seen: list[Any] = []
            args = SocketAsyncEventArgs(bytearray(1))
            args.completed += lambda socket, args: seen.extend([socket, variable.get(None)])

            def work() -> None:
                variable.set("the thread's")
                assert through_args(socket.receive_async, args) == 1
                result = from_thread.start(
                    socket.begin_receive,
                    bytearray(1),
                    callback=lambda ar: seen.append(variable.get(None)),
                )
                assert from_thread.end(result) == 1

            await run(host, work)
    assert seen == [socket, "the thread's", "the thread's"]
