"""The least that each face could cost in Python: classes that send, and keep nothing of the promises but the count.

They bound what is possible on a machine. The floor calls ``send`` in a loop of its own; a library has at least one
method around it, and that method has to look whether it may.
"""

from __future__ import annotations

import select
from threading import get_ident
from typing import TYPE_CHECKING

import trio

from trio_send._cli.bench.contenders import FLAGS, awaiting, clock

if TYPE_CHECKING:
    import socket as stdlib_socket

    from trio_send._cli.bench.contenders import Chunk

BARE_METHOD = "bare method"
BARE_GATES = "bare method, gates"
BARE_BEGIN = "bare begin and end"
BARE_AWAIT = "bare await"
BARE_WAIT = "bare wait"
BARE_ENGINE = "bare engine"


class _Operation:
    """What is sent, and what became of it."""

    __slots__ = ("code", "data", "size", "state", "transferred")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)
        self.state = 0
        self.transferred: int
        self.code: int


class _Sender:
    """A socket with a method or two."""

    __slots__ = ("budget", "gate", "send", "thread")

    def __init__(self, sock: stdlib_socket.socket) -> None:
        self.send = sock.send
        self.gate = 0
        self.budget = 1 << 60
        self.thread = get_ident()

    def send_bare(self, operation: _Operation) -> bool:
        """Send, and note the count."""
        sent = operation.transferred = self.send(operation.data, FLAGS)
        return sent != operation.size

    def send_through_gates(self, operation: _Operation) -> bool:
        """The same behind one look at each of what `Socket.send_async` has to look at."""
        if self.gate or operation.state or self.budget <= 0 or get_ident() != self.thread:
            raise RuntimeError("it cannot be sent now")
        sent = operation.transferred = self.send(operation.data, FLAGS)
        operation.code = 0
        if sent == operation.size:
            self.budget -= 1
            return False
        return True

    def begin(self, data: bytes, offset: int = 0, size: int | None = None) -> _Operation:
        """Make an operation, and send."""
        operation = _Operation(data)
        operation.transferred = self.send(data, FLAGS)
        return operation

    def end(self, operation: _Operation) -> int:
        """Take the count, once."""
        if operation.state:
            raise RuntimeError("it was taken already")
        operation.state = 1
        return operation.transferred

    async def send_and_checkpoint(self, data: bytes) -> int:
        """Send, and checkpoint as an async function must."""
        await trio.lowlevel.checkpoint_if_cancelled()
        sent = self.send(data, FLAGS)
        await trio.lowlevel.cancel_shielded_checkpoint()
        return sent


def bare_method(sock: stdlib_socket.socket, data: bytes, *, gates: bool = False) -> Chunk:
    """A method that sends."""
    sender = _Sender(sock)
    operation = _Operation(data)

    async def chunk(times: int) -> int:
        send = sender.send_through_gates if gates else sender.send_bare
        began = clock()
        for _ in range(times):
            send(operation)
        return clock() - began

    return chunk


def bare_begin(sock: stdlib_socket.socket, data: bytes) -> Chunk:
    """An object for each send, and a call that takes its count."""
    sender = _Sender(sock)

    async def chunk(times: int) -> int:
        begin, end = sender.begin, sender.end
        began = clock()
        for _ in range(times):
            end(begin(data))
        return clock() - began

    return chunk


def bare_wait(sock: stdlib_socket.socket, data: bytes) -> Chunk:
    """Send, and wait for the socket until all is sent; nobody else may send, or stop it."""
    size = len(data)
    view = memoryview(data)

    async def send_all(data: bytes) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            done = sock.send(data, FLAGS)
        except BlockingIOError:
            done = 0
        while done < size:
            await trio.lowlevel.wait_writable(sock)
            try:
                done += sock.send(view[done:], FLAGS)
            except BlockingIOError:
                pass

    return awaiting(send_all, data)


def bare_engine(sock: stdlib_socket.socket, data: bytes) -> Chunk:
    """Have another task wait for the socket, through an epoll set, send what is left, and wake the one that sends."""
    size = len(data)
    view = memoryview(data)
    events = select.EPOLLOUT | select.EPOLLONESHOT
    send = sock.send
    done = 0
    sender: trio.lowlevel.Task

    async def serve(epoll: select.epoll) -> None:
        nonlocal done
        fileno = epoll.fileno()
        while True:
            await trio.lowlevel.wait_readable(fileno)
            epoll.poll(0)
            try:
                done += send(view[done:], FLAGS)
            except BlockingIOError:
                pass
            if done < size:
                epoll.modify(sock, events)
            else:
                trio.lowlevel.reschedule(sender)

    def abort(_: object) -> trio.lowlevel.Abort:
        return trio.lowlevel.Abort.SUCCEEDED

    async def chunk(times: int) -> int:
        nonlocal done, sender
        sender = trio.lowlevel.current_task()
        with select.epoll() as epoll:
            epoll.register(sock, 0)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve, epoll)
                began = clock()
                for _ in range(times):
                    try:
                        done = send(data, FLAGS)
                    except BlockingIOError:
                        done = 0
                    if done < size:
                        epoll.modify(sock, events)
                        await trio.lowlevel.wait_task_rescheduled(abort)
                took = clock() - began
                nursery.cancel_scope.cancel()
        return took

    return chunk


def waiting_bounds(sock: stdlib_socket.socket, data: bytes) -> dict[str, Chunk]:
    """Return what bounds the faces where they have to wait, by name."""
    found = {BARE_WAIT: bare_wait(sock, data)}
    if hasattr(select, "epoll"):
        found[BARE_ENGINE] = bare_engine(sock, data)
    return found


def bounds(face: str, sock: stdlib_socket.socket, data: bytes) -> dict[str, Chunk]:
    """Return what bounds a face, by name."""
    if face == "begin_send":
        return {BARE_BEGIN: bare_begin(sock, data)}
    if face == "await send":
        return {BARE_AWAIT: awaiting(_Sender(sock).send_and_checkpoint, data)}
    return {
        BARE_METHOD: bare_method(sock, data),
        BARE_GATES: bare_method(sock, data, gates=True),
    }
