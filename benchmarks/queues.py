"""Many small sends at once: a queue that waits for the reader, and one message of many buffers."""

from __future__ import annotations

import select
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import trio

import trio_send
from trio_send import SocketAsyncEventArgs, SocketFlags
from trio_send._cli.bench.contenders import (
    FLAGS,
    FLOOR,
    SEND_ALL,
    clock,
)
from trio_send._cli.bench.interleave import interleave
from trio_send._cli.bench.link import KINDS, TITLES, capacity, level, twin

from .loops import LoopHost, loop_factories, open_loop
from .records import Goal, Row, compare
from .works import Scale, Work

if TYPE_CHECKING:
    import asyncio
    import socket as stdlib_socket
    from collections.abc import Awaitable, Callable

    from trio_send._cli.bench.contenders import Chunk
    from trio_send._cli.bench.link import Link

QUEUED = "queued"
ONE_BY_ONE = "queued, one call each"
GATHER = "buffer_list"
RAW_JOIN = "raw join"

#: How many sends are queued, and how long each is.
LENGTH = 1024
SMALL = 64

#: Seconds until the kernel has moved on what it can.
SETTLE = 0.002

#: How many buffers make up the message, and how long each is.
BUFFERS = 64
BUFFER = 128


def fill(sock: stdlib_socket.socket) -> int:
    """Send until the kernel takes no more; return how much it took."""
    filled = 0
    for size in (65536, 1):
        piece = bytes(size)
        try:
            while True:
                filled += sock.send(piece, FLAGS)
        except BlockingIOError:
            pass
    return filled


def fill_up(sock: stdlib_socket.socket) -> int:
    """Do the same until there is no more room a moment later, because over TCP the kernel moves bytes on."""
    filled = 0
    while more := fill(sock):
        filled += more
        time.sleep(SETTLE)
    return filled


# A queue --------------------------------------------------------------------------------------


def behind_a_full_buffer(
    link: Link,
    sock: stdlib_socket.socket,
    length: int,
    run: Callable[[Awaitable[None]], Awaitable[None]],
) -> Chunk:
    """Measure ``run``, which sends so many messages on a connection that is full, and awaits what makes it be read."""

    async def chunk(times: int) -> int:
        took = 0
        for _ in range(times):
            filled = fill_up(sock)
            began = clock()
            await run(link.tell(f"read {filled + length * SMALL}"))
            took += clock() - began
            await link.done()
        return took

    return chunk


async def measure_queue(scale: Scale) -> list[Row]:
    """Measure how long it takes to start sends on a connection that is full, and to finish them when it is read."""
    # A rough look has the whole queue too, for another length would be another work.
    length = LENGTH if scale.share >= 0.1 else max(2, round(LENGTH * scale.share))
    goals = [Goal(QUEUED, ONE_BY_ONE, 1 / 2), Goal(QUEUED, SEND_ALL, 1 / 2)]
    if trio_send.__accelerated__:
        goals.append(Goal(QUEUED, FLOOR, 0.6))
    rows = []
    for kind in KINDS:
        measured = await _measure_queue(scale, kind, length)
        rows.append(compare("queue", TITLES[kind], measured, goals))
    return rows


async def _measure_queue(scale: Scale, kind: str, length: int) -> dict[str, list[float]]:
    data = bytes(SMALL)
    async with AsyncExitStack() as stack:
        link = await stack.enter_async_context(scale.link(kind))
        await stack.enter_async_context(trio_send.open_initiator())
        sock = stack.enter_context(await link.connect())
        socket = trio_send.Socket.from_stdlib(twin(sock))
        stack.callback(socket.close)
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(twin(sock)))
        stack.enter_context(stream.socket)
        level(sock)
        joined = [SocketAsyncEventArgs(data) for _ in range(length)]
        single = [SocketAsyncEventArgs(data) for _ in range(length)]
        for args in single:
            # It means nothing to a connection on one machine, and keeps the library from sending several at once.
            args.socket_flags = SocketFlags.DONT_ROUTE

        def queue(
            all_args: list[SocketAsyncEventArgs],
        ) -> Callable[[Awaitable[None]], Awaitable[None]]:
            async def run(make_it_read: Awaitable[None]) -> None:
                send = socket.send_async
                for args in all_args:
                    if not send(args):
                        raise RuntimeError("a connection that should be full has taken a message")
                await make_it_read
                await all_args[-1].wait()

            return run

        async def floor(make_it_read: Awaitable[None]) -> None:
            await make_it_read
            poll = select.poll()
            poll.register(sock, select.POLLOUT)
            send = sock.send
            for _ in range(length):
                while True:
                    try:
                        send(data, FLAGS)
                        break
                    except BlockingIOError:
                        poll.poll()

        async def send_all(make_it_read: Awaitable[None]) -> None:
            await make_it_read
            for _ in range(length):
                await stream.send_all(data)

        chunks = {
            FLOOR: floor,
            QUEUED: queue(joined),
            ONE_BY_ONE: queue(single),
            SEND_ALL: send_all,
        }
        return await interleave(
            {name: behind_a_full_buffer(link, sock, length, run) for name, run in chunks.items()},
            rounds=scale.rounds,
            burst=1,
            clean_up=_nothing,
            chunk_ns=scale.chunk_ns,
        )


async def _nothing(times: int) -> None:
    """Clean nothing up: it has been read already."""


# One message of many buffers ------------------------------------------------------------------


def repeat(act: Callable[[], object]) -> Chunk:
    """Do something so many times."""

    async def chunk(times: int) -> int:
        began = clock()
        for _ in range(times):
            act()
        return clock() - began

    return chunk


def write_lines(host: LoopHost, writer: asyncio.StreamWriter, buffers: list[bytes]) -> Chunk:
    """``writer.writelines(buffers)`` and ``await writer.drain()``."""

    async def send(times: int) -> int:
        write, drain = writer.writelines, writer.drain
        began = clock()
        for _ in range(times):
            write(buffers)
            await drain()
        return clock() - began

    async def chunk(times: int) -> int:
        return host.run(send(times))

    return chunk


def send_one_each(socket: trio_send.Socket, buffers: list[bytes]) -> Chunk:
    """Send each buffer by itself."""

    async def chunk(times: int) -> int:
        args = SocketAsyncEventArgs(buffers[0])
        send = socket.send_async
        began = clock()
        for _ in range(times * len(buffers)):
            if send(args):
                await args.wait()
        return clock() - began

    return chunk


def send_lists(socket: trio_send.Socket, buffers: list[bytes]) -> Chunk:
    """Send the buffers as one message. The list is set each time, as that of another message would be."""

    async def chunk(times: int) -> int:
        args = SocketAsyncEventArgs()
        send = socket.send_async
        began = clock()
        for _ in range(times):
            args.buffer_list = buffers
            if send(args):
                await args.wait()
        return clock() - began

    return chunk


async def _measure_gather(scale: Scale, kind: str) -> dict[str, list[float]]:
    buffers = [bytes(BUFFER) for _ in range(BUFFERS)]
    async with AsyncExitStack() as stack:
        link = await stack.enter_async_context(scale.link(kind))
        await stack.enter_async_context(trio_send.open_initiator())
        sock = stack.enter_context(await link.connect())
        socket = trio_send.Socket.from_stdlib(twin(sock))
        stack.callback(socket.close)
        send, sendmsg = sock.send, sock.sendmsg

        def one_by_one() -> None:
            for buffer in buffers:
                send(buffer, FLAGS)

        chunks = {
            FLOOR: repeat(one_by_one),
            RAW_JOIN: repeat(lambda: send(b"".join(buffers), FLAGS)),
            "raw sendmsg": repeat(lambda: sendmsg(buffers, (), FLAGS)),
            GATHER: send_lists(socket, buffers),
            f"{BUFFERS} send_async": send_one_each(socket, buffers),
        }
        for name, factory in loop_factories().items():
            host = stack.enter_context(open_loop(factory))
            chunks[f"{name} writelines"] = write_lines(host, host.open_stream(sock), buffers)
        level(sock)
        return await interleave(
            chunks,
            rounds=scale.rounds,
            burst=max(1, capacity(sock, BUFFER) // BUFFERS),
            clean_up=lambda times: link.drain(times * BUFFERS * BUFFER),
            chunk_ns=scale.chunk_ns,
        )


async def measure_gather(scale: Scale) -> list[Row]:
    """Measure messages of many buffers, beside as many sends."""
    goals = [Goal(GATHER, "asyncio writelines", 1.1, RAW_JOIN)]
    note = f"the floor is {BUFFERS} sends of {BUFFER} B"
    rows = []
    for kind in KINDS:
        measured = await _measure_gather(scale, kind)
        rows.append(compare("gather", TITLES[kind], measured, goals, note=note))
    return rows


WORKS = (
    Work("queue", f"start and finish {LENGTH:,} queued sends of {SMALL} B", measure_queue),
    Work("gather", f"one message of {BUFFERS} buffers of {BUFFER} B", measure_gather),
)
