"""What the suites on connections share: the faces of connecting and accepting, listeners that answer or not, names."""

from __future__ import annotations

import gc
import socket as stdlib_socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.helpers import HOSTS
from trio_send import (
    Socket,
    SocketAsyncEventArgs,
    SocketAsyncOperation,
    SocketError,
)

CONNECTS = ("connect", "begin_connect", "connect_async")
ACCEPTS = ("accept", "begin_accept", "accept_async")

every_connect = pytest.mark.parametrize("face", CONNECTS)
every_accept = pytest.mark.parametrize("face", ACCEPTS)


def family(kind: str) -> int:
    return stdlib_socket.AF_UNIX if kind == "unix" else HOSTS[kind][0]


@pytest.fixture
def address(kind: str, tmp_path: Path) -> Any:
    """Where to listen."""
    return str(tmp_path / "socket") if kind == "unix" else (HOSTS[kind][1], 0)


@pytest.fixture
def listener(kind: str, address: Any) -> Iterator[stdlib_socket.socket]:
    """A plain socket that listens."""
    with stdlib_socket.socket(family(kind)) as sock:
        sock.bind(address)
        sock.listen()
        yield sock


@pytest.fixture
def ours(kind: str) -> Iterator[Socket]:
    """One of ours, not connected."""
    with closing(Socket(family(kind))) as socket:
        yield socket


def dual(stack: ExitStack, type_: int = stdlib_socket.SOCK_STREAM) -> Socket:
    """A socket of ours for IPv6 that takes IPv4 addresses too."""
    socket = stack.enter_context(closing(Socket(stdlib_socket.AF_INET6, type_)))
    socket.setsockopt(stdlib_socket.IPPROTO_IPV6, stdlib_socket.IPV6_V6ONLY, 0)
    return socket


async def connect_through(face: str, socket: Socket, address: Any) -> None:
    """Connect and wait for the end; raise what went wrong."""
    if face == "connect":
        await socket.connect(address)
    elif face == "begin_connect":
        await socket.end_connect(socket.begin_connect(address))
    else:
        args = SocketAsyncEventArgs()
        args.remote_end_point = address
        if socket.connect_async(args):
            assert args.connect_socket is None  # F151
            await args.wait()
        assert args.last_operation is SocketAsyncOperation.CONNECT
        assert args.bytes_transferred == 0
        assert args.outcome is not None
        assert (args.connect_socket is socket) == (args.socket_error is SocketError.SUCCESS)
        args.outcome.unwrap()


async def accept_through(face: str, socket: Socket) -> Socket:
    """Wait for a connection; raise what went wrong."""
    if face == "accept":
        return await socket.accept()
    if face == "begin_accept":
        return await socket.end_accept(socket.begin_accept())
    args = SocketAsyncEventArgs()
    if socket.accept_async(args):
        await args.wait()
    assert args.last_operation is SocketAsyncOperation.ACCEPT
    assert args.outcome is not None
    args.outcome.unwrap()
    assert args.accept_socket is not None
    return args.accept_socket


@contextmanager
def full(kind: str = "tcp4") -> Iterator[stdlib_socket.socket]:
    """A plain listener whose backlog is full, so that a connect to it stays pending."""
    with ExitStack() as stack:
        sock = stack.enter_context(stdlib_socket.socket(HOSTS[kind][0]))
        sock.bind((HOSTS[kind][1], 0))
        sock.listen(1)
        # Far more than the backlog: most of them will never be answered, nor will those that come later.
        for _ in range(8):
            client = stack.enter_context(stdlib_socket.socket(HOSTS[kind][0]))
            client.setblocking(False)
            client.connect_ex(sock.getsockname())
        yield sock


def open_sockets() -> set[Socket]:
    """All sockets of ours that nobody has closed, to see whether a call leaves one behind."""
    return {each for each in gc.get_objects() if type(each) is Socket and each.fileno() >= 0}


class Resolver(trio.abc.HostnameResolver):
    """Looks up names as it is told.

    Args:
      answer: the addresses of every name, of the family that is asked for, or the error.
      held: whether to answer only when `released` is set.
    """

    def __init__(self, answer: list[Any] | Exception, *, held: bool = False) -> None:
        self.answer = answer
        self.released = trio.Event()
        self.names: list[str] = []
        #: Whole entries to answer with instead, whatever is asked for.
        self.entries: list[Any] = []
        if not held:
            self.released.set()
        trio.socket.set_custom_hostname_resolver(self)

    async def getaddrinfo(
        self, host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> list[Any]:
        self.names.append(host.decode() if isinstance(host, bytes) else host)
        await self.released.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.entries:
            return self.entries
        return [(family, type, proto, "", address) for address in self.answer]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
        raise NotImplementedError
