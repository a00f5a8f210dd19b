"""How late another task is: one that wants to run every millisecond, beside senders, or while many sends are left.

On the clock, what else the machine does shows as well, so there is the same task all alone for comparison. What the
senders are to blame for is the processor time that this process uses from the moment when a tick is due until it comes.
An instrument notes clock and processor time at each pass of the scheduler; in between, time is divided evenly.
"""

from __future__ import annotations

import bisect
import math
import time
from contextlib import AsyncExitStack, closing
from functools import partial
from typing import TYPE_CHECKING

import trio

import trio_send
from trio_send import Socket, SocketAsyncEventArgs
from trio_send._cli.bench.link import KINDS

from .records import Goal, Row, compare, limit
from .synchronous import KIB
from .works import Scale, Work

if TYPE_CHECKING:
    import socket as stdlib_socket
    from collections.abc import Awaitable, Callable

    from trio_send._cli.bench.link import Link

#: Seconds between two ticks, how long it is measured in all, and in how many turns with the task alone.
TICK = 0.001
SECONDS = 4.0
TURNS = 5

#: How many connections are busy at once, and how long each message is on them.
BUSY = 200
PIECE = 64 * KIB

#: How many sends are pending when they are left, and in how many turns that is measured.
PENDING = 150_000
LEAVINGS = 3

#: More than any measurement sends: the receiver reads until the connections are closed.
FOR_EVER = 1 << 60

ALONE = "alone"
BESIDE = "beside it"
OWN = "beside it, own time"


class Passes(trio.abc.Instrument):
    """Notes when the scheduler passed, on the clock and in processor time, in seconds."""

    def __init__(self) -> None:
        self._at: list[float] = []
        self._used: list[float] = []

    def before_io_wait(self, timeout: float) -> None:
        self._at.append(trio.current_time())
        self._used.append(time.process_time())

    after_io_wait = before_io_wait

    def used_at(self, when: float) -> float:
        """Return the processor time that had been used at a time on the clock."""
        after = bisect.bisect_right(self._at, when)
        if not 0 < after < len(self._at):
            return self._used[min(after, len(self._used) - 1)]
        span = self._at[after] - self._at[after - 1]
        share = (when - self._at[after - 1]) / span if span else 0.0
        used = self._used[after] - self._used[after - 1]
        return self._used[after - 1] + share * used


async def ticks(seconds: float, over: trio.Event | None = None) -> tuple[list[float], list[float]]:
    """Tick for some time, or until that is over; return how late each tick was, in milliseconds.

    Returns:
      That on the clock, and in processor time.
    """
    passes = Passes()
    came: list[tuple[float, float, float]] = []
    trio.lowlevel.add_instrument(passes)
    try:
        end = trio.current_time() + seconds
        while trio.current_time() < end and not (over is not None and over.is_set()):
            due = trio.current_time() + TICK
            await trio.sleep_until(due)
            came.append((due, trio.current_time(), time.process_time()))
        await trio.lowlevel.checkpoint()
    finally:
        trio.lowlevel.remove_instrument(passes)
    clock = [(now - due) * 1000 for due, now, _ in came]
    own = [max(0.0, used - passes.used_at(due)) * 1000 for due, _, used in came]
    return clock, own


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
    measured: dict[str, list[float]] = {ALONE: [], BESIDE: [], OWN: []}
    for _ in range(TURNS):
        clock, _ = await ticks(seconds)
        measured[ALONE].append(p99(clock))
        async with AsyncExitStack() as stack:
            link = await stack.enter_async_context(scale.link(KINDS[-1]))
            run = await prepare(link, stack)
            await link.tell(f"read {FOR_EVER}")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_send, run)
                await trio.sleep(min(0.2, seconds))
                clock, own = await ticks(seconds)
                measured[BESIDE].append(p99(clock))
                measured[OWN].append(p99(own))
                nursery.cancel_scope.cancel()
    return measured


async def beside_leaving(scale: Scale) -> dict[str, list[float]]:
    """Return by how many milliseconds 99 % of the ticks are late alone and while many sends are left, in turns."""
    seconds = max(0.02, SECONDS * scale.share / TURNS)
    count = max(1, int(PENDING * scale.share))
    measured: dict[str, list[float]] = {ALONE: [], BESIDE: [], OWN: []}
    for _ in range(LEAVINGS):
        clock, _ = await ticks(seconds)
        measured[ALONE].append(p99(clock))
        ours, theirs = trio_send.socketpair()
        over = trio.Event()
        found: list[tuple[list[float], list[float]]] = []

        async def tick(over: trio.Event, found: list[tuple[list[float], list[float]]]) -> None:
            found.append(await ticks(math.inf, over))

        with closing(ours), closing(theirs):
            async with trio.open_nursery() as nursery:
                async with trio_send.open_initiator():
                    all_args = [SocketAsyncEventArgs(bytes(64)) for _ in range(count)]
                    ours.send_async(SocketAsyncEventArgs(bytes(KIB * KIB)))
                    for args in all_args:
                        ours.send_async(args)
                    nursery.start_soon(tick, over, found)
                    await trio.lowlevel.checkpoint()
                over.set()
        ((clock, own),) = found
        measured[BESIDE].append(p99(clock))
        measured[OWN].append(p99(own))
    return measured


async def _send(run: Callable[[], Awaitable[None]]) -> None:
    async with trio_send.open_initiator():
        await run()


async def measure(scale: Scale) -> list[Row]:
    """Measure how late ticks are beside a sender that never blocks, beside many that always do, and at an exit."""
    rows = []
    for case, measured, goals, most in (
        (
            "a sender that never blocks",
            partial(beside, scale, one_sender),
            [Goal(BESIDE, ALONE, 2)],
            0.5,
        ),
        (f"{BUSY} busy blocked sockets", partial(beside, scale, many_blocked), [], 10),
        (
            f"the exit with {PENDING:,} pending",
            partial(beside_leaving, scale),
            [Goal(BESIDE, ALONE, 20)],
            10,
        ),
    ):
        row = compare("lateness", case, await measured(), goals, unit="ms")
        limit(row, "99 % of the ticks late by", row.values[OWN].median, most, "ms")
        rows.append(row)
    return rows


WORKS = (Work("lateness", "how late a task is that ticks each millisecond, p99", measure),)
