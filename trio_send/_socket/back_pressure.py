"""How full a socket's queue is: to be read, to be waited for, and a snapshot of everything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

import trio

from .._base.errors import SocketClosedError
from .._operations.gate import CLOSED
from .core import Verb

if TYPE_CHECKING:
    from .._base.statistics import SocketStatistics

#: What becomes of sends that are started while too much waits.
WhenFull: TypeAlias = Literal["queue", "refuse"]

_WHEN_FULL: Final = get_args(WhenFull)


class BackPressure(Verb):
    """The part of `Socket` that tells producers when to pause."""

    __slots__ = ()

    @property
    def queued_operations(self) -> int:
        """How many operations wait in the sending queue."""
        return self._core.sends.length

    @property
    def queued_bytes(self) -> int:
        """How many bytes wait in the sending queue: all of those of pending sends that the kernel has not accepted.

        The marks count 512 bytes for each operation besides.
        """
        return self._core.sends.queued_bytes

    @property
    def high_water(self) -> int:
        """A queue that weighs more bytes than this makes `wait_below_low_water` wait; 65,536 by default.

        It weighs `queued_bytes`, and 512 bytes for each of the `queued_operations`: about the memory that one takes
        while it waits. So messages of one byte, and empty datagrams, reach the mark as well. Whether starts are refused
        then `when_full` says. Setting it to less than `low_water` is a `ValueError`.
        """
        return self._core.sends.marks.high

    @high_water.setter
    @trio.lowlevel.enable_ki_protection
    def high_water(self, value: int) -> None:
        self._core.require_usable()
        self._core.sends.marks.set_high(value)
        self._core.sends.weigh()

    @property
    def low_water(self) -> int:
        """A queue that weighs so many bytes, or fewer, ends the wait of `wait_below_low_water`; 16,384 by default.

        It weighs as `high_water` says. Setting it to more than `high_water` is a `ValueError`.
        """
        return self._core.sends.marks.low

    @low_water.setter
    @trio.lowlevel.enable_ki_protection
    def low_water(self, value: int) -> None:
        self._core.require_usable()
        self._core.sends.marks.set_low(value)
        self._core.sends.weigh()

    @property
    def when_full(self) -> WhenFull:
        """What becomes of sends that are started while the queue is too full; ``"queue"`` by default.

        It is too full from the moment at which it weighs more than `high_water`, until it weighs no more than
        `low_water`. ``"queue"`` has every send join the queue, however much waits. With ``"refuse"`` a start fails on
        the spot with NO_BUFFER_SPACE_AVAILABLE and 0 bytes, as with any other error, and nothing is sent or queued:
        `Socket.send_async` and its likes return False, `Socket.begin_send` and `Socket.begin_send_to` raise,
        `Socket.try_begin_send` returns None and the error. A start of another thread is told in the end, if the queue
        was not too full when the thread looked.

        Never refused are the first send of an empty queue, however long, `Socket.resume`, and what a task awaits, such
        as `Socket.send`: it waits its turn in the queue, so no task has more than one message there.

        Setting it to anything else is a `ValueError`. What is queued already stays.
        """
        return "refuse" if self._core.sends.marks.refuses else "queue"

    @when_full.setter
    @trio.lowlevel.enable_ki_protection
    def when_full(self, value: WhenFull) -> None:
        if value not in _WHEN_FULL:
            raise ValueError(
                f"when_full must be one of {', '.join(map(repr, _WHEN_FULL))}, not {value!r}"
            )
        self._core.require_usable()
        self._core.sends.set_refuses(value == "refuse")

    async def wait_below_low_water(self) -> None:
        """Wait while the sending queue is too full.

        It is too full from the moment at which it weighs more than `high_water`, until it weighs no more than
        `low_water`. It weighs the bytes that are queued, and 512 bytes for each operation. In between it is what it was
        before. So a producer that calls this after each start pauses when the peer
        does not keep up, and goes on when the queue is well below the mark, not at the first byte that went. It does
        not matter why bytes left the queue; that they were not accepted, the operations tell. All that wait are woken
        together, and return even if one that was woken earlier has filled the queue again.

        Raises:
          ObjectDisposedError: the socket was closed, meanwhile perhaps.
          InvalidOperationError: the call comes from another thread.

        **Checkpoints**: always.

        **If cancelled**: `trio.Cancelled`; nothing has changed.

        **Threads**: only from the Trio thread that uses the socket.
        """
        self._core.require_usable()
        if not self._core.sends.marks.is_above:
            await trio.lowlevel.checkpoint()
            return
        await self._core.sends.marks.wait()
        if self._core.sends.gate & CLOSED:
            raise SocketClosedError("this socket was closed while its queue was waited for")

    def statistics(self) -> SocketStatistics:
        """Return a snapshot of what is known of the socket; also after it was closed.

        **Threads**: only from the Trio thread that uses the socket.
        """
        return self._core.statistics()
