"""Hold tracing to the order in which things happened, and to costing nothing when nobody watches.

Modules: _tracing.instruments, abc.
"""

from __future__ import annotations

import gc
import logging
import socket as stdlib_socket
import weakref
from typing import Any

import pytest
import trio
from hypothesis import given, strategies as st
from trio.testing import wait_all_tasks_blocked

from tests.helpers import BIG, connected, read_exactly, scripted
from tests.scripted import SpyPort, run_virtual
from trio_send import (
    InvalidOperationError,
    Socket,
    SocketAsyncEventArgs,
    SocketAsyncOperation,
    SocketError,
    SocketException,
    SocketFlags,
    TracedOperation,
    add_instrument,
    open_initiator,
    remove_instrument,
    socketpair,
)
from trio_send._owners.exiting_owner import START_BUDGET
from trio_send.abc import Instrument
from trio_send.testing import Blocked

SUCCESS = SocketError.SUCCESS
ABORTED = SocketError.OPERATION_ABORTED


class Recorder(Instrument):
    """Writes down each event as a short tuple; operations by their number."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.operations: dict[int, TracedOperation] = {}

    def operation_started(self, operation: TracedOperation) -> None:
        self.operations[operation.number] = operation
        self.events.append(("started", operation.number, operation.size))

    def operation_queued(self, operation: TracedOperation, ahead: int) -> None:
        self.events.append(("queued", operation.number, ahead))

    def bytes_accepted(self, operation: TracedOperation, count: int, total: int) -> None:
        self.events.append(("accepted", operation.number, count, total))

    def operation_completed(
        self,
        operation: TracedOperation,
        error: SocketError,
        count: int,
        queue_delay: float | None,
        detail: str | None,
    ) -> None:
        self.events.append(("completed", operation.number, error, count, queue_delay))

    def event_raised(self, operation: TracedOperation) -> None:
        self.events.append(("raised", operation.number))

    def socket_closed(self, socket_id: int, reset: bool) -> None:
        self.events.append(("closed", socket_id, reset))


def args_of(size: int) -> SocketAsyncEventArgs:
    return SocketAsyncEventArgs(bytes(size))


# The order of events --------------------------------------------------------------------------


@pytest.mark.fact("F274")
async def test_a_send_that_ends_on_the_spot(autojump_clock: Any) -> None:
    socket, _ = scripted()
    recorder = Recorder()
    async with open_initiator():
        with add_instrument(recorder):
            args = args_of(10)
            assert socket.send_async(args) is False
            assert socket.send_async(args) is False
    assert recorder.events == [
        ("started", 1, 10),
        ("accepted", 1, 10, 10),
        ("completed", 1, SUCCESS, 10, 0.0),
        ("started", 2, 10),
        ("accepted", 2, 10, 10),
        ("completed", 2, SUCCESS, 10, 0.0),
    ]


@pytest.mark.page("B46")
@pytest.mark.fact("F274")
async def test_a_send_that_goes_in_three_parts_and_waits_twice(autojump_clock: Any) -> None:
    socket, _ = scripted(3, Blocked(2.0), 4, Blocked(0.5))
    recorder = Recorder()
    add_instrument(recorder)
    async with open_initiator():
        args = args_of(10)
        args.completed += lambda *_: recorder.events.append(("handler",))
        assert socket.send_async(args) is True
        assert recorder.events == [("started", 1, 10), ("accepted", 1, 3, 3), ("queued", 1, 0)]
        await args.wait()
    assert recorder.events[3:] == [
        ("accepted", 1, 4, 7),
        ("accepted", 1, 3, 10),
        ("completed", 1, SUCCESS, 10, 2.5),
        ("raised", 1),
        ("handler",),
    ]


async def test_followers_that_share_a_system_call(autojump_clock: Any) -> None:
    socket, port = scripted(Blocked(1.0), 25)
    recorder = Recorder()
    add_instrument(recorder)
    async with open_initiator():
        operations = [args_of(10) for _ in range(3)]
        for each in operations:
            assert socket.send_async(each) is True
        await operations[-1].wait()
    assert port.messages == [bytes(25), bytes(5)]
    assert recorder.events == [
        ("started", 1, 10),
        ("queued", 1, 0),
        ("started", 2, 10),
        ("queued", 2, 1),
        ("started", 3, 10),
        ("queued", 3, 2),
        ("accepted", 1, 10, 10),
        ("completed", 1, SUCCESS, 10, 1.0),
        ("accepted", 2, 10, 10),
        ("completed", 2, SUCCESS, 10, 1.0),
        ("accepted", 3, 5, 5),
        ("accepted", 3, 5, 10),
        ("completed", 3, SUCCESS, 10, 1.0),
        ("raised", 1),
        ("raised", 2),
        ("raised", 3),
    ]


async def test_a_cancel_that_cuts_and_the_follower_behind_it(autojump_clock: Any) -> None:
    socket, _ = scripted(3, Blocked())
    recorder = Recorder()
    add_instrument(recorder)
    async with open_initiator():
        first, second = args_of(10), args_of(20)
        assert socket.send_async(first) is True
        assert socket.send_async(second) is True
        await trio.sleep(1.5)
        del recorder.events[:]
        first.cancel()
        assert recorder.events == [
            ("completed", 1, ABORTED, 3, 1.5),
            ("completed", 2, SocketError.CONNECTION_ABORTED, 0, 1.5),
        ]
        await second.wait()
        assert recorder.events[2:] == [("raised", 1), ("raised", 2)]
        del recorder.events[:]
        # A start that the torn stream refuses, and the resumption.
        assert socket.send_async(second) is False
        assert socket.resume(first) is True
    assert recorder.events[:4] == [
        ("started", 3, 20),
        ("completed", 3, SocketError.CONNECTION_ABORTED, 0, 0.0),
        ("started", 4, 10),
        ("queued", 4, 0),
    ]
    assert recorder.operations[4].accepted_before == 3


async def test_an_awaited_send_has_no_event(autojump_clock: Any) -> None:
    socket, port = scripted(3, Blocked(1.0))
    recorder = Recorder()
    add_instrument(recorder)
    assert await socket.send(bytes(10)) == 10
    assert await socket.send(bytes(4)) == 4
    assert recorder.events == [
        ("started", 1, 10),
        ("accepted", 1, 3, 3),
        ("queued", 1, 0),
        ("accepted", 1, 7, 10),
        ("completed", 1, SUCCESS, 10, 1.0),
        ("started", 2, 4),
        ("accepted", 2, 4, 4),
        ("completed", 2, SUCCESS, 4, 0.0),
    ]
    assert recorder.operations[1].operation is None
    del recorder.events[:]
    port.add(1, Blocked())
    with trio.move_on_after(1):
        await socket.send(bytes(10))
    port.unblock()
    assert await socket.send_rest() == 9
    assert recorder.events == [
        ("started", 3, 10),
        ("accepted", 3, 1, 1),
        ("queued", 3, 0),
        ("completed", 3, ABORTED, 1, 1.0),
        ("started", 4, 9),  # nobody holds the operation that was cut, so its rest is another one
        ("accepted", 4, 9, 9),
        ("completed", 4, SUCCESS, 9, 0.0),
    ]


async def test_a_send_that_is_cancelled_before_it_began_is_no_operation() -> None:
    socket, _ = scripted()
    recorder = Recorder()
    with add_instrument(recorder), trio.CancelScope() as scope:
        scope.cancel()
        await socket.send(b"never")
    assert recorder.events == []


async def test_begin_and_end_with_and_without_a_callback(autojump_clock: Any) -> None:
    socket, port = scripted()
    recorder = Recorder()
    add_instrument(recorder)
    async with open_initiator():
        assert socket.end_send_nowait(socket.begin_send(bytes(5))) == 5
        result = socket.begin_send(
            bytes(6), callback=lambda _: recorder.events.append(("callback",))
        )
        assert recorder.operations[2].operation is result
        await socket.end_send(result)
        await wait_all_tasks_blocked()
        port.add(2, Blocked(1.0))
        assert await socket.end_send(socket.begin_send([b"abc", b"defg"])) == 7
    assert recorder.events == [
        ("started", 1, 5),
        ("accepted", 1, 5, 5),
        ("completed", 1, SUCCESS, 5, 0.0),
        ("started", 2, 6),
        ("accepted", 2, 6, 6),
        ("completed", 2, SUCCESS, 6, 0.0),
        ("raised", 2),
        ("callback",),
        ("started", 3, 7),
        ("accepted", 3, 2, 2),
        ("queued", 3, 0),
        ("accepted", 3, 5, 7),
        ("completed", 3, SUCCESS, 7, 1.0),
        ("raised", 3),
    ]


async def test_a_start_that_is_answered_pending_although_it_is_done() -> None:
    """The budget counts on while somebody watches, so the loop of a sender that is watched yields as often."""
    socket, _ = scripted()
    recorder = Recorder()
    async with open_initiator():
        args = args_of(1)
        for _ in range(100):
            assert socket.send_async(args) is False
        add_instrument(recorder)
        for _ in range(START_BUDGET - 101):
            assert socket.send_async(args) is False
        remove_instrument(recorder)
        assert socket.send_async(args) is False
        add_instrument(recorder)
        del recorder.events[:]
        assert socket.send_async(args) is True
        assert [event[0] for event in recorder.events] == ["started", "accepted", "completed"]
        assert recorder.events[-1][2:] == (SUCCESS, 1, 0.0)
        await args.wait()
        assert recorder.events[-1][0] == "raised"
        for _ in range(START_BUDGET):
            assert socket.send_async(args) is False
        assert socket.send_async(args) is True


async def test_a_connection_that_breaks_ends_what_waits(autojump_clock: Any) -> None:
    socket, _ = scripted(4, Blocked(1.0), "ECONNRESET")
    recorder = Recorder()
    add_instrument(recorder)
    async with open_initiator():
        first, second = args_of(10), args_of(20)
        socket.send_async(first)
        socket.send_async(second)
        await second.wait()
        assert socket.send_async(first) is False
    reset = SocketError.CONNECTION_RESET
    assert recorder.events == [
        ("started", 1, 10),
        ("accepted", 1, 4, 4),
        ("queued", 1, 0),
        ("started", 2, 20),
        ("queued", 2, 1),
        ("completed", 1, reset, 4, 1.0),
        ("completed", 2, reset, 0, 1.0),
        ("raised", 1),
        ("raised", 2),
        ("started", 3, 10),
        ("completed", 3, reset, 0, 0.0),
    ]


@pytest.mark.parametrize("face", ["send_async", "begin_send", "send"])
async def test_what_fails_on_the_spot(face: str) -> None:
    socket, _ = scripted("EPIPE")
    recorder = Recorder()
    add_instrument(recorder)
    async with open_initiator():
        if face == "send_async":
            assert socket.send_async(args_of(10)) is False
        elif face == "begin_send":
            with pytest.raises(SocketException):
                socket.begin_send(bytes(10))
        else:
            with pytest.raises(SocketException):
                await socket.send(bytes(10))
    assert recorder.events == [
        ("started", 1, 10),
        ("completed", 1, SocketError.SHUTDOWN, 0, 0.0),
    ]


async def test_refused_starts_are_told_of_if_they_are_answered_and_not_if_they_raise() -> None:
    recorder = Recorder()
    add_instrument(recorder)
    socket, _ = scripted()
    flags = SocketAsyncEventArgs(bytes(3))
    flags.socket_flags = SocketFlags.PARTIAL
    async with open_initiator() as initiator:
        with pytest.raises(ValueError, match="has nothing to send"):
            socket.send_async(SocketAsyncEventArgs())
        assert recorder.events == []
        assert socket.send_async(flags) is False
        unsupported = ("completed", 1, SocketError.OPERATION_NOT_SUPPORTED, 0, 0.0)
        assert recorder.events == [("started", 1, 3), unsupported]
        del recorder.events[:]
        initiator.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await wait_all_tasks_blocked()
        assert socket.send_async(args_of(4)) is False
        assert recorder.events == [("started", 2, 4), ("completed", 2, ABORTED, 0, 0.0)]


async def test_leaving_and_closing(autojump_clock: Any) -> None:
    left, _ = scripted(2, Blocked())
    closed, _ = scripted(2, Blocked())
    recorder = Recorder()
    add_instrument(recorder)
    async with open_initiator():
        left.send_async(args_of(10))
        closed.send_async(args_of(10))
        del recorder.events[:]
        closed.close()
        assert recorder.events == [("completed", 2, ABORTED, 2, 0.0), ("closed", 2, True)]
        closed.close()
        del recorder.events[:]
    assert recorder.events == [("completed", 1, ABORTED, 2, 0.0), ("raised", 2), ("raised", 1)]
    await left.aclose()
    assert recorder.events[3:] == [("closed", 1, True)]


async def test_an_orderly_close_is_a_close_without_a_reset() -> None:
    left, right = socketpair()
    recorder = Recorder()
    add_instrument(recorder)
    await left.send(b"x")
    await left.aclose()
    assert recorder.events[3:] == [("closed", 1, False)]
    right.close()  # was never used in this run, so it has no number and nobody is told
    assert len(recorder.events) == 4


# Connect, accept, receive -----------------------------------------------------------------------


@pytest.mark.fact("F278", "F280")
async def test_connect_accept_and_receive() -> None:
    recorder = Recorder()
    add_instrument(recorder)
    async with Socket() as listener, Socket() as client:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        address = listener.local_end_point
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.connect, address)
            served = await listener.accept()
        async with served:
            await served.send(b"hello")
            assert await client.receive() == b"hello"
            peer = client.local_end_point
    by_kind = {each.kind: each for each in recorder.operations.values()}
    connect, accept = by_kind[SocketAsyncOperation.CONNECT], by_kind[SocketAsyncOperation.ACCEPT]
    send, receive = by_kind[SocketAsyncOperation.SEND], by_kind[SocketAsyncOperation.RECEIVE]
    assert (connect.address, connect.size, connect.is_stream) == (address, 0, True)
    assert accept.address == peer
    assert send.socket_id not in (connect.socket_id, accept.socket_id)
    assert receive.socket_id == connect.socket_id != accept.socket_id
    completed = {event[1]: event[2:4] for event in recorder.events if event[0] == "completed"}
    assert completed == {
        connect.number: (SUCCESS, 0),
        accept.number: (SUCCESS, 0),
        send.number: (SUCCESS, 5),
        receive.number: (SUCCESS, 5),
    }
    assert [event[2] for event in recorder.events if event[0] == "closed"] == [False] * 3


async def test_receives_tell_the_room_and_what_came_into_it() -> None:
    recorder = Recorder()
    left, right = socketpair()
    await left.send(b"hello")
    add_instrument(recorder)
    async with left, right, open_initiator():
        args = SocketAsyncEventArgs(bytearray(4))
        assert right.receive_async(args) is False
        assert recorder.events == [("started", 1, 4), ("completed", 1, SUCCESS, 4, 0.0)]
        assert recorder.operations[1].peek(1, 2) == b"el"
        assert right.receive_async(args) is False
        assert recorder.operations[2].peek(0, 1) == b"o"
        del recorder.events[:]
        assert right.receive_async(args) is True
        assert recorder.events == [("started", 3, 4), ("queued", 3, 0)]
        args.cancel()
        await args.wait()
        assert recorder.events[2][:4] == ("completed", 3, ABORTED, 0)
        assert recorder.events[3:] == [("raised", 3)]
        del recorder.events[:]
    async with Socket() as alone:
        with pytest.raises(SocketException):
            await alone.receive()
    assert recorder.events[-3:-1] == [
        ("started", 4, 0),
        ("completed", 4, SocketError.NOT_CONNECTED, 0, 0.0),
    ]


async def test_an_accepted_socket_is_of_the_run_before_it_is_used() -> None:
    recorder = Recorder()
    add_instrument(recorder)
    with stdlib_socket.socket() as client:
        async with Socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            client.connect(listener.local_end_point)
            (await listener.accept()).close()
    assert recorder.events[-2:] == [("closed", 2, False), ("closed", 1, False)]


@pytest.mark.fact("F280")
async def test_a_connect_that_fails_and_its_other_faces() -> None:
    with stdlib_socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = nobody.getsockname()
        recorder = Recorder()
        add_instrument(recorder)
        async with open_initiator():
            args = SocketAsyncEventArgs()
            args.remote_end_point = address
            socket, other = Socket(), Socket()
            if socket.connect_async(args):
                await args.wait()
            with pytest.raises(SocketException):
                await other.end_connect(other.begin_connect(address))
            socket.close()
            other.close()
    refused = SocketError.CONNECTION_REFUSED
    ends = [event[2] for event in recorder.events if event[0] == "completed"]
    assert ends == [refused, refused]
    assert {each.kind for each in recorder.operations.values()} == {SocketAsyncOperation.CONNECT}


async def test_datagrams_say_that_they_are_datagrams(autojump_clock: Any) -> None:
    socket, _ = scripted(is_stream=False)
    recorder = Recorder()
    add_instrument(recorder)
    await socket.send(b"")
    assert recorder.events == [
        ("started", 1, 0),
        ("accepted", 1, 0, 0),
        ("completed", 1, SUCCESS, 0, 0.0),
    ]
    assert recorder.operations[1].is_stream is False
    assert recorder.operations[1].datagrams == 1


async def test_a_batch_of_datagrams_is_one_operation(autojump_clock: Any) -> None:
    socket, _ = scripted(2, 0, Blocked(1.0), 3, "EHOSTUNREACH", is_stream=False)
    recorder = Recorder()
    add_instrument(recorder)
    with pytest.raises(SocketException):
        await socket.send_datagrams([b"ab", b"", b"cde", b"f", b"g"])
    host = SocketError.HOST_UNREACHABLE
    assert recorder.events == [
        ("started", 1, 7),
        ("accepted", 1, 2, 2),
        ("accepted", 1, 0, 2),
        ("queued", 1, 0),
        ("accepted", 1, 3, 5),
        ("completed", 1, host, 5, 1.0),
    ]
    assert recorder.operations[1].datagrams == 3


async def test_peek_takes_a_batch_of_datagrams_as_one(autojump_clock: Any) -> None:
    class Peeker(Recorder):
        def bytes_accepted(self, operation: TracedOperation, count: int, total: int) -> None:
            self.events.append((operation.peek(total - count, count),))

    socket, _ = scripted(is_stream=False)
    peeker = Peeker()
    add_instrument(peeker)
    await socket.send_datagrams([b"ab", bytearray(b"cd")])
    assert [event[0] for event in peeker.events[1:3]] == [b"ab", b"cd"]


async def test_a_connect_with_a_first_message() -> None:
    """One operation, whose bytes are accepted when it is connected; until then they are queued."""
    recorder = Recorder()
    with stdlib_socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        async with Socket() as client, open_initiator():
            add_instrument(recorder)
            args = SocketAsyncEventArgs(b"hello")
            args.remote_end_point = listener.getsockname()
            pending = client.connect_async(args)
            assert client.queued_bytes == (5 if pending else 0)
            await args.wait()
            assert client.queued_bytes == 0
            remove_instrument(recorder)
    (connect,) = recorder.operations.values()
    assert (connect.kind, connect.size) == (SocketAsyncOperation.CONNECT, 5)
    assert ("accepted", 1, 5, 5) in recorder.events
    assert recorder.events[0] == ("started", 1, 5)


async def test_a_file_is_told_of_like_any_message(tmp_path: Any) -> None:
    file = tmp_path / "file"
    file.write_bytes(BIG)
    recorder = Recorder()
    add_instrument(recorder)
    with connected("unix") as (socket, peer):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(socket.send_file, file)
            assert await read_exactly(peer, len(BIG)) == BIG
    (send,) = recorder.operations.values()
    assert (send.kind, send.size) == (SocketAsyncOperation.SEND_PACKETS, len(BIG))
    assert sum(event[2] for event in recorder.events if event[0] == "accepted") == len(BIG)


# Who watches, and when --------------------------------------------------------------------------


@pytest.mark.page("B46")
@pytest.mark.fact("F283")
async def test_nobody_is_called_and_the_fast_path_is_taken_when_nobody_watches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    socket, port = scripted()
    slow: list[SocketAsyncEventArgs] = []
    original = Socket._send_async

    def note(self: Socket, args: SocketAsyncEventArgs) -> bool:
        slow.append(args)
        return original(self, args)

    monkeypatch.setattr(Socket, "_send_async", note)
    recorder = Recorder()
    args = args_of(1)
    async with open_initiator():
        socket.send_async(args)  # finds the initiator
        del slow[:]
        assert socket.send_async(args) is False
        assert slow == []
        with add_instrument(recorder) as watcher:
            assert watcher is recorder
            assert socket.send_async(args) is False
            assert slow == [args]
            del slow[:]
            async with open_initiator():  # opened while somebody watches
                for _ in range(3):
                    assert socket.send_async(args) is False
                assert slow == [args] * 3
        told = len(recorder.events)
        assert told == 4 * 3
        socket.send_async(args)  # finds the outer initiator again
        del slow[:]
        for _ in range(3):
            assert socket.send_async(args) is False
        assert slow == []
        assert args._operation.trace.number == 4
    assert len(recorder.events) == told
    assert port.attempts == 10


async def test_two_instruments_and_the_last_one_that_leaves() -> None:
    socket, _ = scripted()
    first, second = Recorder(), Recorder()
    async with open_initiator():
        add_instrument(first)
        add_instrument(first)  # once more does nothing
        add_instrument(second)
        socket.send_async(args_of(1))
        assert first.events == second.events
        assert len(first.events) == 3
        remove_instrument(first)
        socket.send_async(args_of(1))
        assert (len(first.events), len(second.events)) == (3, 6)
        remove_instrument(second)
        socket.send_async(args_of(1))
        assert (len(first.events), len(second.events)) == (3, 6)
        with pytest.raises(KeyError):
            remove_instrument(second)


async def test_what_is_pending_already_is_seen_from_then_on(autojump_clock: Any) -> None:
    socket, _ = scripted(3, Blocked(1.0), 4, Blocked(1.0))
    recorder = Recorder()
    async with open_initiator():
        args = args_of(10)
        assert socket.send_async(args) is True
        add_instrument(recorder)
        await args.wait()
    assert recorder.events == [
        ("accepted", 1, 4, 7),
        ("accepted", 1, 3, 10),
        ("completed", 1, SUCCESS, 10, None),
        ("raised", 1),
    ]
    assert recorder.operations == {}


async def test_what_was_accepted_before_anybody_watched_is_told_apart(autojump_clock: Any) -> None:
    class Late(Recorder):
        def bytes_accepted(self, operation: TracedOperation, count: int, total: int) -> None:
            self.events.append((operation.accepted_before, count, total))

    socket, _ = scripted(3, Blocked(1.0), 4, Blocked(1.0))
    recorder = Late()
    async with open_initiator():
        args = args_of(10)
        assert socket.send_async(args) is True
        add_instrument(recorder)
        await args.wait()
    assert recorder.events[:2] == [(3, 4, 7), (3, 3, 10)]


async def test_a_send_that_pends_does_not_open_the_fast_path_to_later_ones(
    autojump_clock: Any,
) -> None:
    socket, _ = scripted(Blocked(1.0))
    recorder = Recorder()
    async with open_initiator():
        add_instrument(recorder)
        args = args_of(10)
        assert socket.send_async(args) is True
        await args.wait()
        del recorder.events[:]
        assert socket.send_async(args) is False
        assert len(recorder.events) == 3


async def test_the_last_instrument_that_leaves_opens_no_way_out_of_a_stop() -> None:
    socket, port = scripted()
    args = args_of(10)
    async with open_initiator() as initiator:
        assert socket.send_async(args) is False
        with add_instrument(Recorder()):
            initiator.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await wait_all_tasks_blocked()
        assert socket.send_async(args) is False
        assert args.socket_error is ABORTED
    assert port.attempts == 1


async def test_a_number_of_an_earlier_watch_is_not_taken_for_that_of_a_later_operation(
    autojump_clock: Any,
) -> None:
    socket, _ = scripted(10, 3, Blocked(1.0))
    recorder = Recorder()
    async with open_initiator():
        args = args_of(10)
        with add_instrument(recorder):
            socket.send_async(args)
        assert socket.send_async(args) is True
        del recorder.events[:]
        with add_instrument(recorder):
            await args.wait()
    assert recorder.events == [
        ("accepted", 2, 7, 10),
        ("completed", 2, SUCCESS, 10, None),
        ("raised", 2),
    ]


def test_each_run_has_its_own() -> None:
    recorder = Recorder()
    sockets = []

    async def first() -> None:
        add_instrument(recorder)
        left, right = socketpair()
        await left.send(b"x")
        sockets.extend([left, right])

    async def second() -> None:
        left, right = socketpair()
        await left.send(b"x")
        left.close()
        right.close()
        with pytest.raises(KeyError):
            remove_instrument(recorder)

    trio.run(first)
    told = list(recorder.events)
    assert len(told) == 3
    trio.run(second)
    for each in sockets:
        each.close()
    assert recorder.events == told
    with pytest.raises(InvalidOperationError, match="watches one call"):
        add_instrument(recorder)
    with pytest.raises(InvalidOperationError, match="watches one call"):
        remove_instrument(recorder)


async def test_only_an_instrument_can_watch() -> None:
    with pytest.raises(TypeError, match=r"must be a trio_send\.abc\.Instrument, not list"):
        add_instrument([])  # type: ignore[arg-type]


# Hooks that misbehave ---------------------------------------------------------------------------

HOOKS = (
    "operation_started",
    "operation_queued",
    "bytes_accepted",
    "operation_completed",
    "event_raised",
)


@pytest.mark.parametrize("hook", [*HOOKS, "socket_closed"])
@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
async def test_a_hook_that_raises_is_logged_and_loses_nothing(
    hook: str, kind: type[BaseException], autojump_clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    socket, port = scripted(3, Blocked(1.0), 4, Blocked(1.0))
    recorder, bad = Recorder(), Recorder()

    def fail(*_: object) -> None:
        raise kind("boom")

    setattr(bad, hook, fail)
    add_instrument(bad)
    add_instrument(recorder)
    told = []
    async with open_initiator():
        args, other = args_of(10), args_of(5)
        for each in (args, other):
            each.completed += lambda _, done: told.append(done)
            socket.send_async(each)
        await other.wait()
        socket.close()
    assert told == [args, other]
    assert (args.bytes_transferred, other.bytes_transferred) == (10, 5)
    assert len(port.accepted) == 15
    assert len(recorder.events) == 13
    (record,) = caplog.records
    assert record.name == "trio_send"
    assert record.levelno == logging.ERROR
    assert hook in record.getMessage()
    assert record.exc_info is not None
    with pytest.raises(KeyError):
        remove_instrument(bad)
    remove_instrument(recorder)


class Meddler(Recorder):
    """Does at an event what no instrument should."""

    def __init__(self, when: str, deed: Any) -> None:
        super().__init__()
        self.when = when
        self.deed = deed

    def bytes_accepted(self, operation: TracedOperation, count: int, total: int) -> None:
        super().bytes_accepted(operation, count, total)
        if self.when == "accepted":
            self.when = ""
            self.deed()

    def operation_completed(self, operation: TracedOperation, *rest: Any) -> None:
        super().operation_completed(operation, *rest)
        if self.when == "completed":
            self.when = ""
            self.deed()


@pytest.mark.parametrize("when", ["accepted", "completed"])
@pytest.mark.parametrize("deed", ["cancel last", "cancel first", "close", "start", "leave"])
def test_a_hook_that_meddles_makes_no_count_wrong(when: str, deed: str) -> None:
    """It acts on a queue whose accounts are settled, so what it stops was not sent."""

    async def main() -> None:
        socket, port = scripted(4, Blocked(1.0), 22, Blocked(1.0))
        args = [args_of(10) for _ in range(4)]
        late = args_of(7)
        async with open_initiator() as initiator:
            deeds = {
                "cancel last": lambda: args[-1].cancel(),
                "cancel first": lambda: args[0].cancel(),
                "close": lambda: socket.close(),
                "start": lambda: socket.send_async(late),
                "leave": lambda: initiator.cancel_scope.cancel(),
            }
            for each in args:
                assert socket.send_async(each) is True
            recorder = Meddler(when, deeds[deed])
            add_instrument(recorder)
            with trio.CancelScope(shield=True):
                for each in args:
                    await each.wait()
                await wait_all_tasks_blocked()
        counts = [each.bytes_transferred for each in (*args, late)]
        assert sum(counts) == len(port.accepted)
        for each in args:
            assert (each.socket_error is SUCCESS) == (each.bytes_transferred == 10)
        numbers = [event[1] for event in recorder.events if event[0] == "completed"]
        assert len(numbers) == len(set(numbers))

    run_virtual(main)


async def test_hooks_are_never_called_from_inside_a_hook() -> None:
    socket, _ = scripted()

    class Deep(Recorder):
        inside = False

        def operation_started(self, operation: TracedOperation) -> None:
            assert not self.inside
            self.inside = True
            if operation.number == 1:
                socket.send_async(args_of(2))
            self.inside = False
            super().operation_started(operation)

    deep = Deep()
    add_instrument(deep)
    async with open_initiator():
        socket.send_async(args_of(1))
    remove_instrument(deep)
    numbers = [event[1] for event in deep.events]
    assert numbers == [1, 1, 1, 2, 2, 2]


async def test_what_nobody_waited_to_hear_is_not_told_to_the_next_one() -> None:
    """Application code can run in the middle of a step: that of a port, or of a buffer."""
    brief, next_one = Recorder(), Recorder()
    add_instrument(brief)
    calls: list[Any] = []

    def leave(call: Any) -> None:
        if not calls:
            remove_instrument(brief)
        calls.append(call)

    socket = Socket.from_port(SpyPort(on_call=leave))
    async with open_initiator():
        assert socket.send_async(args_of(1)) is False
        add_instrument(next_one)
        assert socket.send_async(args_of(2)) is False
    assert brief.events == []
    assert [event[1] for event in next_one.events] == [2, 2, 2]


async def test_an_instrument_may_be_added_and_removed_by_a_hook(autojump_clock: Any) -> None:
    other = Recorder()

    class Chain(Recorder):
        def operation_started(self, operation: TracedOperation) -> None:
            add_instrument(other)
            remove_instrument(self)

    socket, _ = scripted()
    add_instrument(Chain())
    async with open_initiator():
        assert socket.send_async(args_of(1)) is False
    # Before the end of the step nobody knows of the other one, and then it hears what is left.
    assert [event[0] for event in other.events] == ["accepted", "completed"]
    remove_instrument(other)


# What is held -----------------------------------------------------------------------------------


async def test_what_an_instrument_keeps_holds_no_args_and_no_buffer() -> None:
    socket, _ = scripted(3, Blocked())
    recorder = Recorder()
    add_instrument(recorder)
    buffer = bytearray(10)
    args = SocketAsyncEventArgs(buffer)
    async with open_initiator():
        socket.send_async(args)
        traced = recorder.operations[1]
        assert traced.operation is args
        assert traced.peek(0, 3) == bytes(3)
    buffer.extend(b"free")
    gone = weakref.ref(args)
    socket.close()
    del args, socket
    gc.collect()
    assert gone() is None
    assert traced.operation is None
    assert traced.peek(0, 3) == b""


async def test_a_restart_is_another_operation() -> None:
    socket, _ = scripted()
    recorder = Recorder()
    add_instrument(recorder)
    args = SocketAsyncEventArgs(b"first")
    async with open_initiator():
        socket.send_async(args)
        args.set_buffer(b"second")
        socket.send_async(args)
    assert recorder.operations[1].operation is None
    assert recorder.operations[1].peek(0, 9) == b""
    assert recorder.operations[2].operation is args
    assert recorder.operations[2].peek(2, 3) == b"con"


async def test_peek_walks_through_the_members_of_a_list() -> None:
    socket, _ = scripted()
    recorder = Recorder()
    add_instrument(recorder)
    third = bytearray(b"efgh")
    args = SocketAsyncEventArgs(buffer_list=[b"ab", b"", memoryview(b"cd"), third, b"ij"])
    async with open_initiator():
        socket.send_async(args)
    traced = recorder.operations[1]
    assert traced.peek(0, 100) == b"abcdefghij"
    assert traced.peek(1, 4) == b"bcde"
    assert traced.peek(4, 0) == b""
    assert traced.peek(10, 5) == b""
    del third[1:]
    assert traced.peek(0, 100) == b"abcd"  # up to the buffer that is not what it was
    third.clear()  # no view is left on it


# What adds up -----------------------------------------------------------------------------------


@given(
    script=st.lists(
        st.one_of(
            st.integers(1, 40),
            st.just(Blocked(1.0)),
            st.just("EAGAIN"),
            st.just("ENOBUFS"),
            st.just("ECONNRESET"),
        ),
        max_size=12,
    ),
    messages=st.lists(
        st.tuples(st.integers(0, 30), st.sampled_from(["args", "begin", "await", "list"])),
        min_size=1,
        max_size=6,
    ),
    stop_after=st.sampled_from([0.5, 1.5, 2.5, 100.0]),
)
def test_accepted_events_add_up_to_the_counts(
    script: list[Any], messages: list[tuple[int, str]], stop_after: float
) -> None:
    async def main() -> None:
        port = SpyPort(script)
        socket = Socket.from_port(port)
        recorder = Recorder()
        add_instrument(recorder)

        async def send(data: bytes) -> None:
            try:
                await socket.send(data)
            except SocketException:
                pass

        async with trio.open_nursery() as nursery, open_initiator() as initiator:
            initiator.cancel_scope.deadline = trio.current_time() + stop_after
            nursery.cancel_scope.deadline = trio.current_time() + stop_after
            for size, face in messages:
                if face == "args":
                    socket.send_async(args_of(size))
                elif face == "list":
                    socket.send_async(SocketAsyncEventArgs(buffer_list=[bytes(size), b"xy"]))
                elif face == "begin":
                    socket.try_begin_send(bytes(size))
                else:
                    nursery.start_soon(send, bytes(size))
                    await trio.lowlevel.checkpoint()
            await trio.sleep(200)

        assert port.accepted == bytes(port.inner.accepted)
        by_number: dict[int, list[tuple[Any, ...]]] = {}
        for event in recorder.events:
            by_number.setdefault(event[1], []).append(event)
        total = 0
        for number, events in by_number.items():
            assert events[0][0] == "started"
            accepted = [event for event in events if event[0] == "accepted"]
            (completed,) = [event for event in events if event[0] == "completed"]
            running = 0
            for event in accepted:
                running += event[2]
                assert event[3] == running
            assert running == completed[3]
            if completed[2] is SUCCESS:
                assert running == events[0][2]
            assert events.index(completed) > max(map(events.index, accepted), default=0)
            assert recorder.operations[number].accepted_before == 0
            total += running
        assert total == len(port.accepted) == socket._core.sends.accepted

    run_virtual(main)


@pytest.mark.parametrize("kind", ["tcp4", "unix"])
async def test_on_a_real_socket_the_events_are_what_the_peer_reads(kind: str) -> None:
    recorder = Recorder()
    add_instrument(recorder)
    with connected(kind) as (socket, peer):
        async with open_initiator():
            args = SocketAsyncEventArgs(BIG)
            assert socket.send_async(args) is True
            assert await read_exactly(peer, len(BIG)) == BIG
            await args.wait()
    kinds = [event[0] for event in recorder.events]
    assert kinds[0] == "started"
    assert kinds[-3:] == ["completed", "raised", "closed"]
    pieces = [event[2] for event in recorder.events if event[0] == "accepted"]
    assert len(pieces) > 1
    assert sum(pieces) == len(BIG)
