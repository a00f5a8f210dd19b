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
which restart blindly do no harm; after the exit a start is a mistake and raises.
"""

from __future__ import annotations

import contextvars
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Final, cast, final

import trio

from ._audience import current_audience
from ._dispatcher import Dispatcher
from ._door import LOCK, Door
from ._engine import Engine
from ._exceptions import InvalidOperationError
from ._groups import combine, has_cancellation
from ._leaving import PATIENT, ExitPolicy, Leaver, require_policy
from ._statistics import InitiatorStatistics
from ._timers import Timer, Timers

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from ._operation import Operation
    from ._queue import OperationQueue
    from ._thread_initiator import ThreadInitiator

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
        entry = contextvars.copy_context()
        spawn: Callable[..., None] = partial(
            entry.run, cast("Callable[..., None]", nursery.start_soon)
        )
        self._timers = Timers(spawn)
        self._engine = Engine(self._cancelled, spawn)
        self._audience = current_audience()
        self._dispatcher = Dispatcher(
            nursery.start_soon, self._handler_failed, self._became_quiet, self._audience
        )
        self._errors: list[BaseException] = []
        self._quiet: trio.Event | None = None

    @property
    def cancel_scope(self) -> trio.CancelScope:
        """The scope around the body, engine and handlers; cancelling it stops the pending operations."""
        return self._nursery.cancel_scope

    def statistics(self) -> InitiatorStatistics:
        """Return a snapshot of what is known of the initiator; also after it has exited.

        **Threads**: only from the Trio thread that uses the initiator.
        """
        hidden = self._hidden_budget
        return InitiatorStatistics(
            pending_operations=self.pending_operations,
            queues=len(self._queues),
            unfinished_events=0 if self._exited else self._dispatcher._outstanding,
            starts_before_yield=max(0, self._budget if hidden is None or self._stopped else hidden),
        )

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
        if self._quiet is not None and self._dispatcher.is_quiet and not self._has_pending:
            self._quiet.set()

    async def _wait_quiet(self) -> None:
        """Wait until nothing is pending, all is told and no handler runs."""
        while self._has_pending or not self._dispatcher.is_quiet:
            self._quiet = trio.Event()
            await self._quiet.wait()

    def _close_door(self) -> None:
        """Take in what threads have posted that have not seen the stop. No start of any comes after this."""
        with LOCK:
            pass  # each of them has put its post by now
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
        self._close_door()
        if error is not None or interruption is not None:
            self.cancel_scope.cancel(reason=_UNWINDING)
        # Only KeyboardInterrupt gets through a shield. It is for this task alone, so it must not strike in the nursery,
        # which would take it for one of a handler's; hence the wait for the nursery's last task is here as well.
        while self._has_pending or not self._dispatcher.is_quiet or self._nursery.child_tasks:
            try:
                with trio.CancelScope(shield=True):
                    await self._wait_quiet()
                    self._exited = True
                    self._audience.leave(self)
                    self._timers.quit()
                    self._engine.quit()
                    self._dispatcher.close()
                    await trio.lowlevel.checkpoint()
            except BaseException as caught:
                self.cancel_scope.cancel(reason=_UNWINDING)
                interruption = caught
        try:
            if interruption is None or isinstance(error, trio.Cancelled):
                return [each for each in (interruption or error,) if each is not None]
            return [each for each in (error, interruption) if each is not None]
        finally:
            del error, interruption  # a frame that holds its own exception is a cycle


#: Whose operations are started in the current context.
current_owner: Final[contextvars.ContextVar[Leaver]] = contextvars.ContextVar("trio_send.initiator")

#: The fast path's way to the initiator; None where there is none.
get_initiator: Final = current_owner.get


def find_initiator() -> Leaver | None:
    """Return the initiator of the current context, or who has taken over from it."""
    initiator = current_owner.get(None)
    while initiator is not None and initiator._successor is not None:
        initiator = initiator._successor
    return initiator


def current_initiator() -> Initiator | ThreadInitiator:
    """Return the initiator that operations started here belong to.

    In a callback or handler of a send that another thread started, that is the thread's.

    Raises:
      InvalidOperationError: no initiator is open around the calling task, the one that it inherited has exited, or this
        is another thread, which has inherited it with a copied context.

    **Checkpoints**: never.

    **Threads**: only from inside Trio.
    """
    initiator = find_initiator()
    if initiator is None:
        raise InvalidOperationError(
            "no initiator is open here to own the operation; start it inside "
            "'async with trio_send.open_initiator():', or use the awaiting form, which needs none",
        )
    if get_ident() != initiator._server._thread:
        raise InvalidOperationError(
            "the initiator that this thread has inherited lives in the Trio thread; from here, start sends with "
            "trio_send.from_thread.begin_send() or trio_send.from_thread.send_async(), for which it is the host",
        )
    initiator._require_open()
    return cast("Initiator | ThreadInitiator", initiator)


@final
class _OpenInitiator:
    """The context manager that `open_initiator` returns."""

    __slots__ = ("_grace", "_initiator", "_manager", "_name", "_on_exit", "_token")

    def __init__(self, on_exit: ExitPolicy, grace: float | None, name: str | None) -> None:
        self._on_exit = on_exit
        self._grace = grace
        self._name = name

    def _find_heir(self) -> Leaver | None:
        if self._on_exit is not ExitPolicy.ADOPT:
            return None
        heir = find_initiator()
        if heir is None or heir._exited or heir._stopped is not None:
            raise InvalidOperationError(
                "ExitPolicy.ADOPT needs an enclosing initiator that is open, and here is none; "
                "open one around this one, or choose another policy",
            )
        return heir

    @trio.lowlevel.enable_ki_protection
    async def __aenter__(self) -> Initiator:
        heir = self._find_heir()
        self._manager = trio.open_nursery()
        nursery = await self._manager.__aenter__()
        self._initiator = initiator = Initiator(
            nursery, self._on_exit, self._grace, self._name, heir
        )
        self._token = current_owner.set(initiator)
        initiator._audience.enter(initiator)
        # They inherit the context as it is here, not that of whoever happens to start the first pending operation.
        nursery.start_soon(initiator._engine.run, name=f"{initiator!r} engine")
        nursery.start_soon(initiator._dispatcher.run, name=f"{initiator!r} dispatcher")
        return initiator

    @trio.lowlevel.enable_ki_protection
    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        initiator = self._initiator
        try:
            own = await initiator._leave(exc)
        finally:
            current_owner.reset(self._token)
        # The nursery puts whatever passes through it into a group. It has to see cancellations, for they may be its
        # own; any other exception of the body's leaves as it came.
        passing = own.pop(0) if own and has_cancellation(own[0]) else None
        try:
            caught = await self._manager.__aexit__(
                None if passing is None else type(passing),
                passing,
                None if passing is None else passing.__traceback__,
            )
            escaped = None if caught else passing
        except BaseException as nursery_error:
            escaped = nursery_error
        final = combine(own, passing, escaped, initiator._errors)
        initiator._errors = []
        # They know the initiator too, and a scope that has been left should go away without the garbage collector.
        del initiator._engine, initiator._dispatcher, initiator._timers
        try:
            if final is None:
                return True
            if final is exc:
                return False
            context = final.__context__
            try:
                raise final
            finally:
                final.__context__ = context
        finally:
            # A frame that holds the exception it raised is a cycle.
            del exc, passing, own, escaped, final, initiator


def _why(error: BaseException | None) -> str:
    """Say why an initiator that was left with ``error`` stops what is pending."""
    if error is None:
        return _EXITED
    return f"its initiator was {error}" if isinstance(error, trio.Cancelled) else _UNWINDING


def open_initiator(
    on_exit: ExitPolicy = ExitPolicy.ABORT,
    *,
    grace: float | None = None,
    name: str | None = None,
) -> AbstractAsyncContextManager[Initiator]:
    """Open a scope that owns the operations started inside it.

    Use it as ``async with open_initiator() as initiator:``. Tasks that are started inside inherit it, as they inherit
    any context variable. Initiators nest; the innermost one owns.

    Args:
      on_exit: what happens to operations that are pending when the scope is left.
      grace: for how many seconds at most DRAIN and FINISH_STARTED let operations go on, counted from the first of an
        outside cancel and the exit. These two need it, and it must be finite; the others must not have it.
      name: what to call it in representations.

    Returns:
      An async context manager whose value is the `Initiator`. An exception of the body leaves it unchanged; exceptions
      of handlers leave it as an `ExceptionGroup`, the body's own first if there is one, after everything else was told.

    Raises:
      TypeError: ``on_exit`` is not an `ExitPolicy`.
      ValueError: ``grace`` is missing, not finite, negative, or not for this policy.
      InvalidOperationError: at the entry, for ADOPT, if there is no enclosing initiator that is open.

    **Checkpoints**: entering never does, leaving always does.

    **If cancelled**: the policy is applied to what is pending; what is stopped has exact counts, and everything is told
    before the scope is left.

    **Threads**: only from inside Trio.

    Source: the `begin_send` page, "All I/O initiated by a given thread is canceled when that thread exits".
    """
    require_policy(on_exit, grace)
    return _OpenInitiator(on_exit, grace, name)
