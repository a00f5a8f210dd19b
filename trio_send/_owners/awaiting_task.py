"""A task that awaits an operation, and so owns it: no initiator is needed, and nobody else is told.

The task waits for the socket itself while its operation heads the queue, and drains the queue when the socket is ready,
the operations behind its own included. Otherwise it is parked, until its operation has come to the head or has ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

import outcome
import trio

from .._base.error_numbers import OPERATION_ABORTED
from .._base.run_state import FALLS_ASLEEP
from .._operations.gate import FORKED
from .._operations.operation import Operation, Owner, Step
from .engine import SHORTAGE_PAUSE, SOCKET_ALLOWANCE

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from .._base.errors import SocketException
    from .._operations.operation import Queue
    from .._operations.queue import OperationQueue


def describe_interruption(interruption: BaseException) -> str:
    """Say why an operation was stopped whose awaiting task was interrupted."""
    if isinstance(interruption, trio.Cancelled):
        return f"the awaiting task was interrupted: {interruption}"
    return f"the awaiting task was interrupted: {interruption!r}"


@final
class AwaitingTask(Owner):
    """The calling task, as the owner of the one operation that it awaits."""

    __slots__ = (
        "_behind",
        "_descriptor",
        "_interruption",
        "_over",
        "_parked",
        "_task",
        "_waiting",
        "has_gone_on",
    )

    waits = True

    def __init__(self) -> None:
        self._task = trio.lowlevel.current_task()
        self._over = False
        self._parked = False
        #: Who stood behind this one when both were refused, and so goes on behind it.
        self._behind: AwaitingTask | None = None
        #: Whether it has gone on, and wakes nobody any more.
        self.has_gone_on: bool = False
        #: What raises the cancellation that came while a step of the queue was under way, at whose end it was obeyed.
        self._interruption: trio.lowlevel.RaiseCancelT | None = None
        #: What the task waits for, if it can be told of its end there; else -1.
        self._descriptor = -1
        #: The scope around any other wait for the socket, while the task is in it.
        self._waiting: trio.CancelScope | None = None

    def __repr__(self) -> str:
        return f"<the awaiting task {self._task.name!r}>"

    def joined(self, queue: Queue) -> None:
        """Nothing to note: there is one operation, in one queue."""

    def ended(self, operation: Operation, queue: Queue | None) -> None:
        """Let the task go on with what the operation ended with."""
        self._over = True
        before = None if queue is None else queue.refused
        if self._parked and type(before) is AwaitingTask and not before.has_gone_on:
            # Trio runs the tasks of one batch in any order, but those that were refused start again in theirs.
            before._behind = self
            return
        self._unpark()
        if self._descriptor >= 0:
            # In a process that was forked off, what Trio waits with is that of the other one as well.
            if queue is not None and not queue.gate & FORKED:
                trio.lowlevel.notify_closing(self._descriptor)
        elif self._waiting is not None:
            self._waiting.cancel()

    def limit_changed(self, operation: Operation) -> None:
        """Nothing to do: the task looks at the limits whenever it begins to wait."""

    def watch(self, queue: Queue) -> None:
        """Have the task wait for the socket itself."""
        self._unpark()

    def unwatch(self, queue: Queue) -> None:
        """Nothing to do: the task's operation has left the head because it has ended."""

    def _unpark(self) -> None:
        if self._parked:
            self._parked = False
            trio.lowlevel.reschedule(self._task)

    def _park(
        self, operation: Operation, queue: OperationQueue, scope: trio.CancelScope | None
    ) -> Coroutine[Any, Any, object]:
        """Return what to await until the operation comes to the head, has ended, or its time is up."""
        self._parked = True
        if (self._over or queue.watcher is self) and self._parked:
            self._parked = False  # that has come in the middle of this
            return trio.lowlevel.cancel_shielded_checkpoint()  # noqa: ASYNC105

        def abort(raise_cancel: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
            if not self._parked:
                return trio.lowlevel.Abort.FAILED  # it was sent on its way before it fell asleep
            # The task is on its way with a cancellation and cannot be told otherwise, so the operation has to end here
            # and now: before the task runs, somebody else may drain the queue.
            self._parked = False
            # Not `cancel_called`: where the deadline is past, to ask is to cancel, and this would be called once more.
            if scope is None or trio.current_time() < scope.deadline:
                interruption = outcome.capture(raise_cancel)
                assert isinstance(interruption, outcome.Error)
                self._stop(operation, queue, interruption.error)
                del interruption  # or this frame and the traceback would hold each other
                if not self._over:
                    # What cancels runs in the middle of a step of this very queue. The end of the operation, or its
                    # coming to the head, wakes the task.
                    self._parked = True
                    self._interruption = raise_cancel
                    return trio.lowlevel.Abort.FAILED
            return trio.lowlevel.Abort.SUCCEEDED

        return trio.lowlevel.wait_task_rescheduled(abort)  # noqa: ASYNC105

    def _stop(
        self, operation: Operation, queue: OperationQueue, interruption: BaseException
    ) -> None:
        queue.stop(operation, OPERATION_ABORTED, describe_interruption(interruption))

    @trio.lowlevel.enable_ki_protection
    async def see_through(self, operation: Operation, queue: OperationQueue) -> int:
        """Wait until the pending operation has ended; if that is interrupted, stop it first.

        All the waiting is in this one frame, because every frame on the way down is passed twice for each wait: one
        more makes a send that waits four times 6 % dearer.

        Returns:
          How many bytes were accepted.

        Raises:
          SocketException: the operation failed or was stopped.
        """
        # Whoever ends an operation has to get its task out of the wait for the socket. Those who wait for a descriptor
        # can be told something there, that it is about to be closed, and look at what it is. That costs nothing, while
        # entering a scope costs as much as half a wait; but it does not end a pause, nor keep a deadline.
        task = self._task
        step = operation.step
        wait = trio.lowlevel.wait_writable if queue.writes else trio.lowlevel.wait_readable
        descriptor = -1 if operation.limit is not None else queue.port.fileno()
        is_short = False
        tries = queue.tries
        is_try = tries is not None and tries.may_try()
        try:
            if self._over:  # a port of the program's own has ended it when it was asked
                await trio.lowlevel.cancel_shielded_checkpoint()
            while not self._over and descriptor >= 0 and not is_short:
                if queue.watcher is not self:
                    await self._park(operation, queue, None)
                    continue
                if (
                    queue.backoff
                    or queue.others_wait
                    or (step is not None and step.must_be_awaited)
                ):
                    break
                self._descriptor = descriptor
                task.custom_sleep_data = FALLS_ASLEEP  # so from now on nobody is woken
                try:
                    if is_try or queue.hopeful:
                        await trio.lowlevel.checkpoint()
                    elif not self._over:  # as it may be since a moment
                        await wait(descriptor)
                    else:
                        await trio.lowlevel.cancel_shielded_checkpoint()  # type: ignore[unreachable]
                except trio.ClosedResourceError:
                    pass  # it has ended, or somebody else who waits for the descriptor was to be told
                except OSError:
                    is_short = True
                    await trio.lowlevel.cancel_shielded_checkpoint()
                finally:
                    self._descriptor = -1
                    task.custom_sleep_data = None
                if queue.watcher is self and not is_short:
                    before = operation.transferred
                    queue.drain(SOCKET_ALLOWANCE)
                    if tries is not None:
                        in_vain = operation.transferred == before
                        if is_try:
                            tries.learn(in_vain=in_vain)
                        if not self._over:
                            is_try = not in_vain and tries.may_try()
            if not self._over:
                await self._wait_in_scopes(operation, queue, is_short)
        except BaseException as interruption:
            if not self._over:
                self._stop(operation, queue, interruption)
            note_failure(operation, queue)
            raise
        finally:
            _, waiters = operation.release()
            operation.socket = None  # which a message that was cut would keep, and it the message
            if waiters is not None:
                waiters.wake(operation.transferred)
            self.has_gone_on = True
            if self._behind is not None:
                self._behind._unpark()
        if operation.code:
            if self._interruption is not None:
                self._interruption()
            note_failure(operation, queue)
            raise operation.make_error()
        return operation.transferred

    @trio.lowlevel.enable_ki_protection
    async def _wait_in_scopes(
        self, operation: Operation, queue: OperationQueue, is_short: bool
    ) -> None:
        """Wait until the operation has ended, where nothing but a cancel scope ends each wait.

        Args:
          operation: which.
          queue: where.
          is_short: whether the system lacked what it takes to wait for one more socket.
        """
        while not self._over:
            with trio.CancelScope() as scope:
                while not self._over:
                    if operation.limit is not None:
                        scope.deadline = operation.limit.due()
                    if queue.watcher is not self:
                        await self._park(operation, queue, scope)
                        continue
                    self._waiting = scope
                    if queue.port.fileno() >= 0:
                        self._task.custom_sleep_data = FALLS_ASLEEP
                    try:
                        if is_short:
                            await trio.sleep(SHORTAGE_PAUSE)
                        elif not self._over:
                            await queue.wait_ready()
                        else:
                            await trio.lowlevel.cancel_shielded_checkpoint()  # type: ignore[unreachable]
                        is_short = False
                    except trio.ClosedResourceError:
                        pass
                    except OSError:
                        is_short = True
                    finally:
                        self._waiting = None
                        self._task.custom_sleep_data = None
                    if queue.watcher is self and not is_short:
                        queue.drain(SOCKET_ALLOWANCE)
            if operation.limit is not None and operation.limit.due() <= trio.current_time():
                operation.limit.fire()


def note_failure(operation: Operation, queue: OperationQueue) -> None:
    """Note that a send of the calling task has failed, if somebody asks for that."""
    if queue.failures is not None and operation.step is None:
        queue.failures[trio.lowlevel.current_task()] = operation


class TurnStep(Step):
    """Nothing but the turn in the queue."""

    __slots__ = ()

    def attempt(self, operation: Operation) -> None:
        pass


@trio.lowlevel.enable_ki_protection
def perform(
    operation: Operation,
    queue: OperationQueue,
    begin: Callable[..., bool] | None = None,
    *args: Any,
) -> Coroutine[Any, Any, int]:
    """Begin an operation whose results are reset, and return what to await for its end and its count.

    To await it is always a schedule point, and a cancellation point while it waits. Whoever calls it looks first
    whether it is cancelled already, before it touches the results. An operation that was interrupted has ended, with
    its exact count. What is awaited raises `SocketException` if the operation failed or was stopped.

    This is not an async function itself because every frame on the way down is passed twice for each wait.

    Args:
      operation: what to do.
      queue: where.
      begin: the method of ``queue`` to begin it with, if not `OperationQueue.start`.
      args: what else to pass to that method.
    """
    owner = AwaitingTask()
    if (begin or queue.start)(operation, owner, *args):
        return owner.see_through(operation, queue)
    return tell_on_the_spot(operation, queue)


def tell_on_the_spot(operation: Operation, queue: OperationQueue) -> Coroutine[Any, Any, int]:
    """Return what to await for the count, or the error, of an operation that has ended and never pended."""
    operation.rest(queue)
    operation.socket = None
    if queue.instruments.watching:
        queue.instruments.ended_on_the_spot(operation, queue)
    if operation.code:
        queue.count_on_the_spot(operation)
        note_failure(operation, queue)
    # Before the checkpoint, because the operation is free, and another task may start it meanwhile.
    return _tell(operation.transferred, operation.make_error() if operation.code else None)


@trio.lowlevel.enable_ki_protection
async def _tell(count: int, error: SocketException | None) -> int:
    await trio.lowlevel.cancel_shielded_checkpoint()
    try:
        if error is not None:
            raise error
    finally:
        del error  # a frame that holds what it raised is a cycle
    return count
