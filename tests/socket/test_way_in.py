"""Count the modules that a start crosses on its way to the kernel and back, from any face and with any buffer.

A start that is nothing out of the ordinary goes the short way, a first one and one of a list too. One with a callback
ends as an operation whose end is told, so it crosses what makes, prepares and tells operations besides.

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

#: At most so many, and with what a callback takes.
MOST = 6
MOST_WITH_CALLBACK = 16


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
        most = MOST_WITH_CALLBACK if "callback" in face else MOST
        assert len(crossed) <= most, crossed
        await right.receive(100)


@pytest.mark.parametrize("buffer", BUFFERS)
@pytest.mark.parametrize("is_first", [True, False], ids=["first", "later"])
async def test_an_awaited_send_crosses_few_modules(buffer: str, is_first: bool) -> None:
    left, right = socketpair()
    async with left, right:
        if not is_first:
            await left.send(b"one before")
        # All of it happens before the send yields.
        sending = left.send(BUFFERS[buffer]())
        crossed = modules_of(lambda: sending.send(None))
        await right.receive(100)
        sending.close()
        assert len(crossed) <= MOST, crossed


async def test_more_would_be_noticed() -> None:
    left, right = socketpair()
    async with left, right, open_initiator():
        assert len(modules_of(lambda: (left.begin_send(b"x"), left.statistics(), left.torn))) > 1
        await right.receive(100)
