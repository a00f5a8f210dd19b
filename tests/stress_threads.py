"""Trials of sends that threads start: a crowd of threads on a few sockets, and threads that end in the middle of it.

`tests.stress` registers it. What is sent says whose it is and which, so what the peers have read tells the order and
whether it is whole. The peers are plain sockets. Nothing here is imported from `tests.stress`, for that may run as
``__main__``.
"""

from __future__ import annotations

import queue
import random
import socket as stdlib_socket
import struct
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import attrs
import outcome
import trio

from tests.files import open_descriptors
from tests.helpers import read_some, stdlib_pair
from trio_send import (
    AsyncResult,
    Initiator,
    OperationInProgressError,
    Socket,
    SocketAsyncEventArgs,
    SocketError,
    SocketException,
    from_thread,
    open_initiator,
)

if TYPE_CHECKING:
    from tests.stress import Trials

THREADS = 64
SOCKETS = 8

#: How many sends of a thread may be under way.
WINDOW = 32

#: Where all messages come from: no two pieces of it look alike.
POOL = random.Random(3).randbytes(1 << 20)

#: Thread, number, size.
HEADER = struct.Struct("!HII")

#: What a thread leaves behind when it ends with sends pending: more than the kernel takes while its thread ends.
LAST = 256 * 1024

ABORTED, FOLLOWED = SocketError.OPERATION_ABORTED, SocketError.CONNECTION_ABORTED


def message_of(thread: int, number: int, size: int) -> bytes:
    """A message whose content follows from whose it is and which."""
    start = (thread * 8191 + number * 131) % (len(POOL) - size)
    return HEADER.pack(thread, number, size) + POOL[start : start + size]


@attrs.define(eq=False)
class Entry:
    """One send that was started, and what was told of its end."""

    thread: int
    number: int
    size: int
    ends: list[tuple[SocketError, int]] = attrs.field(factory=list)

    def __call__(self, *told: object) -> None:
        """Be told, as a callback or as a handler."""
        operation = told[-1]
        assert isinstance(operation, (AsyncResult, SocketAsyncEventArgs))
        self.ends.append((SocketError(operation._operation.code), operation.bytes_transferred))


@attrs.define(eq=False)
class Sender:
    """What one thread does."""

    number: int
    socket: Socket
    host: Initiator
    count: int
    leaves_pending: bool
    rng: random.Random
    entries: list[Entry] = attrs.field(factory=list)
    refused: int = 0

    def start(self, size: int) -> AsyncResult | Entry:
        """Start one send, in one of the ways; again and again while the stream is torn."""
        entry = Entry(self.number, len(self.entries), size)
        data = message_of(self.number, entry.number, size)
        way = self.rng.randrange(4)
        while True:
            if way == 0:
                args = SocketAsyncEventArgs(data)
                args.completed += entry
                started = from_thread.send_async(self.socket, args, host=self.host)
                result: AsyncResult | Entry | None = entry if started else None
            else:
                result, _ = from_thread.try_begin_send(
                    self.socket,
                    data,
                    callback=entry,
                    host=self.host,
                    callbacks_in_thread=way == 1 and entry.number % 16 == 0,
                )
            if result is not None:
                self.entries.append(entry)
                return result
            self.refused += 1
            time.sleep(0.0005)

    def run(self) -> None:
        """Send everything; at the end wait for it, or leave in the middle of it."""
        under_way: deque[AsyncResult | Entry] = deque()
        for _ in range(self.count - self.leaves_pending):
            under_way.append(self.start(int(2000 ** self.rng.random())))
            if len(under_way) == WINDOW:
                self.end(under_way.popleft())
        if self.leaves_pending:
            self.start(LAST)
            return
        while under_way:
            self.end(under_way.popleft())

    def end(self, started: AsyncResult | Entry) -> None:
        """Wait for the end of a send."""
        if isinstance(started, AsyncResult):
            try:
                from_thread.end_send(started)
            except SocketException as error:
                if error.socket_error_code is not FOLLOWED or error.bytes_transferred:
                    raise
        else:
            while not started.ends:
                time.sleep(0.0005)

    def run_in_block(self) -> None:
        """Do the same in a ``with`` block."""
        with from_thread.initiator(self.host):
            self.run()


def parsed(received: bytes | bytearray) -> Iterator[tuple[int, int, int]]:
    """Give thread, number and size of each message; raise if one is not as it was sent."""
    at = 0
    while at < len(received):
        thread, number, size = HEADER.unpack_from(received, at)
        end = at + HEADER.size + size
        if received[at:end] != message_of(thread, number, size):
            raise ValueError(
                f"what should be message {number} of thread {thread} is something else"
            )
        yield thread, number, size
        at = end


def complaint_about(senders: list[Sender], received: bytes | bytearray, rests: int) -> str | None:
    """Compare what was told of the sends on one socket with what its peer has read."""
    entries = {(entry.thread, entry.number): entry for each in senders for entry in each.entries}
    for entry in entries.values():
        if len(entry.ends) != 1:
            return f"send {entry.number} of thread {entry.thread} ended {len(entry.ends)} times"
    counted = sum(entry.ends[0][1] for entry in entries.values())
    if counted + rests != len(received):
        return f"{counted} + {rests} bytes were counted, and {len(received)} were read"
    latest = dict.fromkeys(range(THREADS), -1)
    try:
        for thread, number, _ in parsed(received):
            if number <= latest[thread]:
                return (
                    f"message {number} of thread {thread} came after its message {latest[thread]}"
                )
            latest[thread] = number
            if entries.pop((thread, number)).ends[0][1] == 0:
                return f"message {number} of thread {thread} came, of which no byte was counted"
    except (ValueError, KeyError, struct.error) as error:
        return repr(error)
    for entry in entries.values():
        if entry.ends[0][1]:
            return f"message {entry.number} of thread {entry.thread} never came"
    return None


def own_threads() -> set[threading.Thread]:
    """The threads that are not kept by Trio for later."""
    return {each for each in threading.enumerate() if not each.name.startswith("Trio thread")}


async def _crowd(trials: Trials) -> None:
    rng = random.Random(trials.seed)
    happened = trials.happened
    received = [bytearray() for _ in range(SOCKETS)]
    rests = [0] * SOCKETS
    everything_sent = trio.Event()

    async def read(peer: stdlib_socket.socket, into: bytearray) -> None:
        while piece := await read_some(peer):
            into += piece

    async def mend(number: int, socket: Socket) -> None:
        """Send the rest of what threads leave behind, so that the others can go on."""
        while not (everything_sent.is_set() and socket.torn is None):
            if socket.torn is not None:
                try:
                    rests[number] += await socket.send_rest()
                except OperationInProgressError:
                    pass  # its end has yet to be told
            await trio.sleep(0.0005)

    with ExitStack() as stack:
        sockets = []
        peers = []
        for number in range(SOCKETS):
            left, right = stdlib_pair("unix" if number % 2 else "tcp4")
            left.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_SNDBUF, 16 * 1024)
            right.setblocking(False)
            peers.append(stack.enter_context(right))
            sockets.append(Socket.from_stdlib(left))
            stack.callback(sockets[-1].close)
        tasks = trio.lowlevel.current_statistics().tasks_living
        limiter = trio.CapacityLimiter(2 * THREADS)
        async with trio.open_nursery() as nursery:
            for peer, into in zip(peers, received, strict=True):
                nursery.start_soon(read, peer, into)
            async with open_initiator() as host:
                senders = [
                    Sender(
                        number=number,
                        socket=sockets[number % SOCKETS],
                        host=host,
                        count=trials.count // THREADS,
                        leaves_pending=number % 3 == 0,
                        rng=random.Random(rng.random()),
                    )
                    for number in range(THREADS)
                ]
                async with trio.open_nursery() as menders:
                    for number, socket in enumerate(sockets):
                        menders.start_soon(mend, number, socket)
                    async with trio.open_nursery() as waiters:
                        for sender in senders:
                            kind = sender.number // SOCKETS % 3
                            if kind == 0:  # a call of Trio's
                                waiters.start_soon(in_call, sender, limiter)
                                continue
                            run = sender.run if kind == 1 else sender.run_in_block
                            thread = threading.Thread(target=run, daemon=bool(sender.number % 2))
                            thread.start()
                            waiters.start_soon(join, thread, limiter)
                    # Every thread is gone: so is everything of theirs.
                    happened["threads left"] += len(host._owner.threads)
                    happened["pending, although the threads are gone"] += sum(
                        thread.pending_operations for thread in host._owner.threads
                    )
                    everything_sent.set()
            happened["tasks left"] = (
                trio.lowlevel.current_statistics().tasks_living - tasks - SOCKETS
            )
            for socket in sockets:
                await socket.aclose()
    for number in range(SOCKETS):
        mine = [sender for sender in senders if sender.socket is sockets[number]]
        trials.check(number, "a socket", complaint_about(mine, received[number], rests[number]))
        happened["bytes"] += len(received[number])
    for sender in senders:
        happened["sends"] += len(sender.entries)
        happened["refused at once"] += sender.refused
        for entry in sender.entries:
            happened[f"ended with {entry.ends[0][0].name}"] += 1
        happened["threads that left a send pending"] += sender.leaves_pending and sender.entries[
            -1
        ].ends[0][0] in (ABORTED, FOLLOWED)


async def in_call(sender: Sender, limiter: trio.CapacityLimiter) -> None:
    await trio.to_thread.run_sync(sender.run, limiter=limiter)


async def join(thread: threading.Thread, limiter: trio.CapacityLimiter) -> None:
    await trio.to_thread.run_sync(thread.join, limiter=limiter)


def run_as_guest(function: Callable[..., Awaitable[None]], *arguments: object) -> None:
    """Do what `trio.run` does, as the guest of a loop that does nothing else."""
    jobs: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
    done: list[outcome.Outcome[None]] = []
    trio.lowlevel.start_guest_run(
        function, *arguments, run_sync_soon_threadsafe=jobs.put, done_callback=done.append
    )
    while not done:
        jobs.get()()
    done[0].unwrap()


def threads(trials: Trials, run: Callable[..., None] = trio.run) -> None:
    """So many sends in all, from 64 threads on 8 sockets; a third of the threads end with sends pending."""
    run(trio.to_thread.run_sync, int)  # what Trio keeps for later, it has then
    before, descriptors = own_threads(), len(open_descriptors())
    begun = time.perf_counter()
    run(_crowd, trials)
    trials.happened["sends per second"] = round(
        trials.happened["sends"] / (time.perf_counter() - begun)
    )
    wanted = trials.count // THREADS * THREADS
    if trials.happened["sends"] != wanted:
        trials.mismatches.append(f"there were {trials.happened['sends']} sends, not {wanted}")
    left = {
        "tasks": trials.happened["tasks left"],
        "threads that are owners": trials.happened["threads left"],
        "threads": len(own_threads() - before),
        "descriptors": len(open_descriptors()) - descriptors,
    }
    if any(left.values()):
        trials.mismatches.append(f"something was left: {left}")


def threads_as_guest(trials: Trials) -> None:
    """The same while Trio is the guest of another loop."""
    threads(trials, run_as_guest)


KINDS = (threads, threads_as_guest)
