"""Connections for measurements, to a receiver in a process of its own that reads only when it is told to."""

from __future__ import annotations

import contextlib
import os
import socket as stdlib_socket
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from ..failures import Failure
from . import peer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

#: What both kernel buffers of a connection are asked to be.
BUFFER_SIZE = peer.BUFFER_SIZE * 4

#: What the kernel counts for one message beside its bytes, at most: 768 on Linux 6.18.
MESSAGE_OVERHEAD = 1024

#: More than this is not sent while nobody reads: it would no longer fit into the window of a TCP connection.
MOST_BYTES = 1 << 20

#: The kinds of connection that there are.
KINDS = ("tcp",) if sys.platform == "win32" else ("tcp", "unix")

#: How people write them.
TITLES = {"tcp": "TCP", "unix": "Unix"}


class Link:
    """A receiver, and the connections to it.

    Args:
      kind: the kind of the connections, ``tcp`` or ``unix``.
      address: where the receiver listens.
      control: the connection that carries its commands.

    Attributes:
      kind: the kind of the connections.
      control: the connection that carries the commands.
    """

    def __init__(self, kind: str, address: str, control: trio.SocketStream) -> None:
        self.kind = kind
        self._address = address
        self.control = control

    async def connect(self, *, buffer_size: int | None = BUFFER_SIZE) -> stdlib_socket.socket:
        """Return a new connection, a plain non-blocking socket; the caller closes it.

        Args:
          buffer_size: what its sending buffer is asked to be; None to leave it alone.
        """
        sock = _connect(self.kind, self._address, buffer_size)
        try:
            await self.command("accept 1")
        except BaseException:
            sock.close()
            raise
        return sock

    def connect_many(self, count: int, *, buffer_size: int) -> Iterator[stdlib_socket.socket]:
        """Yield new connections; the receiver has yet to be told to ``accept`` them."""
        for _ in range(count):
            yield _connect(self.kind, self._address, buffer_size)

    async def tell(self, command: str) -> None:
        """Give the receiver a command, without waiting until it is done."""
        await self.control.send_all(f"{command}\n".encode())

    async def done(self) -> None:
        """Wait until a command that was told is done."""
        if not await self.control.receive_some(1):
            raise Failure("the receiver of the measurement has gone away")

    async def command(self, command: str) -> None:
        """Give the receiver a command and wait until it is done."""
        await self.tell(command)
        await self.done()

    async def drain(self, count: int) -> None:
        """Have the receiver read what was sent."""
        if count:
            await self.command(f"read {count}")


@contextlib.asynccontextmanager
async def open_link(kind: str, *, core: int = -1) -> AsyncIterator[Link]:
    """Start a receiver, and end it behind the body.

    Args:
      kind: one of `KINDS`.
      core: the processor core that it has to run on; -1 for any.
    """
    with tempfile.TemporaryDirectory(prefix="trio-send-") as directory:
        path = str(Path(directory) / "bench")
        command = [sys.executable, "-I", "-S", peer.__file__, kind, path, str(core)]
        async with trio.open_nursery() as nursery:
            run = partial(trio.run_process, command, stdout=subprocess.PIPE, check=False)
            process = await nursery.start(run)
            try:
                address = (await process.stdout.receive_some()).decode().strip()
                if not address:
                    raise Failure("the receiver of the measurement did not start")
                control = trio.SocketStream(
                    trio.socket.from_stdlib_socket(_connect(kind, address, None))
                )
                async with control:
                    yield Link(kind, address, control)
            finally:
                nursery.cancel_scope.cancel()


def _connect(kind: str, address: str, buffer_size: int | None) -> stdlib_socket.socket:
    if sys.platform != "win32" and kind == "unix":
        sock = stdlib_socket.socket(stdlib_socket.AF_UNIX)
    else:
        sock = stdlib_socket.socket()
    try:
        if buffer_size is not None:
            # The kernel grants what it likes; `capacity` looks.
            with contextlib.suppress(OSError):
                sock.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_SNDBUF, buffer_size)
        sock.connect(address if kind == "unix" else ("127.0.0.1", int(address)))
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def twin(sock: stdlib_socket.socket) -> stdlib_socket.socket:
    """Return another descriptor of the same connection."""
    return stdlib_socket.socket(
        sock.family, sock.type, sock.proto, fileno=stdlib_socket.dup(sock.fileno())
    )


def level(sock: stdlib_socket.socket) -> None:
    """Undo what peers have set on their way in, each in its own way, so that the connection is the same for all.

    Nagle's algorithm is on: with TCP_NODELAY each small send is a packet of its own, and costs 6 microseconds in the
    kernel alone.
    """
    if sock.family != stdlib_socket.AF_INET:
        return
    sock.setsockopt(stdlib_socket.IPPROTO_TCP, stdlib_socket.TCP_NODELAY, 0)
    if sys.platform != "win32":  # 0 stands for the system's own value; trio's streams have 16 KiB
        sock.setsockopt(stdlib_socket.IPPROTO_TCP, stdlib_socket.TCP_NOTSENT_LOWAT, 0)


def capacity(sock: stdlib_socket.socket, size: int) -> int:
    """Return how many messages of ``size`` bytes certainly fit into a connection while nobody reads."""
    granted = sock.getsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_SNDBUF)
    return max(1, min(granted // 2 // (size + MESSAGE_OVERHEAD), MOST_BYTES // size))


@contextlib.contextmanager
def on_one_core() -> Iterator[int]:
    """Keep this process on one core; the value is another one for the receiver, or -1 if there is none."""
    if sys.platform == "linux":
        before = os.sched_getaffinity(0)
        cores = sorted(before)
        os.sched_setaffinity(0, cores[:1])
        try:
            yield cores[1] if len(cores) > 1 else -1
        finally:
            os.sched_setaffinity(0, before)
    else:
        yield -1
