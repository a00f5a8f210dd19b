"""Hold the addresses of a socket, its own and its peer's, to what they say, in every way to give or to ask for one.

Modules: _socket.endpoint.
"""

from __future__ import annotations

import os
import socket as stdlib_socket
import sys
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.connections import accept_through, connect_through, dual, every_accept
from tests.datagrams import every_to_face, receiver, send_to_through, take_all
from tests.helpers import FACES, failure_on_the_spot, needs_ipv6, read_some, reset, stack as stack
from trio_send import (
    Socket,
    SocketError,
    SocketException,
    open_initiator,
    socketpair,
)

INET, INET6, UNIX = stdlib_socket.AF_INET, stdlib_socket.AF_INET6, stdlib_socket.AF_UNIX
STREAM, DGRAM = stdlib_socket.SOCK_STREAM, stdlib_socket.SOCK_DGRAM
SEQPACKET = getattr(stdlib_socket, "SOCK_SEQPACKET", None)

needs_seqpacket = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there are none")


# The peer's -----------------------------------------------------------------------------------


@pytest.mark.fact("F248")
@every_accept
async def test_a_visitor_that_has_gone_has_an_address_all_the_same(
    stack: ExitStack, face: str
) -> None:
    """A server that notes its visitors must not die of one. The kernel has forgotten the address."""
    listener = stack.enter_context(closing(Socket()))
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    client = stack.enter_context(stdlib_socket.create_connection(listener.local_end_point))
    address = client.getsockname()
    reset(client)
    async with open_initiator():
        socket = stack.enter_context(closing(await accept_through(face, listener)))
    with pytest.raises(OSError):  # noqa: PT011
        socket.trio.getpeername()
    assert socket.remote_end_point == address
    assert socket.local_end_point == listener.local_end_point


@pytest.mark.parametrize("how", ["connect", "from_stdlib", "from_trio"])
async def test_a_server_that_has_gone_has_an_address_all_the_same(
    stack: ExitStack, how: str
) -> None:
    """Until the socket is closed."""
    listener = stack.enter_context(stdlib_socket.create_server(("127.0.0.1", 0)))
    address = listener.getsockname()
    if how == "connect":
        socket = Socket()
        await socket.connect(address)
    elif how == "from_stdlib":
        socket = Socket.from_stdlib(stdlib_socket.create_connection(address))
    else:
        sock = trio.socket.socket()
        await sock.connect(address)
        socket = Socket.from_trio(sock)
    with closing(socket):
        assert socket.remote_end_point == address
        reset(listener.accept()[0])
        with pytest.raises(SocketException):
            await socket.receive()
        with pytest.raises(OSError):  # noqa: PT011
            socket.trio.getpeername()
        assert socket.remote_end_point == address


async def test_a_socket_that_is_to_be_connected_anew_has_no_peer(stack: ExitStack) -> None:
    listener = stack.enter_context(stdlib_socket.create_server(("127.0.0.1", 0)))
    socket = stack.enter_context(closing(Socket()))
    await socket.connect(listener.getsockname())
    await socket.disconnect(reuse_socket=True)
    with pytest.raises(SocketException) as caught:
        assert socket.remote_end_point
    assert caught.value.socket_error_code is SocketError.NOT_CONNECTED


# The own --------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="there it means something else")
@pytest.mark.parametrize("family", [INET, pytest.param(INET6, marks=needs_ipv6)])
async def test_a_server_is_started_again_on_its_port(family: int) -> None:
    """While the old connection is in TIME_WAIT, which takes a minute."""
    host = "127.0.0.1" if family == INET else "::1"
    with closing(Socket(family)) as listener:
        listener.bind((host, 0))
        listener.listen()
        address = listener.local_end_point
        with stdlib_socket.socket(family) as client:
            client.connect(address)
            (await listener.accept()).close()
            assert client.recv(10) == b""
    with closing(Socket(family)) as again, closing(Socket(family)) as another:
        again.bind(address)
        again.listen()
        with pytest.raises(SocketException) as caught:
            another.bind(address)
        assert caught.value.socket_error_code is SocketError.ADDRESS_ALREADY_IN_USE


def test_other_sockets_are_bound_as_they_are() -> None:
    """To share a UDP port is to share its datagrams."""
    for family, type_, address in ((INET, DGRAM, ("127.0.0.1", 0)), (UNIX, STREAM, b"")):
        with closing(Socket(family, type_)) as socket:
            socket.bind(address)
            shared = socket.getsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_REUSEADDR)
            assert shared == 0


@pytest.mark.fact("F238")
@needs_ipv6
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", ""])
async def test_an_ipv6_socket_is_bound_to_an_ipv4_address(stack: ExitStack, host: str) -> None:
    """And IPv4 clients reach it."""
    socket = dual(stack)
    socket.bind((host, 0))
    socket.listen()
    where = ("127.0.0.1", socket.local_end_point[1])
    client = stack.enter_context(stdlib_socket.create_connection(where))
    with closing(await socket.accept()) as accepted:
        assert accepted.remote_end_point[0] == "::ffff:127.0.0.1"
        assert accepted.remote_end_point[1] == client.getsockname()[1]


@needs_ipv6
def test_an_ipv6_socket_that_takes_its_own_family_only_is_bound_to_nothing_else(
    stack: ExitStack,
) -> None:
    socket = dual(stack)
    socket.setsockopt(stdlib_socket.IPPROTO_IPV6, stdlib_socket.IPV6_V6ONLY, 1)
    with pytest.raises(
        ValueError, match=r"^address has the host '127\.0\.0\.1', but must have an "
    ):
        socket.bind(("127.0.0.1", 0))


# Of datagrams ---------------------------------------------------------------------------------


@pytest.mark.fact("F238")
@needs_ipv6
@every_to_face
async def test_a_datagram_goes_to_an_ipv4_address_from_an_ipv6_socket(
    stack: ExitStack, face: str
) -> None:
    """Whatever the default remote host is, or without one."""
    four, six = (stack.enter_context(receiver(family)) for family in (INET, INET6))
    socket = dual(stack, DGRAM)
    async with open_initiator():
        assert await send_to_through(face, socket, b"to four", four.getsockname()) == 7
        assert await send_to_through(face, socket, b"to six", six.getsockname()) == 6
        assert await send_to_through(face, socket, b"four", (*four.getsockname(), 0, 0)) == 4
    assert await socket.send_datagrams([b"a", b"b"], four.getsockname()) == 2
    assert [await read_some(four) for _ in range(4)] == [b"to four", b"four", b"a", b"b"]
    assert take_all(six) == [b"to six"]


# Paths ----------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has none for Python")
@pytest.mark.parametrize("make", [str, Path, os.fsencode], ids=["str", "Path", "bytes"])
async def test_paths_of_every_kind(stack: ExitStack, tmp_path: Path, make: Any) -> None:
    """In every call that takes one; what is read is always text."""
    listener = stack.enter_context(closing(Socket(UNIX)))
    listener.bind(make(tmp_path / "stream"))
    listener.listen()
    taker = stack.enter_context(closing(Socket(UNIX, DGRAM)))
    taker.bind(make(tmp_path / "datagrams"))
    sender = stack.enter_context(closing(Socket(UNIX, DGRAM)))
    where = make(tmp_path / "datagrams")
    async with open_initiator():
        for face in ("connect", "begin_connect", "connect_async"):
            socket = stack.enter_context(closing(Socket(UNIX)))
            await connect_through(face, socket, make(tmp_path / "stream"))
            assert socket.remote_end_point == str(tmp_path / "stream")
        for face in ("send_to", "begin_send_to", "send_to_async"):
            assert await send_to_through(face, sender, face.encode(), where) == len(face)
            assert await taker.receive() == face.encode()
        assert await sender.send_datagrams([b"many"], where) == 1
        assert await taker.receive() == b"many"


class NoPath(os.PathLike[Any]):
    def __fspath__(self) -> Any:
        return 7


def test_what_says_that_it_is_a_path_has_to_be_one() -> None:
    with closing(Socket(UNIX)) as socket:
        with pytest.raises(
            TypeError, match=r"^address must be a path, as str, bytes or os\.PathLike"
        ):
            socket.bind(NoPath())


# A peer that is gone --------------------------------------------------------------------------


@pytest.mark.fact("F049")
@needs_seqpacket
@pytest.mark.parametrize("face", [*FACES, "receive"])
async def test_a_connection_of_messages_notices_that_its_peer_is_gone(face: str) -> None:
    """As a stream does, and says so from then on. A peer that has left messages unread has reset it."""
    assert SEQPACKET is not None
    for unread in (False, True):
        ours, peer = socketpair(type=SEQPACKET)
        with closing(ours):
            if unread:
                await ours.send(b"unread")
            elif face == "receive":
                peer.close()
                assert await ours.receive() == b""
                assert ours.connected  # the peer may have shut down its sending side only
                continue
            peer.close()
            async with open_initiator():
                if face == "receive":
                    with pytest.raises(SocketException) as caught:
                        await ours.receive()
                    code = caught.value.socket_error_code
                else:
                    code, count = await failure_on_the_spot(face, ours, b"x")
                    assert count == 0
                assert code is (SocketError.CONNECTION_RESET if unread else SocketError.SHUTDOWN)
                assert not ours.connected
                for later in FACES:
                    assert await failure_on_the_spot(later, ours, b"x") == (code, 0)
