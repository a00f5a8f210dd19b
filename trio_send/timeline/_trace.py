"""A trace: what happened to the operations of one run, as plain values that can be drawn, kept and compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import attrs

if TYPE_CHECKING:
    from collections.abc import Sequence

#: What an event can be.
STARTED = "started"
QUEUED = "queued"
ACCEPTED = "accepted"
ENDED = "ended"
TOLD = "told"
CLOSED = "closed"
CANCELLED = "cancelled"


#: Of these operations the count is known only at the end.
_RECEIVES = "receive"


def is_receive(kind: str) -> bool:
    """Tell whether an operation of this kind receives, so that nothing of it is accepted."""
    return kind.startswith(_RECEIVES)


@final
@attrs.frozen
class TracedInitiator:
    """An initiator, as far as a picture goes.

    Attributes:
      number: its number in the trace, from 1 on.
      name: what it is called; empty if it has no name.
      policy: its exit policy, such as ``"JOIN"``.
      parent: the number of the initiator around it; None if there is none that started anything.
    """

    number: int
    name: str
    policy: str
    parent: int | None = None


@final
@attrs.frozen
class TracedActivation:
    """One activation of an operation, as far as a picture goes.

    Attributes:
      number: its number in the trace.
      socket: the number of its socket.
      kind: what is done, such as ``"send"``.
      size: how many bytes the message has, or there is room for.
      accepted_before: how many bytes were accepted before the first event.
      initiator: the number of the initiator that it belongs to; None if a task awaits it, or if that is not known.
    """

    number: int
    socket: int
    kind: str
    size: int
    accepted_before: int = 0
    initiator: int | None = None


@final
@attrs.frozen
class Event:
    """Something that happened.

    Attributes:
      time: when, in seconds of Trio's clock since the trace began.
      batch: in which round of Trio's scheduler. Each has a higher number than those before it.
      what: ``"started"``, ``"queued"``, ``"accepted"``, ``"ended"`` or ``"told"`` of an operation, ``"closed"`` of a
        socket, or ``"cancelled"`` of an initiator's scope, which is noticed with the next event.
      number: the number of the operation, socket or initiator.
      count: how many bytes, of what was accepted or has ended.
      error: the name of the error with which an operation has ended, such as ``"SUCCESS"``.
    """

    time: float
    batch: int
    what: str
    number: int
    count: int = 0
    error: str = ""


@final
@attrs.frozen
class Trace:
    """What happened to the operations of one run.

    Attributes:
      initiators: those that started anything, in that order.
      activations: the operations, in the order in which they were started.
      events: what happened, in that order.
    """

    initiators: Sequence[TracedInitiator]
    activations: Sequence[TracedActivation]
    events: Sequence[Event]


def require_whole(trace: Trace) -> None:
    """Raise unless a trace fits together.

    Raises:
      ValueError: it tells of an operation or an initiator that it does not have, or has an operation of which it tells
        nothing.
    """
    activations = {one.number for one in trace.activations}
    initiators = {one.number for one in trace.initiators}
    told = set()
    for event in trace.events:
        if event.what == CANCELLED:
            if event.number not in initiators:
                raise ValueError(f"the trace tells of initiator {event.number}, but has none")
        elif event.what != CLOSED:
            if event.number not in activations:
                raise ValueError(f"the trace tells of operation {event.number}, but has none")
            told.add(event.number)
    if activations - told:
        number = min(activations - told)
        raise ValueError(f"the trace has operation {number}, but tells nothing of it")
