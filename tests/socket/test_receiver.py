"""Hold a `Receiver` to whole messages, however they arrive, and whatever is cancelled meanwhile.

Modules: _socket.guard.
"""

from __future__ import annotations

import signal
import socket as stdlib_socket
from collections.abc import Awaitable, Callable
from contextlib import closing
from typing import Any

import pytest
import trio
from hypothesis import given, settings, strategies as st
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from tests.helpers import (
    Ends,
    bytes_of,
    connected,
    ends as ends,
    kind as kind,
    python_handles_ctrl_c as python_handles_ctrl_c,
    reset,
    scripted,
    stdlib_pair,
    unix as unix,
)
from trio_send import (
    ObjectDisposedError,
    Receiver,
    Socket,
    SocketError,
    SocketException,
)

Call = Callable[[Receiver], Awaitable[bytes]]


def exactly(receiver: Receiver) -> Awaitable[bytes]:
    return receiver.receive_exactly(5)


def until(receiver: Receiver) -> Awaitable[bytes]:
    return receiver.receive_until(b"\r\n", 5)


#: Each way to ask for the message of five bytes, and what stands on the connection for it.
WAYS = {"exactly": (exactly, b"hello"), "until": (until, b"hello\r\n")}

every_way = pytest.mark.parametrize(("call", "wire"), WAYS.values(), ids=WAYS)


# Whole messages ---------------------------------------------------------------------------------


@every_way
async def test_a_message_that_arrives_in_one_piece(ends: Ends, call: Call, wire: bytes) -> None:
    socket, peer = ends
    receiver = Receiver(socket)
    assert receiver.socket is socket
    peer.send(wire)
    assert await call(receiver) == b"hello"
    assert receiver.held_bytes == 0


@every_way
async def test_a_message_that_arrives_byte_by_byte(unix: Ends, call: Call, wire: bytes) -> None:
    socket, peer = unix
    receiver = Receiver(socket)
    got: list[bytes] = []

    async def receive() -> None:
        got.append(await call(receiver))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        for number, byte in enumerate(wire):
            await wait_all_tasks_blocked()
            assert got == []
            assert receiver.held_bytes == number
            peer.send(bytes([byte]))
    assert got == [b"hello"]
    assert receiver.held_bytes == 0


@every_way
async def test_what_stands_behind_a_message_is_kept(unix: Ends, call: Call, wire: bytes) -> None:
    socket, peer = unix
    receiver = Receiver(socket)
    peer.send(wire * 3 + b"rest")
    for _ in range(3):
        assert await call(receiver) == b"hello"
    assert receiver.held_bytes == 4
    with assert_checkpoints():
        assert await receiver.receive_exactly(receiver.held_bytes) == b"rest"


async def test_a_message_of_many_receives(ends: Ends) -> None:
    socket, peer = ends
    data = bytes_of(500_000)
    receiver = Receiver(socket)

    async def send() -> None:
        left = memoryview(data)
        while left:
            try:
                left = left[peer.send(left) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(peer)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        assert await receiver.receive_exactly(400_000) == data[:400_000]
        assert await receiver.receive_exactly(100_000) == data[400_000:]


@settings(deadline=None, max_examples=100)
@given(
    messages=st.lists(st.binary(max_size=6).filter(lambda data: b"--" not in data), max_size=8),
    cuts=st.lists(st.integers(1, 5), max_size=40),
    cancelled=st.lists(st.booleans(), max_size=80),
)
def test_any_cuts_and_cancellations_leave_every_message_whole(
    messages: list[bytes], cuts: list[int], cancelled: list[bool]
) -> None:
    """Headers of known length and bodies that end with a delimiter, in turn."""
    # A body's last character must not be part of its delimiter.
    bodies = [message + b"." for message in messages]
    wire = b"".join(b"%03d" % number + body + b"--" for number, body in enumerate(bodies))
    got: list[bytes] = []

    async def main() -> None:
        left, peer = stdlib_pair("unix")
        peer.setblocking(False)
        with peer, closing(Socket.from_stdlib(left)) as socket:
            receiver = Receiver(socket)
            stops, pieces, left_over = iter(cancelled), iter(cuts), memoryview(wire)

            async def feed(scope: trio.CancelScope | None) -> None:
                """Send piece after piece; if there is a scope to cancel, at the same moment as the first."""
                nonlocal left_over
                while left_over:
                    await wait_all_tasks_blocked()
                    size = next(pieces, 5)
                    peer.send(left_over[:size])
                    left_over = left_over[size:]
                    if scope is not None:
                        scope.cancel()
                        return

            async def ask(call: Callable[..., Awaitable[bytes]], *args: Any) -> bytes:
                while True:
                    stop = next(stops, False)
                    with trio.CancelScope() as scope:
                        async with trio.open_nursery() as nursery:
                            nursery.start_soon(feed, scope if stop else None)
                            data = await call(*args)
                            nursery.cancel_scope.cancel()
                        return data

            for _ in bodies:
                header = await ask(receiver.receive_exactly, 3)
                got.append(header + await ask(receiver.receive_until, b"--", 7))

    trio.run(main)
    assert got == [b"%03d" % number + body for number, body in enumerate(bodies)]


# Cancelled, and failed --------------------------------------------------------------------------


@every_way
async def test_a_cancelled_call_loses_nothing(unix: Ends, call: Call, wire: bytes) -> None:
    socket, peer = unix
    receiver = Receiver(socket)
    peer.send(wire[:3])
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call, receiver)
            await wait_all_tasks_blocked()
            scope.cancel()
    assert receiver.held_bytes == 3
    peer.send(wire[3:])
    assert await call(receiver) == b"hello"


@every_way
@pytest.mark.parametrize("arrived", [False, True])
async def test_a_call_in_a_cancelled_scope_takes_nothing(
    unix: Ends, call: Call, wire: bytes, arrived: bool
) -> None:
    socket, peer = unix
    receiver = Receiver(socket)
    peer.send(wire + wire)
    if arrived:
        await call(receiver)
    with trio.CancelScope() as scope:
        scope.cancel()
        await call(receiver)
    assert scope.cancelled_caught
    assert receiver.held_bytes == (len(wire) if arrived else 0)
    assert await call(receiver) == b"hello"


@every_way
async def test_the_end_behind_a_message_and_inside_one(unix: Ends, call: Call, wire: bytes) -> None:
    socket, peer = unix
    receiver = Receiver(socket)
    peer.send(wire + wire[:4])
    peer.shutdown(stdlib_socket.SHUT_WR)
    assert await call(receiver) == b"hello"
    for _ in range(2):
        with pytest.raises(EOFError, match=r"^the peer has finished with 4 bytes .*still has$"):
            await call(receiver)
        assert receiver.held_bytes == 4
    assert await receiver.receive_exactly(4) == wire[:4]
    with pytest.raises(EOFError, match=r"^the peer has finished behind a whole message"):
        await call(receiver)


@every_way
async def test_a_connection_that_breaks_leaves_what_has_arrived(call: Call, wire: bytes) -> None:
    with connected("tcp4") as (socket, peer):
        receiver = Receiver(socket)
        peer.send(wire[:4])
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(call, receiver)
                await wait_all_tasks_blocked()
                scope.cancel()
        reset(peer)
        with pytest.raises(SocketException) as caught:
            await call(receiver)
        assert caught.value.socket_error_code is SocketError.CONNECTION_RESET
        assert await receiver.receive_exactly(4) == wire[:4]


@every_way
async def test_a_socket_that_is_closed(unix: Ends, call: Call, wire: bytes) -> None:
    socket, peer = unix
    receiver = Receiver(socket)
    peer.send(wire * 2)
    await call(receiver)
    socket.close()
    with pytest.raises(ObjectDisposedError):
        await call(receiver)


@pytest.mark.usefixtures("python_handles_ctrl_c")
@every_way
def test_ctrl_c_between_two_receives_loses_no_byte(
    call: Call, wire: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was received is held before Ctrl-C is heard."""
    held: list[int] = []
    real = Socket.receive

    async def receive(self: Socket) -> bytes:
        data = await real(self)
        signal.raise_signal(signal.SIGINT)
        return data

    monkeypatch.setattr(Socket, "receive", receive)

    async def main() -> None:
        left, peer = stdlib_pair("unix")
        with peer, closing(Socket.from_stdlib(left)) as socket:
            receiver = Receiver(socket)
            peer.send(wire[:3])
            try:
                await call(receiver)
            finally:
                held.append(receiver.held_bytes)

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)
    assert held == [3]


# Delimiters -------------------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [b"\n", b"\r\n", bytearray(b"aab"), memoryview(b"aaa")])
@pytest.mark.parametrize("cut", range(6))
async def test_a_delimiter_that_lies_across_two_pieces(
    unix: Ends, delimiter: Any, cut: int
) -> None:
    socket, peer = unix
    receiver = Receiver(socket)
    wire = b"a." + bytes(delimiter) + b"rest"
    got: list[bytes] = []

    async def receive() -> None:
        got.append(await receiver.receive_until(delimiter, 2))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await wait_all_tasks_blocked()
        peer.send(wire[:cut])
        await wait_all_tasks_blocked()
        peer.send(wire[cut:])
    assert got == [b"a."]
    assert await receiver.receive_exactly(4) == b"rest"


async def test_messages_of_no_bytes(unix: Ends) -> None:
    socket, peer = unix
    receiver = Receiver(socket)
    peer.send(b"\n\n")
    assert await receiver.receive_until(b"\n", 0) == b""
    assert await receiver.receive_until(b"\n", 0) == b""
    with assert_checkpoints():
        assert await receiver.receive_exactly(0) == b""


@pytest.mark.parametrize("in_one_piece", [True, False])
async def test_a_message_may_have_so_many_bytes_and_not_one_more(
    unix: Ends, in_one_piece: bool
) -> None:
    socket, peer = unix
    receiver = Receiver(socket)

    async def send(data: bytes) -> None:
        for piece in [data] if in_one_piece else [bytes([byte]) for byte in data]:
            peer.send(piece)
            await wait_all_tasks_blocked()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send, b"12345\r\n")
        assert await receiver.receive_until(b"\r\n", 5) == b"12345"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send, b"123456\r\n")
        for _ in range(2):
            with pytest.raises(SocketException, match="larger max_bytes") as caught:
                await receiver.receive_until(b"\r\n", 5)
            assert caught.value.socket_error_code is SocketError.MESSAGE_SIZE
    assert await receiver.receive_until(b"\r\n", 6) == b"123456"


async def test_a_message_that_is_too_long_is_not_waited_for(unix: Ends) -> None:
    """As many bytes have come as the longest message and its delimiter have: what follows cannot matter."""
    socket, peer = unix
    receiver = Receiver(socket)
    peer.send(b"1234567")
    with pytest.raises(SocketException):
        await receiver.receive_until(b"\r\n", 5)
    assert receiver.held_bytes == 7


# What is refused --------------------------------------------------------------------------------


@every_way
async def test_one_task_at_a_time(unix: Ends, call: Call, wire: bytes) -> None:
    socket, peer = unix
    receiver = Receiver(socket)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call, receiver)
        await wait_all_tasks_blocked()
        for other, _ in WAYS.values():
            with pytest.raises(trio.BusyResourceError, match="receiving through this receiver"):
                await other(receiver)
        peer.send(wire)
    peer.send(wire)
    assert await call(receiver) == b"hello"


@every_way
async def test_a_call_is_a_checkpoint(unix: Ends, call: Call, wire: bytes) -> None:
    socket, peer = unix
    receiver = Receiver(socket)
    peer.send(wire * 2)
    for _ in range(2):  # the second message is there already
        with assert_checkpoints():
            await call(receiver)


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda r: r.receive_exactly(-1), ValueError, "^n is -1, but must be a number of bytes"),
        (lambda r: r.receive_exactly("5"), TypeError, "^n must be a whole number of bytes"),
        (lambda r: r.receive_until(b"", 5), ValueError, "^delimiter is empty"),
        (lambda r: r.receive_until("\n", 5), TypeError, "^delimiter must be a bytes-like"),
        (lambda r: r.receive_until(None, 5), TypeError, "^delimiter is None"),
        (lambda r: r.receive_until(b"\n", -1), ValueError, "^max_bytes is -1"),
        (lambda r: r.receive_until(b"\n", 5.0), TypeError, "^max_bytes must be a whole number"),
    ],
)
async def test_arguments_that_make_no_sense(
    unix: Ends, call: Any, error: type[Exception], sentence: str
) -> None:
    socket, peer = unix
    receiver = Receiver(socket)
    peer.send(b"hello")
    with pytest.raises(error, match=sentence):
        await call(receiver)
    assert await receiver.receive_exactly(5) == b"hello"


def test_what_is_no_stream_socket() -> None:
    with closing(Socket(type=stdlib_socket.SOCK_DGRAM)) as socket:
        with pytest.raises(ValueError, match=r"^socket is no stream socket"):
            Receiver(socket)
    left, right = stdlib_pair("unix")
    with left, right, pytest.raises(TypeError, match=r"^socket must be a trio_send.Socket"):
        Receiver(left)  # type: ignore[arg-type]
    socket, _ = scripted()
    with pytest.raises(SocketException) as caught:
        Receiver(socket)
    assert caught.value.socket_error_code is SocketError.OPERATION_NOT_SUPPORTED


async def test_a_receiver_shows_what_it_holds(unix: Ends) -> None:
    socket, peer = unix
    receiver = Receiver(socket)
    peer.send(b"a\nbc")
    await receiver.receive_until(b"\n", 1)
    assert repr(receiver) == f"<Receiver of {socket!r}: 2 bytes held>"
