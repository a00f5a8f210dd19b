"""What happened in a world, as its rules see it: sends, sockets and initiators, with a number for each moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator


@final
@attrs.define(eq=False)
class Sent:
    """One activation of a send.

    Attributes:
      number: its number in the world, from 1 on.
      socket: the number of its socket.
      face: ``"send_async"``, ``"begin_send"`` or ``"send"``.
      message: its bytes; no other byte of the world has the same value.
      initiator: the number of the initiator that it belongs to; None if a task awaits it.
      started: the moment of its start.
      answered: the moment at which the start returned, or the awaiting call has ended; None if that has not happened.
      pending: whether the start answered that it is pending; None if it is awaited or did not return.
      resumed: for each time that it was resumed, whether the answer was that it is pending.
      told: the moments of its events.
      told_as: the count and the error that the latest event told; None if it was resumed since.
      count: how many bytes it says were accepted, in the end; None if nobody says that.
      error: the name of the error that it ended with; empty if nobody says that.
      is_over: whether it has ended.
      was_free: whether its buffer could be changed in length when it was told of.
      stopped: the moment from which on a stop was in effect; None if there was none.
      was_cancelled: whether an awaiting task was told of its end by `trio.Cancelled`.
      is_told: whether there is somebody whom its event could be told.
      awaited_as: the counts, and the errors if they come with them, that those were told who waited for its end.
    """

    number: int
    socket: int
    face: str
    message: bytes
    initiator: int | None
    started: int
    answered: int | None = None
    pending: bool | None = None
    resumed: list[bool] = attrs.Factory(list)
    told: list[int] = attrs.Factory(list)
    told_as: tuple[int, str] | None = None
    count: int | None = None
    error: str = ""
    is_over: bool = False
    was_free: bool = True
    stopped: int | None = None
    was_cancelled: bool = False
    is_told: bool = True
    awaited_as: list[tuple[int, str | None]] = attrs.Factory(list)

    def __str__(self) -> str:
        return f"send {self.number} of {len(self.message)} bytes"


@final
@attrs.define
class Taken:
    """Bytes that the kernel accepted in one attempt, with the moment and the time."""

    moment: int
    data: bytes
    time: float = 0.0


@final
@attrs.define(eq=False)
class SocketRecord:
    """A socket: what its kernel accepted, and when the program said that a torn message may be written behind.

    Attributes:
      number: its number in the world, from 1 on.
      is_stream: whether messages may be accepted in part.
      taken: what was accepted, in order.
      forgiven: the moments at which the program forgot a torn message.
      left: what the socket said of its queue in the end: how many operations, and how many bytes.
      closed: the moment at which the program closed it; None if it did not.
    """

    number: int
    is_stream: bool
    taken: list[Taken] = attrs.Factory(list)
    forgiven: list[int] = attrs.Factory(list)
    left: tuple[int, int] = (0, 0)
    closed: int | None = None


@final
@attrs.define(eq=False)
class InitiatorRecord:
    """An initiator.

    Attributes:
      number: its number in the world, from 1 on.
      policy: the name of its exit policy.
      grace: the seconds that it gives, or None.
      ended: the moment at which its body ended, and the time; None if it has not.
      was_raised: whether the body ended with an exception, or a handler raised one.
      cancelled: the moment at which a scope around it was cancelled, and the time; None if none was.
      left: the moment at which it was left, and the time.
      pending: how many of its operations were pending then.
    """

    number: int
    policy: str
    grace: float | None
    ended: tuple[int, float] | None = None
    was_raised: bool = False
    cancelled: tuple[int, float] | None = None
    left: tuple[int, float] | None = None
    pending: int = 0


@final
@attrs.define
class Record:
    """All that happened.

    Attributes:
      sends: what was sent.
      sockets: over what.
      initiators: who has started it.
      raised: what handlers have raised.
      surfaced: how much of that has left an initiator.
      strays: sends whose stop has stopped another use of their args.
    """

    sends: list[Sent] = attrs.Factory(list)
    sockets: list[SocketRecord] = attrs.Factory(list)
    initiators: list[InitiatorRecord] = attrs.Factory(list)
    raised: list[Exception] = attrs.Factory(list)
    surfaced: int = 0
    strays: list[Sent] = attrs.Factory(list)

    def accepted(self, sent: Sent) -> Iterator[tuple[int, int]]:
        """The moment and the value of each byte of a send that was accepted."""
        values = set(sent.message)
        for taken in self.sockets[sent.socket - 1].taken:
            for value in taken.data:
                if value in values:
                    yield taken.moment, value
