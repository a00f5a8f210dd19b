"""Hold packets that end their connection to doing so when all has gone, and not before."""

from __future__ import annotations

import errno
import socket as stdlib_socket
import sys
from contextlib import ExitStack, closing
from typing import Any

import pytest

from tests.datagrams import receiver
from tests.helpers import BIG, Ends, ends as ends, kind as kind, read_exactly
from tests.scripted import SpyPort
from trio_send import (
    SendPacketsElement,
    Socket,
    SocketAsyncEventArgs,
    SocketError,
    SocketException,
    TransmitFileOptions,
    open_initiator,
)
from trio_send.testing import Blocked

NOTHING = TransmitFileOptions.USE_DEFAULT_WORKER_THREAD
DISCONNECT = TransmitFileOptions.DISCONNECT
REUSE = TransmitFileOptions.REUSE_SOCKET


def packets(data: bytes, flags: TransmitFileOptions = DISCONNECT) -> SocketAsyncEventArgs:
    args = SocketAsyncEventArgs()
    args.send_packets_elements = [SendPacketsElement(data)]
    args.send_packets_flags = flags
    return args


def test_what_can_be_set() -> None:
    """The numbers are .NET's."""
    assert [NOTHING, DISCONNECT, REUSE] == [0, 1, 2]
    args = SocketAsyncEventArgs()
    assert args.send_packets_flags is NOTHING
    args.send_packets_flags = DISCONNECT | REUSE
    assert args.send_packets_flags == 3
    args.send_packets_flags = 1  # type: ignore[assignment]
    assert args.send_packets_flags is DISCONNECT
    for bad in (4, -1, 16, "DISCONNECT", None):
        with pytest.raises(ValueError, match=r"^send_packets_flags is .*, but must be Transmit"):
            args.send_packets_flags = bad  # type: ignore[assignment]
    assert args.send_packets_flags is DISCONNECT


@pytest.mark.parametrize("data", [b"hello", b""])
async def test_on_the_spot(ends: Ends, data: bytes) -> None:
    socket, peer = ends
    args = packets(data)
    async with open_initiator():
        assert socket.send_packets_async(args) is False
        assert args.socket_error is SocketError.SUCCESS
        assert args.bytes_transferred == len(data)
        assert not socket.connected
        assert socket.send_packets_async(args) is False
        assert args.socket_error is SocketError.SHUTDOWN
    assert await read_exactly(peer, len(data)) == data
    assert peer.recv(1) == b""


async def test_without_flags_the_connection_stands(ends: Ends) -> None:
    socket, _ = ends
    args = packets(b"hello", NOTHING)
    async with open_initiator():
        assert socket.send_packets_async(args) is False
    assert socket.connected


async def test_when_all_has_gone(ends: Ends) -> None:
    """The peer reads everything, then the end; whoever is told finds it ended; what stood behind is refused."""
    socket, peer = ends
    args = packets(BIG)
    told: list[tuple[bool, int]] = []
    args.completed += lambda sock, args: told.append((sock.connected, args.bytes_transferred))
    async with open_initiator():
        assert socket.send_packets_async(args) is True
        behind = socket.begin_send(b"behind")
        receive = socket.begin_receive(bytearray(9))
        assert socket.connected
        assert await read_exactly(peer, len(BIG)) == BIG
        assert await args.wait() == len(BIG)
        assert told == [(False, len(BIG))]
        assert await socket.try_end_send(behind) == (0, SocketError.SHUTDOWN)
        assert await socket.end_receive(receive) == 0
    assert peer.recv(1) == b""
    assert args.socket_error is SocketError.SUCCESS


@pytest.mark.parametrize("size", [5, len(BIG)])
@pytest.mark.parametrize("flags", [REUSE, DISCONNECT | REUSE])
async def test_a_socket_that_is_connected_again(size: int, flags: TransmitFileOptions) -> None:
    with closing(Socket()) as listener, closing(Socket()) as client, ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        client.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_SNDBUF, 10_000)
        args = packets(BIG[:size], flags)
        async with open_initiator():
            for _ in range(2):
                await client.connect(listener.local_end_point)
                server = stack.enter_context(closing(await listener.accept()))
                pending = client.send_packets_async(args)
                received = bytearray()
                while data := await server.receive():
                    received += data
                assert received == BIG[:size]
                if pending:
                    await args.wait()
                assert args.socket_error is SocketError.SUCCESS
                assert args.bytes_transferred == size
                assert not client.connected
                with pytest.raises(SocketException) as caught:
                    await client.send(b"x")
                assert caught.value.socket_error_code is SocketError.NOT_CONNECTED


async def test_who_is_stopped_does_not_disconnect(ends: Ends) -> None:
    """The rest ends the connection when it has gone."""
    socket, peer = ends
    args = packets(BIG)
    async with open_initiator():
        assert socket.send_packets_async(args) is True
        args.cancel()
        await args.wait()
        assert args.socket_error is SocketError.OPERATION_ABORTED
        assert socket.connected
        assert socket.torn is not None
        assert socket.resume(args) is True
        assert await read_exactly(peer, len(BIG)) == BIG
        await args.wait()
    assert not socket.connected
    assert peer.recv(1) == b""


async def test_who_is_stopped_and_given_up_holds_no_socket(ends: Ends) -> None:
    socket, _ = ends
    args = packets(BIG)
    async with open_initiator():
        assert socket.send_packets_async(args) is True
        args.cancel()
        await args.wait()
        socket.forget_torn()
    assert args._operation.packets is not None
    assert args._operation.packets.afterwards is None
    assert socket.connected


async def test_no_descriptor_for_another_connection(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All was accepted, so the count is full, and the connection stands; the error says what is missing."""
    socket, peer = ends

    def refuse(*_: Any) -> None:
        raise OSError(errno.EMFILE, "no descriptor")

    args = packets(b"hello", REUSE)
    async with open_initiator():
        with monkeypatch.context() as patch:
            patch.setattr(stdlib_socket, "socket", refuse)
            assert socket.send_packets_async(args) is False
        assert args.socket_error is SocketError.TOO_MANY_OPEN_SOCKETS
        assert args.bytes_transferred == 5
        assert socket.connected
        assert socket.torn is None
        assert await socket.send(b"!") == 1
    assert await read_exactly(peer, 6) == b"hello!"


async def test_a_port_that_can_only_send() -> None:
    port = SpyPort([Blocked()])
    socket = Socket.from_port(port)
    args = packets(b"hello")
    async with open_initiator():
        assert socket.send_packets_async(args) is True
        port.inner.unblock()
        assert await args.wait() == 5
        assert args.socket_error is SocketError.OPERATION_NOT_SUPPORTED
    socket.close()


@pytest.mark.skipif(sys.platform == "win32", reason="there, such a socket is dissolved differently")
async def test_a_datagram_socket() -> None:
    with receiver() as peer, closing(Socket(type=stdlib_socket.SOCK_DGRAM)) as socket:
        await socket.connect(peer.getsockname())
        args = packets(b"hello", REUSE)
        async with open_initiator():
            assert socket.send_packets_async(args) is False
            assert args.socket_error is SocketError.SUCCESS
            assert peer.recv(99) == b"hello"
            assert not socket.connected
            await socket.connect(peer.getsockname())
            assert socket.send_packets_async(args) is False
            assert peer.recv(99) == b"hello"
