"""A reception: everything that comes in on one connection, counted, hashed and perhaps kept."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import trio

from ... import Socket, SocketException
from ..failures import Failure, describe

if TYPE_CHECKING:
    from collections.abc import Callable

#: What is received at once at most, and what a reception needs of memory.
BUFFER_SIZE = 256 * 1024

#: A limited reception takes so many sips per second, so that it is smooth to look at and cheap.
SIPS_PER_SECOND = 20


class Pace:
    """A limit to how fast bytes are taken.

    Args:
      rate: bytes per second.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._next = trio.current_time()
        #: How many bytes to take at once at most.
        self.sip = max(1, min(rate // SIPS_PER_SECOND, BUFFER_SIZE))

    async def took(self, count: int) -> None:
        """Wait until that many bytes more were due."""
        # What was not taken when it could have been is not made up for: there are no bursts after a pause.
        now = trio.current_time()
        self._next = max(self._next, now - 1 / SIPS_PER_SECOND) + count / self._rate
        await trio.sleep_until(self._next)


class Reception:
    """What one connection brings.

    Args:
      connection: the socket.
      rate: how many bytes to read per second at most; None stands for as many as there are.
      write: called in a thread with each piece; None stands for not keeping it.

    Attributes:
      count: how many bytes were taken.
      error: how the connection broke; None if it did not.
      ended: whether the sender has ended it in order.
    """

    def __init__(
        self,
        connection: Socket,
        *,
        rate: int | None = None,
        write: Callable[[memoryview], None] | None = None,
    ) -> None:
        self._connection = connection
        self._pace = None if rate is None else Pace(rate)
        self._write = write
        self._hash = hashlib.sha256()
        self.count = 0
        self.error: SocketException | None = None
        self.ended = False

    def digest(self) -> str:
        """Return the SHA-256 of the bytes that were taken."""
        return self._hash.hexdigest()

    async def run(self) -> None:
        """Take until the sender ends the connection, or it breaks.

        If it is cancelled, what was taken until then has been counted, hashed and written.

        Raises:
          Failure: a piece cannot be written.
        """
        pace = self._pace
        with memoryview(bytearray(BUFFER_SIZE)) as buffer:
            while True:
                try:
                    size = await self._connection.receive_into(
                        buffer if pace is None else buffer[: pace.sip]
                    )
                except SocketException as error:
                    self.error = error
                    return
                if size == 0:
                    self.ended = True
                    return
                # What has been received is gone from the kernel, so nothing may come between that and the account.
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(self._take, buffer[:size])
                self.count += size
                if pace is not None:
                    await pace.took(size)

    def _take(self, piece: memoryview) -> None:
        if self._write is not None:
            self._write(piece)
        self._hash.update(piece)


class AppendingFile:
    """A file that receptions are appended to.

    It has no buffer of its own: what has been counted is in the file, even if the process is killed.

    Args:
      path: where it is; it is made if it does not exist.

    Raises:
      Failure: it cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self._raw = open(path, "ab", buffering=0)  # noqa: SIM115  # closed by close()
        except OSError as error:
            raise Failure(f"{path!r} cannot be written: {describe(error)}") from None

    def write(self, piece: memoryview) -> None:
        """Append a piece, all of it.

        Raises:
          Failure: that is impossible.
        """
        try:
            while piece:
                piece = piece[self._raw.write(piece) or 0 :]
        except OSError as error:
            raise Failure(f"{self.path!r} cannot be written: {describe(error)}") from None

    def size(self) -> int:
        """Return how many bytes it has."""
        return os.fstat(self._raw.fileno()).st_size

    def close(self) -> None:
        """Close it."""
        self._raw.close()
