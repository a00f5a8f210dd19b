"""How late another task is: one that wants to run every millisecond, beside senders.

This is wall time, so what else the machine does shows: the first figure of each row is the same task all alone.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import trio

import trio_send
from trio_send import Socket, SocketAsyncEventArgs

from .records import Row, compare, limit
from .synchronous import KIB
from .works import Scale, Work

if TYPE_CHECKING:
    import socket as stdlib_socket
    from collections.abc import Awaitable, Callable

    from trio_send._cli._bench_link import Link

#: Seconds between two ticks, how long it is measured in all, and in how many turns with the task alone.
TICK = 0.001
SECONDS = 4.0
TURNS = 5

#: How many connections are busy at once, and how long each message is on them.
BUSY = 200
PIECE = 64 * KIB

#: More than any measurement sends: the receiver reads until the connections are closed.
FOR_EVER = 1 << 60

ALONE = "alone"
BESIDE = "beside it"


async def ticks(seconds: float) -> list[float]:
    """Tick for some time; return by how many milliseconds each tick was late."""
    late = []
    end = trio.current_time() + seconds
    while trio.current_time() < end:
        due = trio.current_time() + TICK
        await trio.sleep_until(due)
        late.append((trio.current_time() - due) * 1000)
    return late


def p99(values: list[float]) -> float:
    """Return what 99 of 100 values do not exceed."""
    return sorted(values)[int(len(values) * 0.99)]


async def send_without_end(socket: Socket, size: int) -> None:
    """Send again as soon as a send has ended, and wait only if it is pending."""
    args = SocketAsyncEventArgs(bytes(size))
    send = socket.send_async
    while True:
        if send(args):
            await args.wait()


async def one_sender(link: Link, stack: AsyncExitStack) -> Callable[[], Awaitable[None]]:
    """Prepare one connection with large buffers and short messages, so that a send hardly ever has to wait."""
    socket = Socket.from_stdlib(await link.connect())
    stack.callback(socket.close, reset=False)

    async def run() -> None:
        await send_without_end(socket, 64)

    return run


async def many_blocked(link: Link, stack: AsyncExitStack) -> Callable[[], Awaitable[None]]:
    """Prepare many connections that are always full, each with a handler that starts the next send."""
    socks: list[stdlib_socket.socket] = []
    for at in range(0, BUSY, 100):
        some = list(link.connect_many(min(100, BUSY - at), buffer_size=8 * KIB))
        await link.command(f"accept {len(some)}")
        socks += some
    sockets = [Socket.from_stdlib(sock) for sock in socks]
    for socket in sockets:
        stack.callback(socket.close, reset=False)

    def again(socket: Socket, args: SocketAsyncEventArgs) -> None:
        if socket.connected:
            socket.send_async(args)

    async def run() -> None:
        for socket in sockets:
            args = SocketAsyncEventArgs(bytes(PIECE))
            args.completed += again
            socket.send_async(args)
        await trio.sleep_forever()

    return run


async def beside(
    scale: Scale,
    prepare: Callable[[Link, AsyncExitStack], Awaitable[Callable[[], Awaitable[None]]]],
) -> dict[str, list[float]]:
    """Return by how many milliseconds 99 % of the ticks are late alone and beside senders, in turns."""
    seconds = max(0.02, SECONDS * scale.share / TURNS)
    measured: dict[str, list[float]] = {ALONE: [], BESIDE: []}
    for _ in range(TURNS):
        measured[ALONE].append(p99(await ticks(seconds)))
        async with AsyncExitStack() as stack:
            link = await stack.enter_async_context(scale.link("tcp"))
            run = await prepare(link, stack)
            await link.tell(f"read {FOR_EVER}")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_send, run)
                await trio.sleep(min(0.2, seconds))
                measured[BESIDE].append(p99(await ticks(seconds)))
                nursery.cancel_scope.cancel()
    return measured


async def _send(run: Callable[[], Awaitable[None]]) -> None:
    async with trio_send.open_initiator():
        await run()


async def measure(scale: Scale) -> list[Row]:
    """Measure how late ticks are beside a sender that never blocks, and beside many that always do."""
    rows = []
    for case, prepare, most in (
        ("a sender that never blocks", one_sender, 0.5),
        (f"{BUSY} busy blocked sockets", many_blocked, 10),
    ):
        row = compare("lateness", case, await beside(scale, prepare), unit="ms")
        limit(row, "99 % of the ticks late by", row.values[BESIDE].median, most, "ms")
        rows.append(row)
    return rows


WORKS = (Work("lateness", "how late a task is that ticks each millisecond, p99", measure),)
