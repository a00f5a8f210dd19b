"""How full a socket's queue is: to be read, to be waited for, and a snapshot of everything."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from .._base.checks import NotCopied
from .._base.errors import SocketClosedError
from .._base.statistics import SocketStatistics
from .._operations.queue import CLOSED

if TYPE_CHECKING:
    from .._operations.queue import OperationQueue
    from .._operations.send_queue import SendQueue


class BackPressure(NotCopied):
    """The part of `Socket` that tells producers when to pause."""

    __slots__ = ()

    if TYPE_CHECKING:
        _sends: SendQueue
        _receives: OperationQueue | None

        def _require_usable(self) -> None: ...

    @property
    def queued_operations(self) -> int:
        """How many operations wait in the sending queue."""
        return self._sends.length

    @property
    def queued_bytes(self) -> int:
        """How many bytes wait in the sending queue: all of those of pending sends that the kernel has not accepted.

        The marks count 512 bytes for each operation besides.
        """
        return self._sends.queued_bytes

    @property
    def high_water(self) -> int:
        """A queue that weighs more bytes than this makes `wait_below_low_water` wait; 65,536 by default.

        It weighs `queued_bytes`, and 512 bytes for each of the `queued_operations`: about the memory that one takes
        while it waits. So messages of one byte, and empty datagrams, reach the mark as well. Nothing is refused because
        of it. Setting it to less than `low_water` is a `ValueError`.
        """
        return self._sends.marks.high

    @high_water.setter
    @trio.lowlevel.enable_ki_protection
    def high_water(self, value: int) -> None:
        self._require_usable()
        self._sends.marks.set_high(value, self._sends.weight)

    @property
    def low_water(self) -> int:
        """A queue that weighs so many bytes, or fewer, ends the wait of `wait_below_low_water`; 16,384 by default.

        It weighs as `high_water` says. Setting it to more than `high_water` is a `ValueError`.
        """
        return self._sends.marks.low

    @low_water.setter
    @trio.lowlevel.enable_ki_protection
    def low_water(self, value: int) -> None:
        self._require_usable()
        self._sends.marks.set_low(value, self._sends.weight)

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
        self._require_usable()
        if not self._sends.marks.is_above:
            await trio.lowlevel.checkpoint()
            return
        await self._sends.marks.wait()
        if self._sends.gate & CLOSED:
            raise SocketClosedError("this socket was closed while its queue was waited for")

    def statistics(self) -> SocketStatistics:
        """Return a snapshot of what is known of the socket; also after it was closed.

        **Threads**: only from the Trio thread that uses the socket.
        """
        sends, receives = self._sends, self._receives
        return SocketStatistics(
            queued_operations=sends.length,
            queued_bytes=sends.queued_bytes,
            bytes_accepted=sends.accepted,
            is_torn=sends.torn is not None,
            is_above_high_water=sends.marks.is_above,
            tasks_waiting_below_low_water=sends.marks.tasks_waiting,
            queued_receives=0 if receives is None else receives.length,
            watched_by=None if sends.watcher is None else repr(sends.watcher),
        )
