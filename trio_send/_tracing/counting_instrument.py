"""Counters of what all sockets of a run have done.

They are .NET's six, and where its versions count differently (F048, F277, F282) this is what is counted here. *Bytes
sent* are all that the kernel accepted, at the moment it did, whatever becomes of their operation: the part of a message
that was stopped has gone out as well. .NET Framework counts in ``EndSend``, so not what nobody asks about; later ones
count what succeeded. *Datagrams* are all that were accepted or received, empty ones too, as later versions have it.
*Connections* are those of streams; a datagram socket's connect establishes none.
"""

from __future__ import annotations

from typing import final

import attrs

from .._base.codes import SocketAsyncOperation, SocketError
from .instrument import Instrument, TracedOperation
from .logging_instrument import RECEIVES


@final
@attrs.frozen
class Counters:
    """What a `CountingInstrument` has counted up to some moment."""

    #: How many bytes the kernel has accepted, over streams and in datagrams.
    bytes_sent: int = 0
    #: How many bytes were received, over streams and in datagrams; those of a receive with PEEK too.
    bytes_received: int = 0
    #: How many datagrams the kernel has accepted.
    datagrams_sent: int = 0
    #: How many datagrams were received.
    datagrams_received: int = 0
    #: How many connects of stream sockets have succeeded.
    outgoing_connections_established: int = 0
    #: How many connections were accepted.
    incoming_connections_established: int = 0


class CountingInstrument(Instrument):
    """Counts bytes, datagrams and connections of all sockets while it watches.

    Source: facts F277 and F281 to F283.
    """

    def __init__(self) -> None:
        self._bytes_sent = 0
        self._bytes_received = 0
        self._datagrams_sent = 0
        self._datagrams_received = 0
        self._connected = 0
        self._accepted = 0

    def bytes_accepted(self, operation: TracedOperation, count: int, total: int) -> None:
        """Count them."""
        self._bytes_sent += count

    def operation_completed(
        self,
        operation: TracedOperation,
        error: SocketError,
        count: int,
        queue_delay: float | None,
        detail: str | None,
    ) -> None:
        """Count what it was."""
        if operation.kind in RECEIVES:
            self._bytes_received += count
            self._datagrams_received += operation.datagrams
        else:
            self._datagrams_sent += operation.datagrams
        if error or not operation.is_stream:
            return
        if operation.kind is SocketAsyncOperation.CONNECT:
            self._connected += 1
        elif operation.kind is SocketAsyncOperation.ACCEPT:
            self._accepted += 1

    def snapshot(self) -> Counters:
        """Return the counts as they are now."""
        return Counters(
            bytes_sent=self._bytes_sent,
            bytes_received=self._bytes_received,
            datagrams_sent=self._datagrams_sent,
            datagrams_received=self._datagrams_received,
            outgoing_connections_established=self._connected,
            incoming_connections_established=self._accepted,
        )
