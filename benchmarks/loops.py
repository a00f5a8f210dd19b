"""Peers that run on an event loop of their own, driven from inside Trio one chunk at a time.

A loop that runs for the time of one chunk and then stands still costs the others nothing, and so all contenders can
take turns in one process. Each has a descriptor of its own, and all descriptors are of one connection: the kernel does
the same for everybody.
"""

from __future__ import annotations

import asyncio
import socket as stdlib_socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from trio_send._cli.bench.contenders import clock
from trio_send._cli.bench.link import twin

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from trio_send._cli.bench.contenders import Chunk

    Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]

T = TypeVar("T")


def loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Return how to make a loop, by the name of the peer; those that are installed."""
    factories: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
        "asyncio": asyncio.new_event_loop
    }
    try:
        import uvloop
    except ImportError:
        return factories
    factories["uvloop"] = uvloop.new_event_loop
    return factories


@contextmanager
def open_loop(factory: Callable[[], asyncio.AbstractEventLoop]) -> Iterator[LoopHost]:
    """Make a loop for the time of the body."""
    host = LoopHost(factory())
    try:
        yield host
    finally:
        host.close()


class LoopHost:
    """A loop, and the streams that were opened on it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._streams: list[Stream] = []

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run the loop until ``work`` is done."""
        return self._loop.run_until_complete(work)

    def open_stream(self, sock: stdlib_socket.socket) -> asyncio.StreamWriter:
        """Return a writer on a descriptor of its own.

        Its high-water mark is 0, so that ``drain`` is over when the kernel has accepted everything, as for all others.
        For asyncio, which tries each write at once, that makes no difference. uvloop would otherwise keep small writes
        back as long as the loop does not turn, and send hundreds of them with one system call.
        """
        _, writer = stream = self.run(_open(twin(sock)))
        writer.transport.set_write_buffer_limits(high=0)
        self._streams.append(stream)
        return writer

    def close(self) -> None:
        """Close the streams and the loop; the connections live on in their other descriptors."""

        async def close_all() -> None:
            for _, writer in self._streams:
                writer.transport.abort()
            await asyncio.sleep(0)
            await asyncio.sleep(0)

        self.run(close_all())
        self._loop.close()


async def _open(sock: stdlib_socket.socket) -> Stream:
    if sock.family == getattr(stdlib_socket, "AF_UNIX", None):
        return await asyncio.open_unix_connection(sock=sock)
    return await asyncio.open_connection(sock=sock)


def write_and_drain(host: LoopHost, writer: asyncio.StreamWriter, data: bytes) -> Chunk:
    """``writer.write(data)`` and ``await writer.drain()``."""

    async def send(times: int) -> int:
        write, drain = writer.write, writer.drain
        began = clock()
        for _ in range(times):
            write(data)
            await drain()
        return clock() - began

    async def chunk(times: int) -> int:
        return host.run(send(times))

    return chunk
