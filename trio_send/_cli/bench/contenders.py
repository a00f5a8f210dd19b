"""Ways to send one message after the other on a connection: the floor, this library's, Trio's own.

Each is a function that sends its message so many times and returns the processor time of just that, in nanoseconds.
They are written alike, a bare loop each, so that what differs is what is measured.
"""

from __future__ import annotations

import socket as stdlib_socket
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import trio

from ... import Socket, SocketAsyncEventArgs
from .link import twin

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    Chunk = Callable[[int], Awaitable[int]]

#: What everybody passes to ``send``, so that a peer that has gone away is an error and not a signal.
FLAGS = getattr(stdlib_socket, "MSG_NOSIGNAL", 0)

clock = time.process_time_ns

FLOOR = "floor"
SEND_ASYNC = "send_async"
BEGIN_SEND = "begin_send"
AWAIT_SEND = "await send"
SOCKET_SEND = "trio.socket.send"
SEND_ALL = "trio send_all"


def floor(sock: stdlib_socket.socket, data: bytes) -> Chunk:
    """The least that a Python program can do: nothing but the system call, in a loop."""

    async def chunk(times: int) -> int:
        send = sock.send
        began = clock()
        for _ in range(times):
            send(data, FLAGS)
        return clock() - began

    return chunk


def send_async(socket: Socket, data: bytes) -> Chunk:
    """`Socket.send_async` with one args object, for the open initiator."""

    async def chunk(times: int) -> int:
        args = SocketAsyncEventArgs(data)
        send = socket.send_async
        began = clock()
        for _ in range(times):
            if send(args):
                await args.wait()
        return clock() - began

    return chunk


def begin_send(socket: Socket, data: bytes) -> Chunk:
    """`Socket.begin_send` without a callback, and the call that takes the count."""

    async def chunk(times: int) -> int:
        begin, take = socket.begin_send, socket.end_send_nowait
        began = clock()
        for _ in range(times):
            result = begin(data)
            if result.is_completed:
                take(result)
            else:
                await socket.end_send(result)
        return clock() - began

    return chunk


def awaiting(method: Callable[[bytes], Awaitable[object]], data: bytes) -> Chunk:
    """A method that is called with the message and awaited: ours, Trio's or somebody else's."""

    async def chunk(times: int) -> int:
        send = method
        began = clock()
        for _ in range(times):
            await send(data)
        return clock() - began

    return chunk


@contextmanager
def open_contenders(sock: stdlib_socket.socket, data: bytes) -> Iterator[dict[str, Chunk]]:
    """Give each contender the connection; the value is what they do, by name.

    They have a descriptor each, which is closed behind the body. An initiator has to be open.
    """
    with ExitStack() as stack:
        socket = Socket.from_stdlib(twin(sock))
        stack.callback(socket.close)
        trio_socket = stack.enter_context(trio.socket.from_stdlib_socket(twin(sock)))
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(twin(sock)))
        stack.enter_context(stream.socket)
        yield {
            FLOOR: floor(sock, data),
            SEND_ASYNC: send_async(socket, data),
            BEGIN_SEND: begin_send(socket, data),
            AWAIT_SEND: awaiting(socket.send, data),
            SOCKET_SEND: awaiting(trio_socket.send, data),
            SEND_ALL: awaiting(stream.send_all, data),
        }
