"""Hold receiving to what it says: in order, as soon as there is something, and nothing taken by what was cancelled.

Modules: _socket.begin_receive, _socket.receive_starts, _socket.receive_steps.
"""

from __future__ import annotations

import array
import gc
import inspect
import mmap
import os
import signal
import socket as stdlib_socket
import sys
import weakref
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from itertools import pairwise
from typing import Any

import pytest
import trio
from hypothesis import given, settings, strategies as st
from outcome import Value
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from tests.between_tasks import falling_asleep
from tests.helpers import (
    BIG,
    KINDS,
    Ends,
    Told,
    bytes_of,
    connected,
    ends as ends,
    kind as kind,
    never_called,
    nothing_to_read,
    python_handles_ctrl_c as python_handles_ctrl_c,
    read_exactly,
    reset,
    stack as stack,
    stdlib_pair,
    unix as unix,
)
from trio_send import (
    AsyncResult,
    ExitPolicy,
    InvalidOperationError,
    ObjectDisposedError,
    OperationInProgressError,
    Socket,
    SocketAsyncEventArgs,
    SocketAsyncOperation,
    SocketError,
    SocketException,
    SocketFlags,
    SocketShutdown,
    open_initiator,
)
from trio_send._kernel.port import HAVE_SCATTER, KernelPort
from trio_send._owners.exiting_owner import START_BUDGET
from trio_send._socket import receive_steps as steps
from trio_send.testing import ScriptedPort

#: The ways to receive. The first two need no initiator.
FORMS = (
    "receive",
    "receive_into",
    "receive_async",
    "scatter",
    "begin_receive",
    "receive_from",
    "receive_from_async",
    "begin_receive_from",
    "receive_message_from",
    "receive_message_from_async",
    "begin_receive_message_from",
)

every_form = pytest.mark.parametrize("form", FORMS)
either_awaited_form = pytest.mark.parametrize("form", FORMS[:2])


async def receive(socket: Socket, form: str, max_bytes: int = 65536) -> bytes:
    """Receive in one of the forms; the operation, if there is one, belongs to this call."""
    if form in ("receive", "receive_from", "receive_message_from"):
        got = await getattr(socket, form)(max_bytes)
        return got if isinstance(got, bytes) else bytes(got.data)
    buffer = bytearray(max_bytes)
    if form == "receive_into":
        return bytes(buffer[: await socket.receive_into(buffer)])
    async with open_initiator():
        if form.startswith("begin_"):
            name = form.removeprefix("begin_")
            got = await getattr(socket, f"end_{name}")(getattr(socket, form)(buffer))
            count = got if isinstance(got, int) else got[0]
        else:
            args = SocketAsyncEventArgs()
            if form == "scatter":
                view = memoryview(buffer)
                args.buffer_list = [view[:1], view[1:1], view[1:]]
            else:
                args.set_buffer(buffer)
            if getattr(socket, "receive_async" if form == "scatter" else form)(args):
                await args.wait()
            assert args.outcome is not None
            count = args.outcome.unwrap()
            assert count == args.bytes_transferred
    return bytes(buffer[:count])


@every_form
@pytest.mark.parametrize("first", ["the bytes", "the receive"])
async def test_receiving_what_has_arrived(ends: Ends, form: str, first: str) -> None:
    """As soon as something has, and no more than was asked for."""
    socket, peer = ends
    log: list[bytes] = []

    async def run() -> None:
        log.append(await receive(socket, form, 3))

    async with trio.open_nursery() as nursery:
        if first == "the bytes":
            peer.send(b"hello")
            nursery.start_soon(run)
        else:
            nursery.start_soon(run)
            await wait_all_tasks_blocked()
            assert log == []
            peer.send(b"hello")
    assert log == [b"hel"]
    assert await receive(socket, form) == b"lo"


@every_form
async def test_a_long_stream_arrives_as_it_was_sent(ends: Ends, form: str) -> None:
    socket, peer = ends
    data = bytes_of(3_000_000)
    received = bytearray()

    async def send() -> None:
        left = memoryview(data)
        while left:
            await trio.lowlevel.wait_writable(peer)
            left = left[peer.send(left) :]
        peer.shutdown(stdlib_socket.SHUT_WR)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        while piece := await receive(socket, form, 50_000):
            received += piece
    assert received == data


@every_form
async def test_the_end_of_the_stream(ends: Ends, form: str) -> None:
    """No bytes, and as often as one asks (F289); the other direction goes on."""
    socket, peer = ends
    peer.send(b"last words")
    peer.shutdown(stdlib_socket.SHUT_WR)
    assert await receive(socket, form) == b"last words"
    assert await receive(socket, form) == b""
    assert await receive(socket, form) == b""
    assert await socket.send(b"answer") == 6
    assert await read_exactly(peer, 6) == b"answer"


@every_form
async def test_the_own_end_of_receiving(ends: Ends, form: str) -> None:
    """It releases who waits."""
    socket, _ = ends
    log: list[bytes] = []

    async def run() -> None:
        log.append(await receive(socket, form))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await wait_all_tasks_blocked()
        socket.shutdown(SocketShutdown.RECEIVE)
    assert log == [b""]


async def test_several_tasks_receive_in_their_order(ends: Ends) -> None:
    """First come, first served: no task is refused, and none is overtaken."""
    socket, peer = ends
    log: list[tuple[int, bytes]] = []

    async def run(number: int) -> None:
        log.append((number, await receive(socket, FORMS[number], 4)))

    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(run, number)
            await wait_all_tasks_blocked()
        peer.send(b"aaaabbbb")
        await wait_all_tasks_blocked()
        assert log == [(0, b"aaaa"), (1, b"bbbb")]
        peer.send(b"cc")
        await wait_all_tasks_blocked()
        peer.shutdown(stdlib_socket.SHUT_WR)
    assert log == [(0, b"aaaa"), (1, b"bbbb"), (2, b"cc"), (3, b"")]


@every_form
async def test_a_receive_that_was_cancelled_takes_nothing(ends: Ends, form: str) -> None:
    """Neither the first in the row nor one in the middle."""
    socket, peer = ends
    log: dict[int, bytes] = {}

    async def run(number: int, scope: trio.CancelScope) -> None:
        with scope:
            log[number] = await receive(socket, form, 4)

    scopes = [trio.CancelScope() for _ in range(4)]
    async with trio.open_nursery() as nursery:
        for number, scope in enumerate(scopes):
            nursery.start_soon(run, number, scope)
            await wait_all_tasks_blocked()
        scopes[0].cancel()
        scopes[2].cancel()
        await wait_all_tasks_blocked()
        peer.send(b"aaaabbbbcccc")
    assert log == {1: b"aaaa", 3: b"bbbb"}
    assert await receive(socket, form) == b"cccc"


@either_awaited_form
async def test_a_receive_in_a_scope_that_was_cancelled_before_takes_nothing(
    ends: Ends, form: str
) -> None:
    socket, peer = ends
    peer.send(b"hello")
    with trio.CancelScope() as scope:
        scope.cancel()
        await receive(socket, form)
    assert scope.cancelled_caught
    assert await receive(socket, form) == b"hello"


@either_awaited_form
async def test_a_receive_that_is_cancelled_as_bytes_arrive_takes_all_or_nothing(
    ends: Ends, form: str
) -> None:
    """Whichever of the two the task hears of, no byte is lost."""
    socket, peer = ends
    log: list[bytes] = []

    async def run() -> None:
        log.append(await receive(socket, form, 4))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await wait_all_tasks_blocked()
        peer.send(b"aaaabbbb")
        nursery.cancel_scope.cancel()
    peer.shutdown(stdlib_socket.SHUT_WR)
    while piece := await receive(socket, form):
        log.append(piece)
    assert b"".join(log) == b"aaaabbbb"


@either_awaited_form
async def test_receiving_is_always_a_checkpoint(ends: Ends, form: str) -> None:
    socket, peer = ends
    peer.send(b"x")
    with assert_checkpoints():
        await receive(socket, form)
    peer.shutdown(stdlib_socket.SHUT_WR)
    with assert_checkpoints():
        await receive(socket, form)


@every_form
@pytest.mark.parametrize("kind", KINDS[:2])
async def test_a_reset_by_the_peer(kind: str, form: str) -> None:
    """It releases who waits, all of them with an error that speaks of no bytes."""
    left, peer = stdlib_pair(kind)
    errors: list[SocketException] = []

    async def run() -> None:
        with pytest.raises(SocketException) as caught:
            await receive(socket, form)
        errors.append(caught.value)

    with closing(Socket.from_stdlib(left)) as socket, peer:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await wait_all_tasks_blocked()
            reset(peer)
        [error] = errors
        assert error.socket_error_code is SocketError.CONNECTION_RESET
        assert "byte" not in str(error)


@every_form
async def test_a_socket_that_was_never_connected(form: str) -> None:
    with closing(Socket()) as socket:
        with pytest.raises(SocketException) as caught:
            await receive(socket, form)
        assert caught.value.socket_error_code is SocketError.NOT_CONNECTED


@every_form
async def test_a_port_that_can_only_send(form: str) -> None:
    with closing(Socket.from_port(ScriptedPort())) as socket:
        with pytest.raises(SocketException, match=r"can only send$") as caught:
            await receive(socket, form)
        assert caught.value.socket_error_code is SocketError.OPERATION_NOT_SUPPORTED


@every_form
async def test_closing_releases_those_who_wait(ends: Ends, form: str) -> None:
    """Each with 995."""
    socket, _ = ends
    errors: list[SocketError] = []

    async def run() -> None:
        with pytest.raises(SocketException) as caught:
            await receive(socket, form)
        errors.append(caught.value.socket_error_code)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        nursery.start_soon(run)
        await wait_all_tasks_blocked()
        socket.close()
    assert errors == [SocketError.OPERATION_ABORTED] * 2


async def test_buffers_to_receive_into(unix: Ends) -> None:
    """Any that can be written; what lies behind the bytes received stays as it was."""
    socket, peer = unix
    mapping = mmap.mmap(-1, 8)
    for buffer in (
        bytearray(8),
        memoryview(bytearray(8)),
        array.array("H", [0] * 4),
        memoryview(bytearray(8)).cast("B", (2, 4)),
        mapping,
    ):
        peer.send(b"hello")
        assert await socket.receive_into(buffer) == 5
        view = memoryview(buffer)
        assert view.tobytes() == b"hello\0\0\0"
        view.release()
    buffer = bytearray(b"........")
    peer.send(b"hello")
    assert await socket.receive_into(memoryview(buffer)[2:5]) == 3
    assert buffer == b"..hel..."
    assert await socket.receive() == b"lo"
    buffer.clear()  # nothing is locked afterwards


@pytest.mark.parametrize(
    ("buffer", "kind", "sentence"),
    [
        (None, TypeError, r"^buffer is None"),
        ("text", TypeError, r"^buffer must be a bytes-like object"),
        (5, TypeError, r"^buffer must be a bytes-like object"),
        (b"read-only", ValueError, r"^buffer must be writable .* this bytes is read-only"),
        (memoryview(bytearray(8))[::2], TypeError, r"^buffer must be contiguous"),
    ],
    ids=["none", "text", "number", "read-only", "strided"],
)
async def test_what_cannot_be_received_into(
    unix: Ends, buffer: Any, kind: type[Exception], sentence: str
) -> None:
    """Nothing is taken."""
    socket, peer = unix
    peer.send(b"hello")
    with pytest.raises(kind, match=sentence):
        await socket.receive_into(buffer)
    assert await socket.receive() == b"hello"


async def test_a_buffer_that_is_refused_is_free_while_the_refusal_is_looked_at(unix: Ends) -> None:
    socket, _ = unix
    block = bytearray(8)
    view = memoryview(block).toreadonly()
    with pytest.raises(ValueError, match="must be writable") as refused:
        await socket.receive_into(view)
    assert refused.tb is not None
    view.release()
    block.append(0)  # which another view of it would forbid


async def test_what_is_no_number_of_bytes_harms_nobody_else(unix: Ends) -> None:
    """Behind another receive it would be looked at by whoever drains the queue."""
    socket, peer = unix
    async with open_initiator():
        first = socket.begin_receive(bytearray(1))
        with pytest.raises(
            TypeError, match=r"^max_bytes must be a whole number of bytes, not 1\.5"
        ):
            await socket.receive(1.5)  # type: ignore[arg-type]
        peer.send(b"xy")
        assert await socket.end_receive(first) == 1
    assert await socket.receive() == b"y"


async def test_a_port_is_asked_for_bytes_without_flags() -> None:
    port = ScriptedPort(incoming=[b"hello"])
    seen: list[tuple[int, int]] = []
    ask = port.receive_into
    assert ask is not None

    def note(views: Sequence[memoryview], flags: int) -> int:
        seen.append((sum(view.nbytes for view in views), flags))
        return ask(views, flags)

    port.receive_into = note
    with closing(Socket.from_port(port)) as socket:
        assert await socket.receive(3) == b"hel"
    assert seen == [(3, 0)]


async def test_a_close_that_has_yet_to_be_obeyed_ends_later_receives_at_once(unix: Ends) -> None:
    """Where no task may be woken yet, the rest of the close waits until Trio runs one."""
    socket, peer = unix
    peer.send(b"before")
    assert await socket.receive() == b"before"
    peer.send(b"after")
    with falling_asleep():
        socket.close()
    with pytest.raises(ObjectDisposedError):
        await socket.receive()


class Three:
    """A whole number that is none of Python's own."""

    def __index__(self) -> int:
        return 3


@pytest.mark.parametrize("later", [False, True], ids=["first", "later"])
async def test_any_whole_number_says_how_many_bytes(unix: Ends, later: bool) -> None:
    socket, peer = unix
    peer.send(b"hello" if not later else b"before hello")
    if later:
        assert await socket.receive(7) == b"before "
    assert await socket.receive(Three()) == b"hel"  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^max_bytes must be a whole number of bytes, not 2\.0"):
        await socket.receive(2.0)  # type: ignore[arg-type]
    assert await socket.receive(9) == b"lo"


@pytest.mark.parametrize("max_bytes", [2**40, sys.maxsize])
@pytest.mark.parametrize("face", ["receive", "receive_from", "receive_message_from"])
@pytest.mark.parametrize("behind", [False, True])
async def test_any_number_of_bytes_may_be_asked_for(
    unix: Ends, behind: bool, face: str, max_bytes: int
) -> None:
    """There is no memory for so many, and no need of it; and who would meet that may be another task."""
    socket, peer = unix
    got: list[Any] = []

    async def ask() -> None:
        got.append(await getattr(socket, face)(max_bytes))

    async with open_initiator():
        if behind:
            first = socket.begin_receive(bytearray(1))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask)
                await wait_all_tasks_blocked()
                peer.send(b"abc")
            assert await socket.end_receive(first) == 1
        else:
            peer.send(b"bc")
            await ask()
    assert getattr(got[0], "data", got[0]) == b"bc"


@pytest.mark.parametrize("max_bytes", [0, -1, 2**70])
async def test_at_least_one_byte_must_be_asked_for(unix: Ends, max_bytes: int) -> None:
    socket, peer = unix
    for data in (b"hello", b"later"):
        peer.send(data)
        with pytest.raises(ValueError, match=f"^max_bytes is {max_bytes}"):
            await socket.receive(max_bytes)
        assert await socket.receive() == data


async def test_a_closed_socket_comes_before_bad_arguments(unix: Ends) -> None:
    """As it does in every other call."""
    socket, _ = unix
    socket.close()
    for max_bytes in (0, 1):
        with pytest.raises(ObjectDisposedError, match=r"^this socket was closed"):
            await socket.receive(max_bytes)
    for buffer in (bytearray(8), bytearray(), b"read-only", None):
        with pytest.raises(ObjectDisposedError, match=r"^this socket was closed"):
            await socket.receive_into(buffer)  # type: ignore[arg-type]


@every_form
async def test_datagrams_are_received_one_at_a_time(form: str) -> None:
    """What does not fit of one is lost, as the system has it; an empty one is no end."""
    with stdlib_socket.socket(type=stdlib_socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        with closing(Socket(type=stdlib_socket.SOCK_DGRAM)) as socket:
            await socket.connect(peer.getsockname())
            for datagram in (b"one", b"", b"three", b"four"):
                peer.sendto(datagram, socket.local_end_point)
            assert await receive(socket, form) == b"one"
            assert await receive(socket, form) == b""
            assert await receive(socket, form, 3) == b"thr"
            assert await receive(socket, form) == b"four"


@pytest.mark.fact("F195")
@pytest.mark.parametrize("sender", ["an initiator", "a task"])
async def test_receiving_and_sending_at_the_same_time(ends: Ends, sender: str) -> None:
    """Both directions wait for the same descriptor, and neither holds the other up."""
    socket, peer = ends
    log: list[bytes] = []

    async def run() -> None:
        log.append(await socket.receive())

    async with open_initiator(), trio.open_nursery() as nursery:
        if sender == "a task":
            nursery.start_soon(socket.send, BIG)
        else:
            result = socket.begin_send(BIG)
        nursery.start_soon(run)
        await wait_all_tasks_blocked()
        peer.send(b"hello")
        await wait_all_tasks_blocked()
        assert log == [b"hello"]
        nursery.start_soon(run)
        await wait_all_tasks_blocked()
        assert await read_exactly(peer, len(BIG)) == BIG
        await wait_all_tasks_blocked()
        assert log == [b"hello"]
        peer.send(b"again")
        if sender != "a task":
            assert await socket.end_send(result) == len(BIG)
    assert log == [b"hello", b"again"]


async def test_receiving_after_sending_has_ended(ends: Ends) -> None:
    """Own shutdown, and a connection found dead for sending, leave what has arrived to be received."""
    socket, peer = ends
    socket.shutdown(SocketShutdown.SEND)
    with pytest.raises(SocketException):
        await socket.send(b"x")
    assert not socket.connected
    peer.send(b"still here")
    assert await socket.receive() == b"still here"


# Operations: the args, the results, and what they are told ----------------------------------


def room(told: Told, name: str, size: int = 8) -> SocketAsyncEventArgs:
    """Args of that name to receive into, whose completion is remembered."""
    return told.args(name, bytearray(size))


def received(args: SocketAsyncEventArgs) -> bytes:
    """What the latest receive put into the buffer of args."""
    assert isinstance(args.buffer, bytearray)
    return bytes(args.buffer[args.offset : args.offset + args.bytes_transferred])


async def test_what_has_arrived_is_received_on_the_spot(ends: Ends) -> None:
    """The call says so, and the event is not raised."""
    socket, peer = ends
    peer.send(b"hello")
    await trio.lowlevel.wait_readable(socket.trio)
    buffer = bytearray(b".........")
    args = SocketAsyncEventArgs(buffer, 2, 6)
    args.completed += never_called
    async with open_initiator():
        assert socket.receive_async(args) is False
        assert args.socket_error is SocketError.SUCCESS
        assert args.last_operation is SocketAsyncOperation.RECEIVE
        assert (args.bytes_transferred, args.offset, args.count) == (5, 2, 6)
        assert buffer == b"..hello.."
        assert repr(args) == "<SocketAsyncEventArgs: RECEIVE, SUCCESS, 5 of 6 bytes received>"
        buffer.clear()  # nothing is locked


async def test_a_receive_that_waits_is_told_once(ends: Ends) -> None:
    socket, peer = ends
    log: list[object] = []
    buffer = bytearray(8)
    args = SocketAsyncEventArgs(buffer)
    args.socket_flags = SocketFlags.DONT_ROUTE

    def handler(*sender: object) -> None:
        log.append(sender)
        buffer.extend(b"!")  # nothing is locked, and the args are free again
        args.set_buffer(bytearray(1))

    args.completed += handler
    async with open_initiator():
        assert socket.receive_async(args) is True
        assert args.socket_error is SocketError.IO_PENDING
        assert args.last_operation is SocketAsyncOperation.RECEIVE
        assert (args.pending, args.activation, args.bytes_transferred) == (True, 1, 0)
        peer.send(b"hello")
        assert await args.wait() == 5
        await wait_all_tasks_blocked()
    assert log == [(socket, args)]
    assert buffer == b"hello\0\0\0!"
    assert args.socket_flags is SocketFlags.DONT_ROUTE


@pytest.mark.fact("F289")
async def test_the_end_of_the_stream_ends_every_receive_that_waits(ends: Ends) -> None:
    """Each with 0 bytes and without an error."""
    socket, peer = ends
    told = Told()
    async with open_initiator():
        for name in "abc":
            assert socket.receive_async(room(told, name)) is True
        peer.shutdown(stdlib_socket.SHUT_WR)
        await wait_all_tasks_blocked()
    assert told.events == [(name, SocketError.SUCCESS, 0) for name in "abc"]


@pytest.mark.fact("F195")
async def test_all_forms_share_one_queue(unix: Ends) -> None:
    """In the order of their starts, whoever started them."""
    socket, peer = unix
    log: dict[str, bytes] = {}

    async def run(form: str) -> None:
        log[form] = await receive(socket, form, 3)

    async with trio.open_nursery() as nursery:
        for form in FORMS:
            nursery.start_soon(run, form)
            await wait_all_tasks_blocked()
        for index, form in enumerate(FORMS):
            peer.send(b"%03d" % index)
            await wait_all_tasks_blocked()
            assert log == {form: b"%03d" % number for number, form in enumerate(FORMS[: index + 1])}


@pytest.mark.fact("F195")
@pytest.mark.parametrize("engine", ["epoll", "tasks"])
async def test_neither_direction_holds_the_other_up(
    ends: Ends, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not within one initiator, which waits for both of them at the same descriptor."""
    if engine == "tasks":
        monkeypatch.setattr("trio_send._owners.engine.HAVE_EPOLL", False)
    elif sys.platform != "linux":
        pytest.skip("there is no epoll here")
    socket, peer = ends
    told = Told()
    async with open_initiator():
        first, second = room(told, "first"), room(told, "second")
        assert socket.receive_async(first) is True
        sent = told.args("sent", BIG)
        assert socket.send_async(sent) is True
        peer.send(b"hello")
        await wait_all_tasks_blocked()
        assert told.events == [("first", SocketError.SUCCESS, 5)]
        assert socket.receive_async(second) is True
        await wait_all_tasks_blocked()
        assert await read_exactly(peer, len(BIG)) == BIG
        await wait_all_tasks_blocked()
        assert told.events[1:] == [("sent", SocketError.SUCCESS, len(BIG))]
        assert socket.send_async(SocketAsyncEventArgs(b"more")) is False
        peer.send(b"again")
        await wait_all_tasks_blocked()
    assert told.events[2:] == [("second", SocketError.SUCCESS, 5)]
    assert (received(first), received(second)) == (b"hello", b"again")


@pytest.mark.fact("F093")
async def test_args_serve_one_operation_at_a_time(unix: Ends) -> None:
    """A receive that waits keeps them from sending and from a second receive, and is not harmed by that."""
    socket, peer = unix
    told = Told()
    args = room(told, "args")
    async with open_initiator():
        assert socket.receive_async(args) is True
        for start in (socket.receive_async, socket.send_async):
            with pytest.raises(OperationInProgressError):
                start(args)
        with pytest.raises(OperationInProgressError):
            args.set_buffer(bytearray(1))
        peer.send(b"hello")
        await args.wait()
    assert told.events == [("args", SocketError.SUCCESS, 5)]


@pytest.mark.fact("F290", "F291", "F286")
async def test_an_echo_with_one_args_object(unix: Ends) -> None:
    """As the classic server has it: dispatch on the last operation, and call oneself when the answer is False."""
    socket, peer = unix
    args = SocketAsyncEventArgs(bytearray(64), 16, 8)
    depths: list[int] = []
    ended = trio.Event()

    def io_completed(_: Socket, args: SocketAsyncEventArgs) -> None:
        depths.append(len(inspect.stack()))
        while True:
            if args.last_operation is SocketAsyncOperation.RECEIVE:
                if args.bytes_transferred == 0 or args.socket_error is not SocketError.SUCCESS:
                    ended.set()
                    return
                args.set_range(args.offset, args.bytes_transferred)
                if socket.send_async(args):
                    return
            else:
                assert args.last_operation is SocketAsyncOperation.SEND
                args.set_range(16, 8)
                if socket.receive_async(args):
                    return

    args.completed += io_completed
    data = bytes_of(40)
    async with open_initiator():
        assert socket.receive_async(args) is True
        for start in range(0, len(data), 4):
            peer.send(data[start : start + 4])
            assert await read_exactly(peer, 4) == data[start : start + 4]
        peer.send(data)
        assert await read_exactly(peer, len(data)) == data
        peer.shutdown(stdlib_socket.SHUT_WR)
        await ended.wait()
    assert max(depths) == min(depths)


async def test_receives_that_never_wait_yield_now_and_then(unix: Ends) -> None:
    """One in so many is answered "pending" although it has ended; nothing can stop it any more."""
    socket, peer = unix
    peer.send(b"hello")
    told = Told()
    args = room(told, "args")
    args.socket_flags = SocketFlags.PEEK
    async with open_initiator():
        for _ in range(START_BUDGET):
            assert socket.receive_async(args) is False
        assert socket.receive_async(args) is True
        assert args.cancel() is False
        socket.close()
        assert await args.wait() == 5
    assert told.events == [("args", SocketError.SUCCESS, 5)]


# Stops -----------------------------------------------------------------------------------------


async def test_a_receive_that_is_stopped_takes_nothing(unix: Ends) -> None:
    """Not the first of several either; those behind it move up, and the stream is not torn."""
    socket, peer = unix
    told = Told()
    async with open_initiator():
        first, second = room(told, "first"), room(told, "second")
        assert socket.receive_async(first) is True
        assert socket.receive_async(second) is True
        peer.send(b"hello")
        assert first.cancel("enough") is True  # it is there, but nobody has looked
        await wait_all_tasks_blocked()
        assert told.events == [
            ("first", SocketError.OPERATION_ABORTED, 0),
            ("second", SocketError.SUCCESS, 5),
        ]
        assert socket.torn is None
        assert first.cancel() is False
        assert second.cancel() is False
    assert first.outcome is not None
    with pytest.raises(SocketException, match=r"enough$"):
        first.outcome.unwrap()


async def test_a_receive_may_be_limited_in_time(
    unix: Ends, autojump_clock: trio.testing.MockClock
) -> None:
    socket, peer = unix
    told = Told()
    args = room(told, "args")
    args.timeout = 3
    async with open_initiator():
        for _ in range(2):
            start = trio.current_time()
            assert socket.receive_async(args) is True
            assert await args.wait() == 0
            assert trio.current_time() == start + 3
        peer.send(b"hello")
        assert socket.receive_async(args) is False
    assert told.events == [("args", SocketError.TIMED_OUT, 0)] * 2


@pytest.mark.parametrize("policy", ExitPolicy)
async def test_what_becomes_of_receives_when_their_initiator_is_left(
    unix: Ends, policy: ExitPolicy, autojump_clock: trio.testing.MockClock
) -> None:
    socket, peer = unix
    told = Told()
    grace = 5 if policy in (ExitPolicy.DRAIN, ExitPolicy.FINISH_STARTED) else None
    waits = policy in (ExitPolicy.JOIN, ExitPolicy.DRAIN, ExitPolicy.ADOPT)

    async def send_later() -> None:
        await trio.sleep(2)
        peer.send(b"hello")

    async with trio.open_nursery() as nursery, open_initiator(ExitPolicy.JOIN):
        nursery.start_soon(send_later)
        async with open_initiator(policy, grace=grace):
            assert socket.receive_async(room(told, "args")) is True
        assert bool(told.events) is (policy is not ExitPolicy.ADOPT)
        if not waits:
            assert await socket.receive() == b"hello"
    assert told.events == [
        ("args", SocketError.SUCCESS, 5) if waits else ("args", SocketError.OPERATION_ABORTED, 0)
    ]


async def test_a_receive_while_its_initiator_is_left_takes_nothing(unix: Ends) -> None:
    socket, peer = unix
    told = Told()
    errors: list[SocketError] = []

    def again(_: Socket, args: SocketAsyncEventArgs) -> None:
        peer.send(b"hello")
        assert socket.receive_async(args) is False
        errors.append(args.socket_error)
        with pytest.raises(SocketException) as caught:
            socket.begin_receive(bytearray(8))
        errors.append(caught.value.socket_error_code)

    async with open_initiator():
        args = room(told, "args")
        args.completed += again
        assert socket.receive_async(args) is True
    assert errors == [SocketError.OPERATION_ABORTED] * 2
    assert await socket.receive() == b"hello"


@pytest.mark.fact("F205", "F206", "F210")
async def test_closing_ends_the_receives_that_wait_and_resets_nothing(ends: Ends) -> None:
    """For nothing was cut."""
    socket, peer = ends
    told = Told()
    results: list[AsyncResult] = []
    async with open_initiator():
        assert socket.receive_async(room(told, "a")) is True
        results.append(socket.begin_receive(bytearray(8)))
        assert socket.receive_async(room(told, "b")) is True
        socket.close()
        await wait_all_tasks_blocked()
    assert told.events == [(name, SocketError.OPERATION_ABORTED, 0) for name in "ab"]
    with pytest.raises(SocketException) as caught:
        await socket.end_receive(results[0])
    assert caught.value.socket_error_code is SocketError.OPERATION_ABORTED
    assert await read_exactly(peer, 1) == b""


# Connections that break ------------------------------------------------------------------------


@pytest.mark.fact("F216")
@pytest.mark.parametrize("kind", KINDS[:2])
async def test_a_reset_ends_whatever_waits_with_the_same_code(kind: str) -> None:
    """The kernel tells it once, and an end of the stream or EPIPE to all others."""
    told = Told()
    with connected(kind) as (socket, peer):
        async with open_initiator():
            for name in ("first", "second"):
                assert socket.receive_async(room(told, name)) is True
            assert socket.send_async(told.args("sent", BIG)) is True
            assert socket.send_async(told.args("behind")) is True
            reset(peer)
            await wait_all_tasks_blocked()
            ends = {name: error for name, error, _ in told.events}
            assert ends == dict.fromkeys(
                ("first", "second", "sent", "behind"), SocketError.CONNECTION_RESET
            )
            assert len(told.events) == 4
            assert not socket.connected
            later = SocketAsyncEventArgs(bytearray(8))
            for start in (socket.receive_async, socket.send_async):
                assert start(later) is False
                assert later.socket_error is SocketError.CONNECTION_RESET


@pytest.mark.parametrize("kind", KINDS[:2])
async def test_a_reset_that_a_send_was_told_of_is_no_clean_end(kind: str) -> None:
    """What had arrived before is received all the same."""
    with connected(kind) as (socket, peer):
        peer.send(b"hello")
        await trio.lowlevel.wait_readable(socket.trio)
        reset(peer)
        with pytest.raises(SocketException):
            while True:  # in case the reset is not here yet
                await socket.send(b"x")
        assert await socket.receive() == b"hello"
        for _ in range(2):
            with pytest.raises(SocketException) as caught:
                await socket.receive()
            assert caught.value.socket_error_code is SocketError.CONNECTION_RESET


@every_form
async def test_a_datagram_that_nobody_took_is_told_once(form: str) -> None:
    """The peer's answer that nobody listens ends one receive; the socket stays connected and usable."""
    with closing(Socket(type=stdlib_socket.SOCK_DGRAM)) as socket:
        with stdlib_socket.socket(type=stdlib_socket.SOCK_DGRAM) as peer:
            peer.bind(("127.0.0.1", 0))
            address = peer.getsockname()
        await socket.connect(address)
        await socket.send(b"is anybody there?")
        with pytest.raises(SocketException) as caught:
            await receive(socket, form)
        assert caught.value.socket_error_code is SocketError.CONNECTION_REFUSED
        assert socket.connected
        with stdlib_socket.socket(type=stdlib_socket.SOCK_DGRAM) as peer:
            peer.bind(address)
            peer.sendto(b"here", socket.local_end_point)
            assert await receive(socket, form) == b"here"


@every_form
@pytest.mark.parametrize("kind", [stdlib_socket.AF_INET, stdlib_socket.AF_UNIX])
async def test_a_stream_without_a_peer(kind: int, form: str) -> None:
    """The same code for every kind, whatever the kernel says."""
    with closing(Socket(kind)) as socket:
        with pytest.raises(SocketException) as caught:
            await receive(socket, form)
        assert caught.value.socket_error_code is SocketError.NOT_CONNECTED


async def test_a_stream_that_is_being_connected() -> None:
    """A receive does not wait for that, and does not learn in its stead why it failed."""
    with stdlib_socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = free.getsockname()
        with closing(Socket()) as socket:
            async with open_initiator():
                connecting = socket.begin_connect(address)
                args = SocketAsyncEventArgs(bytearray(8))
                assert socket.receive_async(args) is False
                assert args.socket_error is SocketError.NOT_CONNECTED
                with pytest.raises(SocketException) as caught:
                    await socket.end_connect(connecting)
                assert caught.value.socket_error_code is SocketError.CONNECTION_REFUSED


# What is refused -------------------------------------------------------------------------------


async def test_a_port_that_can_only_send_tells_it_through_the_args() -> None:
    async with open_initiator():
        with closing(Socket.from_port(ScriptedPort())) as socket:
            args = SocketAsyncEventArgs(bytearray(8))
            assert socket.receive_async(args) is False
            assert args.socket_error is SocketError.OPERATION_NOT_SUPPORTED
            with pytest.raises(SocketException, match=r"can only send$"):
                socket.begin_receive(bytearray(8), callback=never_called)


@pytest.mark.parametrize(
    ("configure", "sentence"),
    [
        ({}, r"^args has nothing to receive into"),
        ({"buffer": b"read-only"}, r"^buffer must be writable .* this bytes is read-only"),
        ({"buffer_list": [bytearray(1), b"!"]}, r"^buffer_list\[1\] must be writable"),
    ],
    ids=["nothing", "read-only", "read-only in a list"],
)
async def test_args_that_nothing_can_be_received_into(
    unix: Ends, configure: dict[str, Any], sentence: str
) -> None:
    """Nothing changes, and nothing is taken."""
    socket, peer = unix
    peer.send(b"hello")
    args = SocketAsyncEventArgs(**configure)
    async with open_initiator():
        with pytest.raises(ValueError, match=sentence):
            socket.receive_async(args)
    assert args.last_operation is SocketAsyncOperation.NONE
    assert await socket.receive() == b"hello"


async def test_the_order_of_the_checks_of_a_receive(unix: Ends) -> None:
    """Socket, args, their state, the buffer, the initiator."""
    socket, peer = unix
    peer.send(b"hello")
    bad = SocketAsyncEventArgs(b"read-only")
    with pytest.raises(ValueError, match=r"^buffer must be writable"):
        socket.receive_async(bad)
    with pytest.raises(ValueError, match=r"^buffer_or_list must be writable"):
        socket.begin_receive(b"read-only")
    with pytest.raises(ValueError, match=r"^buffer_or_list\[1\] must be writable"):
        socket.begin_receive([bytearray(1), b"read-only"])
    with pytest.raises(ValueError, match=r"^size is 9"):
        socket.begin_receive(bytearray(8), 0, 9)
    for start in (
        lambda: socket.receive_async(SocketAsyncEventArgs(bytearray(8))),
        lambda: socket.begin_receive(bytearray(8)),
    ):
        with pytest.raises(InvalidOperationError, match=r"^no initiator is open"):
            start()
    with pytest.raises(TypeError, match=r"^args must be a SocketAsyncEventArgs"):
        socket.receive_async(None)  # type: ignore[arg-type]
    bad.close()
    with pytest.raises(ObjectDisposedError, match=r"^these args were closed"):
        socket.receive_async(bad)
    assert await socket.receive() == b"hello"
    socket.close()
    with pytest.raises(ObjectDisposedError, match=r"^this socket was closed"):
        socket.receive_async(None)  # type: ignore[arg-type]
    with pytest.raises(ObjectDisposedError, match=r"^this socket was closed"):
        socket.begin_receive(None)  # type: ignore[arg-type]


# Flags -----------------------------------------------------------------------------------------


async def test_a_look_at_what_has_arrived(ends: Ends) -> None:
    """It takes nothing, also if it had to wait."""
    socket, peer = ends
    args = SocketAsyncEventArgs(bytearray(3))
    args.socket_flags = SocketFlags.PEEK
    async with open_initiator():
        assert socket.receive_async(args) is True
        peer.send(b"hello")
        assert await args.wait() == 3
        assert received(args) == b"hel"
        buffer = bytearray(8)
        assert socket.end_receive_nowait(socket.begin_receive(buffer, 0, 2, SocketFlags.PEEK)) == 2
        assert buffer == b"he\0\0\0\0\0\0"
    assert await socket.receive() == b"hello"


@pytest.mark.fact("F188")
@pytest.mark.parametrize("kind", KINDS[:2])
async def test_urgent_data(kind: str) -> None:
    """The one urgent byte is received apart from the others; where there is none, that is an error at once."""
    with connected(kind, tiny=False) as (socket, peer):
        async with open_initiator():
            args = SocketAsyncEventArgs(bytearray(8))
            args.socket_flags = SocketFlags.OUT_OF_BAND
            assert socket.receive_async(args) is False
            assert args.socket_error is SocketError.INVALID_ARGUMENT
            peer.send(b"abc", stdlib_socket.MSG_OOB)
            peer.send(b"def")
            assert await socket.receive(2) == b"ab"
            assert socket.receive_async(args) is False
            assert received(args) == b"c"
            assert await socket.receive() == b"def"


@pytest.mark.fact("F184")
@pytest.mark.parametrize(
    "flag",
    [
        SocketFlags.MAX_IO_VECTOR_LENGTH,
        SocketFlags.TRUNCATED,
        SocketFlags.CONTROL_DATA_TRUNCATED,
        SocketFlags.BROADCAST,
        SocketFlags.MULTICAST,
        SocketFlags.PARTIAL,
        SocketFlags.PEEK | SocketFlags.PARTIAL,
        SocketFlags(0x40),
    ],
)
async def test_flags_that_are_not_accepted(unix: Ends, flag: SocketFlags) -> None:
    """They are refused before the kernel sees them."""
    socket, peer = unix
    peer.send(b"hello")
    async with open_initiator():
        args = SocketAsyncEventArgs(bytearray(8))
        args.completed += never_called
        args.socket_flags = flag
        assert socket.receive_async(args) is False
        assert args.socket_error is SocketError.OPERATION_NOT_SUPPORTED
        assert args.socket_flags == flag
        with pytest.raises(SocketException, match=r"cannot be used to receive") as caught:
            socket.begin_receive(bytearray(8), 0, None, flag, never_called)
        assert caught.value.socket_error_code is SocketError.OPERATION_NOT_SUPPORTED
        assert await socket.receive() == b"hello"


# Buffers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("scatter", [False, True])
async def test_several_buffers_are_filled_one_after_the_other(
    ends: Ends, scatter: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only as far as there are bytes; a list is looked at when it is set."""
    if not scatter:
        monkeypatch.setattr("trio_send._kernel.port.HAVE_SCATTER", False)
    elif not HAVE_SCATTER:
        pytest.skip("there is no call for that here")
    socket, peer = ends
    shorts = array.array("H", [0] * 2)
    members: list[Any] = [bytearray(2), bytearray(), memoryview(bytearray(5))[1:4], shorts]
    args = SocketAsyncEventArgs(buffer_list=members)
    members.clear()
    async with open_initiator():
        assert socket.receive_async(args) is True
        peer.send(b"abcdefg")
        assert await args.wait() == 7
    assert [bytes(view) for view in args.remaining] == [b"\0\0"]
    assert bytes(shorts) == b"fg\0\0"


@pytest.mark.fact("F170", "F171")
async def test_more_buffers_than_the_kernel_takes_in_one_call() -> None:
    """A stream fills as many as go into one call. A datagram must be one call, or the rest of it would be lost."""
    lists = [bytearray(1) for _ in range(2000)]
    with connected("tcp4", tiny=False) as (socket, peer):
        async with open_initiator():
            data = bytes_of(2000)
            peer.sendall(data)
            count = 0
            while count < 2000:
                args = SocketAsyncEventArgs(buffer_list=lists[count:])
                if socket.receive_async(args):
                    await args.wait()
                assert 0 < args.bytes_transferred <= 1024
                count += args.bytes_transferred
            assert b"".join(lists) == data
    with stdlib_socket.socket(type=stdlib_socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        with closing(Socket(type=stdlib_socket.SOCK_DGRAM)) as socket:
            await socket.connect(peer.getsockname())
            peer.sendto(b"hello", socket.local_end_point)
            async with open_initiator():
                args = SocketAsyncEventArgs(buffer_list=lists)
                assert socket.receive_async(args) is False
                assert args.socket_error is SocketError.MESSAGE_SIZE
            assert await socket.receive() == b"hello"


async def test_a_buffer_that_shrinks_while_a_receive_waits(unix: Ends) -> None:
    """It is not locked meanwhile. The receive fails then, and takes nothing."""
    socket, peer = unix
    told = Told()
    args = room(told, "args")
    assert isinstance(args.buffer, bytearray)
    async with open_initiator():
        assert socket.receive_async(args) is True
        del args.buffer[4:]
        peer.send(b"hello")
        assert await args.wait() == 0
    assert told.events == [("args", SocketError.FAULT, 0)]
    assert await socket.receive() == b"hello"


async def test_a_view_that_was_released_before_the_start(unix: Ends) -> None:
    socket, peer = unix
    peer.send(b"hello")
    view = memoryview(bytearray(8))
    args = SocketAsyncEventArgs(view)
    view.release()
    async with open_initiator():
        assert socket.receive_async(args) is False
    assert args.socket_error is SocketError.FAULT
    assert await socket.receive() == b"hello"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="a class cannot have a __buffer__")
@pytest.mark.parametrize("deed", ["close", "cancel", "receive"])
@pytest.mark.parametrize("form", [form for form in FORMS if form.endswith("_async")])
async def test_a_buffer_with_a_will_of_its_own(unix: Ends, deed: str, form: str) -> None:
    """What its code does in the middle of an attempt comes first, and no byte is lost."""
    socket, peer = unix
    told = Told()
    memory = bytearray(8)
    armed = False

    class Meddler:
        def __buffer__(self, flags: int) -> memoryview:
            nonlocal armed
            if armed:
                armed = False
                if deed == "close":
                    socket.close()
                elif deed == "cancel":
                    assert args.cancel() is True
                else:
                    socket.receive_async(behind)
            return memoryview(memory)

    args, behind = told.args("args", Meddler()), room(told, "behind")
    async with open_initiator():
        assert getattr(socket, form)(args) is True
        armed = True
        peer.send(b"hello")
        await wait_all_tasks_blocked()
        assert not armed
        if deed == "receive":
            assert told.events == [("args", SocketError.SUCCESS, 5)]
            assert memory == b"hello\0\0\0"
            assert behind.pending
        else:
            assert told.events == [("args", SocketError.OPERATION_ABORTED, 0)]
            if deed == "cancel":
                assert await socket.receive() == b"hello"


# What runs in the middle ------------------------------------------------------------------------


def strike_once(
    monkeypatch: pytest.MonkeyPatch, where: Any, name: str, action: Callable[[], object]
) -> None:
    """Do something when a function of a module is called next, as a signal handler would."""
    real = getattr(where, name)

    def struck(*arguments: Any) -> Any:
        monkeypatch.setattr(where, name, real)
        action()
        return real(*arguments)

    monkeypatch.setattr(where, name, struck)


class OwnSocket(stdlib_socket.socket):
    """A socket of the system that does something when it has received, once.

    Attributes:
      then: what.
      asked: how much it was asked for, each time.
    """

    then: Callable[[], object] | None = None
    asked: list[int]

    def recv(self, *arguments: int) -> bytes:
        self.asked.append(arguments[0])
        data = super().recv(*arguments)
        then, self.then = self.then, None
        if then is not None:
            then()
        return data


def own_pair(stack: ExitStack) -> tuple[Socket, OwnSocket, stdlib_socket.socket]:
    """A socket of ours that was received from before, what it stands on, and its peer."""
    left, peer = stdlib_socket.socketpair()
    stack.enter_context(peer)
    own = OwnSocket(left.family, left.type, left.proto, left.detach())
    own.asked = []
    return stack.enter_context(closing(Socket.from_stdlib(own))), own, peer


async def receive_first(socket: Socket, peer: stdlib_socket.socket) -> None:
    """Receive once, after which `Socket.receive` goes the short way."""
    peer.send(b"first")
    assert await socket.receive() == b"first"


@pytest.mark.parametrize("later", [False, True])
async def test_of_the_kernel_no_more_than_64_mib_are_asked(stack: ExitStack, later: bool) -> None:
    socket, own, peer = own_pair(stack)
    if later:
        await receive_first(socket, peer)
    most = 64 * 1024 * 1024
    for asked in (most - 1, most, most + 1, sys.maxsize):
        peer.send(b"x")
        assert await socket.receive(asked) == b"x"
    assert own.asked[-4:] == [most - 1, most, most, most]


async def test_a_receive_that_is_begun_in_front_of_another_goes_first(
    unix: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what runs between the look whether somebody waits and the system call."""
    socket, peer = unix
    await receive_first(socket, peer)
    begun: list[AsyncResult] = []
    room = bytearray(2)

    def begin() -> None:
        begun.append(socket.begin_receive(room))
        peer.send(b"hello")

    async with open_initiator():
        strike_once(monkeypatch, trio.lowlevel, "checkpoint_if_cancelled", begin)
        assert await socket.receive() == b"llo"
        assert await socket.end_receive(begun[0]) == 2
    assert room == b"he"


async def test_a_receive_that_is_begun_behind_another_has_its_turn(stack: ExitStack) -> None:
    """By what runs when the bytes have come and the call has not returned."""
    socket, own, peer = own_pair(stack)
    await receive_first(socket, peer)
    begun: list[AsyncResult] = []
    room = bytearray(8)
    async with open_initiator():
        own.then = lambda: begun.append(socket.begin_receive(room))
        peer.send(b"hello")
        assert await socket.receive() == b"hello"
        assert not begun[0].is_completed
        peer.send(b"later")
        assert await socket.end_receive(begun[0]) == 5
    assert room == b"later\0\0\0"


async def test_what_is_no_error_of_a_socket_leaves_the_receive_and_leaves_nothing(
    stack: ExitStack,
) -> None:
    """Those behind it have their turn, and no byte is lost."""
    socket, own, peer = own_pair(stack)
    await receive_first(socket, peer)
    begun: list[AsyncResult] = []
    room = bytearray(8)

    def fail() -> None:
        begun.append(socket.begin_receive(room))
        raise ZeroDivisionError

    async with open_initiator():
        peer.send(b"gone")
        own.then = fail
        with pytest.raises(ZeroDivisionError):
            await socket.receive()
        peer.send(b"hello")
        assert await socket.end_receive(begun[0]) == 5
    assert room == b"hello\0\0\0"
    peer.send(b"later")
    assert await socket.receive() == b"later"


@pytest.mark.parametrize("deed", ["close", "cancel"])
@pytest.mark.parametrize("form", ["receive", "receive_async"])
async def test_a_stop_in_front_of_the_call_of_a_drain_takes_nothing(
    unix: Ends, form: str, deed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has arrived stays with the kernel, for whoever receives next."""
    socket, peer = unix
    args = SocketAsyncEventArgs(bytearray(8))
    scope = trio.CancelScope()
    told: list[str] = []

    async def receive() -> None:
        with scope:
            try:
                await socket.receive()
            except ObjectDisposedError:
                told.append("close")
        if scope.cancelled_caught:
            told.append("cancel")

    def stop() -> None:
        if deed == "close":
            socket.close()
        elif form == "receive":
            scope.cancel()
        else:
            assert args.cancel() is True

    with stdlib_socket.socket(fileno=os.dup(socket.fileno())) as twin:
        async with open_initiator(), trio.open_nursery() as nursery:
            first = socket.begin_receive(bytearray(1))
            if form == "receive":
                nursery.start_soon(receive)
            else:
                assert socket.receive_async(args) is True
            await wait_all_tasks_blocked()
            # Each attempt asks once; the second is the one to be stopped.
            strike_once(
                monkeypatch,
                steps,
                "core_of",
                lambda: strike_once(monkeypatch, steps, "core_of", stop),
            )
            peer.send(b"1hello")
            await wait_all_tasks_blocked()
            assert first.bytes_transferred == 1
            if form == "receive":
                assert told == [deed]
            else:
                assert args.socket_error is SocketError.OPERATION_ABORTED
                assert args.bytes_transferred == 0
        assert twin.recv(100) == b"hello"


# Results ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("pending", [False, True])
async def test_a_callback_takes_its_result(ends: Ends, pending: bool) -> None:
    """Never from inside the call that begins, and once."""
    socket, peer = ends
    log: list[tuple[int, object]] = []
    told = trio.Event()

    def callback(ar: AsyncResult) -> None:
        assert ar.is_completed
        log.append((socket.end_receive_nowait(ar), ar.async_state))
        told.set()

    if not pending:
        peer.send(b"hello")
        await trio.lowlevel.wait_readable(socket.trio)
    buffer = bytearray(8)
    async with open_initiator():
        result = socket.begin_receive(buffer, 1, 6, callback=callback, state="mine")
        assert log == []
        assert result.completed_synchronously is not pending
        if pending:
            assert not result.is_completed
            with pytest.raises(trio.WouldBlock):
                socket.end_receive_nowait(result)
            peer.send(b"hello")
        await told.wait()
        await wait_all_tasks_blocked()
        with pytest.raises(InvalidOperationError, match=r"called for this result already"):
            await socket.end_receive(result)
    assert log == [(5, "mine")]
    assert buffer == b"\0hello\0\0"
    assert repr(result) == "<AsyncResult: RECEIVE, SUCCESS, 5 of 6 bytes received>"


@pytest.mark.fact("F037")
async def test_a_result_is_taken_by_its_own_end_method(unix: Ends) -> None:
    """.NET takes the one for the other; here the mistake is told, and the result left as it was."""
    socket, peer = unix
    peer.send(b"hello")
    async with open_initiator():
        reading = socket.begin_receive(bytearray(8))
        writing = socket.begin_send(b"x")
        with pytest.raises(ValueError, match=r"the result of RECEIVE, not of SEND"):
            await socket.end_send(reading)
        with pytest.raises(ValueError, match=r"the result of SEND, not of RECEIVE"):
            await socket.end_receive(writing)
        with pytest.raises(ValueError, match=r"the result of SEND, not of RECEIVE"):
            socket.end_receive_nowait(writing)
        assert await socket.end_receive(reading) == 5
        assert await socket.end_send(writing) == 1


async def test_a_task_may_stop_waiting_for_a_result(unix: Ends) -> None:
    socket, peer = unix
    buffer = bytearray(8)
    async with open_initiator():
        result = socket.begin_receive(buffer)
        with trio.move_on_after(0) as scope:
            await socket.end_receive(result)
        assert scope.cancelled_caught
        peer.send(b"hello")
        assert await result.async_wait_handle.wait_one()
        assert await socket.end_receive(result) == 5
    assert buffer[:5] == b"hello"
    assert nothing_to_read(peer)


@pytest.mark.parametrize("pending", [False, True])
async def test_args_that_have_received_do_not_keep_a_socket_alive(pending: bool) -> None:
    args = SocketAsyncEventArgs(bytearray(8))
    args.completed += lambda *_: None
    left, peer = stdlib_pair("unix")
    with peer:
        async with open_initiator():
            socket = Socket.from_stdlib(left)
            del left
            if not pending:
                peer.send(b"hello")
            assert socket.receive_async(args) is pending
            peer.send(b"hello")
            await args.wait()
            await wait_all_tasks_blocked()
            socket.close()
            reference = weakref.ref(socket)
            del socket
            gc.collect()
            assert reference() is None


# Any sizes, any order --------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_receives_give_the_stream_as_it_was_sent(data: st.DataObject) -> None:
    """Whatever forms they have, whenever bytes arrive, and whichever are stopped: in order, nothing lost or doubled."""
    stream = bytes_of(400, seed=7)
    cuts = data.draw(st.lists(st.integers(0, 400), max_size=8).map(sorted), label="arrivals")
    arrivals = [stream[start:end] for start, end in pairwise([0, *cuts, 400])]
    got: list[tuple[int, bytes]] = []
    outcomes: list[Any] = []
    starts = st.lists(st.tuples(st.integers(1, 90), st.booleans()), max_size=3)

    async def main() -> None:
        left, peer = stdlib_pair("unix")
        pending: list[tuple[int, SocketAsyncEventArgs | AsyncResult, bytearray]] = []
        number = 0

        def take(number: int, operation: Any, buffer: bytearray) -> None:
            outcomes.append(operation.outcome)
            got.append((number, bytes(buffer[: operation.bytes_transferred])))

        def start(size: int, begin: bool) -> None:
            nonlocal number
            number += 1
            buffer = bytearray(size)
            if begin:
                result = socket.begin_receive(buffer)
                pending.append((number, result, buffer))
            else:
                args = SocketAsyncEventArgs(buffer)
                if socket.receive_async(args):
                    pending.append((number, args, buffer))
                else:
                    take(number, args, buffer)

        async def sweep() -> None:
            """Take what has ended."""
            await wait_all_tasks_blocked()
            for entry in pending[:]:
                if not (
                    entry[1].is_completed
                    if isinstance(entry[1], AsyncResult)
                    else not entry[1].pending
                ):
                    continue
                pending.remove(entry)
                take(*entry)

        with peer, closing(Socket.from_stdlib(left)) as socket:
            async with open_initiator():
                for arrival in arrivals:
                    for size, begin in data.draw(starts, label="starts"):
                        start(size, begin)
                    peer.send(arrival)
                    if pending and data.draw(st.booleans(), label="stop"):
                        data.draw(st.sampled_from(pending), label="which")[1].cancel()
                    await sweep()
                peer.shutdown(stdlib_socket.SHUT_WR)
                while Value(0) not in outcomes:
                    start(90, begin=False)
                    await sweep()

    trio.run(main)
    assert b"".join(piece for _, piece in sorted(got)) == stream


# Ctrl-C ----------------------------------------------------------------------------------------


class CtrlCPort(KernelPort):
    """A port at which Ctrl-C is pressed as soon as bytes were received."""

    def receive_into(self, views: Sequence[memoryview], flags: int) -> int:
        count = super().receive_into(views, flags)
        assert trio.lowlevel.currently_ki_protected()
        signal.raise_signal(signal.SIGINT)
        return count


@pytest.mark.usefixtures("python_handles_ctrl_c")
@pytest.mark.parametrize("pending", [False, True])
@pytest.mark.parametrize("form", ["receive_into", "receive_async", "begin_receive"])
def test_ctrl_c_inside_the_system_call_loses_no_byte(
    form: str, pending: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was received is told; Ctrl-C is heard at the main task's next checkpoint."""
    buffer = bytearray(8)
    counts: list[int] = []

    async def main() -> None:
        left, peer = stdlib_pair("unix")
        with peer, closing(Socket.from_port(CtrlCPort(left))) as socket:
            async with open_initiator():
                if pending:
                    trio.lowlevel.spawn_system_task(send_when_quiet, peer)
                else:
                    peer.send(b"hello")
                if form == "receive_into":
                    counts.append(await socket.receive_into(buffer))
                elif form == "receive_async":
                    args = SocketAsyncEventArgs(buffer)
                    args.completed += lambda _, e: counts.append(e.bytes_transferred)
                    if not socket.receive_async(args):
                        counts.append(args.bytes_transferred)
                else:
                    socket.begin_receive(
                        buffer, callback=lambda ar: counts.append(socket.end_receive_nowait(ar))
                    )
                await trio.sleep_forever()

    async def send_when_quiet(peer: stdlib_socket.socket) -> None:
        await wait_all_tasks_blocked()
        peer.send(b"hello")

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)
    assert counts == [5]
    assert buffer == b"hello\0\0\0"
