"""A task that waits for the end of an operation, and meanwhile for the socket, in the place of the engine.

The engine serves any number of sockets, at the price of a task that has to run for each event before the one that waits
for the operation does. A task that waits for the operation at the head of a queue has nothing else to do. So it waits
for the socket itself then, and drains the queue when that is ready, as the engine would.

It gives the watch back when the operation has ended, when the queue has another head, when the task is cancelled, and
where it takes more than a descriptor to know when the next attempt is due.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import trio

from .._base.run_state import FALLS_ASLEEP
from .._base.waiting_tasks import WaitingTasks
from .._operations.gate import FORKED
from .engine import SOCKET_ALLOWANCE, Borrower

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from .._operations.operation import Operation, Queue


def wait_until_told(operation: Operation) -> Coroutine[Any, Any, int]:
    """Return what to await until the owner has told of the current activation, and for its count.

    Not an async function, for every frame on the way down is passed twice for each wait.
    """
    queue = operation.queue
    if (
        queue is not None
        and queue.head is operation
        and operation.waiters is None
        and not operation.is_listened_to
        and (descriptor := queue.descriptor()) >= 0
    ):
        return LentWatch(queue, descriptor).wait_for(operation)
    return operation.wait()


@final
class LentWatch(WaitingTasks["int | None"], Borrower):
    """The watch over one queue, and those who wait for the end of the operation at its head.

    Args:
      queue: what is watched.
      descriptor: what is waited for.
    """

    __slots__ = ("_queue", "_sleeps", "descriptor")

    def __init__(self, queue: Queue, descriptor: int) -> None:
        super().__init__(None)
        self._queue: Queue = queue
        self.descriptor: int = descriptor
        #: Whether the task that has the watch waits for the descriptor, or is about to.
        self._sleeps: bool = False

    def wake(self, news: int | None) -> None:
        if len(self):
            super().wake(news)
        else:
            self.news = news
        if self._queue.watched is self:
            self._queue.watched = None
            self.give_back()

    def give_back(self) -> None:
        """Get the task out of the wait, for somebody else watches the queue from now on, or nobody."""
        # In a process that was forked off, what Trio waits with is that of the other one as well.
        if self._sleeps and not self._queue.gate & FORKED:
            self._sleeps = False
            trio.lowlevel.notify_closing(self.descriptor)

    @trio.lowlevel.enable_ki_protection
    async def wait_for(self, operation: Operation) -> int:
        """Wait until the end of the current activation of ``operation`` is told; return its count."""
        queue, step = self._queue, operation.step
        if queue.lend(operation, self):
            task = trio.lowlevel.current_task()
            wait = trio.lowlevel.wait_writable if queue.writes else trio.lowlevel.wait_readable
            tries = queue.tries
            is_try = tries is not None and tries.may_try()
            try:
                while True:
                    self._sleeps = True
                    task.custom_sleep_data = FALLS_ASLEEP  # so from now on nobody is woken
                    try:
                        if (
                            is_try
                            or queue.hopeful
                            # What ends the wait may have come already.
                            or self.news is not None
                            or queue.watched is not self
                        ):
                            await trio.lowlevel.checkpoint()
                        else:
                            await wait(self.descriptor)
                    except trio.ClosedResourceError:
                        pass  # the watch goes back, or somebody else who waits for the descriptor was to be told
                    except OSError:
                        # The system cannot watch one more, and the engine tries now and then.
                        await trio.lowlevel.checkpoint()
                        break
                    finally:
                        self._sleeps = False
                        task.custom_sleep_data = None
                    if queue.watched is self:
                        before = operation.transferred
                        queue.drain(SOCKET_ALLOWANCE)
                        if tries is not None:
                            in_vain = operation.transferred == before
                            if is_try:
                                tries.learn(in_vain=in_vain)
                            if self.news is None:
                                is_try = not in_vain and tries.may_try()
                    if self.news is not None:
                        return self.news
                    if (
                        queue.watched is not self
                        or queue.head is not operation
                        or queue.others_wait
                        or queue.backoff
                        or (step is not None and step.must_be_awaited)
                    ):
                        break
            finally:
                if queue.watched is self:
                    queue.watched = None
                    queue.request(queue.look_after, halts=False)
        if self.news is not None:
            return self.news
        return await operation.wait()
