"""What the suites on datagrams share: receivers, and the faces of a send to an address."""

from __future__ import annotations

import socket as stdlib_socket
from contextlib import closing
from typing import Any

import pytest

from tests.helpers import args_for, never_called
from trio_send import Socket, SocketAsyncOperation, SocketError, SocketException, SocketFlags

#: The ways to send a message to an address.
TO_FACES = ("send_to_async", "begin_send_to", "send_to")

every_to_face = pytest.mark.parametrize("face", TO_FACES)


def receiver(
    family: int = stdlib_socket.AF_INET, address: Any = None, type_: int = stdlib_socket.SOCK_DGRAM
) -> stdlib_socket.socket:
    """A plain non-blocking datagram socket at an address of its own; by default one on this machine."""
    sock = stdlib_socket.socket(family, type_)
    if address is None:
        address = ("127.0.0.1" if family == stdlib_socket.AF_INET else "::1", 0)
    sock.bind(address)
    sock.setblocking(False)
    return sock


@pytest.fixture
async def udp_ends() -> Any:
    """A connected UDP socket of ours, and its peer."""
    with receiver() as peer, closing(Socket(type=stdlib_socket.SOCK_DGRAM)) as socket:
        await socket.connect(peer.getsockname())
        yield socket, peer


async def send_to_through(
    face: str, socket: Socket, data: Any, address: Any, flags: SocketFlags = SocketFlags.NONE
) -> int:
    """Send one message to an address through a face, wait for its end and return its count."""
    if face == "send_to":
        return await socket.send_to(data, address, flags)
    if face == "begin_send_to":
        result = socket.begin_send_to(data, 0, None, flags, address)
        return await socket.end_send_to(result)
    args = args_for(data)
    args.remote_end_point = address
    args.socket_flags = flags
    if socket.send_to_async(args):
        await args.wait()
    assert args.remote_end_point is address
    assert args.outcome is not None
    return args.outcome.unwrap()


async def to_failure_on_the_spot(
    face: str, socket: Socket, data: Any, address: Any, flags: SocketFlags = SocketFlags.NONE
) -> tuple[SocketError, int]:
    """Send to an address what cannot be sent, in the way of each face; return the error and the count."""
    if face == "send_to_async":
        args = args_for(data)
        args.remote_end_point = address
        args.socket_flags = flags
        args.completed += never_called
        assert socket.send_to_async(args) is False
        assert args.last_operation is SocketAsyncOperation.SEND_TO
        assert args.outcome is not None
        with pytest.raises(SocketException) as caught:
            args.outcome.unwrap()
        assert caught.value.socket_error_code is args.socket_error
        assert caught.value.bytes_transferred == args.bytes_transferred
    elif face == "begin_send_to":
        with pytest.raises(SocketException) as caught:
            socket.begin_send_to(data, 0, None, flags, address, never_called)
    else:
        with pytest.raises(SocketException) as caught:
            await socket.send_to(data, address, flags)
    return caught.value.socket_error_code, caught.value.bytes_transferred


def take_all(sock: stdlib_socket.socket) -> list[bytes]:
    """The datagrams that are there."""
    taken = []
    while True:
        try:
            taken.append(sock.recv(65536))
        except BlockingIOError:
            return taken
