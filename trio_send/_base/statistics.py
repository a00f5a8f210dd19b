"""Snapshots of what can be known of a socket and of an initiator."""

from __future__ import annotations

from typing import final

import attrs


@final
@attrs.frozen
class SocketStatistics:
    """What is known of a socket at the moment of the call of `Socket.statistics`.

    At any moment ``started == succeeded + failed + aborted + queued_operations`` and
    ``bytes_offered == bytes_accepted + queued_bytes + bytes_abandoned``. What succeeds at once is not counted in the
    first one, because a count would make it dearer; `Initiator.statistics` has it.
    """

    #: How many operations wait in the sending queue, a connect among them.
    queued_operations: int
    #: How many bytes of theirs the kernel has not accepted.
    queued_bytes: int
    #: How many bytes the kernel has accepted on this socket in all.
    bytes_accepted: int
    #: Whether a message was cut on the stream, so that starts are refused.
    is_torn: bool
    #: Whether the queue weighed more than ``high_water``, and never since no more than ``low_water``.
    is_above_high_water: bool
    #: How many tasks are in `Socket.wait_below_low_water`.
    tasks_waiting_below_low_water: int
    #: How many operations wait to receive or to accept.
    queued_receives: int
    #: Who waits for the socket to become writable and drains the queue, as text; None when nothing is queued.
    watched_by: str | None
    #: How many operations had to wait in the sending queue, a connect among them, and how many sends have failed at
    #: once. What another thread was refused at once is not counted.
    started: int
    #: How many of those were completed.
    succeeded: int
    #: How many of those ended with an error other than OPERATION_ABORTED.
    failed: int
    #: How many of those ended with OPERATION_ABORTED.
    aborted: int
    #: How many bytes all sends that were started had to send. The rest of a cut message counts again if it is sent.
    bytes_offered: int
    #: How many bytes will not be sent, because their operation has failed or was stopped.
    bytes_abandoned: int


@final
@attrs.frozen
class InitiatorStatistics:
    """What is known of an initiator at the moment of the call of `Initiator.statistics`.

    At any moment ``started == succeeded + failed + aborted + pending_operations``.
    """

    #: How many of its operations are pending in queues.
    pending_operations: int
    #: In how many queues these stand; a socket has one for each direction.
    queues: int
    #: How many ended operations have yet to be told, and asynchronous handlers run.
    unfinished_events: int
    #: How many starts may yet end on the spot before one is answered "pending" to have the caller yield.
    starts_before_yield: int
    #: How many operations of every kind it has started, those that ended at once included. What another initiator takes
    #: over, or has handed over to this one, counts where it goes.
    started: int
    #: How many of them were completed.
    succeeded: int
    #: How many of them ended with an error other than OPERATION_ABORTED.
    failed: int
    #: How many of them ended with OPERATION_ABORTED.
    aborted: int
