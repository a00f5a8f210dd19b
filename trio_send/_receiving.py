"""What a peer needs to be a peer: awaited receives, in a FIFO of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from ._awaiting import perform
from ._buffers import measure
from ._codes import SocketAsyncOperation
from ._connecting import Connecting
from ._operation import Operation, Step

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from ._endpoint import Endpoint

_RECEIVE: Final = SocketAsyncOperation.RECEIVE


class _ReceiveStep(Step):
    """Receives once, into a buffer or into a new `bytes` object."""

    __slots__ = ("_buffer", "_max_bytes", "_socket", "data")

    def __init__(self, socket: Endpoint, buffer: Buffer | None, max_bytes: int) -> None:
        self._socket = socket
        self._buffer = buffer
        self._max_bytes = max_bytes
        self.data = b""

    def attempt(self, operation: Operation) -> None:
        sock = self._socket._require_kernel()
        if self._buffer is None:
            self.data = sock.recv(self._max_bytes)
            operation._transferred = len(self.data)
        else:
            operation._transferred = sock.recv_into(self._buffer)


class Receiving(Connecting):
    """The part of `Socket` that receives."""

    __slots__ = ()

    @trio.lowlevel.enable_ki_protection
    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Receive what has arrived, as soon as something has.

        Args:
          max_bytes: how many bytes at most.

        Returns:
          The bytes; ``b""`` when the peer has finished, or for an empty datagram.

        Raises:
          SocketException: the connection is broken, or there is none.
          ValueError: ``max_bytes`` is not positive.
          InvalidOperationError: the call comes from another thread.
          ObjectDisposedError: the socket was closed.

        **Checkpoints**: always.

        **If cancelled**: `trio.Cancelled`, and nothing has been received.

        **Threads**: only from the Trio thread that uses the socket.
        """
        self._require_usable()
        if max_bytes < 1:
            raise ValueError(f"max_bytes is {max_bytes}, but must be at least 1")
        step = _ReceiveStep(self, None, max_bytes)
        await self._receive(step)
        return step.data

    @trio.lowlevel.enable_ki_protection
    async def receive_into(self, buffer: Buffer) -> int:
        """Receive what has arrived into a buffer, as soon as something has.

        Args:
          buffer: a writable, contiguous bytes-like object; leave it alone meanwhile.

        Returns:
          How many bytes were received; 0 when the peer has finished, or for an empty datagram.

        Raises:
          SocketException: the connection is broken, or there is none.
          TypeError: ``buffer`` is not bytes-like, not contiguous or read-only.
          ValueError: ``buffer`` is empty.
          InvalidOperationError: the call comes from another thread.
          ObjectDisposedError: the socket was closed.

        **Checkpoints**: always.

        **If cancelled**: `trio.Cancelled`, and nothing has been received.

        **Threads**: only from the Trio thread that uses the socket.
        """
        self._require_usable()
        if measure("buffer", buffer) == 0:
            raise ValueError("buffer is empty, so nothing could be received into it")
        with memoryview(buffer) as view:
            if view.readonly:
                raise TypeError(
                    f"buffer must be writable, but this {type(buffer).__name__} is read-only"
                )
        return await self._receive(_ReceiveStep(self, buffer, 0))

    async def _receive(self, step: _ReceiveStep) -> int:
        self._require_kernel()
        await trio.lowlevel.checkpoint_if_cancelled()
        operation = Operation()
        self._note(operation, step, _RECEIVE)
        await perform(operation, self._reading_queue())
        if operation._code:
            raise operation._exception()
        return operation._transferred
