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
starting in between stands in `exiting_owner`.
"""

from __future__ import annotations

import contextvars
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Final, cast, final

import trio

from .._base.inbox import LOCK, Inbox
from .._base.statistics import InitiatorStatistics
from .._base.waiting_tasks import WaitingTasks
from .._tracing.instruments import Instruments, current_instruments
from .dispatcher import Dispatcher
from .engine import Borrower, Engine
from .exit_policy import WITH_GRACE, ExitPolicy
from .exiting_owner import START_BUDGET, ExitingOwner
from .timers import Timers

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._operations.operation import Due, Operation, Queue

_UNWINDING: Final = "the initiator was left by an exception"
_EXITED: Final = "its initiator exited"


@final
class ScopeOwner(ExitingOwner):
    """The owner of what is started in a scope of Trio."""

    face_name = "Initiator"
    is_host = True

    __slots__ = (
        "instruments",
        "dispatcher",
        "engine",
        "entry",
        "errors",
        "nursery",
        "quiet",
        "timers",
    )

    def __init__(
        self,
        nursery: trio.Nursery,
        on_exit: ExitPolicy,
        grace: float | None,
        name: str | None,
        adopter: ExitingOwner | None,
    ) -> None:
        super().__init__(on_exit, grace, name, adopter, Inbox.current(), get_ident())
        self.nursery: trio.Nursery = nursery
        # What serves all operations runs in the context of the entry, whoever's start makes it necessary.
        self.entry: contextvars.Context = contextvars.copy_context()
        spawn: Callable[..., None] = partial(
            self.entry.run, cast("Callable[..., None]", nursery.start_soon)
        )
        self.timers: Timers = Timers(spawn)
        self.engine: Engine = Engine(self.cancelled, spawn)
        self.instruments: Instruments = current_instruments()
        self.dispatcher: Dispatcher = Dispatcher(
            nursery.start_soon, self.handler_failed, self.became_quiet, self.instruments
        )
        self.errors: list[BaseException] = []
        #: The exit, while it waits for everything to have ended.
        self.quiet: WaitingTasks[None] | None = None

    @property
    def cancel_scope(self) -> trio.CancelScope:
        """The scope around the body, engine and handlers; cancelling it stops the pending operations."""
        return self.nursery.cancel_scope

    def statistics(self) -> InitiatorStatistics:
        """Return a snapshot of what is known."""
        at_once = self.ended_on_the_spot + START_BUDGET - self.starts_left
        return InitiatorStatistics(
            pending_operations=self.pending_operations,
            queues=len(self.queues),
            unfinished_events=0 if self.has_exited else self.dispatcher.outstanding,
            starts_before_yield=self.starts_left,
            started=at_once + self.started,
            succeeded=at_once + self.succeeded,
            failed=self.failed,
            aborted=self.aborted,
        )

    # -- as an owner --------------------------------------------------------------------------------------------------

    @property
    def host(self) -> ScopeOwner:
        return self

    def post(self, operation: Operation) -> None:
        self.dispatcher.post(operation)

    def watch(self, queue: Queue) -> None:
        self.engine.watch(queue)

    def watch_timer(self, timer: Due) -> None:
        self.timers.add(timer)

    def unwatch(self, queue: Queue) -> None:
        self.engine.unwatch(queue)

    def lend(self, queue: Queue, borrower: object) -> bool:
        return isinstance(borrower, Borrower) and self.engine.lend(queue, borrower)

    # -- the exit ------------------------------------------------------------------------------------------------------

    def cancelled(self, why: str) -> None:
        """Apply the policy to an outside cancel, which the engine has noticed."""
        if self.on_exit in WITH_GRACE:
            self.begin_grace(f"its initiator was {why}")
        elif not self.hand_over():
            self.stop(f"its initiator was {why}")

    def handler_failed(self, error: BaseException) -> None:
        self.errors.append(error)
        self.cancel_scope.cancel(reason="a completion handler raised")

    def became_quiet(self) -> None:
        if self.quiet is not None and self.is_quiet():
            self.quiet.wake(None)

    def is_quiet(self) -> bool:
        """Tell whether nothing is pending, all is told and no handler runs."""
        return self.dispatcher.is_quiet and not self.has_pending

    async def wait_quiet(self) -> None:
        if self.quiet is None:
            self.quiet = WaitingTasks(None)
        while not self.is_quiet():
            await self.quiet.wait(self.is_quiet)

    def close(self) -> None:
        super().close()
        self.inbox.take_in()

    async def exit(self, error: BaseException | None) -> list[BaseException]:
        """Go through the steps of the module's docstring, all but the closing of the nursery.

        Returns:
          What the body, or the waiting here, ended with: nothing, one exception, or two if it was interrupted when it
          had failed already.
        """
        why = _why(error)
        interruption: BaseException | None = None
        self.is_exiting = True
        self.tell_all_held()
        try:
            if self.stopped is not None:
                pass
            elif self.on_exit in WITH_GRACE:
                self.begin_grace(why)
                with trio.CancelScope(shield=True):
                    await self.wait_quiet()
            elif self.on_exit is ExitPolicy.ADOPT:
                self.hand_over()
                # Even one that is being left itself: what handlers start then ends as everything of the adopter's does.
                self.be_adopted()
            elif self.on_exit is ExitPolicy.JOIN and error is None:
                await self.wait_quiet()
        except BaseException as caught:
            interruption = caught
            why = _why(caught)
        # Whatever the policy has left is stopped, and from here on starts end on the spot.
        self.stop(why)
        with LOCK:
            pass  # each thread that has not seen the stop has put its post by now
        self.inbox.take_in()
        if error is not None or interruption is not None:
            self.cancel_scope.cancel(reason=_UNWINDING)
        # Only KeyboardInterrupt gets through a shield. It is for this task alone, so it must not strike in the nursery,
        # which would take it for one of a handler's; so the wait for the nursery's last task is here as well.
        while not self.is_quiet() or self.nursery.child_tasks:
            try:
                with trio.CancelScope(shield=True):
                    # Told once more after starts raise: only then can nothing come any more.
                    await self.wait_quiet()
                    self.close()
                    await self.wait_quiet()  # of what a thread has started meanwhile
                    self.has_exited = True
                    self.instruments.leave(self)
                    self.timers.quit()
                    self.engine.quit()
                    self.dispatcher.close()
                    await trio.lowlevel.checkpoint()
            except BaseException as caught:
                self.cancel_scope.cancel(reason=_UNWINDING)
                interruption = caught
        self.tell_unsent()
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
