"""A transfer over a connection of its own, from the first byte to the orderly end."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import trio

from ... import Socket, SocketException, SocketShutdown
from ..meter import keep_showing, meter
from .transfer import Transfer

if TYPE_CHECKING:
    from collections.abc import Callable

    from .chunks import Chunk, Face
    from .source import Source

#: How long to wait, behind a whole transfer, for the receiver to close its side. Only that tells whether the connection
#: has survived its last bytes. But some receivers close late or never, so it cannot be waited for without an end.
CLOSING_PATIENCE = 5.0

_BUFFER_SIZE = 65536


class Transmission:
    """A transfer, and what the receiver says meanwhile.

    The receiving direction is read and thrown away for three reasons. A receiver that talks back and is not listened to
    may stop to read. Closing a socket with unread bytes resets the connection, and takes bytes from the receiver that
    were accepted already. And the end of this direction is the one sign that every receiver gives.

    Args:
      socket: a connection, which is closed at the end.
      source: what to send.
      face: how.
      chunk_size: the bytes of each operation.
      in_flight: how many operations may be under way at once.
      label: what to call it on the screen.

    Attributes:
      transfer: the transfer.
      thrown_away: how many bytes the receiver sent.
      error: what the receiving direction broke with; None if it did not.
      closed_early: whether the receiver had closed its side before all was accepted.
    """

    def __init__(
        self,
        socket: Socket,
        source: Source,
        face: Callable[[Socket, Callable[[Chunk], None]], Face],
        *,
        chunk_size: int,
        in_flight: int,
        label: str,
    ) -> None:
        self.transfer = Transfer(socket, source, face, chunk_size=chunk_size, in_flight=in_flight)
        self._socket = socket
        self._total = source.remaining
        #: What is typed is on the screen already, and a meter would be drawn into it.
        self._label = None if source.is_typed else label
        self._closed = trio.Event()
        self.thrown_away = 0
        self.error: SocketException | None = None
        self.closed_early = False

    @property
    def closed(self) -> bool:
        """Whether the receiver has closed its side."""
        return self._closed.is_set()

    async def run(self, *, stall_timeout: float = math.inf) -> None:
        """Send everything, or until stopped, and close the connection.

        If it is cancelled, the count and the hash of the transfer are exact all the same.

        Args:
          stall_timeout: as for `Transfer.run`.
        """
        try:
            with meter(self._label, self._total) as shown:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._listen)
                    nursery.start_soon(keep_showing, shown, lambda: self.transfer.accepted)
                    await self.transfer.run(stall_timeout=stall_timeout)
                    if self.transfer.is_complete:
                        await self._see_off()
                    nursery.cancel_scope.cancel()
        finally:
            # In order, even behind an operation that was cut. For a protocol of messages a reset would be the honest
            # end. But it makes the kernels throw away what was accepted and not read yet, and whoever goes on at the
            # offset needs that delivered. That the file is not whole is told by the exit status.
            self._socket.close(reset=False)

    async def _listen(self) -> None:
        buffer = bytearray(_BUFFER_SIZE)
        try:
            while count := await self._socket.receive_into(buffer):
                self.thrown_away += count
        except SocketException as error:
            self.error = error
            self.transfer.connection_broke(error)
        self._closed.set()

    async def _see_off(self) -> None:
        """Say that this was all, and wait for the receiver to close its side too."""
        self.closed_early = self.closed and self.error is None
        try:
            self._socket.shutdown(SocketShutdown.SEND)
        except SocketException as error:
            self.error = self.error or error
            return
        with trio.move_on_after(CLOSING_PATIENCE):
            await self._closed.wait()
