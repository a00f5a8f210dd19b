"""The initiator: the scope that starts operations, and that ends them when it ends.

The page says that all I/O initiated by a given thread is canceled when that thread exits. On Trio that thread is a
scope: a nursery, a cancel scope and a small completion port, which is two tasks of the nursery however many operations
are pending. The engine waits for blocked sockets, the dispatcher tells what has ended.

How an initiator is left, whichever way that happens:

1. The exit policy is applied. What it stops ends with OPERATION_ABORTED and the exact count.
2. Everything that has ended is told. Synchronous handlers always run. Asynchronous ones run as tasks of the nursery,
   to their end at a normal exit, to their next checkpoint if the scope is cancelled.
3. Only then are engine and dispatcher told to quit, and the nursery is closed.

Where the shields are: the engine waits unshielded and so notices an outside cancel; then it serves on behind its own
shield. The dispatcher is shielded from its first step. The body never is.

From the moment of the stop, starts end on the spot with OPERATION_ABORTED and make no system call, so that handlers
which restart blindly do no harm; after the exit a start is a mistake and raises. What becomes of a program that goes on
starting in between stands in `_leaving`.
"""

from __future__ import annotations

import contextvars
import inspect
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Final, cast, final

import trio

from .._base.errors import InvalidOperationError
from .._base.inbox import LOCK, Door
from .._base.statistics import InitiatorStatistics
from .._base.waiting_tasks import WaitingTasks
from .._tracing.audience import current_audience
from .current import current_owner
from .dispatcher import Dispatcher
from .engine import Engine
from .exit_policy import PATIENT, ExitPolicy
from .leaving_owner import START_BUDGET, Leaver
from .timers import Timers

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from typing_extensions import TypeVarTuple, Unpack

    from .._operations.operation import Operation
    from .._operations.queue import OperationQueue
    from .._operations.time_limit import Timer

    _T = TypeVar("_T")
    _Arguments = TypeVarTuple("_Arguments")

_UNWINDING: Final = "the initiator was left by an exception"
_EXITED: Final = "its initiator exited"


@final
class Initiator(Leaver):
    """The scope that starts operations, and that ends them when it exits.

    Made by `open_initiator` alone.

    Attributes:
      name: what it is called in representations.
      on_exit: its exit policy.
      grace: the seconds that DRAIN and FINISH_STARTED give; None for the others.
    """

    __slots__ = (
        "_audience",
        "_dispatcher",
        "_engine",
        "_entry",
        "_errors",
        "_nursery",
        "_quiet",
        "_thread",
        "_timers",
    )

    def __init__(
        self,
        nursery: trio.Nursery,
        on_exit: ExitPolicy,
        grace: float | None,
        name: str | None,
        heir: Leaver | None,
    ) -> None:
        super().__init__(on_exit, grace, name, heir, Door.current())
        self._nursery = nursery
        #: The thread that runs Trio, in which everything happens.
        self._thread = get_ident()
        # What serves all operations runs in the context of the entry, whoever's start makes it necessary.
        self._entry = contextvars.copy_context()
        spawn: Callable[..., None] = partial(
            self._entry.run, cast("Callable[..., None]", nursery.start_soon)
        )
        self._timers = Timers(spawn)
        self._engine = Engine(self._cancelled, spawn)
        self._audience = current_audience()
        self._dispatcher = Dispatcher(
            nursery.start_soon, self._handler_failed, self._became_quiet, self._audience
        )
        self._errors: list[BaseException] = []
        #: The exit, while it waits for everything to have ended.
        self._quiet: WaitingTasks[None] | None = None

    @property
    def cancel_scope(self) -> trio.CancelScope:
        """The scope around the body, engine and handlers; cancelling it stops the pending operations."""
        return self._nursery.cancel_scope

    def statistics(self) -> InitiatorStatistics:
        """Return a snapshot of what is known of the initiator; also after it has exited.

        **Threads**: only from the Trio thread that uses the initiator.
        """
        at_once = self._on_the_spot + START_BUDGET - self._starts_left
        return InitiatorStatistics(
            pending_operations=self.pending_operations,
            queues=len(self._queues),
            unfinished_events=0 if self._exited else self._dispatcher._outstanding,
            starts_before_yield=self._starts_left,
            started=at_once + self._started,
            succeeded=at_once + self._succeeded,
            failed=self._failed,
            aborted=self._aborted,
        )

    def run_sync(
        self, function: Callable[[Unpack[_Arguments]], _T], *args: Unpack[_Arguments]
    ) -> _T:
        """Call a function whose starts belong to this initiator, from where it is not the current one.

        That is any code in the Trio thread outside of the initiator's body: a callback of
        `trio.lowlevel.TrioToken.run_sync_soon`, of the host loop in guest mode, or of another initiator's handler. The
        function is called here and now, in a copy of the context in which the initiator was opened.

        Args:
          function: a synchronous function; often a method of a socket, such as ``socket.send_async``.
          args: what to call it with.

        Returns:
          What the function returns.

        Raises:
          TypeError: ``function`` is an async function.
          InvalidOperationError: the initiator has exited, or the call comes from another thread. Nothing was called.

        **Checkpoints**: never.

        **If cancelled**: nothing is raised here.

        **Threads**: only the Trio thread. Others use `trio_send.from_thread`, or `trio.from_thread.run_sync` with this.
        """
        if get_ident() != self._thread:
            raise InvalidOperationError(
                "initiator.run_sync() is for the Trio thread; from here, start operations with "
                "trio_send.from_thread.start() inside 'with trio_send.from_thread.initiator(host=initiator):', or call "
                "it there, for example with trio.from_thread.run_sync()"
            )
        self._require_open()
        # A context can be entered once at a time, and this call may be inside another one.
        context = self._entry.copy()
        context.run(current_owner.set, self)
        result = context.run(function, *args)
        if inspect.iscoroutine(result):
            result.close()
            raise TypeError(
                "function must be synchronous, and it has returned a coroutine; start a task for it instead"
            )
        return result

    # -- as an owner --------------------------------------------------------------------------------------------------

    @property
    def _server(self) -> Initiator:
        return self

    def _post(self, operation: Operation) -> None:
        self._dispatcher.post(operation)

    def _watch(self, queue: OperationQueue) -> None:
        self._engine.watch(queue)

    def _watch_timer(self, timer: Timer) -> None:
        self._timers.add(timer)

    def _unwatch(self, queue: OperationQueue) -> None:
        self._engine.unwatch(queue)

    # -- leaving ------------------------------------------------------------------------------------------------------

    def _cancelled(self, why: str) -> None:
        """Apply the policy to an outside cancel, which the engine has noticed."""
        if self.on_exit in PATIENT:
            self._lose_patience(f"its initiator was {why}")
        elif not self._bequeath():
            self._stop(f"its initiator was {why}")

    def _handler_failed(self, error: BaseException) -> None:
        self._errors.append(error)
        self.cancel_scope.cancel(reason="a completion handler raised")

    def _became_quiet(self) -> None:
        if self._quiet is not None and self._is_quiet():
            self._quiet.wake(None)

    def _is_quiet(self) -> bool:
        """Tell whether nothing is pending, all is told and no handler runs."""
        return self._dispatcher.is_quiet and not self._has_pending

    async def _wait_quiet(self) -> None:
        if self._quiet is None:
            self._quiet = WaitingTasks(None)
        while not self._is_quiet():
            await self._quiet.wait(self._is_quiet)

    def _close(self) -> None:
        super()._close()
        self._door.take_in()

    async def _leave(self, error: BaseException | None) -> list[BaseException]:
        """Go through the steps of the module's docstring, all but the closing of the nursery.

        Returns:
          What the body, or the waiting here, ended with: nothing, one exception, or two if it was interrupted when it
          had failed already.
        """
        why = _why(error)
        interruption: BaseException | None = None
        self._leaving = True
        self._tell_all_held()
        try:
            if self._stopped is not None:
                pass
            elif self.on_exit in PATIENT:
                self._lose_patience(why)
                with trio.CancelScope(shield=True):
                    await self._wait_quiet()
            elif self.on_exit is ExitPolicy.ADOPT:
                self._bequeath()
                # Even one that is being left itself: what handlers start then ends as everything of the heir's does.
                self._successor = self._heir
            elif self.on_exit is ExitPolicy.JOIN and error is None:
                await self._wait_quiet()
        except BaseException as caught:
            interruption = caught
            why = _why(caught)
        self._stop(why)
        with LOCK:
            pass  # each thread that has not seen the stop has put its post by now
        self._door.take_in()
        if error is not None or interruption is not None:
            self.cancel_scope.cancel(reason=_UNWINDING)
        # Only KeyboardInterrupt gets through a shield. It is for this task alone, so it must not strike in the nursery,
        # which would take it for one of a handler's; hence the wait for the nursery's last task is here as well.
        while not self._is_quiet() or self._nursery.child_tasks:
            try:
                with trio.CancelScope(shield=True):
                    await self._wait_quiet()
                    self._close()
                    await self._wait_quiet()  # of what a thread has started meanwhile
                    self._exited = True
                    self._audience.leave(self)
                    self._timers.quit()
                    self._engine.quit()
                    self._dispatcher.close()
                    await trio.lowlevel.checkpoint()
            except BaseException as caught:
                self.cancel_scope.cancel(reason=_UNWINDING)
                interruption = caught
        self._tell_unsent()
        try:
            if interruption is None or isinstance(error, trio.Cancelled):
                return [each for each in (interruption or error,) if each is not None]
            return [each for each in (error, interruption) if each is not None]
        finally:
            del error, interruption  # a frame that holds its own exception is a cycle


def _why(error: BaseException | None) -> str:
    """Say why an initiator that was left with ``error`` stops what is pending."""
    if error is None:
        return _EXITED
    return f"its initiator was {error}" if isinstance(error, trio.Cancelled) else _UNWINDING
