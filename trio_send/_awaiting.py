"""A task that awaits an operation, and so owns it: no initiator is needed, and nobody else is told.

The task waits for the socket itself while its operation heads the queue, and drains the queue when the socket is ready,
the operations behind its own included. Otherwise it is parked, until its operation has come to the head or has ended.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, final

import outcome
import trio

from ._codes import SocketError
from ._engine import SOCKET_ALLOWANCE
from ._operation import Operation, Owner, Step

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._queue import OperationQueue

_OPERATION_ABORTED: Final = int(SocketError.OPERATION_ABORTED)


def describe_interruption(interruption: BaseException) -> str:
    """Say why an operation was stopped whose awaiting task was interrupted."""
    if isinstance(interruption, trio.Cancelled):
        return f"the awaiting task was interrupted: {interruption}"
    return f"the awaiting task was interrupted: {interruption!r}"


@final
class AwaitingTask(Owner):
    """The calling task, as the owner of the one operation that it awaits."""

    __slots__ = ("_over", "_parked", "_task", "_waiting")

    def __init__(self) -> None:
        self._task = trio.lowlevel.current_task()
        self._over = False
        self._parked = False
        #: The scope around the wait for the socket, while the task is in it.
        self._waiting: trio.CancelScope | None = None

    def __repr__(self) -> str:
        return f"<the awaiting task {self._task.name!r}>"

    def _joined(self, queue: OperationQueue) -> None:
        """Nothing to note: there is one operation, in one queue."""

    def _ended(self, operation: Operation, queue: OperationQueue | None) -> None:
        """Let the task go on with what the operation ended with."""
        self._over = True
        self._unpark()
        if self._waiting is not None:
            self._waiting.cancel()

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

    async def _park(self, operation: Operation, queue: OperationQueue) -> None:
        due = math.inf if operation._limit is None else operation._limit.due()
        with trio.CancelScope(deadline=due):
            self._parked = True

            def abort(raise_cancel: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
                # The task is on its way with a cancellation and cannot be told otherwise, so the operation has to end
                # here and now: before the task runs, somebody else may drain the queue.
                self._parked = False
                if trio.current_time() < due:
                    interruption = outcome.capture(raise_cancel)
                    assert isinstance(interruption, outcome.Error)
                    self._stop(operation, queue, interruption.error)
                    del interruption  # or this frame and the traceback would hold each other
                return trio.lowlevel.Abort.SUCCEEDED

            await trio.lowlevel.wait_task_rescheduled(abort)

    async def _serve(self, operation: Operation, queue: OperationQueue) -> None:
        """Wait for the socket and drain the queue, for as long as that is the task's business.

        One scope serves all the waits. It costs as much as a wait, and a message often takes several.
        """
        with trio.CancelScope() as scope:
            while queue.watcher is self and not self._over:
                if operation._limit is not None:
                    scope.deadline = operation._limit.due()
                self._waiting = scope
                try:
                    if queue.hopeful:
                        queue.hopeful = False
                        await trio.lowlevel.checkpoint()
                    else:
                        await queue.wait_ready()
                except trio.ClosedResourceError:
                    # Closed: then the operation has ended. Or closed behind the library's back: the attempt tells.
                    pass
                finally:
                    self._waiting = None
                if queue.watcher is self:
                    queue.drain(SOCKET_ALLOWANCE)

    def _stop(
        self, operation: Operation, queue: OperationQueue, interruption: BaseException
    ) -> None:
        queue.stop(operation, _OPERATION_ABORTED, describe_interruption(interruption))

    @trio.lowlevel.enable_ki_protection
    async def see_through(self, operation: Operation, queue: OperationQueue) -> None:
        """Wait until the pending operation has ended; if that is interrupted, stop it first."""
        try:
            while not self._over:
                if queue.watcher is self:
                    await self._serve(operation, queue)
                else:
                    await self._park(operation, queue)
                if operation._limit is not None and operation._limit.due() <= trio.current_time():
                    operation._limit.fire()
        except BaseException as interruption:
            if not self._over:
                self._stop(operation, queue, interruption)
            raise
        finally:
            _, waiters = operation._release()
            operation._wake(waiters, operation._transferred)


class TurnStep(Step):
    """Nothing but the turn in the queue."""

    __slots__ = ()

    def attempt(self, operation: Operation) -> None:
        pass


@trio.lowlevel.enable_ki_protection
async def perform(
    operation: Operation,
    queue: OperationQueue,
    begin: Callable[[Operation, Owner], bool] | None = None,
) -> int:
    """Begin an operation whose results are reset, wait until it has ended and return its count.

    Always a schedule point, and a cancellation point while it waits. Whoever calls it looks first whether it is
    cancelled already, before it touches the results. An operation that was interrupted has ended, with its exact count.

    Args:
      operation: what to do.
      queue: where.
      begin: the method of ``queue`` to begin it with, if not `OperationQueue.start`.

    Raises:
      SocketException: the operation failed or was stopped.
    """
    owner = AwaitingTask()
    if (begin or queue.start)(operation, owner):
        await owner.see_through(operation, queue)
        if operation._code:
            raise operation._exception()
        return operation._transferred
    if queue.audience.instruments:
        queue.audience.ended_on_the_spot(operation, queue)
    # Before the checkpoint, for the operation is free, and another task may start it meanwhile.
    count = operation._transferred
    error = operation._exception() if operation._code else None
    await trio.lowlevel.cancel_shielded_checkpoint()
    try:
        if error is not None:
            raise error
    finally:
        del error  # a frame that holds what it raised is a cycle
    return count
