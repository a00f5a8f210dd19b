"""One piece of a transfer: its buffer, and what became of it."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Protocol

import trio

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from ... import Socket, SocketException


class Counted(Protocol):
    """Any operation of the library: its count can be read at any time."""

    @property
    def bytes_transferred(self) -> int:
        """How many bytes the kernel has accepted so far."""


class Chunk:
    """A buffer that goes round: filled, sent, counted, filled again.

    Args:
      size: the size of the buffer.

    Attributes:
      buffer: the buffer.
      size: how much of it is being sent.
      operation: what sends it; None before that.
      pending: whether the operation had to wait.
      error: why it ended before all was accepted; None if it did not.
      ended: set when it has ended.
    """

    def __init__(self, size: int) -> None:
        self.buffer = bytearray(size)
        self.size = 0
        self.operation: Counted | None = None
        self.pending = False
        self.error: SocketException | None = None
        self.ended = trio.Event()

    def begin(self, size: int) -> None:
        """Forget what became of it before; its first ``size`` bytes are to be sent now."""
        self.size = size
        self.operation = None
        self.pending = False
        self.error = None
        self.ended = trio.Event()

    @property
    def accepted(self) -> int:
        """How many bytes of it the kernel has accepted so far: its first ones."""
        return 0 if self.operation is None else self.operation.bytes_transferred

    @property
    def is_whole(self) -> bool:
        """Whether all of it was accepted."""
        return self.accepted == self.size


class Face(abc.ABC):
    """One of the library's ways to send, seen by a transfer.

    A transfer calls `start` for one chunk after the other. The chunks may end in any order.

    Args:
      socket: where to send.
      on_end: called with each chunk that has ended, once; what became of it stands in the chunk.
    """

    def __init__(self, socket: Socket, on_end: Callable[[Chunk], None]) -> None:
        self._socket = socket
        self._on_end = on_end

    @abc.abstractmethod
    def opened(self) -> AbstractAsyncContextManager[trio.CancelScope]:
        """Return the scope in which chunks can be sent.

        Cancelling it ends the operations that are pending, with exact counts. All have ended when it has been left.
        """

    @abc.abstractmethod
    async def start(self, chunk: Chunk) -> None:
        """Start to send a chunk that was begun, behind all chunks that were started before it."""

    def _end(self, chunk: Chunk, error: SocketException | None) -> None:
        chunk.error = error
        self._on_end(chunk)
        chunk.ended.set()
