"""Hold a stream that tasks share to telling each of its own message, and to keeping their order after a cut.

Modules: _socket.send_report.
"""

from __future__ import annotations

import gc
import socket as stdlib_socket
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.helpers import BIG, connected, kind as kind, read_exactly, scripted, stdlib_pair, ten
from trio_send import (
    ObjectDisposedError,
    SendReport,
    Socket,
    SocketError,
    SocketException,
    SocketShutdown,
)
from trio_send.testing import Blocked

# What became of whose message ------------------------------------------------------------------


async def test_each_sender_is_told_of_its_own_message(kind: str) -> None:
    """One scope cancels them all, so nothing else tells whose message was cut."""
    with connected(kind) as (socket, peer):
        stream = socket.as_stream(shared=True)
        messages = {name: name.encode() * 300_000 for name in "ABC"}
        reports: dict[str, SendReport | None] = {}

        async def send(name: str) -> None:
            try:
                await stream.send_all(messages[name])
            finally:
                reports[name] = stream.last_send

        async with trio.open_nursery() as nursery:
            for name in messages:
                nursery.start_soon(send, name)
                await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        torn = socket.torn
        assert torn is not None
        for name, report in reports.items():
            assert report is not None
            assert report.size == 300_000
            assert report.bytes_transferred == (torn.bytes_transferred if name == "A" else 0)
            assert b"".join(report.remaining) == messages[name][report.bytes_transferred :]
            error = report.error
            assert isinstance(error, SocketException)
            assert error.error_code == 995
            assert error.bytes_transferred == report.bytes_transferred
            assert "interrupted" in str(error)
        count = torn.bytes_transferred
        assert 0 < count < 300_000
        async with trio.open_nursery() as nursery:
            nursery.start_soon(socket.send_rest)
            assert await read_exactly(peer, 300_000) == messages["A"]
        # The report is about what was, and not about what was done about it.
        assert reports["A"] is not None
        assert reports["A"].bytes_transferred == count
        assert repr(reports["A"]) == f"<SendReport: {count} of 300000 bytes accepted>"


@pytest.mark.parametrize(
    ("script", "error", "code", "count"),
    [
        (["EPIPE"], trio.BrokenResourceError, SocketError.SHUTDOWN, 0),
        ([3, "ECONNRESET"], trio.BrokenResourceError, SocketError.CONNECTION_RESET, 3),
    ],
)
async def test_failures_are_reported_too(
    script: list[Any], error: type[Exception], code: SocketError, count: int
) -> None:
    socket, _ = scripted(*script)
    stream = socket.as_stream()
    with pytest.raises(error):
        await stream.send_all(ten("message"))
    report = stream.last_send
    assert report is not None
    assert (report.size, report.bytes_transferred) == (10, count)
    assert report.error is not None
    assert report.error.socket_error_code is code
    assert b"".join(report.remaining) == ten("message")[count:]


@pytest.mark.parametrize("data", [b"message", bytearray(b"message")])
async def test_so_is_what_never_began(data: Any) -> None:
    """Nothing of it was sent, and the reason is there."""
    left, right = stdlib_pair("unix", tiny=True)
    with right:
        socket = Socket.from_stdlib(left)
        stream = socket.as_stream()

        def check(code: SocketError, kind: type[Exception] = SocketException) -> None:
            report = stream.last_send
            assert report is not None
            assert (report.size, report.bytes_transferred) == (7, 0)
            assert isinstance(report.error, kind)
            assert report.error.socket_error_code is code  # type: ignore[attr-defined]
            assert b"".join(report.remaining) == data

        with trio.CancelScope() as scope:
            scope.cancel()
            await stream.send_all(data)
        check(SocketError.OPERATION_ABORTED)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, BIG)
            await wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError):
                await stream.send_all(data)
            check(SocketError.IN_PROGRESS)
            nursery.cancel_scope.cancel()
        with pytest.raises(trio.BrokenResourceError):
            await stream.send_all(data)  # behind the cut
        check(SocketError.CONNECTION_ABORTED)
        socket.forget_torn()
        socket.shutdown(SocketShutdown.SEND)
        with pytest.raises(trio.ClosedResourceError):
            await stream.send_all(data)
        check(SocketError.SHUTDOWN)
        socket.close()
        with pytest.raises(ObjectDisposedError):
            await stream.send_all(data)
        check(SocketError.OPERATION_ABORTED, ObjectDisposedError)


async def test_a_buffer_that_is_gone_takes_no_cancellation_with_it() -> None:
    """Whoever lends a view may release it while the task is on its way with the cancellation."""
    socket, _ = scripted(1)
    stream = socket.as_stream()
    view = memoryview(bytearray(b"message"))
    me = trio.lowlevel.current_task()

    class Release(trio.abc.Instrument):
        def task_scheduled(self, task: trio.lowlevel.Task) -> None:
            if task is me:
                view.release()

    with trio.CancelScope() as scope:
        scope.cancel()
        release = Release()
        trio.lowlevel.add_instrument(release)
        try:
            await stream.send_all(view)
        finally:
            trio.lowlevel.remove_instrument(release)
    assert scope.cancelled_caught


async def test_a_success_and_a_bad_call() -> None:
    """After a success there is nothing to report; a call that was wrong is none."""
    left, right = stdlib_pair("unix")
    with right:
        socket = Socket.from_stdlib(left)
        stream = socket.as_stream()
        assert stream.last_send is None
        with trio.CancelScope() as scope:
            scope.cancel()
            await stream.send_all(b"never")
        report = stream.last_send
        with pytest.raises(TypeError):
            await stream.send_all(None)  # type: ignore[arg-type]
        assert stream.last_send is report
        await stream.send_all(b"x")
        assert stream.last_send is None
        socket.close()


async def test_other_sends_of_the_task_and_of_other_streams_are_not_mixed_up() -> None:
    """The latest failure of the task on this socket may be that of a send through another face."""
    socket, _ = scripted(3, Blocked())
    stream, other = socket.as_stream(), socket.as_stream()
    data = ten("message")
    async with trio.open_nursery() as nursery:

        async def work() -> None:
            with trio.CancelScope() as scope:
                nursery.start_soon(cancel, scope)
                await socket.send(data)
            assert socket.torn is not None
            with trio.CancelScope() as scope:
                scope.cancel()
                await stream.send_all(data)  # which does not begin
            assert stream.last_send is not None
            assert stream.last_send.bytes_transferred == 0
            assert other.last_send is None

        async def cancel(scope: trio.CancelScope) -> None:
            await wait_all_tasks_blocked()
            scope.cancel()

        nursery.start_soon(work)


async def test_a_report_keeps_no_buffer_locked_and_goes_with_its_task() -> None:
    socket, _ = scripted(3, Blocked())
    stream = socket.as_stream()
    buffer = bytearray(ten("message"))
    reports: list[weakref.ref[Any]] = []

    async def send() -> None:
        try:
            await stream.send_all(buffer)
        finally:
            report = stream.last_send
            assert report is not None
            buffer.append(0)  # or this raises BufferError
            buffer.pop()
            assert bytes(report.remaining[0]) == buffer[3:]
            reports.append(weakref.ref(report._operation))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    socket.forget_torn()
    gc.collect()
    assert reports[0]() is None
    assert stream.last_send is None


# Behind a cut -----------------------------------------------------------------------------------


@pytest.mark.parametrize("attempt", range(10))
async def test_those_that_were_refused_go_on_in_the_order_in_which_they_stood(attempt: int) -> None:
    """Trio runs the tasks of one batch forwards or backwards, as a coin falls."""
    socket, port = scripted(3, Blocked())
    stream = socket.as_stream(shared=True)
    names = ["B", "C", "D", "E", "F"]
    refused: list[str] = []
    scopes: list[trio.CancelScope] = []

    async def first() -> None:
        with trio.CancelScope() as scope:
            scopes.append(scope)
            await stream.send_all(ten("A"))
        socket.forget_torn()

    async def follow(name: str) -> None:
        with pytest.raises(trio.BrokenResourceError, match="has been settled meanwhile"):
            await stream.send_all(ten(name))
        refused.append(name)
        await stream.send_all(ten(name))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(first)
        await wait_all_tasks_blocked()
        for name in names:
            nursery.start_soon(follow, name)
            await wait_all_tasks_blocked()
        scopes[0].cancel()
        await wait_all_tasks_blocked()
        assert refused == names
        nursery.cancel_scope.cancel()
    assert bytes(port.accepted).startswith(ten("A")[:3])


@pytest.mark.parametrize("which", ["B", "C", "D"])
async def test_one_of_them_that_is_cancelled_holds_up_nobody(which: str) -> None:
    socket, _ = scripted(3, Blocked())
    stream = socket.as_stream(shared=True)
    ended: list[str] = []
    scopes: dict[str, trio.CancelScope] = {}

    async def send(name: str) -> None:
        with trio.CancelScope() as scopes[name]:
            try:
                await stream.send_all(ten(name))
            except trio.BrokenResourceError:
                pass
        ended.append(name)

    async with trio.open_nursery() as nursery:
        for name in "ABCD":
            nursery.start_soon(send, name)
            await wait_all_tasks_blocked()
        scopes["A"].cancel()
        # A wakes, is cut, and refuses the others before this task runs again, or after.
        scopes[which].cancel()
    assert sorted(ended) == ["A", "B", "C", "D"]


async def test_what_is_refused_behind_a_cut_that_stands_is_told_of_that() -> None:
    socket, _ = scripted(3, Blocked())
    stream = socket.as_stream(shared=True)
    scopes: list[trio.CancelScope] = []
    told: list[str] = []

    async def first() -> None:
        with trio.CancelScope() as scope:
            scopes.append(scope)
            await stream.send_all(ten("A"))

    async def follow() -> None:
        with pytest.raises(trio.BrokenResourceError) as broken:
            await stream.send_all(ten("B"))
        told.append(str(broken.value))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(first)
        await wait_all_tasks_blocked()
        nursery.start_soon(follow)
        await wait_all_tasks_blocked()
        scopes[0].cancel()
    assert told[0].startswith("a message on this stream was cut after 3 of 10 bytes")


# Like Trio's own --------------------------------------------------------------------------------


def has_no_delay(socket: Socket) -> bool:
    return bool(socket.getsockopt(stdlib_socket.IPPROTO_TCP, stdlib_socket.TCP_NODELAY))


async def test_a_small_message_waits_for_no_acknowledgement() -> None:
    left, right = stdlib_pair("tcp4")
    with right:
        socket = Socket.from_stdlib(left)
        assert not has_no_delay(socket)
        socket.as_stream(no_delay=False)
        assert not has_no_delay(socket)
        socket.as_stream()
        assert has_no_delay(socket)
        socket.as_stream(no_delay=False)
        assert has_no_delay(socket)  # as it was
        socket.close()


async def test_a_connection_that_is_gone_and_a_port_of_ones_own_have_no_such_option() -> None:
    left, right = stdlib_pair("unix")
    with right:
        socket = Socket.from_stdlib(left)
        socket.as_stream()
        socket.close()
    scripted(1)[0].as_stream()


@pytest.mark.parametrize("name", ["getpeername", "getsockname", "fileno"])
async def test_the_names_that_protocols_ask_for(name: str, kind: str) -> None:
    """Servers and protocols look at ``stream.socket`` as if it were one of Trio's."""
    left, right = stdlib_pair(kind)
    with right:
        expected = getattr(left, name)()
        socket = Socket.from_stdlib(left)
        asked: Callable[[], object] = getattr(socket.as_stream().socket, name)
        assert asked() == expected
        socket.close()
        if name != "fileno":
            with pytest.raises(ObjectDisposedError):
                asked()
