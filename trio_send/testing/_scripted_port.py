"""`ScriptedPort`: a kernel that does what it is told, in virtual time."""

from __future__ import annotations

import errno
import math
import os
from typing import TYPE_CHECKING, Any, final

import attrs
import trio

from .._base.checks import counted
from .._kernel.port import Port
from .._messages.files import read_at

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from typing_extensions import Buffer


@final
@attrs.frozen
class Blocked:
    """A line of a script: take nothing, and be worth another try only after a while.

    Attributes:
      seconds: how long, by Trio's clock; `math.inf` stands for until `ScriptedPort.unblock`.
    """

    seconds: float = math.inf


@final
class ScriptedPort(Port):
    """A port that follows a script, one line for each attempt to send.

    Put a socket on it with ``Socket.from_port(ScriptedPort([...]))``. Together with Trio's mock clock every order of
    events and every way to split a message can be had, without a kernel and without waiting.

    Args:
      script: what to do with each attempt, in turn. A number accepts so many bytes at most; `Blocked` accepts none and
        raises `BlockingIOError`; the name of an errno, such as ``"ECONNRESET"``, raises that error. When the script is
        over, everything is accepted.
      is_stream: whether a message may be accepted in part. If not, a number means all, as for a datagram.

    Attributes:
      accepted: all bytes that were accepted, in order.
      messages: what each successful attempt got accepted, in order.
      attempts: how many attempts there were.
      closed: whether the port was closed.
      was_reset: whether it was closed with a reset.
    """

    def __init__(
        self, script: Iterable[int | str | Blocked] = (), *, is_stream: bool = True
    ) -> None:
        self._script = list(script)
        self._script.reverse()
        for line in self._script:
            if not isinstance(line, (int, str, Blocked)):
                raise TypeError(
                    f"script has {line!r}, but each line must be a number of bytes, a Blocked or the name of an errno"
                )
            if isinstance(line, str) and not hasattr(errno, line):
                raise ValueError(f"script has {line!r}, which is not the name of an errno")
        self._blocked_until = -math.inf
        self._lot = trio.lowlevel.ParkingLot()
        self.is_stream: bool = is_stream
        self.accepted: bytearray = bytearray()
        self.messages: list[bytes] = []
        self.attempts: int = 0
        self.closed: bool = False
        self.was_reset: bool = False

    def __repr__(self) -> str:
        accepted, lines = len(self.accepted), len(self._script)
        return (
            f"<ScriptedPort: {counted(accepted, 'byte')} accepted, {counted(lines, 'line')} to go>"
        )

    def add(self, *lines: int | str | Blocked) -> None:
        """Add lines to the end of the script."""
        self._script[:0] = reversed(lines)

    def unblock(self) -> None:
        """End the current `Blocked` line now."""
        self._blocked_until = -math.inf
        self._lot.unpark_all()

    def _accept(self, data: bytes) -> int:
        if self.closed:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        self.attempts += 1
        if self._blocked_until > trio.current_time():
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        line = self._script.pop() if self._script else len(data)
        if isinstance(line, Blocked):
            self._blocked_until = trio.current_time() + line.seconds
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        if isinstance(line, str):
            number = getattr(errno, line)
            raise OSError(number, os.strerror(number))
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

    def fileno(self) -> int:
        """Return -1: there is no descriptor to watch."""
        return -1

    async def wait_writable(self) -> None:
        """Wait until the current `Blocked` line is over.

        **Checkpoints**: always.

        **If cancelled**: `trio.Cancelled`, and nothing has been sent.

        **Threads**: only from the Trio thread that uses the socket.
        """
        await trio.lowlevel.checkpoint()
        while not self.closed and (left := self._blocked_until - trio.current_time()) > 0:
            with trio.move_on_after(left):
                await self._lot.park()
        if self.closed:
            raise trio.ClosedResourceError("the scripted port was closed")

    async def wait_readable(self) -> None:
        """Wait for ever, because nothing is ever received.

        **Checkpoints**: always.

        **If cancelled**: `trio.Cancelled`.

        **Threads**: only from the Trio thread that uses the socket.
        """
        await trio.sleep_forever()

    def close(self, *, reset: bool) -> None:
        """Refuse all further attempts and wake whoever waits."""
        self.closed = True
        self.was_reset = reset
        self._lot.unpark_all()
