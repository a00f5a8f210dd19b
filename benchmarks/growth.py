"""How the price of one pending send grows with how many there are: on one connection, and on as many connections."""

from __future__ import annotations

from contextlib import AsyncExitStack, ExitStack
from typing import TYPE_CHECKING

import trio
import trio.testing

import trio_send
from trio_send import Socket, SocketAsyncEventArgs
from trio_send._cli.bench.contenders import clock
from trio_send._cli.bench.link import KINDS

from .crowd import drain_now, open_full
from .descriptors import room_for
from .queues import SMALL, fill
from .records import Row, compare
from .works import Scale, Work

if TYPE_CHECKING:
    from trio_send._cli.bench.link import Link

COUNTS = (10, 100, 1_000, 10_000)

START = "start"
COMPLETE = "complete"
CANCEL = "cancel each"
LEAVE = "leave the initiator"


async def _started(pairs: list[tuple[Socket, SocketAsyncEventArgs]]) -> int:
    """Start a send on each socket; return the nanoseconds that took, until nothing is left to do but to wait."""
    began = clock()
    for socket, args in pairs:
        if not socket.send_async(args):
            raise RuntimeError("a connection that should be full has taken a message")
    await trio.testing.wait_all_tasks_blocked()
    return clock() - began


async def measure_once(
    link: Link, pairs: list[tuple[Socket, SocketAsyncEventArgs]], filled: int
) -> dict[str, int]:
    """Start, stop and complete sends on connections that are full; return the nanoseconds of each in all."""
    took = dict.fromkeys((START, COMPLETE, CANCEL, LEAVE), 0)
    async with trio_send.open_initiator():
        await _started(pairs)
        began = clock()
        for _, args in reversed(pairs):
            args.cancel()
        await trio.testing.wait_all_tasks_blocked()
        took[CANCEL] = clock() - began
    async with trio_send.open_initiator():
        await _started(pairs)
        began = clock()
    took[LEAVE] = clock() - began
    async with trio_send.open_initiator():
        took[START] = await _started(pairs)
        drain_now(link, filled)
        began = clock()
        for _, args in pairs:
            if args.pending:
                await args.wait()
        took[COMPLETE] = clock() - began
    return took


async def one_connection(scale: Scale, count: int) -> dict[str, int]:
    """Measure sends that are queued on one connection."""
    async with AsyncExitStack() as stack:
        # Over TCP the kernel moves bytes on while nobody reads, and so makes room where there was none.
        link = await stack.enter_async_context(scale.link("unix"))
        sock = stack.enter_context(await link.connect())
        socket = Socket.from_stdlib(sock)
        pairs = [(socket, SocketAsyncEventArgs(bytes(SMALL))) for _ in range(count)]
        return await measure_once(link, pairs, fill(sock))


async def many_connections(scale: Scale, count: int) -> dict[str, int]:
    """Measure one send on each of many connections."""
    async with scale.link("unix") as link:
        with ExitStack() as stack:
            connections, filled = await open_full(link, count, stack)
            sockets = [Socket.from_stdlib(sock) for sock in connections]
            pairs = [(socket, SocketAsyncEventArgs(bytes(SMALL))) for socket in sockets]
            return await measure_once(link, pairs, filled)


async def measure(scale: Scale) -> list[Row]:
    """Measure both for each count."""
    rows = []
    for where, once, most in (
        ("queued on one connection", one_connection, COUNTS[-1]),
        ("connections, one each", many_connections, room_for(COUNTS[-1])),
    ):
        for count in COUNTS:
            if count > max(COUNTS[0], min(most, COUNTS[-1] * scale.share)):
                continue
            each: dict[str, list[float]] = {}
            for _ in range(max(1, min(scale.rounds // 20, scale.rounds * 100 // count))):
                for name, took in (await once(scale, count)).items():
                    each.setdefault(name, []).append(took / count)
            rows.append(compare("growth", f"{count:,} {where}", each))
    return rows


WORKS = (
    (Work("growth", "what one pending send costs when there are many", measure),)
    if "unix" in KINDS
    else ()
)
