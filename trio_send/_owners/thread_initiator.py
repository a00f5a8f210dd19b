"""A thread that is not Trio's, as the owner of the sends that it starts.

It has no engine and no dispatcher: an initiator of the Trio side, its host, lends it its own. So the object lives on
both sides. Its thread makes it, looks at it and posts what concerns it through the door; everything that changes it
happens in the Trio thread, when the post is taken in.

It ends in one of three ways. Explicitly, by the policy of its ``with`` block: the thread posts that it is leaving and
waits until the last event has been raised, which it learns from a farewell that goes through the dispatcher behind all
the others. Implicitly, when the thread or its call is over: a finaliser posts that, and waits for nothing, for it may
run in the very thread that would have to answer. Or its host leaves first, and ends it like everything of its own.
"""

from __future__ import annotations

from threading import get_ident
from typing import TYPE_CHECKING, final

from .._base.errors import InvalidOperationError
from .._operations.operation import Operation
from .exit_policy import PATIENT, ExitPolicy
from .leaving_owner import START_BUDGET, STARTS_PER_LOOK, Leaver, is_deep

if TYPE_CHECKING:
    from .._base.wait_handle import WaitHandle
    from .._operations.queue import OperationQueue
    from .._operations.time_limit import Timer
    from .dispatcher import Dispatcher
    from .initiator import Initiator


class _Farewell(Operation):
    """What goes through the dispatcher behind the last event of an owner that leaves."""

    __slots__ = ("_initiator", "_mark")

    def __init__(self, initiator: ThreadInitiator) -> None:
        super().__init__()
        self._initiator = initiator
        #: How many operations of the owner had ended by then.
        self._mark = initiator._endings

    def _completed(self, dispatcher: Dispatcher) -> None:
        self._initiator._farewell_told(self._mark)


@final
class ThreadInitiator(Leaver):
    """What owns the sends that a thread starts, and ends them when the thread is over.

    Made by `initiator`, and implicitly for each thread and each call of `trio.to_thread.run_sync` that starts a send
    without one.

    Attributes:
      name: what it is called in representations.
      on_exit: its exit policy.
      grace: the seconds that DRAIN and FINISH_STARTED give; None for the others.
    """

    __slots__ = ("_endings", "_failures", "_farewell_posted", "_host", "_left_handle", "ident")

    def __init__(
        self,
        host: Initiator,
        on_exit: ExitPolicy = ExitPolicy.ABORT,
        grace: float | None = None,
        name: str | None = None,
        heir: Leaver | None = None,
    ) -> None:
        super().__init__(on_exit, grace, name, heir, host._door)
        self._host = host
        #: The thread that made it.
        self.ident: int = get_ident()
        #: How many starts of its thread in a row have failed on the spot.
        self._failures = 0
        #: How many of its operations have ended.
        self._endings = 0
        self._farewell_posted = False
        #: Set when the owner has left, for the thread that waits for it.
        self._left_handle: WaitHandle | None = None

    # -- as an owner, in the Trio thread ------------------------------------------------------------------------------

    @property
    def _server(self) -> Initiator:
        return self._host

    def _leaves_with(self, leaver: object) -> bool:
        return leaver is self or leaver is self._host

    def _arrive(self) -> None:
        """Have the host know of its guest."""
        if not self._exited and self not in self._host._guests:
            self._host._guests[self] = None
            self._host._audience.enter(self)
            if self._host._stopped is not None:
                self._refuse(self._host._stopped)

    def _take_in(self) -> None:
        self._door.take_in()

    def _joined(self, queue: OperationQueue) -> None:
        self._arrive()
        super()._joined(queue)

    def _ended(self, operation: Operation, queue: OperationQueue | None) -> None:
        super()._ended(operation, queue)
        if self._left_handle is not None:
            self._see_off()

    def _post(self, operation: Operation) -> None:
        self._endings += 1
        self._host._dispatcher.post(operation)

    def _watch(self, queue: OperationQueue) -> None:
        self._host._watch(queue)

    def _unwatch(self, queue: OperationQueue) -> None:
        self._host._unwatch(queue)

    def _watch_timer(self, timer: Timer) -> None:
        self._host._watch_timer(timer)

    def _move_to(self, server: Initiator) -> None:
        del self._host._guests[self]
        self._host._audience.leave(self)
        watched = [queue for queue in self._queues if queue.watcher is self]
        for queue in watched:
            self._unwatch(queue)
        self._host = server
        self._arrive()
        for queue in watched:
            self._watch(queue)
        for queue in self._queues:
            operation = queue.head
            while operation is not None:
                if operation._owner is self and operation._limit is not None:
                    self._limit_changed(operation)
                operation = operation._next
        if self._grace is not None:
            self._watch_timer(self._grace)

    # -- starting -----------------------------------------------------------------------------------------------------

    def _require_open(self) -> None:
        if self._closed or self._host._closed:
            raise InvalidOperationError(
                "the thread, or the call of trio.to_thread.run_sync(), that this belongs to is over, or its host has "
                "exited; pass host= an initiator that is open",
            )

    def _why_refused(self) -> str | None:
        # A host that was stopped does not know yet of a guest whose first post is on its way.
        return self._stopped or self._host._stopped

    def _spend_in_thread(self) -> bool:
        """Note, under the lock, a start in its thread that failed; return whether it must be posted all the same.

        A thread comes to no checkpoint, but where it waits for the end of what is pending it is told that its call was
        cancelled.
        """
        self._failures += 1
        if self._failures <= START_BUDGET and (self._failures % STARTS_PER_LOOK or not is_deep()):
            return False
        self._failures = 0
        return True

    # -- leaving, in the Trio thread ----------------------------------------------------------------------------------

    def _leave(self, left: WaitHandle, why: str, raised: bool) -> None:
        """Apply the policy; have ``left`` set when everything has ended and was told."""
        if not self._begin_to_leave(left, why):
            return
        if self._stopped is None:
            self._arrive()
            if self.on_exit in PATIENT:
                self._lose_patience(why)
            elif self.on_exit is ExitPolicy.ADOPT:
                if not self._bequeath():
                    self._stop(why)
                self._successor = self._heir
            elif self.on_exit is not ExitPolicy.JOIN or raised:
                self._stop(why)
        self._see_off()

    def _give_up(self, left: WaitHandle, why: str) -> None:
        """Leave without any patience, whether or not `_leave` has been called."""
        if self._begin_to_leave(left, why):
            self._stop(why)
            self._see_off()

    def _begin_to_leave(self, left: WaitHandle, why: str) -> bool:
        """Note who waits; return False if there is nothing to wait for."""
        self._left_handle = left
        self._leaving = True
        if self._exited or self._host._exited:
            self._exit(why)
            return False
        self._tell_held()
        return True

    def _be_over(self, why: str) -> None:
        """End with the thread, or with its call."""
        if not self._exited:
            self._tell_held()
            if not self._host._exited:
                self._stop(why)
            self._exit(why)

    def _see_off(self) -> None:
        if not self._queues and not self._farewell_posted:
            self._farewell_posted = True
            self._host._dispatcher.post(_Farewell(self))

    def _farewell_told(self, mark: int) -> None:
        self._farewell_posted = False
        if self._queues:
            return  # a handler has started something; its end will bring the next farewell
        if mark != self._endings:
            self._see_off()
        else:
            self._exit("its thread left it")

    def _exit(self, why: str) -> None:
        self._refuse(why)
        self._closed = self._exited = True
        self._tell_unsent()
        self._host._guests.pop(self, None)
        self._host._audience.leave(self)
        if self._left_handle is not None:
            self._left_handle._signal()

    # -- leaving, in its thread --------------------------------------------------------------------------------------

    def _post_over(self, why: str) -> None:
        """Have the owner end, without waiting for it; called by finalisers, in any thread."""
        self._door.post(lambda: self._be_over(why))
