"""Receives that have to wait: each message is the answer to one that was just sent.

All contenders send with the bare system call, so what differs is how they receive.
"""

from __future__ import annotations

import select
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import trio

import trio_send
from trio_send._cli.bench.contenders import FLAGS, FLOOR, clock
from trio_send._cli.bench.interleave import interleave
from trio_send._cli.bench.link import KINDS, TITLES, level, twin

from .backpressure import KIB, NO_LIMIT, nothing
from .bounds import BARE_WAIT
from .records import Goal, Row, compare
from .works import Scale, Work

if TYPE_CHECKING:
    import socket as stdlib_socket
    from collections.abc import Awaitable, Callable

    from trio_send._cli.bench.contenders import Chunk
    from trio_send._cli.bench.link import Link

MESSAGE = 64

#: What is asked for at most.
MOST = 4 * KIB

OURS = "receive"
RECEIVE_SOME = "trio receive_some"
SOCKET_RECV = "trio.socket.recv"


def poll_loop(sock: stdlib_socket.socket) -> Chunk:
    """The floor: wait for the answer with ``poll``."""

    async def chunk(times: int) -> int:
        data = bytes(MESSAGE)
        send, receive = sock.send, sock.recv
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        began = clock()
        for _ in range(times):
            send(data, FLAGS)
            poll.poll()
            receive(MOST)
        return clock() - began

    return chunk


def answered(sock: stdlib_socket.socket, receive: Callable[[int], Awaitable[Any]]) -> Chunk:
    """``await receive(n)`` behind each send."""

    async def chunk(times: int) -> int:
        data = bytes(MESSAGE)
        send = sock.send
        began = clock()
        for _ in range(times):
            send(data, FLAGS)
            await receive(MOST)
        return clock() - began

    return chunk


def bare_receive(sock: stdlib_socket.socket) -> Callable[[int], Awaitable[bytes]]:
    """Wait for the socket, between two halves of a checkpoint; nobody else may receive."""

    async def receive(most: int) -> bytes:
        await trio.lowlevel.checkpoint_if_cancelled()
        while True:
            try:
                return sock.recv(most)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(sock)

    return receive


def while_answered(link: Link, chunk: Chunk) -> Chunk:
    """Have somebody answer while a chunk is measured."""

    async def answer_and_receive(times: int) -> int:
        await link.tell(f"answer {times}")
        took = await chunk(times)
        await link.done()
        return took

    return answer_and_receive


async def measure_once(scale: Scale, kind: str) -> dict[str, list[float]]:
    """Measure one kind of connection."""
    async with AsyncExitStack() as stack:
        link = await stack.enter_async_context(scale.link(kind))
        sock = stack.enter_context(await link.connect())
        socket = trio_send.Socket.from_stdlib(twin(sock))
        stack.callback(socket.close)
        trio_socket = stack.enter_context(trio.socket.from_stdlib_socket(twin(sock)))
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(twin(sock)))
        stack.enter_context(stream.socket)
        receives: dict[str, Callable[[int], Awaitable[Any]]] = {
            OURS: socket.receive,
            SOCKET_RECV: trio_socket.recv,
            RECEIVE_SOME: stream.receive_some,
            BARE_WAIT: bare_receive(sock),
        }
        chunks = {FLOOR: poll_loop(sock)}
        chunks |= {name: answered(sock, receive) for name, receive in receives.items()}
        level(sock)
        return await interleave(
            {name: while_answered(link, chunk) for name, chunk in chunks.items()},
            rounds=scale.rounds,
            burst=NO_LIMIT,
            clean_up=nothing,
            chunk_ns=scale.chunk_ns,
        )


async def measure(scale: Scale) -> list[Row]:
    """Measure receives on each kind of connection."""
    goals = [Goal(OURS, RECEIVE_SOME, 1.2, BARE_WAIT)]
    return [
        compare("receive", TITLES[kind], await measure_once(scale, kind), goals) for kind in KINDS
    ]


WORKS = (Work("receive", "receive, 64 B that are waited for", measure),)
