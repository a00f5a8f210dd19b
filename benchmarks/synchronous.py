"""Sends that the kernel takes at once: one after the other, on a connection with room for all of them.

Nobody reads while a chunk is sent, so no contender ever waits and no send pays for waking the reader. That is the
cheapest that a send can be, and so the hardest case for whoever adds something to it.
"""

from __future__ import annotations

import inspect
import socket as stdlib_socket
from contextlib import AsyncExitStack, asynccontextmanager, closing
from functools import partial
from types import MethodType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import trio_send
from trio_send import SocketAsyncEventArgs
from trio_send._cli.bench.contenders import (
    AWAIT_SEND,
    BEGIN_SEND,
    FLOOR,
    SEND_ALL,
    SEND_ASYNC,
    SOCKET_SEND,
    awaiting,
    begin_send,
    clock,
    open_contenders,
    send_async,
)
from trio_send._cli.bench.interleave import interleave
from trio_send._cli.bench.link import KINDS, TITLES, capacity, level, twin

from .bounds import BARE_AWAIT, BARE_BEGIN, BARE_GATES, bounds
from .loops import loop_factories, open_loop, write_and_drain
from .records import IN_PYTHON, Goal, Row, compare
from .works import Scale, Work

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from trio_send._cli.bench.contenders import Chunk

KIB = 1024


@asynccontextmanager
async def open_anyio(sock: stdlib_socket.socket) -> AsyncIterator[dict[str, Any]]:
    """Open anyio's ``SocketStream`` on Trio, by its name; nothing if anyio is not installed."""
    try:
        import anyio.abc
    except ImportError:
        yield {}
        return
    unix = sock.family != stdlib_socket.AF_INET
    kind = anyio.abc.UNIXSocketStream if unix else anyio.abc.SocketStream
    stream = await kind.from_socket(twin(sock))
    try:
        yield {"anyio": stream}
    finally:
        await anyio.aclose_forcefully(stream)


def send_range(socket: Any, data: Any) -> Chunk:
    """`Socket.send_async` of a range of a `bytearray`, such as a `BufferManager` hands out."""
    block = bytearray(b"<<" + data + b">>")

    async def chunk(times: int) -> int:
        args = SocketAsyncEventArgs(block, 2, len(data))
        send = socket.send_async
        began = clock()
        for _ in range(times):
            if send(args):
                await args.wait()
        return clock() - began

    return chunk


def send_another(socket: Any, data: Any) -> Chunk:
    """`Socket.send_async` with one args object that is given a message each time."""
    set_buffer = getattr(socket, "set_buffer", SocketAsyncEventArgs.set_buffer)

    async def chunk(times: int) -> int:
        args = SocketAsyncEventArgs()
        send = socket.send_async
        began = clock()
        for _ in range(times):
            set_buffer(args, data)
            if send(args):
                await args.wait()
        return clock() - began

    return chunk


def in_python(
    start: Callable[[Any, Any], Chunk], sock: stdlib_socket.socket, data: Any, stack: AsyncExitStack
) -> dict[str, Any]:
    """Give a face without the accelerator a connection, by its name; nothing if it is not compiled anyway."""
    if not trio_send.__accelerated__:
        return {}
    socket = stack.enter_context(closing(trio_send.Socket.from_stdlib(twin(sock))))
    methods = ("send_async", "begin_send", "end_send_nowait", "end_send")
    functions = {name: inspect.unwrap(getattr(trio_send.Socket, name)) for name in methods}
    slow: dict[str, Any] = {
        name: MethodType(function, socket) for name, function in functions.items()
    }
    slow["set_buffer"] = inspect.unwrap(SocketAsyncEventArgs.set_buffer)
    return {IN_PYTHON: start(SimpleNamespace(**slow), data)}


#: How our faces send, where it is not awaited.
STARTS: dict[str, Callable[[Any, Any], Chunk]] = {SEND_ASYNC: send_async, BEGIN_SEND: begin_send}


async def measure_sends(
    scale: Scale,
    kind: str,
    size: int,
    face: str,
    make: Callable[[int], Any],
    start: Callable[[Any, Any], Chunk] | None,
) -> dict[str, list[float]]:
    """Measure sends of ``size`` bytes through one of our faces and through each peer.

    Returns:
      Nanoseconds for each send, by contender, one value per round.
    """
    data = make(size)
    async with AsyncExitStack() as stack:
        link = await stack.enter_async_context(scale.link(kind))
        await stack.enter_async_context(trio_send.open_initiator())
        sock = stack.enter_context(await link.connect())
        all_chunks = stack.enter_context(open_contenders(sock, data))
        chunks = {name: all_chunks[name] for name in (FLOOR, face, SOCKET_SEND, SEND_ALL)}
        if start is not None:
            socket = stack.enter_context(closing(trio_send.Socket.from_stdlib(twin(sock))))
            chunks[face] = start(socket, data)
            chunks |= in_python(start, sock, data, stack)
        elif face in STARTS:
            chunks |= in_python(STARTS[face], sock, data, stack)
        chunks |= bounds(face, sock, data)
        for name, stream in (await stack.enter_async_context(open_anyio(sock))).items():
            chunks[name] = awaiting(stream.send, data)
        for name, factory in loop_factories().items():
            host = stack.enter_context(open_loop(factory))
            chunks[name] = write_and_drain(host, host.open_stream(sock), data)
        level(sock)
        return await interleave(
            chunks,
            rounds=scale.rounds,
            burst=capacity(sock, size),
            clean_up=lambda times: link.drain(times * size),
            chunk_ns=scale.chunk_ns,
        )


async def measure(
    scale: Scale,
    *,
    name: str,
    size: int,
    face: str,
    make: Callable[[int], Any],
    start: Callable[[Any, Any], Chunk] | None,
    goals: Sequence[Sequence[Goal]],
) -> list[Row]:
    """Measure one face for one size on each kind of connection."""
    rows = []
    for kind, goals_of_kind in zip(KINDS, goals, strict=False):
        measured = await measure_sends(scale, kind, size, face, make, start)
        rows.append(compare(name, TITLES[kind], measured, goals_of_kind))
    return rows


def work(
    name: str,
    title: str,
    size: int,
    face: str,
    *goals: Sequence[Goal],
    make: Callable[[int], Any] = bytes,
    start: Callable[[Any, Any], Chunk] | None = None,
) -> Work:
    """Make the work of one face, one size and one kind of buffer, with the goals for each kind of connection."""
    measure_it = partial(
        measure, name=name, size=size, face=face, make=make, start=start, goals=goals
    )
    return Work(name, f"{title}, taken at once", measure_it)


# The accelerator is not bound by what Python can do.
if trio_send.__accelerated__:
    TCP = [Goal(SEND_ASYNC, FLOOR, 0.95), Goal(IN_PYTHON, FLOOR, 1.35, BARE_GATES)]
    UNIX = [Goal(SEND_ASYNC, FLOOR, 0.95), Goal(IN_PYTHON, FLOOR, 1.3, BARE_GATES)]
    CHANGING = [Goal(SEND_ASYNC, FLOOR, 1.1), Goal(IN_PYTHON, FLOOR, 1.45, BARE_GATES)]
    LARGE = [Goal(SEND_ASYNC, FLOOR, 1.03)]
    BEGIN = [Goal(BEGIN_SEND, FLOOR, 1.1), Goal(IN_PYTHON, FLOOR, 1.75, BARE_BEGIN)]
else:
    TCP = [Goal(SEND_ASYNC, FLOOR, 1.35, BARE_GATES)]
    UNIX = [Goal(SEND_ASYNC, FLOOR, 1.3, BARE_GATES)]
    CHANGING = [Goal(SEND_ASYNC, FLOOR, 1.45, BARE_GATES)]
    LARGE = [Goal(SEND_ASYNC, FLOOR, 1.1, BARE_GATES)]
    BEGIN = [Goal(BEGIN_SEND, FLOOR, 1.75, BARE_BEGIN)]
ANOTHER = [Goal(SEND_ASYNC, FLOOR, 1.35)]
AWAIT = [Goal(AWAIT_SEND, SOCKET_SEND, 0.9, BARE_AWAIT)]

WORKS = (
    work(
        "send_async",
        "send_async, 64 B",
        64,
        SEND_ASYNC,
        [*TCP, Goal(SEND_ASYNC, SEND_ALL, 1 / 5, BARE_GATES)],
        [*UNIX, Goal(SEND_ASYNC, SEND_ALL, 1 / 7, BARE_GATES)],
    ),
    work(
        "send_async_bytearray",
        "send_async, a bytearray of 64 B",
        64,
        SEND_ASYNC,
        CHANGING,
        CHANGING,
        make=bytearray,
    ),
    work(
        "send_async_memoryview",
        "send_async, a memoryview of 64 B",
        64,
        SEND_ASYNC,
        CHANGING,
        CHANGING,
        make=lambda size: memoryview(bytearray(size)),
    ),
    work(
        "send_async_range",
        "send_async, 64 B in the middle of a bytearray",
        64,
        SEND_ASYNC,
        CHANGING,
        CHANGING,
        start=send_range,
    ),
    work(
        "set_buffer",
        "set_buffer and send_async, 64 B",
        64,
        SEND_ASYNC,
        ANOTHER,
        ANOTHER,
        start=send_another,
    ),
    work("begin_send", "begin_send and end_send_nowait, 64 B", 64, BEGIN_SEND, BEGIN, BEGIN),
    work("await_send", "await send, 64 B", 64, AWAIT_SEND, AWAIT, AWAIT),
    work("send_async_16k", "send_async, 16 KiB", 16 * KIB, SEND_ASYNC, LARGE, LARGE),
    work("send_async_64k", "send_async, 64 KiB", 64 * KIB, SEND_ASYNC, LARGE, LARGE),
)
