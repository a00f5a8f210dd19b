"""A file that the kernel sends by itself, beside bare loops that have it do so, and the same bytes sent from memory."""

from __future__ import annotations

import asyncio
import os
import select
import tempfile
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, BinaryIO

import trio

import trio_send
from trio_send._cli.bench.contenders import FLOOR, SEND_ALL, awaiting, clock
from trio_send._cli.bench.interleave import interleave
from trio_send._cli.bench.link import KINDS, TITLES, level, twin

from .backpressure import MIB, NO_LIMIT, nothing, select_loop, while_read
from .loops import LoopHost, open_loop
from .records import Goal, Row, compare
from .works import Scale, Work

if TYPE_CHECKING:
    import socket as stdlib_socket

    from trio_send._cli.bench.contenders import Chunk

#: How long the file is. The system has it in memory: what is measured is the way, not the disk.
FILE = 16 * MIB

OURS = "send_file"
RAW = "raw sendfile"
WAITING = "sendfile, Trio's wait"


def raw_sendfile(sock: stdlib_socket.socket, file: BinaryIO, size: int) -> Chunk:
    """``os.sendfile``, and ``poll`` when the kernel takes no more."""

    async def chunk(times: int) -> int:
        poll = select.poll()
        poll.register(sock, select.POLLOUT)
        to, source = sock.fileno(), file.fileno()
        began = clock()
        for _ in range(times):
            done = 0
            while done < size:
                try:
                    done += os.sendfile(to, source, done, size - done)
                except BlockingIOError:
                    poll.poll()
        return clock() - began

    return chunk


def waiting_sendfile(sock: stdlib_socket.socket, file: BinaryIO, size: int) -> Chunk:
    """``os.sendfile``, and Trio's wait for the socket when the kernel takes no more."""

    async def chunk(times: int) -> int:
        to, source = sock.fileno(), file.fileno()
        began = clock()
        for _ in range(times):
            await trio.lowlevel.checkpoint_if_cancelled()
            done = 0
            while done < size:
                try:
                    done += os.sendfile(to, source, done, size - done)
                except BlockingIOError:
                    await trio.lowlevel.wait_writable(sock)
        return clock() - began

    return chunk


def send_file(socket: trio_send.Socket, file: BinaryIO) -> Chunk:
    """``await socket.send_file(file)``."""

    async def chunk(times: int) -> int:
        began = clock()
        for _ in range(times):
            await socket.send_file(file)
        return clock() - began

    return chunk


def loop_sendfile(host: LoopHost, writer: asyncio.StreamWriter, file: BinaryIO) -> Chunk:
    """``await loop.sendfile(transport, file)``."""

    async def send(times: int) -> int:
        loop = asyncio.get_running_loop()
        began = clock()
        for _ in range(times):
            await loop.sendfile(writer.transport, file)
        return clock() - began

    async def chunk(times: int) -> int:
        return host.run(send(times))

    return chunk


async def measure_once(scale: Scale, kind: str, size: int) -> dict[str, list[float]]:
    """Measure a file of ``size`` bytes on one kind of connection."""
    data = bytes(size)
    async with AsyncExitStack() as stack:
        file = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  # it is
        file.write(data)
        file.flush()
        link = await stack.enter_async_context(scale.link(kind))
        sock = stack.enter_context(await link.connect(buffer_size=None))
        socket = trio_send.Socket.from_stdlib(twin(sock))
        stack.callback(socket.close)
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(twin(sock)))
        stack.enter_context(stream.socket)
        host = stack.enter_context(open_loop(asyncio.new_event_loop))
        chunks = {
            FLOOR: select_loop(sock, data),
            RAW: raw_sendfile(sock, file, size),
            WAITING: waiting_sendfile(sock, file, size),
            OURS: send_file(socket, file),
            SEND_ALL: awaiting(stream.send_all, data),
            "asyncio": loop_sendfile(host, host.open_stream(sock), file),
        }
        level(sock)
        return await interleave(
            {name: while_read(link, size, chunk) for name, chunk in chunks.items()},
            rounds=max(1, scale.rounds // 2),
            burst=NO_LIMIT,
            clean_up=nothing,
            chunk_ns=scale.chunk_ns,
        )


async def measure(scale: Scale) -> list[Row]:
    """Measure a file on each kind of connection."""
    goals = [Goal(OURS, WAITING, 1.1)]
    size = max(MIB, round(FILE * scale.share))
    note = (
        f"a file of {size // MIB} MiB that is in memory; the floor sends the same bytes from memory"
    )
    return [
        compare("send_file", TITLES[kind], await measure_once(scale, kind, size), goals, note=note)
        for kind in KINDS
    ]


WORKS = (Work("send_file", "a file of 16 MiB, sent by the kernel", measure),)
