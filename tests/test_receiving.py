"""Hold receiving to what it says: in order, as soon as there is something, and nothing taken by what was cancelled."""

from __future__ import annotations

import array
import mmap
import socket as stdlib_socket
import struct
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from tests.helpers import BIG, KINDS, bytes_of, connected, read_exactly, stdlib_pair
from trio_send import (
    ObjectDisposedError,
    Socket,
    SocketError,
    SocketException,
    SocketShutdown,
    open_initiator,
)
from trio_send.testing import ScriptedPort

Ends = tuple[Socket, stdlib_socket.socket]


@pytest.fixture(params=KINDS)
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    """A stream, with one of ours at the one end and a plain socket at the other."""
    with connected(request.param) as both:
        yield both


@pytest.fixture
def unix() -> Iterator[Ends]:
    """The same, where the kind makes no difference."""
    with connected("unix") as both:
        yield both


INTO = (False, True)

either_form = pytest.mark.parametrize("into", INTO, ids=["receive", "receive_into"])


async def receive(socket: Socket, into: bool, max_bytes: int = 65536) -> bytes:
    """Receive in one of the two forms."""
    if not into:
        return await socket.receive(max_bytes)
    buffer = bytearray(max_bytes)
    return bytes(buffer[: await socket.receive_into(buffer)])


@either_form
@pytest.mark.parametrize("first", ["the bytes", "the receive"])
async def test_receiving_what_has_arrived(ends: Ends, into: bool, first: str) -> None:
    """As soon as something has, and no more than was asked for."""
    socket, peer = ends
    log: list[bytes] = []

    async def run() -> None:
        log.append(await receive(socket, into, 3))

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
    assert await receive(socket, into) == b"lo"


@either_form
async def test_a_long_stream_arrives_as_it_was_sent(ends: Ends, into: bool) -> None:
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
        while piece := await receive(socket, into, 50_000):
            received += piece
    assert received == data


@either_form
async def test_the_end_of_the_stream(ends: Ends, into: bool) -> None:
    """No bytes, and as often as one asks (F289); the other direction goes on."""
    socket, peer = ends
    peer.send(b"last words")
    peer.shutdown(stdlib_socket.SHUT_WR)
    assert await receive(socket, into) == b"last words"
    assert await receive(socket, into) == b""
    assert await receive(socket, into) == b""
    assert await socket.send(b"answer") == 6
    assert await read_exactly(peer, 6) == b"answer"


@either_form
async def test_the_own_end_of_receiving(ends: Ends, into: bool) -> None:
    """It releases who waits."""
    socket, _ = ends
    log: list[bytes] = []

    async def run() -> None:
        log.append(await receive(socket, into))

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
        log.append((number, await receive(socket, bool(number % 2), 4)))

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


@either_form
async def test_a_receive_that_was_cancelled_takes_nothing(ends: Ends, into: bool) -> None:
    """Neither the first in the row nor one in the middle, nor one in a scope that was cancelled before."""
    socket, peer = ends
    log: list[bytes] = []

    async def run(scope: trio.CancelScope) -> None:
        with scope:
            log.append(await receive(socket, into, 4))

    scopes = [trio.CancelScope() for _ in range(4)]
    async with trio.open_nursery() as nursery:
        for scope in scopes:
            nursery.start_soon(run, scope)
            await wait_all_tasks_blocked()
        scopes[0].cancel()
        scopes[2].cancel()
        await wait_all_tasks_blocked()
        peer.send(b"aaaabbbbcccc")
    assert log == [b"aaaa", b"bbbb"]
    with trio.CancelScope() as scope:
        scope.cancel()
        await receive(socket, into)
    assert scope.cancelled_caught
    assert await receive(socket, into) == b"cccc"


@either_form
async def test_a_receive_that_is_cancelled_as_bytes_arrive_takes_all_or_nothing(
    ends: Ends, into: bool
) -> None:
    """Whichever of the two the task hears of, no byte is lost."""
    socket, peer = ends
    log: list[bytes] = []

    async def run() -> None:
        log.append(await receive(socket, into, 4))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await wait_all_tasks_blocked()
        peer.send(b"aaaabbbb")
        nursery.cancel_scope.cancel()
    peer.shutdown(stdlib_socket.SHUT_WR)
    while piece := await receive(socket, into):
        log.append(piece)
    assert b"".join(log) == b"aaaabbbb"


@either_form
async def test_receiving_is_always_a_checkpoint(ends: Ends, into: bool) -> None:
    socket, peer = ends
    peer.send(b"x")
    with assert_checkpoints():
        await receive(socket, into)
    peer.shutdown(stdlib_socket.SHUT_WR)
    with assert_checkpoints():
        await receive(socket, into)


@either_form
@pytest.mark.parametrize("kind", KINDS[:2])
async def test_a_reset_by_the_peer(kind: str, into: bool) -> None:
    """It releases who waits, all of them with an error that speaks of no bytes."""
    left, peer = stdlib_pair(kind)
    errors: list[SocketException] = []

    async def run() -> None:
        with pytest.raises(SocketException) as caught:
            await receive(socket, into)
        errors.append(caught.value)

    with closing(Socket.from_stdlib(left)) as socket, peer:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await wait_all_tasks_blocked()
            linger = struct.pack("ii", 1, 0)
            peer.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_LINGER, linger)
            peer.close()
        [error] = errors
        assert error.socket_error_code is SocketError.CONNECTION_RESET
        assert "byte" not in str(error)


@either_form
async def test_a_socket_that_was_never_connected(into: bool) -> None:
    with closing(Socket()) as socket:
        with pytest.raises(SocketException) as caught:
            await receive(socket, into)
        assert caught.value.socket_error_code is SocketError.NOT_CONNECTED


@either_form
async def test_a_port_that_can_only_send(into: bool) -> None:
    with closing(Socket.from_port(ScriptedPort())) as socket:
        with pytest.raises(SocketException, match=r"can only send$") as caught:
            await receive(socket, into)
        assert caught.value.socket_error_code is SocketError.OPERATION_NOT_SUPPORTED


@either_form
async def test_closing_releases_those_who_wait(ends: Ends, into: bool) -> None:
    """Each with 995."""
    socket, _ = ends
    errors: list[SocketError] = []

    async def run() -> None:
        with pytest.raises(SocketException) as caught:
            await receive(socket, into)
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
        (b"read-only", TypeError, r"^buffer must be writable, but this bytes is read-only"),
        (memoryview(bytearray(8))[::2], TypeError, r"^buffer must be contiguous"),
        (bytearray(), ValueError, r"^buffer is empty"),
    ],
    ids=["none", "text", "number", "read-only", "strided", "empty"],
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


@pytest.mark.parametrize("max_bytes", [0, -1])
async def test_at_least_one_byte_must_be_asked_for(unix: Ends, max_bytes: int) -> None:
    socket, peer = unix
    peer.send(b"hello")
    with pytest.raises(ValueError, match=f"^max_bytes is {max_bytes}"):
        await socket.receive(max_bytes)
    assert await socket.receive() == b"hello"


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


@either_form
async def test_datagrams_are_received_one_at_a_time(into: bool) -> None:
    """What does not fit of one is lost, as the system has it; an empty one is no end."""
    with stdlib_socket.socket(type=stdlib_socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        with closing(Socket(type=stdlib_socket.SOCK_DGRAM)) as socket:
            await socket.connect(peer.getsockname())
            for datagram in (b"one", b"", b"three", b"four"):
                peer.sendto(datagram, socket.local_end_point)
            assert await receive(socket, into) == b"one"
            assert await receive(socket, into) == b""
            assert await receive(socket, into, 3) == b"thr"
            assert await receive(socket, into) == b"four"


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
