"""How full a sending queue is, and who waits for it to become emptier.

Two marks rather than one, so that producers do not wake for each byte that went: a queue is *above* from the moment at
which more than ``high`` bytes wait in it, until no more than ``low`` do. In between it is whatever it was before.
"""

from __future__ import annotations

import operator
from typing import Final

import trio

#: asyncio's and Twisted's marks; enough for a peer nearby, and little enough to hold for each of thousands.
DEFAULT_HIGH: Final = 64 * 1024
DEFAULT_LOW: Final = 16 * 1024


class Watermarks:
    """The marks of one queue.

    Attributes:
      goal: what the queue's count of accepted bytes will be when all that waits is accepted. So an operation costs
        something when it joins, and when it does not end well, but nothing when it is done: some 90 ns of the 0.8 us
        that joining and leaving take. Adding up on demand took 95 ns for each operation that waits, at each look.
      high: above this many bytes the queue is above.
      low: at this many or fewer it is below again.
      is_above: which of the two holds.
    """

    __slots__ = ("_lot", "goal", "high", "is_above", "low")

    def __init__(self) -> None:
        self.goal = 0
        self.high = DEFAULT_HIGH
        self.low = DEFAULT_LOW
        self.is_above = False
        self._lot: trio.lowlevel.ParkingLot | None = None

    def set_high(self, value: int, waiting: int) -> None:
        """Set the upper mark, with ``waiting`` bytes in the queue."""
        value = _number_of_bytes("high_water", value)
        if value < self.low:
            raise ValueError(
                f"high_water is {value}, but must be at least low_water, which is {self.low}; lower that first"
            )
        self.high = value
        self.update(waiting)

    def set_low(self, value: int, waiting: int) -> None:
        """Set the lower mark, with ``waiting`` bytes in the queue."""
        value = _number_of_bytes("low_water", value)
        if value > self.high:
            raise ValueError(
                f"low_water is {value}, but must be at most high_water, which is {self.high}; raise that first"
            )
        self.low = value
        self.update(waiting)

    def update(self, waiting: int) -> None:
        """Take note of how many bytes wait."""
        if waiting > self.high:
            self.is_above = True
        elif waiting <= self.low:
            self.is_above = False
            self.wake()

    def wake(self) -> None:
        """Wake everybody."""
        if self._lot is not None:
            self._lot.unpark_all()

    @property
    def tasks_waiting(self) -> int:
        return 0 if self._lot is None else len(self._lot)

    async def wait(self) -> None:
        """Wait to be woken."""
        if self._lot is None:
            self._lot = trio.lowlevel.ParkingLot()
        await self._lot.park()


def _number_of_bytes(name: str, value: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number of bytes, not {value!r}") from None
    if number < 0:
        raise ValueError(f"{name} is {number}, but must be a number of bytes from 0 on")
    return number
