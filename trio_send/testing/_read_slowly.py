"""A peer that reads more slowly than it is sent to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from .._socket.socket import Socket


async def read_slowly(socket: Socket, *, max_bytes: int = 1024, pause: float = 0.01) -> bytes:
    """Receive a little at a time, with a pause before each time, until the sender has ended the stream.

    Run it in a task beside what is tested, so that a sender finds the queues of the system full again and again.

    Args:
      socket: a stream to receive from.
      max_bytes: how many bytes to receive at most each time.
      pause: how many seconds to wait each time, by Trio's clock.

    Returns:
      All that was received.

    Raises:
      SocketException: the connection broke.
      ObjectDisposedError: the socket was closed.
      InvalidOperationError: the call comes from another thread.

    **Checkpoints**: always.

    **If cancelled**: `trio.Cancelled`; what was received until then is gone.

    **Threads**: only from the Trio thread that uses the socket.
    """
    received = bytearray()
    while True:
        await trio.sleep(pause)
        data = await socket.receive(max_bytes)
        if not data:
            return bytes(received)
        received += data
