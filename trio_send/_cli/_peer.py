"""What the other side says while it is being sent to."""

from __future__ import annotations

import trio

from .. import Socket, SocketException

_BUFFER_SIZE = 65536


class Peer:
    """The receiving direction of a connection that is there to send.

    It is read and thrown away for three reasons. A peer that talks back and is not listened to may stop to read. Closing
    a socket with unread bytes resets the connection, and takes bytes from the peer that were accepted already. And the
    end of this direction is the only sign of life that every peer gives.

    Attributes:
      received: how many bytes were thrown away.
      closed: set when the peer has closed its direction, or the connection has broken.
      error: how the connection broke; None if it did not.
    """

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        self.received = 0
        self.closed = trio.Event()
        self.error: SocketException | None = None

    async def listen(self) -> None:
        """Read until there is nothing more to come."""
        buffer = bytearray(_BUFFER_SIZE)
        try:
            while count := await self._socket.receive_into(buffer):
                self.received += count
        except SocketException as error:
            self.error = error
        self.closed.set()
