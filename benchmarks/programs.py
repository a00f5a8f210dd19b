"""Whole programs, each written as suits its library best: what one delivered message costs the process that sends it.

Two broadcast to 500 clients, the second one with some that never read; in one ten tasks send on one connection; and one
is an echo server. The clients are another process. Contenders have new connections each, and take turns.
"""

from __future__ import annotations

import asyncio
import random
import socket as stdlib_socket
import sys
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

import trio_send
from trio_send import Socket, SocketAsyncEventArgs
from trio_send._cli.bench.contenders import clock
from trio_send._cli.bench.link import KINDS

from .loops import LoopHost, loop_factories, open_loop
from .records import Goal, Row, compare
from .works import Scale, Work

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence

    Connections = Sequence[stdlib_socket.socket]
    #: Sends on connections; returns the nanoseconds that took, and how many messages were delivered.
    Contender = Callable[[Connections], Awaitable[tuple[int, int]]]
    #: Gives the connections for one turn.
    Scene = Callable[[], Any]

OURS = "trio_send"
CALLBACKS = "trio_send, handlers"
TRIO = "trio send_all"

#: To how many clients, how many messages of how many bytes, and how many clients never read.
CLIENTS = 500
BROADCASTS = 40
LONG = 1024
DEAD = CLIENTS // 20

#: How much may wait for one client.
LIMIT = 65536

PRODUCERS = 10
ECHOING = 100
SHORT = 200

#: More than anybody sends: the receiver reads until the connections are closed.
FOR_EVER = 1 << 60


# A broadcast ----------------------------------------------------------------------------------


async def broadcast(connections: Connections, *, times: int, dead: int) -> tuple[int, int]:
    """Ours: a queue for each client; who has too much in it is waited for, or left out if some never read."""
    sockets = [Socket.from_stdlib(sock) for sock in connections]
    data = bytes(LONG)
    async with trio_send.open_initiator():
        began = clock()
        started = 0
        for _ in range(times):
            if dead:
                report = trio_send.broadcast(sockets, data, max_queued_bytes=LIMIT)
                started += report.started
            else:
                for socket in sockets:
                    socket.begin_send(data)
                    if socket.queued_bytes > LIMIT:
                        await socket.wait_below_low_water()
                started += len(sockets)
            await trio.lowlevel.checkpoint()
        for socket in sockets[dead:]:
            if socket.queued_operations:
                await socket.send(b"")
        took = clock() - began
        started -= sum(socket.queued_operations for socket in sockets)
        for socket in sockets:
            socket.close(reset=False)
    return took, started


async def broadcast_in_tasks(connections: Connections, *, times: int) -> tuple[int, int]:
    """Plain Trio: a task for each client and each message."""
    streams = [trio.SocketStream(trio.socket.from_stdlib_socket(sock)) for sock in connections]
    data = bytes(LONG)
    began = clock()
    for _ in range(times):
        async with trio.open_nursery() as nursery:
            for stream in streams:
                nursery.start_soon(stream.send_all, data)
    return clock() - began, times * len(streams)


async def broadcast_through_channels(
    connections: Connections, *, times: int, dead: int
) -> tuple[int, int]:
    """Plain Trio where some never read: a task for each client, behind a channel that drops what is too much."""
    streams = [trio.SocketStream(trio.socket.from_stdlib_socket(sock)) for sock in connections]
    data = bytes(LONG)
    delivered = alive = 0
    done = trio.Event()

    async def serve(stream: trio.SocketStream, inbox: trio.MemoryReceiveChannel[bytes]) -> None:
        nonlocal delivered, alive
        async for message in inbox:
            await stream.send_all(message)
            delivered += 1
        alive -= 1
        if alive == dead:
            done.set()

    async with trio.open_nursery() as nursery:
        outboxes = []
        for stream in streams:
            outbox, inbox = trio.open_memory_channel[bytes](LIMIT // LONG)
            outboxes.append(outbox)
            alive += 1
            nursery.start_soon(serve, stream, inbox)
        await trio.lowlevel.checkpoint()
        began = clock()
        for _ in range(times):
            for outbox in outboxes:
                with suppress(trio.WouldBlock):
                    outbox.send_nowait(data)
            await trio.lowlevel.checkpoint()
        for outbox in outboxes:
            outbox.close()
        await done.wait()
        took = clock() - began
        nursery.cancel_scope.cancel()
    return took, delivered


async def broadcast_in_loop(connections: Connections, *, times: int, dead: int) -> tuple[int, int]:
    """asyncio: a transport for each client; who has too much in it is waited for, or left out if some never read."""
    writers = [writer for _, writer in await open_streams(connections)]
    data = bytes(LONG)
    started = 0
    began = clock()
    for _ in range(times):
        for writer in writers:
            if not dead or writer.transport.get_write_buffer_size() < LIMIT:
                writer.write(data)
                started += 1
        if not dead:
            for writer in writers:
                await writer.drain()
        await asyncio.sleep(0)
    for writer in writers[dead:]:
        writer.transport.set_write_buffer_limits(high=0)
        await writer.drain()
    took = clock() - began
    started -= sum(writer.transport.get_write_buffer_size() for writer in writers) // LONG
    return took, started


# Many tasks, one connection -------------------------------------------------------------------


async def produce(connections: Connections, *, times: int) -> tuple[int, int]:
    """Ours: each task starts its args and waits for them; what waits together goes together."""
    socket = Socket.from_stdlib(connections[0])

    async def one() -> None:
        args = SocketAsyncEventArgs(bytes(SHORT))
        for _ in range(times):
            if socket.send_async(args):
                await args.wait()

    async with trio_send.open_initiator():
        began = clock()
        async with trio.open_nursery() as nursery:
            for _ in range(PRODUCERS):
                nursery.start_soon(one)
        took = clock() - began
        socket.close(reset=False)
    return took, times * PRODUCERS


async def produce_behind_a_lock(connections: Connections, *, times: int) -> tuple[int, int]:
    """Plain Trio: a lock, because ``send_all`` is for one task at a time."""
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(connections[0]))
    lock = trio.Lock()

    async def one() -> None:
        data = bytes(SHORT)
        for _ in range(times):
            async with lock:
                await stream.send_all(data)

    began = clock()
    async with trio.open_nursery() as nursery:
        for _ in range(PRODUCERS):
            nursery.start_soon(one)
    return clock() - began, times * PRODUCERS


async def produce_in_loop(connections: Connections, *, times: int) -> tuple[int, int]:
    """asyncio: each task writes, and waits where the buffer is too full."""
    ((_, writer),) = await open_streams(connections)

    async def one() -> None:
        data = bytes(SHORT)
        for _ in range(times):
            writer.write(data)
            await writer.drain()

    began = clock()
    await asyncio.gather(*(one() for _ in range(PRODUCERS)))
    writer.transport.set_write_buffer_limits(high=0)
    await writer.drain()
    return clock() - began, times * PRODUCERS


# An echo server -------------------------------------------------------------------------------


async def echo(connections: Connections, *, times: int) -> tuple[int, int]:
    """Ours: a task for each client that receives and awaits its sends."""
    sockets = [Socket.from_stdlib(sock) for sock in connections]

    async def serve(socket: Socket) -> None:
        left = times * SHORT
        while left:
            data = await socket.receive(65536)
            await socket.send(data)
            left -= len(data)

    began = clock()
    async with trio.open_nursery() as nursery:
        for socket in sockets:
            nursery.start_soon(serve, socket)
    took = clock() - began
    for socket in sockets:
        socket.close(reset=False)
    return took, times * len(sockets)


async def echo_with_handlers(connections: Connections, *, times: int) -> tuple[int, int]:
    """Ours, as .NET does it: two args for each client, and no tasks."""
    missing = len(connections)
    done = trio.Event()

    def serve(socket: Socket) -> None:
        room = bytearray(SHORT * 2)
        receiving, sending = SocketAsyncEventArgs(room), SocketAsyncEventArgs()
        left = times * SHORT

        def go_on() -> None:
            nonlocal missing, left
            while True:
                count = receiving.bytes_transferred
                left -= count
                sending.set_buffer(bytes(room[:count]))
                if socket.send_async(sending) or sent():
                    return

        def sent(*_: object) -> bool:
            """Receive again; return whether there is nothing to go on with at once."""
            nonlocal missing
            if left:
                return socket.receive_async(receiving)
            missing -= 1
            if not missing:
                done.set()
            return True

        receiving.completed += lambda socket, args: go_on()
        sending.completed += lambda socket, args: sent() or go_on()
        if not socket.receive_async(receiving):
            go_on()

    sockets = [Socket.from_stdlib(sock) for sock in connections]
    async with trio_send.open_initiator():
        began = clock()
        for socket in sockets:
            serve(socket)
        await done.wait()
        took = clock() - began
        for socket in sockets:
            socket.close(reset=False)
    return took, times * len(sockets)


async def echo_streams(connections: Connections, *, times: int) -> tuple[int, int]:
    """Plain Trio: a task for each client, with ``receive_some`` and ``send_all``."""
    streams = [trio.SocketStream(trio.socket.from_stdlib_socket(sock)) for sock in connections]

    async def serve(stream: trio.SocketStream) -> None:
        left = times * SHORT
        while left:
            data = await stream.receive_some(65536)
            await stream.send_all(data)
            left -= len(data)

    began = clock()
    async with trio.open_nursery() as nursery:
        for stream in streams:
            nursery.start_soon(serve, stream)
    return clock() - began, times * len(streams)


async def echo_in_loop(connections: Connections, *, times: int) -> tuple[int, int]:
    """asyncio: a task for each client, with streams."""
    opened = await open_streams(connections)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = times * SHORT
        while left:
            data = await reader.read(65536)
            writer.write(data)
            await writer.drain()
            left -= len(data)

    began = clock()
    await asyncio.gather(*(serve(*each) for each in opened))
    return clock() - began, times * len(opened)


# What they have in common ---------------------------------------------------------------------


#: The streams of the asyncio program that runs.
STREAMS: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []


async def open_streams(
    connections: Connections,
) -> list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Open asyncio's streams, to be closed when the program is over."""
    STREAMS.extend([await asyncio.open_unix_connection(sock=sock) for sock in connections])
    return STREAMS


def on_loop(
    host: LoopHost, program: Callable[[Connections], Coroutine[Any, Any, tuple[int, int]]]
) -> Contender:
    """A program on a loop of its own, whose transports are closed behind it."""

    async def in_loop(connections: Connections) -> tuple[int, int]:
        try:
            return await program(connections)
        finally:
            for _, writer in STREAMS:
                writer.transport.abort()
            STREAMS.clear()
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    async def run(connections: Connections) -> tuple[int, int]:
        return host.run(in_loop(connections))

    return run


@asynccontextmanager
async def readers(scale: Scale, alive: int, dead: int) -> AsyncIterator[Connections]:
    """Connections to a receiver that reads, behind some to one that never does."""
    async with AsyncExitStack() as stack:
        connections: list[stdlib_socket.socket] = []
        for count in (dead, alive):
            if not count:
                continue
            link = await stack.enter_async_context(scale.link("unix"))
            some = list(link.connect_many(count, buffer_size=LIMIT))
            for sock in some:
                stack.callback(sock.close)
            await link.command(f"accept {count}")
            if count == alive:
                await link.tell(f"read {FOR_EVER}")
            connections += some
        yield connections


@asynccontextmanager
async def askers(scale: Scale, times: int) -> AsyncIterator[Connections]:
    """Connections to clients that send, and wait for the answers of all before they send again."""
    with ExitStack() as stack:
        pairs = [stdlib_socket.socketpair() for _ in range(ECHOING)]
        for ours, theirs in pairs:
            ours.setblocking(False)
            stack.enter_context(ours)
            stack.enter_context(theirs)
        descriptors = [theirs.fileno() for _, theirs in pairs]
        script = str(Path(__file__).with_name("echo_clients.py"))
        numbers = [",".join(map(str, descriptors)), str(times), str(SHORT), str(scale.core)]
        command = [sys.executable, "-I", "-S", script, *numbers]
        clients = await trio.lowlevel.open_process(command, pass_fds=descriptors)
        try:
            yield [ours for ours, _ in pairs]
        finally:
            clients.kill()
            with trio.CancelScope(shield=True):
                await clients.wait()


async def _measure(
    case: str,
    scale: Scale,
    scene: Scene,
    contenders: dict[str, Contender],
    in_loop: Callable[[Connections], Coroutine[Any, Any, tuple[int, int]]],
    goals: Sequence[Goal],
) -> Row:
    measured: dict[str, list[float]] = {name: [] for name in contenders}
    with ExitStack() as stack:
        for name, factory in loop_factories().items():
            contenders[name] = on_loop(stack.enter_context(open_loop(factory)), in_loop)
            measured[name] = []
        order = list(contenders)
        for _ in range(max(1, scale.rounds // 8)):
            random.shuffle(order)
            for name in order:
                async with scene() as connections:
                    took, delivered = await contenders[name](connections)
                measured[name].append(took / max(1, delivered))
    return compare("programs", case, measured, goals)


async def measure(scale: Scale) -> list[Row]:
    """Measure the four programs."""
    clients = max(20, round(CLIENTS * scale.share))
    dead = clients // 20
    times = max(3, round(BROADCASTS * scale.share))
    # Where some never read, their queues have to fill.
    many = max(10, round(BROADCASTS * 5 * scale.share))
    sends = max(20, round(2000 * scale.share))
    echoes = max(5, round(100 * scale.share))
    goals = [Goal(OURS, "asyncio", 1)]
    return [
        await _measure(
            f"broadcast to {clients}",
            scale,
            partial(readers, scale, clients, 0),
            {
                OURS: partial(broadcast, times=times, dead=0),
                TRIO: partial(broadcast_in_tasks, times=times),
            },
            partial(broadcast_in_loop, times=times, dead=0),
            goals,
        ),
        await _measure(
            f"broadcast, {dead} of {clients} never read",
            scale,
            partial(readers, scale, clients - dead, dead),
            {
                OURS: partial(broadcast, times=many, dead=dead),
                TRIO: partial(broadcast_through_channels, times=many, dead=dead),
            },
            partial(broadcast_in_loop, times=many, dead=dead),
            goals,
        ),
        await _measure(
            f"{PRODUCERS} producers",
            scale,
            partial(readers, scale, 1, 0),
            {
                OURS: partial(produce, times=sends),
                TRIO: partial(produce_behind_a_lock, times=sends),
            },
            partial(produce_in_loop, times=sends),
            goals,
        ),
        await _measure(
            f"echo to {ECHOING}",
            scale,
            partial(askers, scale, echoes),
            {
                OURS: partial(echo, times=echoes),
                CALLBACKS: partial(echo_with_handlers, times=echoes),
                TRIO: partial(echo_streams, times=echoes),
            },
            partial(echo_in_loop, times=echoes),
            [Goal(OURS, TRIO, 0.9), Goal(CALLBACKS, TRIO, 1.1)],
        ),
    ]


WORKS = (
    (Work("programs", "four whole programs: what one delivered message costs", measure),)
    if "unix" in KINDS
    else ()
)
