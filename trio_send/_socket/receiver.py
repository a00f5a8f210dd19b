"""Messages from a stream of bytes: a piece of known length, or all up to a delimiter.

Where a message ends has nothing to do with where a receive ends. So whoever wants a whole message receives several
times, and a cancellation between two of these must not lose what the first ones took. The bytes therefore stay in the
`Receiver`, which is an object of its own and not a method of `Socket`: a hidden buffer there would be unknown to the
receives that fill buffers of the caller's.
"""

from __future__ import annotations

import socket as stdlib_socket
from typing import TYPE_CHECKING, final

import trio

from .._base.checks import NotCopied, counted, require_whole_number
from .._base.codes import SocketError
from .._base.errors import SocketException
from .._messages.buffers import measure
from .core import core_of
from .guard import Guard
from .socket import Socket

if TYPE_CHECKING:
    from typing_extensions import Buffer


@final
class Receiver(NotCopied):
    """Receive messages from a stream socket, and keep what has arrived of one that is not complete.

    What a call has received before it was cancelled, or failed, is kept for the next call. What has arrived behind the
    message that was asked for is kept, too. So while a receiver is in use, everything is to be received through it:
    what `Socket.receive` or a stream of the same socket takes comes behind what the receiver holds.

    Args:
      socket: a connected stream socket. The receiver does not close it.

    Raises:
      TypeError: ``socket`` is no `Socket`.
      ValueError: it is no stream socket.
      SocketException: it cannot receive.

    Source: .NET's ``Stream.ReadExactlyAsync``.
    """

    __slots__ = ("_guard", "_held", "_socket")

    def __init__(self, socket: Socket) -> None:
        if not isinstance(socket, Socket):
            raise TypeError(f"socket must be a trio_send.Socket, not {type(socket).__name__}")
        if socket.type != stdlib_socket.SOCK_STREAM:
            raise ValueError(
                "socket is no stream socket; what it receives are whole messages already, so use socket.receive()"
            )
        self._socket = socket
        #: What has arrived and was not asked for yet.
        self._held = bytearray()
        self._guard = Guard("receiving through this receiver", "receive from one task")

    def __repr__(self) -> str:
        return f"<Receiver of {self._socket!r}: {counted(len(self._held), 'byte')} held>"

    @property
    def socket(self) -> Socket:
        """The socket that was passed in."""
        return self._socket

    @property
    def held_bytes(self) -> int:
        """How many bytes have arrived and were not asked for yet; `receive_exactly` of so many does not wait."""
        return len(self._held)

    @trio.lowlevel.enable_ki_protection
    async def receive_exactly(self, n: int) -> bytes:
        """Receive exactly so many bytes.

        Args:
          n: how many bytes.

        Returns:
          The bytes.

        Raises:
          EOFError: the peer has finished, and fewer bytes than ``n`` are there. They stay in the receiver, and
            `held_bytes` tells how many they are; 0 mean that the peer has finished behind a whole message.
          SocketException: the connection is broken, or there is none. What has arrived stays in the receiver.
          TypeError: ``n`` is no whole number.
          ValueError: ``n`` is negative.
          trio.BusyResourceError: another task is receiving through this receiver.
          InvalidOperationError: the call comes from another thread.
          ObjectDisposedError: the socket was closed.

        **Checkpoints**: always.

        **If cancelled**: `trio.Cancelled`, and what has arrived stays in the receiver for the next call.

        **Threads**: only from the Trio thread that uses the socket.
        """
        n = require_whole_number("n", n, "bytes")
        if n < 0:
            raise ValueError(f"n is {n}, but must be a number of bytes from 0 on")
        core_of(self._socket).require_usable()
        with self._guard:
            if len(self._held) >= n:
                await trio.lowlevel.checkpoint()
            while len(self._held) < n:
                await self._receive_more(f"of {n} asked for")
            return self._take(n)

    @trio.lowlevel.enable_ki_protection
    async def receive_until(self, delimiter: Buffer, max_bytes: int) -> bytes:
        """Receive all bytes up to a delimiter.

        Args:
          delimiter: the bytes that end a message, such as ``b"\\r\\n"``.
          max_bytes: how many bytes a message may have, without the delimiter. What a peer can make the receiver hold
            is limited by this.

        Returns:
          The bytes in front of the delimiter, which is received, too, and left out.

        Raises:
          EOFError: the peer has finished without a delimiter. What came stays in the receiver, and `held_bytes` tells
            how many bytes it is; 0 mean that the peer has finished behind a whole message.
          SocketException: there is no delimiter behind ``max_bytes`` bytes or fewer, with MESSAGE_SIZE; or the
            connection is broken, or there is none. What has arrived stays in the receiver.
          TypeError: ``delimiter`` is not bytes-like, or ``max_bytes`` is no whole number.
          ValueError: ``delimiter`` is empty, or ``max_bytes`` is negative.
          trio.BusyResourceError: another task is receiving through this receiver.
          InvalidOperationError: the call comes from another thread.
          ObjectDisposedError: the socket was closed.

        **Checkpoints**: always.

        **If cancelled**: `trio.Cancelled`, and what has arrived stays in the receiver for the next call.

        **Threads**: only from the Trio thread that uses the socket.
        """
        if measure("delimiter", delimiter) == 0:
            raise ValueError("delimiter is empty, but must have at least one byte")
        end = bytes(delimiter)  # which cannot change meanwhile
        max_bytes = require_whole_number("max_bytes", max_bytes, "bytes")
        if max_bytes < 0:
            raise ValueError(f"max_bytes is {max_bytes}, but must be a number of bytes from 0 on")
        core_of(self._socket).require_usable()
        limit = max_bytes + len(end)
        searched, waited = 0, False
        with self._guard:
            # Where the pieces end must not matter: neither to a delimiter that lies across two of them, nor to whether
            # a message is too long.
            while (at := self._held.find(end, max(0, searched - len(end) + 1), limit)) < 0:
                searched = len(self._held)
                if searched >= limit:
                    raise SocketException(
                        SocketError.MESSAGE_SIZE,
                        detail=f"there is no {end!r} behind the first {max_bytes} bytes or before; "
                        "what has arrived is still there, so ask with a larger max_bytes, or take it with "
                        "receive_exactly()",
                    )
                await self._receive_more(f"without a {end!r}")
                waited = True
            if not waited:
                await trio.lowlevel.checkpoint()
            message = self._take(at)
            del self._held[: len(end)]
            return message

    async def _receive_more(self, missing: str) -> None:
        """Hold what arrives next; raise EOFError, saying what is missing, if nothing more comes."""
        data = await self._socket.receive()
        if not data:
            raise EOFError(
                f"the peer has finished with {counted(len(self._held), 'byte')} {missing}, which the receiver still has"
                if self._held
                else "the peer has finished behind a whole message, so there is none any more"
            )
        self._held += data

    def _take(self, n: int) -> bytes:
        """Hand out the first ``n`` of the bytes held."""
        with memoryview(self._held) as view:
            data = bytes(view[:n])
        del self._held[:n]
        return data
