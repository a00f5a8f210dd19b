"""How full a sending queue is, and who waits for it to become emptier.

Two marks rather than one, so that producers do not wake for each byte that went: a queue is *above* from the moment at
which it weighs more than ``high``, until it weighs no more than ``low``. In between it is whatever it was before.

A queue weighs as many bytes as wait in it, and a constant for each of its operations. Bytes alone would not do: a
message of one byte takes hundreds of bytes of memory while it waits, and an empty datagram has no bytes at all.
"""

from __future__ import annotations

import operator
from typing import Final

from .._base.waiting_tasks import WaitingTasks

#: asyncio's and Twisted's marks; enough for a peer nearby, and little enough to hold for each of thousands.
DEFAULT_HIGH: Final = 64 * 1024
DEFAULT_LOW: Final = 16 * 1024

#: What an operation weighs besides its bytes. With a message of one byte a pending `AsyncResult` took 464 bytes of
#: memory, with a callback 528, args 568, with a handler 720. A task that awaits its send took 4 KB, most of it the
#: task's own.
OPERATION_WEIGHT: Final = 512


class Watermarks:
    """The marks of one queue.

    Attributes:
      goal: what the queue's count of accepted bytes will be when all that waits is accepted. So an operation costs
        something when it joins, and when it does not end well, but nothing when it is done: some 90 ns of the 0.8 us
        that joining and leaving take. Adding up on demand took 95 ns for each operation that waits, at each look.
      high: with more weight than this, in bytes, the queue is above.
      low: with this weight or less it is below again.
      is_above: which of the two holds.
      refuses: whether what is started while it is above is refused, unless a task waits for it.
    """

    __slots__ = ("_lot", "goal", "high", "is_above", "low", "refuses")

    def __init__(self) -> None:
        self.goal = 0
        self.high = DEFAULT_HIGH
        self.low = DEFAULT_LOW
        self.is_above = False
        self.refuses = False
        self._lot: WaitingTasks[None] | None = None

    def set_high(self, value: int) -> None:
        """Set the upper mark; the queue has to be weighed then."""
        value = _number_of_bytes("high_water", value)
        if value < self.low:
            raise ValueError(
                f"high_water is {value}, but must be at least low_water, which is {self.low}; lower that first"
            )
        self.high = value

    def set_low(self, value: int) -> None:
        """Set the lower mark; the queue has to be weighed then."""
        value = _number_of_bytes("low_water", value)
        if value > self.high:
            raise ValueError(
                f"low_water is {value}, but must be at most high_water, which is {self.high}; raise that first"
            )
        self.low = value

    def update(self, weight: int) -> None:
        """Take note of what the queue weighs."""
        if weight > self.high:
            self.is_above = True
        elif weight <= self.low:
            self.is_above = False
            self.wake()

    def wake(self) -> None:
        """Wake everybody."""
        if self._lot is not None:
            self._lot.wake(None)

    @property
    def tasks_waiting(self) -> int:
        return 0 if self._lot is None else len(self._lot)

    async def wait(self) -> None:
        """Wait to be woken, if the queue is above."""
        if self._lot is None:
            self._lot = WaitingTasks(None)
        await self._lot.wait(lambda: not self.is_above)


def _number_of_bytes(name: str, value: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number of bytes, not {value!r}") from None
    if number < 0:
        raise ValueError(f"{name} is {number}, but must be a number of bytes from 0 on")
    return number
