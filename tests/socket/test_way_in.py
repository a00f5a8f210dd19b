"""Count the modules that a start crosses on its way to the kernel and back, from any face and with any buffer.

The short way stays in its own module, with at most a few others. The long one goes through a module for each thing that
it does: the check of the socket, of the buffer, of the owner, the preparation, the queue, the system call, the account.

What runs is told by a profiler, which is called for every function of Python's.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import trio_send
from trio_send import Socket, SocketAsyncEventArgs, open_initiator, socketpair

LIBRARY = str(Path(trio_send.__file__).parent)

#: At most so many on the short way, and on the long one.
MOST_ON_THE_SHORT_WAY = 6
MOST_ON_THE_LONG_WAY = 20

#: What goes the short way when the socket has been used before.
SHORT = {
    ("send_async", "bytes"),
    ("send_async", "bytearray"),
    ("begin_send", "bytes"),
    ("begin_send", "bytearray"),
}


def modules_of(call: Callable[[], Any]) -> list[str]:
    """The modules of the package in which a function runs during a call, in the order in which they come up."""
    found: dict[str, None] = {}

    def note(frame: FrameType, event: str, _: Any) -> None:
        name = frame.f_code.co_filename
        if event == "call" and name.startswith(LIBRARY):
            found[name[len(LIBRARY) + 1 :]] = None

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    return list(found)


BUFFERS: dict[str, Callable[[], Any]] = {
    "bytes": lambda: b"data",
    "bytearray": lambda: bytearray(b"data"),
    "list": lambda: [b"da", bytearray(b"ta")],
    "other type": lambda: memoryview(b"data").cast("B", (2, 2)),
}


def starts(socket: Socket, data: Any) -> dict[str, Callable[[], Any]]:
    """The starts of a message, by the name of the face."""
    args = SocketAsyncEventArgs()
    if isinstance(data, list):
        args.buffer_list = data
    else:
        args.set_buffer(data)
    told: list[Any] = []
    return {
        "send_async": lambda: socket.send_async(args),
        "begin_send": lambda: socket.begin_send(data),
        "begin_send with a callback": lambda: socket.begin_send(data, callback=told.append),
    }


@pytest.mark.parametrize("buffer", BUFFERS)
@pytest.mark.parametrize("face", ["send_async", "begin_send", "begin_send with a callback"])
@pytest.mark.parametrize("is_first", [True, False], ids=["first", "later"])
async def test_a_start_crosses_few_modules(face: str, buffer: str, is_first: bool) -> None:
    left, right = socketpair()
    async with left, right, open_initiator():
        if not is_first:
            left.begin_send(b"one before")
        start = starts(left, BUFFERS[buffer]())[face]
        crossed = modules_of(start)
        is_short = not is_first and (face, buffer) in SHORT
        most = MOST_ON_THE_SHORT_WAY if is_short else MOST_ON_THE_LONG_WAY
        assert len(crossed) <= most, crossed
        await right.receive(100)


async def test_more_would_be_noticed() -> None:
    left, right = socketpair()
    async with left, right, open_initiator():
        assert len(modules_of(lambda: (left.begin_send(b"x"), left.statistics(), left.torn))) > 1
        await right.receive(100)
