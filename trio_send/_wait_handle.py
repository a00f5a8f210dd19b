"""`WaitHandle` and `ManualResetEvent`: .NET's waitable flags, for Trio tasks."""

from __future__ import annotations

import math
from typing import final

import trio


class WaitHandle:
    """A flag that tasks can wait for, as the page's ``WaitHandle`` is (F070, F071).

    `AsyncResult.async_wait_handle` is one; make a `ManualResetEvent` for a flag of your own.
    """

    __slots__ = ("_is_set", "_lot")

    def __init__(self) -> None:
        self._is_set = False
        self._lot = trio.lowlevel.ParkingLot()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {'set' if self._is_set else 'not set'}, {len(self._lot)} waiting>"

    @trio.lowlevel.enable_ki_protection
    def _signal(self) -> None:
        self._is_set = True
        self._lot.unpark_all()

    async def wait_one(self, timeout: float = math.inf) -> bool:
        """Wait until the flag is set.

        Args:
          timeout: how many seconds to wait at most.

        Returns:
          True when the flag is set, False when ``timeout`` ran out first.

        **Checkpoints**: always.

        **If cancelled**: `trio.Cancelled`; the flag and the operation behind it are untouched.

        **Threads**: only from the Trio thread that uses the socket.

        Source: the `begin_send` page's ``WaitHandle::WaitOne``.
        """
        if timeout < 0 or math.isnan(timeout):
            raise ValueError(f"timeout is {timeout}, but must be a number of seconds from 0 on")
        if self._is_set:
            await trio.lowlevel.checkpoint()
            return True
        with trio.move_on_after(timeout):
            await self._lot.park()
            return True  # it was set, even if it has been reset since
        # It may have been set in the very step in which the time ran out.
        return self._is_set


@final
class ManualResetEvent(WaitHandle):
    """A flag that stays set until it is reset, as the page's ``ManualResetEvent`` is.

    Args:
      initial_state: whether the flag starts set.
    """

    __slots__ = ()

    def __init__(self, initial_state: bool = False) -> None:
        super().__init__()
        self._is_set = initial_state

    def set(self) -> None:
        """Set the flag and wake every task that waits for it.

        **Threads**: only from the Trio thread that uses the socket.
        """
        self._signal()

    def reset(self) -> None:
        """Clear the flag.

        **Threads**: only from the Trio thread that uses the socket.
        """
        self._is_set = False
