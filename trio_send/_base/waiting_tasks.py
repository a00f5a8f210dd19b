"""Tasks that wait for something which may come at any instant.

Trio's events and parking lots are for tasks, which come one after the other. A finaliser or a signal handler comes in
between: when a task has looked whether it need wait, and does not yet; or where no task runs at all. It would wake
nobody then, or spoil Trio's lists. So a task stands among those that wait before it looks, it may be sent on its way
before it has fallen asleep, and where no task runs it is woken as soon as one does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

import outcome
import trio

from .run_state import put_off

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class WaitingTasks(Generic[T]):
    """Tasks that are woken together, and told something.

    Args:
      news: what a task is told that need not wait, until all were woken with something else.

    Attributes:
      news: what was told last.
    """

    __slots__ = ("_tasks", "news")

    def __init__(self, news: T) -> None:
        self.news: T = news
        self._tasks: dict[trio.lowlevel.Task, None] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def wake(self, news: T) -> None:
        """Wake all, in the order in which they came; only in their own thread, or as a post to it."""
        self.news = news
        if self._tasks and not put_off(self._wake):
            self._wake()

    def _wake(self) -> None:
        for task in list(self._tasks):
            # Whoever takes it out is the one to wake it.
            if self._tasks.pop(task, self) is None:
                trio.lowlevel.reschedule(task, outcome.Value(self.news))

    @trio.lowlevel.enable_ki_protection
    async def wait(self, is_over: Callable[[], object]) -> T:
        """Wait to be woken, unless that is over.

        Args:
          is_over: tells whether there is nothing to wait for any more.

        Returns:
          What those that wait were told.

        **Checkpoints**: always.

        **If cancelled**: `trio.Cancelled`, unless the task was woken before it fell asleep.
        """
        task = trio.lowlevel.current_task()
        self._tasks[task] = None
        if is_over() and self._tasks.pop(task, self) is None:
            await trio.lowlevel.checkpoint()
            return self.news

        def abort(_: object) -> trio.lowlevel.Abort:
            if self._tasks.pop(task, self) is None:
                return trio.lowlevel.Abort.SUCCEEDED
            return trio.lowlevel.Abort.FAILED  # it is on its way, and cannot be sent twice

        news: T = await trio.lowlevel.wait_task_rescheduled(abort)
        return news
