"""Sends that have to wait for the reader: pieces that never fit into the buffer, and bulk through the usual ones."""

from __future__ import annotations

import select
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import trio

import trio_send
from trio_send._cli.bench.contenders import (
    AWAIT_SEND,
    FLAGS,
    FLOOR,
    SEND_ALL,
    SEND_ASYNC,
    SOCKET_SEND,
    awaiting,
    clock,
    open_contenders,
)
from trio_send._cli.bench.interleave import interleave
from trio_send._cli.bench.link import KINDS, TITLES, level, twin

from .bounds import BARE_WAIT, waiting_bounds
from .loops import loop_factories, open_loop, write_and_drain
from .records import Goal, Row, compare
from .synchronous import open_anyio
from .works import Scale, Work

if TYPE_CHECKING:
    import socket as stdlib_socket

    from trio_send._cli.bench.contenders import Chunk
    from trio_send._cli.bench.link import Link

KIB = 1024
MIB = 1024 * KIB

#: The kernel makes the least of it that it has: one packet over TCP, some 2 KiB over a Unix socket. Behind one piece
#: there is no room for the next.
SMALL_BUFFER = 1
PIECE = 16 * KIB

#: One piece in bulk. A chunk is some tens of them, all chunks of a contender several times 256 MiB.
BULK_PIECE = MIB


def select_loop(sock: stdlib_socket.socket, data: bytes) -> Chunk:
    """The floor: send, and wait with ``poll`` when the kernel takes no more."""

    async def chunk(times: int) -> int:
        send = sock.send
        size = len(data)
        poll = select.poll()
        poll.register(sock, select.POLLOUT)
        with memoryview(data) as view:
            began = clock()
            for _ in range(times):
                done = 0
                while done < size:
                    try:
                        done += send(view[done:] if done else data, FLAGS)
                    except BlockingIOError:
                        poll.poll()
            return clock() - began

    return chunk


def trio_socket_loop(sock: trio.socket.SocketType, data: bytes) -> Chunk:
    """``await sock.send(rest)`` until nothing is left: ``send_all`` without its checks."""

    async def chunk(times: int) -> int:
        send = sock.send
        size = len(data)
        with memoryview(data) as view:
            began = clock()
            for _ in range(times):
                done = await send(data)
                while done < size:
                    done += await send(view[done:])
            return clock() - began

    return chunk


def while_read(link: Link, size: int, chunk: Chunk, how: str = "read") -> Chunk:
    """Have somebody read, or ``creep``, while a chunk is sent."""

    async def read_and_send(times: int) -> int:
        await link.tell(f"{how} {times * size}")
        took = await chunk(times)
        await link.done()
        return took

    return read_and_send


#: Nothing has to be cleaned up, so a chunk may be one burst.
NO_LIMIT = 1 << 30


async def nothing(times: int) -> None:
    """Clean nothing up."""


async def measure_pieces(
    scale: Scale, kind: str, size: int, buffer_size: int | None, chunk_ns: int, how: str = "read"
) -> dict[str, list[float]]:
    """Measure pieces of ``size`` bytes through a buffer of ``buffer_size``, None for the usual one."""
    data = bytes(size)
    async with AsyncExitStack() as stack:
        link = await stack.enter_async_context(scale.link(kind))
        await stack.enter_async_context(trio_send.open_initiator())
        sock = stack.enter_context(await link.connect(buffer_size=buffer_size))
        chunks = stack.enter_context(open_contenders(sock, data))
        trio_socket = stack.enter_context(trio.socket.from_stdlib_socket(twin(sock)))
        chunks = {
            FLOOR: select_loop(sock, data),
            SEND_ASYNC: chunks[SEND_ASYNC],
            AWAIT_SEND: chunks[AWAIT_SEND],
            SOCKET_SEND: trio_socket_loop(trio_socket, data),
            SEND_ALL: chunks[SEND_ALL],
        }
        chunks |= waiting_bounds(sock, data)
        for name, stream in (await stack.enter_async_context(open_anyio(sock))).items():
            chunks[name] = awaiting(stream.send, data)
        for name, factory in loop_factories().items():
            host = stack.enter_context(open_loop(factory))
            chunks[name] = write_and_drain(host, host.open_stream(sock), data)
        level(sock)
        return await interleave(
            {name: while_read(link, size, chunk, how) for name, chunk in chunks.items()},
            rounds=scale.rounds,
            burst=NO_LIMIT,
            clean_up=nothing,
            chunk_ns=chunk_ns,
        )


async def measure_blocked(scale: Scale) -> list[Row]:
    """Measure sends that all have to wait."""
    rows = []
    for how, reader, most in (
        ("read", "fast reader", {"tcp": 1, "unix": 1.25}),
        ("creep", "slow reader", {"tcp": 1.05, "unix": 1.05}),
    ):
        for kind in KINDS:
            goals = [
                Goal(SEND_ASYNC, SEND_ALL, most[kind], BARE_WAIT),
                Goal(AWAIT_SEND, SOCKET_SEND, 1.3, BARE_WAIT),
            ]
            measured = await measure_pieces(scale, kind, PIECE, SMALL_BUFFER, scale.chunk_ns, how)
            rows.append(compare("blocked", f"{TITLES[kind]}, {reader}", measured, goals))
    return rows


async def measure_bulk(scale: Scale) -> list[Row]:
    """Measure large pieces through the usual buffers."""
    goals = [Goal(SEND_ASYNC, FLOOR, 1.1), Goal(SEND_ASYNC, SEND_ALL, 1)]
    rows = []
    for kind in KINDS:
        measured = await measure_pieces(scale, kind, BULK_PIECE, None, 2 * scale.chunk_ns)
        rows.append(compare("bulk", TITLES[kind], measured, goals))
    return rows


WORKS = (
    Work("blocked", "pieces of 16 KiB, each has to wait", measure_blocked),
    Work("bulk", "pieces of 1 MiB through backpressure", measure_bulk),
)
