"""A task that awaits an operation, and so owns it: no initiator is needed, and nobody else is told.

The task waits for the socket itself while its operation heads the queue, and drains the queue when the socket is ready,
the operations behind its own included. Otherwise it is parked, until its operation has come to the head or has ended.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, final

import trio

from ._codes import SocketError
from ._engine import SOCKET_ALLOWANCE
from ._operation import Operation, Owner

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._queue import OperationQueue

_OPERATION_ABORTED: Final = int(SocketError.OPERATION_ABORTED)


def _give_up(_: object) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.SUCCEEDED


@final
class AwaitingTask(Owner):
    """The calling task, as the owner of the one operation that it awaits."""

    __slots__ = ("_over", "_parked", "_scope", "_task")

    def __init__(self) -> None:
        self._task = trio.lowlevel.current_task()
        self._over = False
        self._parked = False
        self._scope: trio.CancelScope | None = None

    def _joined(self, queue: OperationQueue) -> None:
        """Nothing to note: there is one operation, in one queue."""

    def _ended(self, operation: Operation, queue: OperationQueue | None) -> None:
        """Let the task go on with what the operation ended with."""
        self._over = True
        self._unpark()
        if self._scope is not None:
            self._scope.cancel()

    def _limit_changed(self, operation: Operation) -> None:
        """Nothing to do: the task looks at the limits whenever it begins to wait."""

    def _watch(self, queue: OperationQueue) -> None:
        """Have the task wait for the socket itself."""
        self._unpark()

    def _unwatch(self, queue: OperationQueue) -> None:
        """Nothing to do: the task's operation has left the head because it has ended."""

    def _unpark(self) -> None:
        if self._parked:
            self._parked = False
            trio.lowlevel.reschedule(self._task)

    async def _park(self, due: float) -> None:
        self._parked = True
        try:
            if due == math.inf:
                await trio.lowlevel.wait_task_rescheduled(_give_up)
            else:
                with trio.CancelScope(deadline=due):
                    await trio.lowlevel.wait_task_rescheduled(_give_up)
        finally:
            self._parked = False

    async def _wait_ready(self, operation: Operation, queue: OperationQueue, due: float) -> None:
        try:
            if type(operation) is Operation and not queue.must_be_awaited:
                # Nobody holds a handle on the operation, so nobody but the closing of the socket can end the wait
                # from outside, and that is told by Trio. Saves the scope, which costs as much as the rest of the wait.
                await queue.wait_ready()
            else:
                with trio.CancelScope(deadline=due) as self._scope:
                    await queue.wait_ready()
        except trio.ClosedResourceError:
            # Closed: then the operation has ended. Or closed behind the library's back: then the attempt tells.
            pass
        finally:
            self._scope = None

    @trio.lowlevel.enable_ki_protection
    async def see_through(self, operation: Operation, queue: OperationQueue) -> None:
        """Wait until the pending operation has ended; if that is interrupted, stop it first."""
        try:
            while not self._over:
                limit = operation._limit
                due = math.inf if limit is None else limit.due()
                if queue.watcher is self:
                    await self._wait_ready(operation, queue, due)
                    if queue.watcher is self:
                        queue.drain(SOCKET_ALLOWANCE)
                else:
                    await self._park(due)
                if operation._limit is not None and operation._limit.due() <= trio.current_time():
                    operation._limit.fire()
        except BaseException as interruption:
            if not self._over:
                why = (
                    str(interruption)
                    if isinstance(interruption, trio.Cancelled)
                    else repr(interruption)
                )
                queue.stop(
                    operation, _OPERATION_ABORTED, f"the awaiting task was interrupted: {why}"
                )
            raise
        finally:
            _, waiters = operation._release()
            operation._wake(waiters, operation._transferred)


@trio.lowlevel.enable_ki_protection
async def perform(
    operation: Operation,
    queue: OperationQueue,
    begin: Callable[[Operation, Owner], bool] | None = None,
) -> None:
    """Begin an operation whose results are reset and wait until it has ended; always a checkpoint.

    An operation that was interrupted has ended too, with its exact count.

    Args:
      operation: what to do.
      queue: where.
      begin: the method of ``queue`` to begin it with, if not `OperationQueue.start`.
    """
    await trio.lowlevel.checkpoint_if_cancelled()
    owner = AwaitingTask()
    if (begin or queue.start)(operation, owner):
        await owner.see_through(operation, queue)
    else:
        await trio.lowlevel.cancel_shielded_checkpoint()
