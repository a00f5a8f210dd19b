"""Both ways that a start can go, as parameters of a fixture that the tests of every face share.

The first start of an initiator on a socket looks at everything that could be wrong. If nothing is, and the message is
simple enough, later ones take a shorter way, which looks only at what may have changed, and which differs from face to
face and from one kind of data to another, and is compiled where there is the accelerator. So what holds of a start is
shown of a first one and of a later one, with all kinds of data, with the accelerator and without. Import the fixture as
``from tests.both_ways import way as way``.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import attrs
import pytest

import trio_send
from tests.accelerator import go_in_python
from trio_send import Socket, SocketAsyncEventArgs

#: The kinds of data.
DATA = ("bytes", "bytearray", "range", "list")

#: What the start before a later one sends: nothing, so that the peer need not be asked.
NOTHING = b""


@attrs.frozen
class Way:
    """How a test starts something.

    Attributes:
      is_first: whether nothing was started on the socket before.
      data: the kind of the data, one of `DATA`.
      is_compiled: whether by the accelerator.
    """

    is_first: bool
    data: str
    is_compiled: bool

    def __str__(self) -> str:
        how = "-compiled" if self.is_compiled else ""
        return f"{'first' if self.is_first else 'later'}-{self.data}{how}"

    def prepare(self, socket: Socket) -> None:
        """Start something before, in the initiator that is open here, if the start to be tested is a later one."""
        if not self.is_first:
            assert socket.send_async(SocketAsyncEventArgs(NOTHING)) is False

    def arguments(self, message: bytes) -> tuple[Any, int, int | None]:
        """What the begin methods take for a message: a buffer, an offset, a size."""
        if self.data == "range":
            return b"<<" + message + b">", 2, len(message)
        if self.data == "list":
            return self.buffer(message), 0, None
        return (bytearray(message) if self.data == "bytearray" else message), 0, None

    def buffer(self, message: bytes) -> Any:
        """One object for a message."""
        if self.data == "range":
            return memoryview(b"<<" + message + b">")[2:-1]
        if self.data == "list":
            return [message[:2], bytearray(message[2:])]
        return bytearray(message) if self.data == "bytearray" else message

    def args(self, message: bytes) -> SocketAsyncEventArgs:
        """Args for a message."""
        if self.data == "list":
            args = SocketAsyncEventArgs()
            args.buffer_list = self.buffer(message)
            return args
        buffer, offset, size = self.arguments(message)
        return SocketAsyncEventArgs(buffer, offset, len(buffer) if size is None else size)

    def start(self, face: str, socket: Socket, message: bytes = b"message") -> Any:
        """Make the call of a face; an async one has to refuse before it yields for the first time."""
        data = self.args(message) if face in ("send_async", "send args") else self.buffer(message)
        answer = getattr(socket, face.split()[0])(data)
        return answer.send(None) if isinstance(answer, Coroutine) else answer

    async def send(self, face: str, socket: Socket, message: bytes) -> int:
        """Send a message through a face, as `tests.helpers.FACES` has them; return the count it was told."""
        if face == "send":
            return await socket.send(self.buffer(message))
        if face == "begin_send":
            return await socket.end_send(socket.begin_send(*self.arguments(message)))
        if face == "try_begin_send":
            result, _ = socket.try_begin_send(*self.arguments(message))
            assert result is not None
            return await socket.end_send(result)
        args = self.args(message)
        if face == "send args":
            return await socket.send(args)
        if socket.send_async(args):
            await args.wait()
        assert args.outcome is not None
        return args.outcome.unwrap()


#: Without the accelerator there is nothing compiled.
WAYS = [
    Way(is_first, data, is_compiled)
    for is_compiled in (False, True)[: 1 + trio_send.__accelerated__]
    for is_first in (True, False)
    for data in DATA
]


def taken(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Way:
    """The way of a parameter, which is the only one there is from now on."""
    way = request.param
    assert isinstance(way, Way)
    if not way.is_compiled:
        go_in_python(monkeypatch)
    return way


@pytest.fixture(params=WAYS, ids=str)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Way:
    """A way to start something."""
    return taken(request, monkeypatch)


@pytest.fixture(params=[way for way in WAYS if way.data != "list"], ids=str)
def buffer_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Way:
    """A way to start something with a single buffer."""
    return taken(request, monkeypatch)
