"""What a connection and a pending send hold, in bytes, by Python's own account.

`tracemalloc` sees what Python allocates, which is all that this library and Trio have. Of uvloop, it does not see what
libuv allocates by itself.
"""

from __future__ import annotations

import asyncio
import gc
import socket as stdlib_socket
import tracemalloc
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import trio
import trio.testing

import trio_send

from .descriptors import room_for
from .loops import loop_factories, open_loop
from .queues import fill
from .records import Row, compare, limit
from .works import Scale, Work

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .loops import LoopHost

#: How many connections to divide by: enough for what happens once not to show.
CONNECTIONS = 2000

#: How long the message is that is pending; asyncio keeps a copy of it.
MESSAGE = 16 * 1024

OURS = "trio_send"
TRIO = "trio task each"

#: What may be held beyond the args of a pending operation, and beyond the standard library's socket of a connection.
PENDING_LIMIT = 200
CONNECTION_LIMIT = 600


def traced() -> int:
    """Return how many bytes are allocated."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


@contextmanager
def full_connections(count: int) -> Iterator[list[stdlib_socket.socket]]:
    """Connect pairs in this process and fill them; the value is one end of each."""
    with ExitStack() as stack:
        ends = []
        for _ in range(count):
            left, right = stdlib_socket.socketpair()
            stack.enter_context(left)
            stack.enter_context(right)
            left.setblocking(False)
            left.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_SNDBUF, 1)
            fill(left)
            ends.append(left)
        yield ends


async def hold_ours(ends: list[stdlib_socket.socket]) -> tuple[int, int]:
    """Return what all connections and all pending sends hold."""
    data = bytes(MESSAGE)
    before = traced()
    sockets = [trio_send.Socket.from_stdlib(sock) for sock in ends]
    connections = traced() - before
    all_args = [trio_send.SocketAsyncEventArgs(data) for _ in sockets]
    async with trio_send.open_initiator():
        await trio.testing.wait_all_tasks_blocked()
        before = traced()
        for socket, args in zip(sockets, all_args, strict=True):
            socket.send_async(args)
        await trio.testing.wait_all_tasks_blocked()
        pending = traced() - before
    for socket in sockets:
        socket.close()
    return connections, pending


async def hold_trio(ends: list[stdlib_socket.socket]) -> tuple[int, int]:
    """Return the same for Trio's streams and a task for each send."""
    data = bytes(MESSAGE)
    before = traced()
    streams = [trio.SocketStream(trio.socket.from_stdlib_socket(sock)) for sock in ends]
    connections = traced() - before
    async with trio.open_nursery() as nursery:
        await trio.testing.wait_all_tasks_blocked()
        before = traced()
        for stream in streams:
            nursery.start_soon(stream.send_all, data)
        await trio.testing.wait_all_tasks_blocked()
        pending = traced() - before
        nursery.cancel_scope.cancel()
    return connections, pending


def hold_loop(host: LoopHost, ends: list[stdlib_socket.socket]) -> tuple[int, int]:
    """Return the same for the transports of a loop."""

    async def hold() -> tuple[int, int]:
        loop = asyncio.get_running_loop()
        data = bytes(MESSAGE)
        before = traced()
        transports: list[Any] = []
        for sock in ends:
            transport, _ = await loop.create_unix_connection(asyncio.Protocol, sock=sock)
            transports.append(transport)
        await asyncio.sleep(0)
        connections = traced() - before
        before = traced()
        for transport in transports:
            transport.write(data)
        await asyncio.sleep(0)
        pending = traced() - before
        for transport in transports:
            transport.abort()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return connections, pending

    return host.run(hold())


async def measure(scale: Scale) -> list[Row]:
    """Measure what is held for each connection, and for each pending send."""
    wanted = max(20, round(CONNECTIONS * min(1, 2 * scale.share)))
    count = room_for(2 * wanted) // 2
    held: dict[str, tuple[int, int]] = {}
    tracemalloc.start()
    try:
        with full_connections(count) as ends:
            held[OURS] = await hold_ours(ends)
        with full_connections(count) as ends:
            held[TRIO] = await hold_trio(ends)
        for name, factory in loop_factories().items():
            with full_connections(count) as ends, open_loop(factory) as host:
                held[name] = hold_loop(host, ends)
    finally:
        tracemalloc.stop()
    note = f"{count:,} connections"
    if count < wanted:
        note += f", because the limit of open files allows no more; {wanted:,} were wanted"
    idle = _row("idle connection, beyond the standard socket", held, count, 0, note)
    limit(idle, "", idle.values[OURS].median, CONNECTION_LIMIT, "B")
    pending = _row(f"pending send of {MESSAGE // 1024} KiB, beyond the args", held, count, 1, note)
    limit(pending, "", pending.values[OURS].median, PENDING_LIMIT, "B")
    return [idle, pending]


def _row(case: str, held: dict[str, tuple[int, int]], count: int, which: int, note: str) -> Row:
    each = {name: [sizes[which] / count] for name, sizes in held.items()}
    return compare("memory", case, each, unit="B", note=note)


WORKS = (
    (Work("memory", "bytes held for each connection and each pending send", measure),)
    if hasattr(stdlib_socket, "AF_UNIX")
    else ()
)
