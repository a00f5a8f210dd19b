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

    from .._operations.operation import Due


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
        self._heap: list[tuple[float, int, Due]] = []
        self._count = 0
        #: How long the heap may become before it is swept.
        self._sweep_at = SLACK
        self._scope = trio.CancelScope(shield=True)
        self._is_started = False
        #: The scope of the current sleep, whose deadline is moved in place when an earlier limit comes.
        self._sleep: trio.CancelScope | None = None

    def add(self, timer: Due) -> None:
        """Watch a limit. One that has come earlier by itself must be added again."""
        due = timer.due()
        if due == math.inf:
            return
        if len(self._heap) >= self._sweep_at:
            self._sweep()
        self._count += 1  # orders limits that are due together, because timers cannot be compared
        heapq.heappush(self._heap, (due, self._count, timer))
        if not self._is_started:
            self._is_started = True
            self._spawn(self._run)
        elif self._sleep is not None and due < self._sleep.deadline:
            self._set_alarm(self._sleep)

    def _sweep(self) -> None:
        """Forget the limits of operations that have ended."""
        # What comes up in the middle finds a heap that stays.
        entries, self._heap = self._heap, []
        for entry in entries:
            if entry[2].is_live():
                heapq.heappush(self._heap, entry)
        self._sweep_at = 2 * len(self._heap) + SLACK

    def _set_alarm(self, sleep: trio.CancelScope) -> None:
        """Have a sleep end when the first limit is due."""
        # Again if another one has come up in the middle.
        while sleep.deadline != (due := self._first_due()):
            sleep.deadline = due

    def _first_due(self) -> float:
        heap = self._heap
        return heap[0][0] if heap else math.inf

    def quit(self) -> None:
        """End the task."""
        self._scope.cancel()

    @trio.lowlevel.enable_ki_protection
    async def _run(self) -> None:
        with self._scope:
            while True:
                self._fire_due()
                with trio.CancelScope() as self._sleep:
                    self._set_alarm(self._sleep)
                    await trio.sleep_forever()

    def _fire_due(self) -> None:
        now = trio.current_time()
        while self._heap:
            # Taken out before it is looked at, because the first one may be another by then.
            entry = due, _, timer = heapq.heappop(self._heap)
            if due > now:
                heapq.heappush(self._heap, entry)
                break
            if not timer.is_live():
                continue
            if timer.due() <= now:
                timer.fire()
            else:
                self.add(timer)
