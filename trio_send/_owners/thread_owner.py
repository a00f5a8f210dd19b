"""A thread that is not Trio's, as the owner of the sends that it starts.

It has no engine and no dispatcher: an initiator of the Trio side, its host, lends it its own. So the object lives on
both sides. Its thread makes it, looks at it and posts what concerns it to the inbox of the run; everything that changes
it happens in the Trio thread, when the post is taken in.

It ends in one of three ways. Explicitly, by the policy of its ``with`` block: the thread posts that it exits and waits
until the last event has been raised, which it learns from an entry that goes through the dispatcher behind all the
others. Implicitly, when the thread or its call is over: a finaliser posts that, and waits for nothing, because it may
run in the very thread that would have to answer. Or its host exits first, and ends it like everything of its own.
"""

from __future__ import annotations

from threading import get_ident
from typing import TYPE_CHECKING, final

from .._base.errors import InvalidOperationError
from .._base.wait_handle import signal
from .exit_policy import WITH_GRACE, ExitPolicy
from .exiting_owner import START_BUDGET, STARTS_PER_LOOK, ExitingOwner, is_deep
from .scope_owner import ScopeOwner

if TYPE_CHECKING:
    from .._base.wait_handle import WaitHandle
    from .._operations.operation import Due, Operation, Queue
    from .dispatcher import Dispatcher
    from .exiting_owner import Host


class _LastEvent:
    """What goes through the dispatcher behind the last event of an owner that exits."""

    __slots__ = ("_mark", "_owner")

    def __init__(self, owner: ThreadOwner) -> None:
        self._owner = owner
        #: How many operations of the owner had ended by then.
        self._mark = owner.endings

    def tell(self, dispatcher: Dispatcher) -> None:
        """Take note that all events before were raised."""
        self._owner.last_event_told(self._mark)


@final
class ThreadOwner(ExitingOwner):
    """The owner of the sends that a thread starts, which ends them when the thread is over."""

    face_name = "ThreadInitiator"

    __slots__ = (
        "endings",
        "failures_in_a_row",
        "last_event_is_posted",
        "host",
        "exit_handle",
        "ident",
    )

    def __init__(
        self,
        host: ScopeOwner,
        on_exit: ExitPolicy = ExitPolicy.ABORT,
        grace: float | None = None,
        name: str | None = None,
        adopter: ExitingOwner | None = None,
    ) -> None:
        super().__init__(on_exit, grace, name, adopter, host.inbox, host.trio_thread)
        self.host: ScopeOwner = host
        #: The thread that made it.
        self.ident: int = get_ident()
        #: How many starts of its thread in a row have failed on the spot.
        self.failures_in_a_row: int = 0
        #: How many of its operations have ended.
        self.endings: int = 0
        self.last_event_is_posted: bool = False
        #: Set when the owner has left, for the thread that waits for it.
        self.exit_handle: WaitHandle | None = None

    # -- as an owner, in the Trio thread ------------------------------------------------------------------------------

    def leaves_with(self, exiting: object) -> bool:
        return exiting is self or exiting is self.host

    def be_served(self) -> None:
        """Have the host know of the thread."""
        if not self.has_exited and self not in self.host.threads:
            self.host.threads[self] = None
            self.host.instruments.enter(self)
            if self.host.stopped is not None:
                self.refuse(self.host.stopped)

    def take_in(self) -> None:
        self.inbox.take_in()

    def joined(self, queue: Queue) -> None:
        self.be_served()
        super().joined(queue)

    def ended(self, operation: Operation, queue: Queue | None) -> None:
        super().ended(operation, queue)
        if self.is_exiting:
            self.post_last_event()

    def post(self, operation: Operation) -> None:
        self.endings += 1
        self.host.dispatcher.post(operation)

    def watch(self, queue: Queue) -> None:
        self.host.watch(queue)

    def unwatch(self, queue: Queue) -> None:
        self.host.unwatch(queue)

    def watch_timer(self, timer: Due) -> None:
        self.host.watch_timer(timer)

    def move_to(self, host: Host) -> None:
        assert isinstance(host, ScopeOwner)
        del self.host.threads[self]
        self.host.instruments.leave(self)
        watched = [queue for queue in self.queues if queue.watcher is self]
        for queue in watched:
            self.unwatch(queue)
        self.host = host
        self.be_served()
        for queue in watched:
            self.watch(queue)
        for queue in self.queues:
            operation = queue.head
            while operation is not None:
                if operation.owner is self and operation.limit is not None:
                    self.limit_changed(operation)
                operation = operation.next
        if self.grace_timer is not None:
            self.watch_timer(self.grace_timer)

    # -- starting -----------------------------------------------------------------------------------------------------

    def require_open(self) -> None:
        if self.is_closed or self.host.is_closed:
            raise InvalidOperationError(
                "the thread, or the call of trio.to_thread.run_sync(), that this belongs to is over, or its host has "
                "exited; pass host= an initiator that is open",
            )

    def why_refused(self) -> str | None:
        # A host that was stopped does not know yet of a thread whose first post is on its way.
        return self.stopped or self.host.stopped

    def spend_in_thread(self) -> bool:
        """Note, under the lock, a start in its thread that failed; return whether it must be posted all the same.

        A thread comes to no checkpoint, but where it waits for the end of what is pending it is told that its call was
        cancelled.
        """
        self.failures_in_a_row += 1
        if self.failures_in_a_row <= START_BUDGET and (
            self.failures_in_a_row % STARTS_PER_LOOK or not is_deep()
        ):
            return False
        self.failures_in_a_row = 0
        return True

    # -- the exit, in the Trio thread ----------------------------------------------------------------------------------

    def begin_exit(self, left: WaitHandle, why: str, raised: bool) -> None:
        """Apply the policy; have ``left`` set when everything has ended and was told."""
        if not self.prepare_exit(left, why):
            return
        if self.stopped is None:
            self.be_served()
            if self.on_exit in WITH_GRACE:
                self.begin_grace(why)
            elif self.on_exit is ExitPolicy.ADOPT:
                if not self.hand_over():
                    self.stop(why)
                self.be_adopted()
            elif self.on_exit is not ExitPolicy.JOIN or raised:
                self.stop(why)
        self.post_last_event()

    def give_up(self, left: WaitHandle, why: str) -> None:
        """Exit without any grace, whether or not `begin_exit` has been called."""
        if self.prepare_exit(left, why):
            self.stop(why)
            self.post_last_event()

    def prepare_exit(self, left: WaitHandle, why: str) -> bool:
        """Note who waits; return False if there is nothing to wait for."""
        self.exit_handle = left
        self.is_exiting: bool = True
        if self.has_exited or self.host.has_exited:
            self.exit(why)
            return False
        self.tell_held()
        return True

    def end_with_thread(self, why: str) -> None:
        """End with the thread, or with its call."""
        # Else a copy of what it was opened with is left, too.
        if not self.has_exited:  # pragma: no branch
            self.tell_held()
            if not self.host.has_exited:
                self.stop(why)
            if self.queues:
                self.is_exiting = True  # what has yet to end is the last of it
            else:
                self.exit(why)

    def post_last_event(self) -> None:
        """Have it noticed when the last event was raised, if nothing is pending."""
        if not self.queues and not self.last_event_is_posted:
            self.last_event_is_posted = True
            self.host.dispatcher.post(_LastEvent(self))

    def last_event_told(self, mark: int) -> None:
        """Exit, if nothing has ended since the last event was posted."""
        self.last_event_is_posted = False
        if self.queues:
            return  # a handler has started something; its end will bring the next one
        if mark != self.endings:
            self.post_last_event()
        else:
            self.exit("its thread left it")

    def exit(self, why: str) -> None:
        """Be over."""
        self.refuse(why)
        self.is_closed = self.has_exited = True
        self.face: object = None
        self.tell_unsent()
        self.host.threads.pop(self, None)
        self.host.instruments.leave(self)
        if self.exit_handle is not None:
            signal(self.exit_handle)

    # -- the exit, in its thread --------------------------------------------------------------------------------------

    def post_end(self, why: str) -> None:
        """Have the owner end, without waiting for it; called by finalisers, in any thread."""
        self.inbox.post(lambda: self.end_with_thread(why))
