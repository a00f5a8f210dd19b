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
import enum
import math
from functools import partial
from typing import TYPE_CHECKING, Final, cast, final

import trio

from ._codes import SocketError
from ._dispatcher import Dispatcher
from ._engine import Engine
from ._exceptions import InvalidOperationError
from ._groups import combine, has_cancellation
from ._instruments import current_audience
from ._operation import Operation, Owner
from ._statistics import InitiatorStatistics
from ._timers import Timer, Timers

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from ._queue import OperationQueue

_OPERATION_ABORTED: Final = int(SocketError.OPERATION_ABORTED)

#: After this many starts in a row that did not pend, the next one is answered "pending" although it is done, so that a
#: loop over completions that come at once lets other tasks run. With a budget of 128, 256 and 512 another task was late
#: by 0.16, 0.31 and 0.49 ms (p99), and a send of 64 B cost 0.14, 0.09 and 0.06 of a bare one more.
START_BUDGET: Final = 256

_UNWINDING: Final = "the initiator was left by an exception"
_EXITED: Final = "its initiator exited"


class ExitPolicy(enum.Enum):
    """What happens to pending operations when their initiator is left.

    Whatever the policy, nothing of an initiator is alive after its exit, and every operation has ended exactly once,
    with its exact count.
    """

    #: Stop them at once: the page's rule.
    ABORT = "abort"
    #: Wait for all of them, as a nursery waits for its tasks. A cancelled scope, and a body that raises, abort them.
    JOIN = "join"
    #: Wait for all of them for ``grace`` seconds, behind a shield and however the scope is left, then abort the rest.
    DRAIN = "drain"
    #: Stop those of which no byte was accepted. Let the others end for ``grace`` seconds, as DRAIN does.
    FINISH_STARTED = "finish started"
    #: Hand them over to the enclosing initiator, however the scope is left; its policy applies to them from then on.
    ADOPT = "adopt"


#: The policies that bound their patience.
_PATIENT: Final = frozenset({ExitPolicy.DRAIN, ExitPolicy.FINISH_STARTED})


class _Grace(Timer):
    """The end of an initiator's patience with what it lets finish."""

    __slots__ = ("_at", "_initiator")

    def __init__(self, initiator: Initiator, seconds: float) -> None:
        self._initiator = initiator
        self._at = trio.current_time() + seconds

    def is_live(self) -> bool:
        return not self._initiator._exited

    def due(self) -> float:
        return self._at

    def fire(self) -> None:
        grace = self._initiator.grace
        self._initiator._stop(f"its initiator was left, and its grace of {grace:g} s was over")


@final
class Initiator(Owner):
    """The scope that starts operations, and that ends them when it exits.

    Made by `open_initiator` alone.

    Attributes:
      name: what it is called in representations.
      on_exit: its exit policy.
      grace: the seconds that DRAIN and FINISH_STARTED give; None for the others.
    """

    __slots__ = (
        "__weakref__",
        "_audience",
        "_dispatcher",
        "_engine",
        "_errors",
        "_nursery",
        "_queues",
        "_quiet",
        "_budget",
        "_exited",
        "_grace",
        "_heir",
        "_held",
        "_leaving",
        "_hidden_budget",
        "_stopped",
        "_successor",
        "_timers",
        "grace",
        "name",
        "on_exit",
    )

    def __init__(
        self,
        nursery: trio.Nursery,
        on_exit: ExitPolicy,
        grace: float | None,
        name: str | None,
        heir: Initiator | None,
    ) -> None:
        self.name: str | None = name
        self.on_exit: ExitPolicy = on_exit
        self.grace: float | None = grace
        self._nursery = nursery
        # What serves all operations runs in the context of the entry, whoever's start makes it necessary.
        entry = contextvars.copy_context()
        spawn: Callable[..., None] = partial(
            entry.run, cast("Callable[..., None]", nursery.start_soon)
        )
        self._timers = Timers(spawn)
        #: Who takes over what is pending; only under ADOPT.
        self._heir = heir
        #: Who has taken over, and owns from then on what handlers start in a context of this initiator.
        self._successor: Initiator | None = None
        #: Set once the patience of the policy is being used up.
        self._grace: _Grace | None = None
        self._engine = Engine(self._cancelled, spawn)
        self._audience = current_audience()
        self._dispatcher = Dispatcher(
            nursery.start_soon, self._handler_failed, self._became_quiet, self._audience
        )
        #: Where its pending operations stand, and how many there.
        self._queues: dict[OperationQueue, int] = {}
        #: Why starts are refused; None as long as they are not.
        self._stopped: str | None = None
        #: The one operation whose end is held back; see `_pace`.
        self._held: Operation | None = None
        self._leaving = False
        self._exited = False
        self._errors: list[BaseException] = []
        self._quiet: trio.Event | None = None
        #: How many starts may yet end on the spot before one is made to pend. 0 once starts are refused: this way the
        #: fast path has one thing to look at, not two.
        self._budget = START_BUDGET
        #: The real budget while somebody watches, for the fast path must find an empty one then; None otherwise.
        self._hidden_budget: int | None = None

    def __repr__(self) -> str:
        name = "" if self.name is None else f" {self.name!r}"
        state = "exited" if self._exited else "leaving" if self._stopped else "open"
        return f"<Initiator{name}: {self.on_exit.name}, {state}, {self.pending_operations} pending>"

    @property
    def cancel_scope(self) -> trio.CancelScope:
        """The scope around the body, engine and handlers; cancelling it stops the pending operations."""
        return self._nursery.cancel_scope

    @property
    def pending_operations(self) -> int:
        """How many operations of this initiator are pending."""
        return sum(self._queues.values())

    def statistics(self) -> InitiatorStatistics:
        """Return a snapshot of what is known of the initiator; also after it has exited.

        **Threads**: only from the Trio thread that uses the initiator.
        """
        hidden = self._hidden_budget
        return InitiatorStatistics(
            pending_operations=self.pending_operations,
            queues=len(self._queues),
            unfinished_events=0 if self._exited else self._dispatcher._outstanding,
            starts_before_yield=self._budget if hidden is None or self._stopped else hidden,
        )

    # -- as an owner --------------------------------------------------------------------------------------------------

    def _joined(self, queue: OperationQueue) -> None:
        self._queues[queue] = self._queues.get(queue, 0) + 1
        if self._hidden_budget is not None:
            self._hidden_budget = START_BUDGET
        elif self._stopped is None:
            self._budget = START_BUDGET

    def _ended(self, operation: Operation, queue: OperationQueue | None) -> None:
        if queue is not None:
            left = self._queues[queue] - 1
            if left:
                self._queues[queue] = left
            else:
                del self._queues[queue]
        self._dispatcher.post(operation)

    def _pace(self, operation: Operation) -> None:
        """Tell of an operation that ended on the spot and was answered "pending" all the same.

        Where nobody has to be called the one thing missing is a checkpoint of the caller's, and the trip through the
        dispatcher would cost more than all the starts since the last one spent on being counted. So the end is held
        back for `SocketAsyncEventArgs.wait` to tell. Whoever asks instead of waiting has it told by the dispatcher, and
        so has the next one that is paced, so at most one is held.
        """
        operation._end_later(self)
        if self._leaving or operation._is_listened_to:
            self._dispatcher.post(operation)
            return
        self._tell_held(at_once=False)
        self._held = operation

    def _holds(self, operation: Operation) -> bool:
        return self._held is operation

    def _tell_held(self, *, at_once: bool) -> None:
        held, self._held = self._held, None
        if held is None:
            return
        if at_once:
            if self._audience.instruments:
                self._audience.raising(held)
            held._completed(self._dispatcher)
        else:
            self._dispatcher.post(held)

    def _watch(self, queue: OperationQueue) -> None:
        self._engine.watch(queue)

    def _limit_changed(self, operation: Operation) -> None:
        self._timers.add(operation._limit)

    def _unwatch(self, queue: OperationQueue) -> None:
        self._engine.unwatch(queue)

    # -- starting -----------------------------------------------------------------------------------------------------

    def _require_open(self) -> None:
        """Raise unless operations can be started here, or were until the stop."""
        if self._exited:
            raise InvalidOperationError(
                "the initiator this task inherited has exited; open one in this task with "
                "'async with trio_send.open_initiator():'",
            )

    def _spend(self) -> bool:
        """Note a start that ended on the spot; return whether it must be answered "pending" all the same."""
        if self._stopped is not None:
            return False
        if self._budget > 0:
            self._budget -= 1
            return False
        if self._hidden_budget is None:
            self._budget = START_BUDGET
            return True
        if self._hidden_budget > 0:
            self._hidden_budget -= 1
            return False
        self._hidden_budget = START_BUDGET
        return True

    def _set_watched(self, watched: bool) -> None:
        """Have starts keep away from the fast path, or let them take it again."""
        if watched:
            self._hidden_budget = self._budget
            self._budget = 0
        else:
            assert self._hidden_budget is not None
            self._budget = self._hidden_budget if self._stopped is None else 0
            self._hidden_budget = None

    # -- leaving ------------------------------------------------------------------------------------------------------

    def _cancelled(self, why: str) -> None:
        """Apply the policy to an outside cancel, which the engine has noticed."""
        if self.on_exit in _PATIENT:
            self._lose_patience(f"its initiator was {why}")
        elif not self._bequeath():
            self._stop(f"its initiator was {why}")

    def _lose_patience(self, why: str) -> None:
        """Begin the time of grace, if it has not begun yet."""
        if self._grace is None:
            assert self.grace is not None
            self._grace = _Grace(self, self.grace)
            self._timers.add(self._grace)
            if self.on_exit is ExitPolicy.FINISH_STARTED:
                for queue in list(self._queues):
                    queue.stop_owner(self, _OPERATION_ABORTED, why, spare_started=True)

    def _bequeath(self) -> bool:
        """Hand over what is pending if there is somebody to take it; return whether there is."""
        heir = self._heir
        if heir is None or heir._exited or heir._stopped is not None:
            return False
        for queue in list(self._queues):
            del self._queues[queue]
            queue.hand_over(self, heir)
        return True

    def _stop(self, why: str) -> None:
        """Stop all that is pending and refuse all that comes."""
        if self._stopped is None:
            self._stopped = why
            self._budget = 0
        while self._queues:
            # Over a copy: a dict that is emptied from the front is searched from the front, past all its holes.
            for queue in list(self._queues):
                queue.stop_owner(self, _OPERATION_ABORTED, why)

    def _handler_failed(self, error: BaseException) -> None:
        self._errors.append(error)
        self.cancel_scope.cancel(reason="a completion handler raised")

    def _became_quiet(self) -> None:
        if self._quiet is not None and not self._queues:
            self._quiet.set()

    async def _wait_quiet(self) -> None:
        """Wait until nothing is pending, all is told and no handler runs."""
        while self._queues or not self._dispatcher.is_quiet:
            self._quiet = trio.Event()
            await self._quiet.wait()

    async def _leave(self, error: BaseException | None) -> list[BaseException]:
        """Go through the steps of the module's docstring, all but the closing of the nursery.

        Returns:
          What the body, or the waiting here, ended with: nothing, one exception, or two if it was interrupted when it
          had failed already.
        """
        why = _why(error)
        interruption: BaseException | None = None
        self._leaving = True
        self._tell_held(at_once=False)
        try:
            if self._stopped is not None:
                pass
            elif self.on_exit in _PATIENT:
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
        if error is not None or interruption is not None:
            self.cancel_scope.cancel(reason=_UNWINDING)
        # Only KeyboardInterrupt gets through a shield. It is for this task alone, so it must not strike in the nursery,
        # which would take it for one of a handler's; hence the wait for the nursery's last task is here as well.
        while self._queues or not self._dispatcher.is_quiet or self._nursery.child_tasks:
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


_current: Final[contextvars.ContextVar[Initiator]] = contextvars.ContextVar("trio_send.initiator")

#: The fast path's way to the initiator; None where there is none.
get_initiator: Final = _current.get


def _find_initiator() -> Initiator | None:
    """Return the initiator of the current context, or who has taken over from it."""
    initiator = _current.get(None)
    while initiator is not None and initiator._successor is not None:
        initiator = initiator._successor
    return initiator


def current_initiator() -> Initiator:
    """Return the initiator that operations started here belong to.

    Raises:
      InvalidOperationError: no initiator is open around the calling task, or the one that it inherited has exited.

    **Checkpoints**: never.

    **Threads**: only from inside Trio.
    """
    initiator = _find_initiator()
    if initiator is None:
        raise InvalidOperationError(
            "no initiator is open here to own the operation; start it inside "
            "'async with trio_send.open_initiator():', or use the awaiting form, which needs none",
        )
    initiator._require_open()
    return initiator


@final
class _OpenInitiator:
    """The context manager that `open_initiator` returns."""

    __slots__ = ("_grace", "_initiator", "_manager", "_name", "_on_exit", "_token")

    def __init__(self, on_exit: ExitPolicy, grace: float | None, name: str | None) -> None:
        self._on_exit = on_exit
        self._grace = grace
        self._name = name

    def _find_heir(self) -> Initiator | None:
        if self._on_exit is not ExitPolicy.ADOPT:
            return None
        heir = _find_initiator()
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
        self._token = _current.set(initiator)
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
            _current.reset(self._token)
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
    if not isinstance(on_exit, ExitPolicy):
        raise TypeError(f"on_exit must be an ExitPolicy, such as ExitPolicy.JOIN, not {on_exit!r}")
    if on_exit in _PATIENT:
        if grace is None or not 0 <= grace < math.inf:
            raise ValueError(
                f"grace is {grace}, but {on_exit.name} needs a finite number of seconds from 0 on"
            )
    elif grace is not None:
        raise ValueError(
            f"grace is {grace}, but only DRAIN and FINISH_STARTED have one, not {on_exit.name}"
        )
    return _OpenInitiator(on_exit, grace, name)
