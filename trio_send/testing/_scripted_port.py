"""`ScriptedPort`: a kernel that does what it is told, in virtual time."""

from __future__ import annotations

import errno
import math
import os
from collections import deque
from socket import MSG_PEEK
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, final

import attrs

from .._base.checks import counted
from .._base.codes import SocketShutdown
from .._kernel.port import Port
from .._messages.files import read_at
from ._readiness import Readiness

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from typing_extensions import Buffer


@final
@attrs.frozen
class Blocked:
    """A line of a script: take nothing, and be worth another try only after a while.

    Attributes:
      seconds: how long, by Trio's clock; `math.inf` stands for until `ScriptedPort.unblock`.
    """

    seconds: float = math.inf


#: What a line of a script says.
Line: TypeAlias = "int | str | Blocked"


def _check(name: str, line: object, kinds: tuple[type, ...], what: str) -> None:
    if not isinstance(line, kinds):
        raise TypeError(f"{name} has {line!r}, but each line must be {what}")
    if isinstance(line, str) and not hasattr(errno, line):
        raise ValueError(f"{name} has {line!r}, which is not the name of an errno")


def _check_line(line: object) -> None:
    what = "a number of bytes, a Blocked or the name of an errno"
    _check("script", line, (int, str, Blocked), what)


def _check_arrival(line: object) -> None:
    what = "bytes, a Blocked or the name of an errno"
    _check("incoming", line, (bytes, str, Blocked), what)


def _error(name: str) -> OSError:
    number = getattr(errno, name)
    return OSError(number, os.strerror(number))


@final
class ScriptedPort(Port):
    """A port that follows a script, one line for each attempt to send.

    Put a socket on it with ``Socket.from_port(ScriptedPort([...]))``. Together with Trio's mock clock every order of
    events and every way to split a message can be had, without a kernel and without waiting.

    Args:
      script: what to do with each attempt, in turn. A number accepts so many bytes at most; `Blocked` accepts none and
        raises `BlockingIOError`; the name of an errno, such as ``"ECONNRESET"``, raises that error. When the script is
        over, everything is accepted. Or a function that is called for each attempt with the bytes that are offered, and
        returns such a line.
      is_stream: whether a message may be accepted in part. If not, a number means all, as for a datagram.
      incoming: what arrives, in turn: `bytes`, of which a stream hands out the rest another time if there was no room;
        `Blocked`, so that nothing arrives for a while; the name of an errno, which the attempt to receive raises. When
        it is over, a stream has ended, and of datagrams nothing more arrives. Without it the socket cannot receive.
      errors: the name of an errno that a call fails with, by ``"shutdown"`` or ``"close"``. A close that fails has
        closed the port all the same.
      descriptor: whether to stand on a descriptor that is writable when the script is not `Blocked`. What waits for it
        is then what waits for real sockets, and not a task of its own. Only Linux has such descriptors; elsewhere it
        makes no difference. It tells of one direction, so such a port cannot receive.

    Raises:
      TypeError: a line is of another type.
      ValueError: a line or an error is not the name of an errno, ``errors`` has another key, or there is ``incoming``
        on a ``descriptor``.

    Attributes:
      accepted: all bytes that were accepted, in order.
      messages: what each successful attempt got accepted, in order.
      attempts: how many attempts there were.
      shut_down: what was shut down, in order.
      closed: whether the port was closed.
      was_reset: whether it was closed with a reset.
    """

    def __init__(
        self,
        script: Iterable[Line] | Callable[[bytes], Line] = (),
        *,
        is_stream: bool = True,
        incoming: Iterable[bytes | str | Blocked] | None = None,
        errors: Mapping[Literal["shutdown", "close"], str] | None = None,
        descriptor: bool = False,
    ) -> None:
        self._choose: Callable[[bytes], Line] | None = None
        self._script: list[Line] = []
        if callable(script):
            self._choose = script
        else:
            self._script += script
            self._script.reverse()
        for line in self._script:
            _check_line(line)
        self._incoming = None if incoming is None else deque(incoming)
        for arrival in self._incoming or ():
            _check_arrival(arrival)
        if self._incoming is not None:
            if descriptor:
                raise ValueError(
                    "incoming is for a port without a descriptor, because that tells of one direction only"
                )
            self.receive_into: Callable[[Sequence[memoryview], int], int] | None = (
                self._receive_into
            )
        self._errors = dict(errors or {})
        for call, name in self._errors.items():
            if call not in ("shutdown", "close"):
                raise ValueError(f"errors has {call!r}, but there are just 'shutdown' and 'close'")
            _check("errors", name, (str,), "the name of an errno")
        self._ready = Readiness("a scripted port", descriptor=descriptor)
        self._arrives = Readiness("what arrives at a scripted port", descriptor=False)
        self.is_stream: bool = is_stream
        self.accepted: bytearray = bytearray()
        self.messages: list[bytes] = []
        self.attempts: int = 0
        self.shut_down: list[SocketShutdown] = []
        self.closed: bool = False
        self.was_reset: bool = False

    def __repr__(self) -> str:
        accepted, lines = len(self.accepted), len(self._script)
        to_go = (
            "lines from a function"
            if self._choose is not None
            else f"{counted(lines, 'line')} to go"
        )
        return f"<ScriptedPort: {counted(accepted, 'byte')} accepted, {to_go}>"

    def add(self, *lines: Line) -> None:
        """Add lines to the end of the script.

        Raises:
          TypeError: the port follows a function.
        """
        if self._choose is not None:
            raise TypeError("the script is a function, which itself says what comes next")
        for line in lines:
            _check_line(line)
        self._script[:0] = reversed(lines)

    def unblock(self) -> None:
        """End the current `Blocked` lines now."""
        self._ready.unblock()
        self._arrives.unblock()

    # Sending --------------------------------------------------------------------------------------

    def _next_line(self, data: bytes) -> Line:
        if self._choose is not None:
            line = self._choose(data)
            _check_line(line)
            return line
        return self._script.pop() if self._script else len(data)

    def _accept(self, data: bytes) -> int:
        if self.closed:
            raise _error("EBADF")
        self.attempts += 1
        if {SocketShutdown.SEND, SocketShutdown.BOTH} & {*self.shut_down}:
            raise _error("EPIPE")
        if self._ready.is_blocked:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        line = self._next_line(data)
        if isinstance(line, Blocked):
            self._ready.block(line.seconds)
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        if isinstance(line, str):
            raise _error(line)
        taken = data[:line] if self.is_stream else data
        self.accepted += taken
        self.messages.append(taken)
        return len(taken)

    def send(self, buffer: Buffer, flags: int, /) -> int:
        """Follow the script's next line."""
        return self._accept(bytes(buffer))

    def send_gather(self, views: Sequence[Buffer], flags: int, /) -> int:
        """Follow the script's next line, for all the buffers as one message."""
        return self._accept(b"".join(views))

    def send_to(self, buffer: Buffer, flags: int, address: Any, /) -> int:
        """Follow the script's next line."""
        return self._accept(bytes(buffer))

    def send_file(self, descriptor: int, offset: int, count: int, /) -> int:
        """Follow the script's next line; ``"EINVAL"`` has the file read and sent instead."""
        return self._accept(read_at(descriptor, offset, count))

    # Receiving ------------------------------------------------------------------------------------

    def _receive_into(self, views: Sequence[memoryview], flags: int, /) -> int:
        incoming = self._incoming
        assert incoming is not None
        if self.closed:
            raise _error("EBADF")
        if {SocketShutdown.RECEIVE, SocketShutdown.BOTH} & {*self.shut_down}:
            return 0
        if incoming and not self._arrives.is_blocked:
            line = incoming[0]
            if isinstance(line, Blocked):
                incoming.popleft()
                self._arrives.block(line.seconds)
        if self._arrives.is_blocked or not (incoming or self.is_stream):
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        if not incoming:
            return 0
        line = incoming[0]
        if isinstance(line, str):
            incoming.popleft()
            raise _error(line)
        assert isinstance(line, bytes)
        left = line
        for view in views:
            count = min(view.nbytes, len(left))
            view[:count] = left[:count]
            left = left[count:]
        if not flags & MSG_PEEK:
            incoming.popleft()
            if left and self.is_stream:
                incoming.appendleft(left)
        return len(line) - len(left)

    # Waiting and ending ---------------------------------------------------------------------------

    def fileno(self) -> int:
        """Return the descriptor to watch, or -1 if there is none."""
        return -1 if self.closed else self._ready.fd

    async def wait_writable(self) -> None:
        """Wait until the current `Blocked` line is over.

        **Checkpoints**: always.

        **If cancelled**: `trio.Cancelled`, and nothing has been sent.

        **Threads**: only from the Trio thread that uses the socket.
        """
        await self._ready.wait()

    async def wait_readable(self) -> None:
        """Wait until something has arrived; for ever if nothing will.

        **Checkpoints**: always.

        **If cancelled**: `trio.Cancelled`, and nothing has been received.

        **Threads**: only from the Trio thread that uses the socket.
        """
        if self._incoming is None or not (self._incoming or self.is_stream):
            self._arrives.block(math.inf)
        await self._arrives.wait()

    def shutdown(self, how: int, /) -> None:
        """End a direction: sends fail with EPIPE from then on, and receives find the end."""
        if "shutdown" in self._errors:
            raise _error(self._errors["shutdown"])
        self.shut_down.append(SocketShutdown(how))
        self.unblock()

    def close(self, *, reset: bool) -> None:
        """Refuse all further attempts and wake whoever waits."""
        self.closed = True
        self.was_reset = reset
        self._ready.close()
        self._arrives.close()
        if "close" in self._errors:
            raise _error(self._errors["close"])
