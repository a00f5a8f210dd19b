"""Time limits: how long an operation may be pending, and how long it may stand still.

An initiator's limits are watched by one task, which is started when the first limit is set and not before. It sleeps
until the earliest one is due. A limit that moves to a later time, as a stall does with every accepted byte, is not
moved in the heap but looked at again when its old time has come; so a transfer that goes well costs next to nothing.
"""

from __future__ import annotations

import heapq
import math
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._operations.time_limit import Timer


#: Limits of operations that ended in time stay in the heap until they would have been due, or until the heap has grown
#: by this many and to twice what was live when it was last looked through.
SLACK: Final = 64


class Timers:
    """The time limits of one initiator.

    Args:
      spawn: starts a task in the initiator's nursery.
    """

    def __init__(self, spawn: Callable[..., None]) -> None:
        self._spawn = spawn
        self._heap: list[tuple[float, int, Timer]] = []
        self._count = 0
        #: How long the heap may become before it is swept.
        self._sweep_at = SLACK
        self._scope: trio.CancelScope | None = None
        #: The scope of the current sleep, whose deadline is lowered in place when an earlier limit comes.
        self._sleep: trio.CancelScope | None = None

    def add(self, timer: Timer) -> None:
        """Watch a limit. One that has come earlier by itself must be added again."""
        due = timer.due()
        if due == math.inf:
            return
        if len(self._heap) >= self._sweep_at:
            self._heap = [entry for entry in self._heap if entry[2].is_live()]
            heapq.heapify(self._heap)
            self._sweep_at = 2 * len(self._heap) + SLACK
        self._count += 1  # orders limits that are due together, for timers cannot be compared
        heapq.heappush(self._heap, (due, self._count, timer))
        if self._scope is None:
            self._scope = trio.CancelScope(shield=True)
            self._spawn(self._run, self._scope)
        elif self._sleep is not None and due < self._sleep.deadline:
            self._sleep.deadline = due

    def quit(self) -> None:
        """End the task."""
        if self._scope is not None:
            self._scope.cancel()

    @trio.lowlevel.enable_ki_protection
    async def _run(self, scope: trio.CancelScope) -> None:
        with scope:
            while True:
                self._fire_due()
                due = self._heap[0][0] if self._heap else math.inf
                with trio.CancelScope(deadline=due) as self._sleep:
                    await trio.sleep_forever()

    def _fire_due(self) -> None:
        now = trio.current_time()
        while self._heap and self._heap[0][0] <= now:
            _, _, timer = heapq.heappop(self._heap)
            if not timer.is_live():
                continue
            if timer.due() <= now:
                timer.fire()
            else:
                self.add(timer)
