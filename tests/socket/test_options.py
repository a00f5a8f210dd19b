"""Hold the options to the kernel's own, which a plain socket on the same descriptor reads and sets.

Modules: _kernel.readable_bytes.
"""

from __future__ import annotations

import socket as stdlib_socket
import struct
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
import trio

from tests.helpers import (
    HOSTS,
    Ends,
    connected,
    ends as ends,
    kind as kind,
    needs_ipv6,
    read_to_end,
    scripted,
    unix as unix,
)
from trio_send import ObjectDisposedError, Socket, SocketError, SocketException

INET, INET6 = stdlib_socket.AF_INET, stdlib_socket.AF_INET6
STREAM, DATAGRAM = stdlib_socket.SOCK_STREAM, stdlib_socket.SOCK_DGRAM
SOL, TCP = stdlib_socket.SOL_SOCKET, stdlib_socket.IPPROTO_TCP
IP, IPV6 = stdlib_socket.IPPROTO_IP, stdlib_socket.IPPROTO_IPV6
AF_UNIX: int = getattr(stdlib_socket, "AF_UNIX", -1)

families = pytest.mark.parametrize("family", [INET, pytest.param(INET6, marks=needs_ipv6)])

#: Every option that can be set, with a value that is none of its own.
SETTABLE: dict[str, Any] = {
    "no_delay": True,
    "linger_state": 3,
    "send_buffer_size": 30_000,
    "receive_buffer_size": 30_000,
    "dual_mode": False,
    "enable_broadcast": True,
    "ttl": 7,
    "multicast_loopback": False,
}


@contextmanager
def twin(family: int, type: int = STREAM) -> Iterator[tuple[Socket, stdlib_socket.socket]]:
    """One of ours, and a plain socket on the same descriptor."""
    plain = stdlib_socket.socket(family, type)
    with plain, closing(Socket.from_stdlib(plain)) as socket:
        yield socket, plain


# Read and set -----------------------------------------------------------------------------------


@families
@pytest.mark.parametrize(
    ("name", "level", "option", "type"),
    [
        ("no_delay", TCP, stdlib_socket.TCP_NODELAY, STREAM),
        ("enable_broadcast", SOL, stdlib_socket.SO_BROADCAST, DATAGRAM),
    ],
)
def test_flags(family: int, name: str, level: int, option: int, type: int) -> None:
    with twin(family, type) as (socket, plain):
        assert getattr(socket, name) is False
        for value in (True, False):
            setattr(socket, name, value)
            assert getattr(socket, name) is value
            assert bool(plain.getsockopt(level, option)) is value
            plain.setsockopt(level, option, not value)
            assert getattr(socket, name) is not value


@pytest.mark.fact("F213")
@pytest.mark.parametrize("seconds", [0, 3, 65535])
def test_the_time_to_linger(seconds: int) -> None:
    linger = struct.Struct("hh" if sys.platform == "win32" else "ii")
    with twin(INET) as (socket, plain):
        assert socket.linger_state is None
        socket.linger_state = seconds
        assert socket.linger_state == seconds
        on, told = linger.unpack(plain.getsockopt(SOL, stdlib_socket.SO_LINGER, linger.size))
        assert (bool(on), told) == (True, seconds)
        socket.linger_state = None
        assert socket.linger_state is None
        assert not linger.unpack(plain.getsockopt(SOL, stdlib_socket.SO_LINGER, linger.size))[0]


@pytest.mark.fact("F213")
@pytest.mark.parametrize("seconds", [None, 0, 1])
async def test_what_lingering_does_to_a_close(seconds: int | None) -> None:
    """A reset with 0 seconds, and an orderly end that nobody waits for with any other."""
    with connected("tcp4", tiny=False) as (socket, peer):
        socket.linger_state = seconds
        await socket.send(b"hello")
        socket.close()
        if seconds == 0:
            with pytest.raises(ConnectionResetError):
                while await read_to_end(peer):
                    pass
        else:
            assert await read_to_end(peer) == b"hello"


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("send_buffer_size", stdlib_socket.SO_SNDBUF),
        ("receive_buffer_size", stdlib_socket.SO_RCVBUF),
    ],
)
def test_sizes_of_buffers(name: str, option: int) -> None:
    with twin(INET) as (socket, plain):
        assert getattr(socket, name) == plain.getsockopt(SOL, option)
        setattr(socket, name, 30_000)
        assert getattr(socket, name) == plain.getsockopt(SOL, option)
        assert getattr(socket, name) == 30_000 * (2 if sys.platform == "linux" else 1)
        setattr(socket, name, 0)  # as little as the system has
        assert 0 <= getattr(socket, name) < 30_000


@needs_ipv6
async def test_an_ipv6_socket_that_speaks_ipv4_or_not() -> None:
    with stdlib_socket.create_server(("127.0.0.1", 0)) as listener:
        address = ("::ffff:127.0.0.1", listener.getsockname()[1], 0, 0)
        for dual in (True, False):
            with twin(INET6) as (socket, plain):
                socket.dual_mode = dual
                assert socket.dual_mode is dual
                assert bool(plain.getsockopt(IPV6, stdlib_socket.IPV6_V6ONLY)) is not dual
                if dual:
                    await socket.connect(address)
                    assert socket.connected
                    with pytest.raises(SocketException):
                        socket.dual_mode = False
                else:
                    with pytest.raises(SocketException):
                        await socket.connect(address)


@families
@pytest.mark.parametrize("type", [STREAM, DATAGRAM])
def test_how_far_packets_go(family: int, type: int) -> None:
    with twin(family, type) as (socket, plain):
        level, option = (
            (IPV6, stdlib_socket.IPV6_UNICAST_HOPS)
            if family == INET6
            else (IP, stdlib_socket.IP_TTL)
        )
        assert socket.ttl == plain.getsockopt(level, option)
        for value in (1, 7, 255):
            socket.ttl = value
            assert socket.ttl == plain.getsockopt(level, option) == value


@families
def test_what_comes_back_to_the_sender(family: int) -> None:
    with twin(family, DATAGRAM) as (socket, plain):
        level, option = (
            (IPV6, stdlib_socket.IPV6_MULTICAST_LOOP)
            if family == INET6
            else (IP, stdlib_socket.IP_MULTICAST_LOOP)
        )
        assert socket.multicast_loopback is True
        for value in (False, True):
            socket.multicast_loopback = value
            assert socket.multicast_loopback is value
            assert bool(plain.getsockopt(level, option)) is value
        # Whoever else has set it, too.
        plain.setsockopt(level, option, 0)
        assert socket.multicast_loopback is False


@needs_ipv6
@pytest.mark.skipif(sys.platform != "linux", reason="other systems may not have it")
@pytest.mark.parametrize("dual", [True, False])
def test_the_ipv4_packets_of_an_ipv6_socket_follow(dual: bool) -> None:
    with twin(INET6, DATAGRAM) as (socket, plain):
        before = plain.getsockopt(IP, stdlib_socket.IP_TTL)
        socket.dual_mode = dual
        socket.ttl = 7
        socket.multicast_loopback = False
        assert plain.getsockopt(IP, stdlib_socket.IP_TTL) == (7 if dual else before)
        assert bool(plain.getsockopt(IP, stdlib_socket.IP_MULTICAST_LOOP)) is not dual


# Read only --------------------------------------------------------------------------------------


def test_the_protocol() -> None:
    with closing(Socket(proto=TCP)) as socket:
        assert socket.proto == TCP
    with closing(Socket()) as socket:
        assert socket.proto == 0


async def test_what_has_arrived(ends: Ends) -> None:
    socket, peer = ends
    assert socket.available == 0
    peer.send(b"hello")
    await trio.lowlevel.wait_readable(socket.fileno())
    assert socket.available == 5
    await socket.receive(2)
    assert socket.available == 3


@pytest.mark.skipif(sys.platform != "linux", reason="what is counted is the system's affair")
async def test_which_datagrams_count() -> None:
    left, right = stdlib_socket.socketpair(AF_UNIX, DATAGRAM)
    with left, closing(Socket.from_stdlib(right)) as socket:
        left.send(b"hello")
        left.send(b"you")
        assert socket.available == 5
        await socket.receive()
        assert socket.available == 3


def test_a_listener_has_nothing_to_receive() -> None:
    with closing(Socket()) as socket:
        socket.bind((HOSTS["tcp4"][1], 0))
        socket.listen()
        with pytest.raises(SocketException):
            _ = socket.available


# What is carried over ---------------------------------------------------------------------------


async def test_options_live_through_an_attempt_to_connect_that_fails() -> None:
    with stdlib_socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with closing(Socket()) as socket:
            socket.no_delay = True
            socket.linger_state = 3
            socket.ttl = 7
            with pytest.raises(SocketException):
                await socket.connect(nobody.getsockname())
            nobody.listen()
            await socket.connect(nobody.getsockname())
            assert (socket.no_delay, socket.linger_state, socket.ttl) == (True, 3, 7)


# What is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "error", "sentence"),
    [
        ("no_delay", 1, TypeError, "^no_delay must be True or False, not 1$"),
        ("no_delay", None, TypeError, "^no_delay must be True or False"),
        ("dual_mode", "yes", TypeError, "^dual_mode must be True or False"),
        ("enable_broadcast", 0, TypeError, "^enable_broadcast must be True or False"),
        ("multicast_loopback", 0, TypeError, "^multicast_loopback must be True or False"),
        ("linger_state", -1, ValueError, "^linger_state is -1, but must be from 0 to 65535 sec"),
        ("linger_state", 65536, ValueError, "^linger_state is 65536"),
        ("linger_state", 1.5, TypeError, "^linger_state must be a whole number of seconds"),
        ("send_buffer_size", -1, ValueError, "^send_buffer_size is -1, but must be from 0"),
        ("send_buffer_size", 2**31, ValueError, "^send_buffer_size is 2147483648"),
        ("receive_buffer_size", -1, ValueError, "^receive_buffer_size is -1"),
        ("receive_buffer_size", None, TypeError, "^receive_buffer_size must be a whole number"),
        ("ttl", 256, ValueError, "^ttl is 256, but must be from 0 to 255 routers"),
        ("ttl", -1, ValueError, "^ttl is -1"),
    ],
)
@needs_ipv6
def test_values_that_make_no_sense(
    name: str, value: Any, error: type[Exception], sentence: str
) -> None:
    with twin(INET6) as (socket, _):
        before = getattr(socket, name)
        with pytest.raises(error, match=sentence):
            setattr(socket, name, value)
        assert getattr(socket, name) == before


@pytest.mark.parametrize("name", SETTABLE)
def test_a_port_that_can_only_send(name: str) -> None:
    socket, _ = scripted()
    for refused in (lambda: getattr(socket, name), lambda: setattr(socket, name, SETTABLE[name])):
        with pytest.raises(SocketException) as caught:
            refused()
        assert caught.value.socket_error_code is SocketError.OPERATION_NOT_SUPPORTED
    socket.close()


@pytest.mark.parametrize("name", [*SETTABLE, "available"])
@needs_ipv6
def test_a_socket_that_was_closed(name: str) -> None:
    socket = Socket(INET6)
    socket.close()
    with pytest.raises(ObjectDisposedError):
        getattr(socket, name)
    if name in SETTABLE:
        with pytest.raises(ObjectDisposedError):
            setattr(socket, name, SETTABLE[name])


@pytest.mark.parametrize("name", ["no_delay", "dual_mode", "ttl", "multicast_loopback"])
def test_what_a_unix_socket_does_not_have(name: str, unix: Ends) -> None:
    socket, _ = unix
    for refused in (lambda: getattr(socket, name), lambda: setattr(socket, name, SETTABLE[name])):
        with pytest.raises(SocketException) as caught:
            refused()
        assert caught.value.socket_error_code is SocketError.OPERATION_NOT_SUPPORTED


def test_an_ipv4_socket_has_no_dual_mode() -> None:
    with closing(Socket()) as socket:
        with pytest.raises(SocketException, match="is an option of IPv6") as caught:
            socket.dual_mode = True
        assert caught.value.socket_error_code is SocketError.OPERATION_NOT_SUPPORTED
