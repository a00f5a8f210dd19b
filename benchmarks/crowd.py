"""One pending send on each of thousands of connections.

All connections are full. Then one message is started on each, the reader makes room on all of them, and all messages
complete. Measured is the processor time of starting and of completing, from then on; how long the reader takes is not.

So many connections exist once only: the contenders have them one after the other, several times round.
"""

from __future__ import annotations

import asyncio
import os
import select
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

import trio
import trio.testing

import trio_send
from trio_send._cli.bench.contenders import FLAGS, FLOOR, clock
from trio_send._cli.bench.link import KINDS

from .descriptors import room_for
from .loops import LoopHost, loop_factories, open_loop
from .queues import fill
from .records import Goal, Row, compare
from .works import Scale, Work

if TYPE_CHECKING:
    import socket as stdlib_socket
    from collections.abc import Awaitable, Callable, Sequence

    from trio_send._cli.bench.link import Link

    Connections = Sequence[stdlib_socket.socket]
    #: Prepares the connections; returns what starts a message on each, makes room by calling what it is given, and
    #: waits until all are complete.
    Contender = Callable[[Connections, bytes, Callable[[], None]], Awaitable[int]]

#: How many connections, and how long each message is.
CONNECTIONS = 10_000
MESSAGE = 1024

TASKS = "trio task each"
OURS = "send_async"


async def floor(connections: Connections, data: bytes, make_room: Callable[[], None]) -> int:
    """An epoll loop that does nothing else."""
    began = clock()
    with select.epoll(len(connections)) as epoll:
        waiting = {}
        for sock in connections:
            try:
                sock.send(data, FLAGS)
            except BlockingIOError:
                epoll.register(sock, select.EPOLLOUT)
                waiting[sock.fileno()] = sock
        took = clock() - began
        make_room()
        began = clock()
        while waiting:
            for fileno, _ in epoll.poll(maxevents=256):
                waiting[fileno].send(data, FLAGS)
                epoll.unregister(fileno)
                del waiting[fileno]
        return took + clock() - began


async def send_async(connections: Connections, data: bytes, make_room: Callable[[], None]) -> int:
    """`Socket.send_async` on each, with a handler that counts."""
    sockets = [trio_send.Socket.from_stdlib(sock) for sock in connections]
    all_args = [trio_send.SocketAsyncEventArgs(data) for _ in sockets]
    missing = len(sockets)
    done = trio.Event()

    def completed(socket: trio_send.Socket, args: trio_send.SocketAsyncEventArgs) -> None:
        nonlocal missing
        missing -= 1
        if not missing:
            done.set()

    for args in all_args:
        args.completed += completed
    async with trio_send.open_initiator():
        await trio.testing.wait_all_tasks_blocked()
        began = clock()
        for socket, args in zip(sockets, all_args, strict=True):
            if not socket.send_async(args):
                missing -= 1
        took = clock() - began
        make_room()
        began = clock()
        await done.wait()
        return took + clock() - began


async def tasks(connections: Connections, data: bytes, make_room: Callable[[], None]) -> int:
    """A task with ``send_all`` for each."""
    streams = [trio.SocketStream(trio.socket.from_stdlib_socket(sock)) for sock in connections]
    began = clock()
    async with trio.open_nursery() as nursery:
        for stream in streams:
            nursery.start_soon(stream.send_all, data)
        await trio.testing.wait_all_tasks_blocked()
        took = clock() - began
        make_room()
        began = clock()
    return took + clock() - began


class Counting(asyncio.Protocol):
    """Counts the transports that have sent everything."""

    def __init__(self, resumed: Callable[[], None]) -> None:
        self.resume_writing = resumed  # type: ignore[method-assign]

    def pause_writing(self) -> None:
        """Nothing to do: there is nothing more to write."""


def transports(host: LoopHost) -> Contender:
    """A transport on a loop for each."""

    async def run(connections: Connections, data: bytes, make_room: Callable[[], None]) -> int:
        return host.run(in_loop(connections, data, make_room))

    async def in_loop(connections: Connections, data: bytes, make_room: Callable[[], None]) -> int:
        loop = asyncio.get_running_loop()
        missing = len(connections)
        done = asyncio.Event()

        def resumed() -> None:
            nonlocal missing
            missing -= 1
            if not missing:
                done.set()

        opened = []
        for sock in connections:
            transport, _ = await loop.create_unix_connection(lambda: Counting(resumed), sock=sock)
            transport.set_write_buffer_limits(high=0)
            opened.append(transport)
        await asyncio.sleep(0)
        began = clock()
        for transport in opened:
            transport.write(data)
        await asyncio.sleep(0)
        took = clock() - began
        make_room()
        began = clock()
        await done.wait()
        took += clock() - began
        for transport in opened:
            transport.abort()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return took

    return run


def drain_now(link: Link, count: int) -> None:
    """Have the receiver read, and stand still meanwhile, so that there is room everywhere when anybody looks."""
    fileno = link.control.socket.fileno()
    os.write(fileno, f"read {count}\n".encode())
    poll = select.poll()
    poll.register(fileno, select.POLLIN)
    poll.poll()
    os.read(fileno, 1)


async def open_full(
    link: Link, count: int, stack: ExitStack
) -> tuple[list[stdlib_socket.socket], int]:
    """Return new connections that are full, to be closed by ``stack``, and how many bytes they hold."""
    connections: list[stdlib_socket.socket] = []
    for at in range(0, count, 500):  # less than fits into the listener's queue
        some = list(link.connect_many(min(500, count - at), buffer_size=1))
        for sock in some:
            stack.callback(sock.close)
        connections += some
        await link.command(f"accept {len(some)}")
    return connections, sum(map(fill, connections))


async def measure_once(link: Link, contender: Contender, count: int, data: bytes) -> float:
    """Let one contender have new connections; return the nanoseconds for each message."""
    with ExitStack() as stack:
        connections, filled = await open_full(link, count, stack)
        return await contender(connections, data, partial(drain_now, link, filled)) / count


async def measure(scale: Scale) -> list[Row]:
    """Measure as many connections as are wanted and allowed."""
    wanted = max(20, round(CONNECTIONS * scale.share))
    count = min(wanted, room_for(wanted))
    contenders: dict[str, Contender] = {FLOOR: floor, OURS: send_async, TASKS: tasks}
    data = bytes(MESSAGE)
    measured: dict[str, list[float]] = {}
    with ExitStack() as stack:
        for name, factory in loop_factories().items():
            contenders[name] = transports(stack.enter_context(open_loop(factory)))
        for _ in range(max(1, scale.rounds // 20)):
            for name, contender in contenders.items():
                async with scale.link("unix") as link:
                    took = await measure_once(link, contender, count, data)
                measured.setdefault(name, []).append(took)
    goals = [
        Goal(OURS, TASKS, 1 / 3, FLOOR),
        Goal(OURS, "asyncio", 1, FLOOR),
    ]
    if trio_send.__accelerated__:
        goals.append(Goal(OURS, "uvloop", 1, FLOOR))
    note = f"{count:,} connections"
    if count < wanted:
        note += f", because the limit of open files allows no more; {wanted:,} were wanted"
    return [compare("crowd", "Unix", measured, goals, note=note)]


WORKS = (
    (
        Work(
            "crowd",
            f"one send of 1 KiB on each of {CONNECTIONS:,} full connections",
            measure,
        ),
    )
    if "unix" in KINDS
    else ()
)
