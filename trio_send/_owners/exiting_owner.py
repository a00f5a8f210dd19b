"""Owners that exit: what becomes of their pending operations then.

An initiator exits when its scope is left, a thread when it ends. Both own any number of operations in any number of
queues, both have an exit policy, and both come to an end in the same two steps: they stop, and starts end on the spot
with OPERATION_ABORTED from then on; and they exit, and from then on a start is a mistake and raises.

Between the two a program may go on starting whatever it is told, in a loop or from its handlers. So now and then such a
start is answered "pending" as well, because then the loop comes to a checkpoint and the handler returns. That alone
ends no handler that starts again after every event. So after a number of rounds starts raise although the exit is yet
to come: what is still owed is told, nothing more comes, and so the exit can.

A thread that is not Trio's has neither engine nor dispatcher. It borrows those of an initiator, its host. Whoever exits
first ends the thread's operations, by its own policy.
"""

from __future__ import annotations

import abc
import sys
from collections import defaultdict
from threading import get_ident
from typing import TYPE_CHECKING, ClassVar, Final, Protocol

import trio

from .._base.error_numbers import OPERATION_ABORTED
from .._base.errors import InvalidOperationError
from .._base.inbox import LOCK
from .._operations.bulk_ends import OwnerEnds
from .._operations.operation import Owner
from .._operations.time_limit import Timer
from .._tracing.log import STOPPED, write_soon
from .exit_policy import ExitPolicy

if TYPE_CHECKING:
    from .._base.inbox import Inbox
    from .._operations.operation import Due, Operation, Queue
    from .._tracing.instruments import Instruments
    from .dispatcher import Dispatcher


_WENT_ON: Final = (
    "the initiator was stopped, and starts have gone on all the same; each ended with OPERATION_ABORTED, which says "
    "that no later one of this initiator can do better, so a loop or a handler must end when it is told that"
)

#: After this many starts in a row that did not pend, the next one is answered "pending" although it is done, so that a
#: loop over completions that come at once lets other tasks run. With a budget of 56, 128 and 256 another task was late
#: by 0.5, 1.0 and 1.9 ms (p99) where a send took 4 us. The trip through the scheduler takes 12 us, which made all sends
#: of 64 B dearer by 0.20, 0.09 and 0.04 of a bare one.
START_BUDGET: Final = 256
#: What stands for it where the fast path is not open.
NO_BUDGET: Final = -1

#: How many starts go by between two looks at the stack. A program that calls itself again for each start that did not
#: pend would run out of it before the budget is spent. With a look after so many, 6 frames for each start are fine. A
#: look takes 1 us, which made each start dearer by 4 ns; with one after 64 it was 12 ns.
STARTS_PER_LOOK: Final = 128

#: After so many rounds in which starts went on after the stop, starts raise. Handlers that start once for each event,
#: as most do, need very few rounds, however many events there are. A chain that never ends takes 0.1 s for all of them.
MAX_ROUNDS: Final = 100


def is_deep() -> bool:
    """Tell whether a third of the stack is used."""
    try:
        sys._getframe(sys.getrecursionlimit() // 3)
    except ValueError:
        return False
    return True


class Host(Protocol):
    """The initiator whose engine and dispatcher serve an owner, as far as that knows it."""

    @property
    def instruments(self) -> Instruments: ...
    @property
    def dispatcher(self) -> Dispatcher: ...
    @property
    def stopped(self) -> str | None: ...
    @property
    def is_exiting(self) -> bool: ...

    def became_quiet(self) -> None: ...
    def note_late_start(self) -> None: ...


class _Grace(Timer):
    """The end of the time that an owner gives to what it lets finish."""

    __slots__ = ("_at", "_owner")

    def __init__(self, owner: ExitingOwner, seconds: float) -> None:
        self._owner = owner
        self._at = trio.current_time() + seconds

    def is_live(self) -> bool:
        return not self._owner.has_exited

    def due(self) -> float:
        return self._at

    def fire(self) -> None:
        grace = self._owner.grace
        self._owner.stop(f"its initiator was left, and its grace of {grace:g} s was over")


class _Round:
    """What goes through the dispatcher behind all that was owed when a round of starts after the stop began."""

    __slots__ = ("_owner",)

    def __init__(self, owner: ExitingOwner) -> None:
        self._owner = owner

    def tell(self, dispatcher: Dispatcher) -> None:
        """Take note that the round is over."""
        self._owner.round_over()


class ExitingOwner(Owner):
    """An owner of many operations, which ends them under a policy when it exits.

    Attributes:
      name: what it is called in representations.
      on_exit: its exit policy.
      grace: the seconds that DRAIN and FINISH_STARTED give; None for the others.
    """

    #: What the program knows it as.
    face_name: ClassVar[str]
    #: Whether it serves itself, and may serve threads.
    is_host: ClassVar[bool] = False

    __slots__ = (
        "__weakref__",
        "aborted",
        "budget",
        "is_closed",
        "inbox",
        "has_exited",
        "failed",
        "grace_timer",
        "threads",
        "trio_thread",
        "adopter",
        "held",
        "in_round",
        "is_exiting",
        "ended_on_the_spot",
        "queues",
        "reserve",
        "rounds",
        "started",
        "stopped",
        "succeeded",
        "adopted_by",
        "unfinished",
        "unsent",
        "face",
        "grace",
        "name",
        "on_exit",
    )

    def __init__(
        self,
        on_exit: ExitPolicy,
        grace: float | None,
        name: str | None,
        adopter: ExitingOwner | None,
        inbox: Inbox,
        trio_thread: int,
    ) -> None:
        #: What the program holds, until the exit; None as long as nobody has asked for it.
        self.face: object = None
        self.name: str | None = name
        self.on_exit: ExitPolicy = on_exit
        self.grace: float | None = grace
        #: How other threads reach the run that serves it.
        self.inbox: Inbox = inbox
        #: The thread of that run, in which everything happens.
        self.trio_thread: int = trio_thread
        #: Who takes over what is pending; only under ADOPT.
        self.adopter: ExitingOwner | None = adopter
        #: Who has taken over, and owns from then on what handlers start in a context of this owner.
        self.adopted_by: ExitingOwner | None = None
        #: Set once the time of grace has begun.
        self.grace_timer: _Grace | None = None
        #: Where its pending operations stand, and how many there.
        # To count in it is one step, in the middle of which nothing else can count.
        self.queues: defaultdict[Queue, int] = defaultdict(int)
        #: The threads that it serves as their host, in the order of their arrival.
        self.threads: dict[ExitingOwner, None] = {}
        #: Why starts are refused; None as long as they are not.
        self.stopped: str | None = None
        #: The one operation whose end is held back; see `pace`.
        self.held: Operation | None = None
        #: How many sends have ended because it exits, and how many of their bytes were not accepted.
        self.unfinished: int = 0
        self.unsent: int = 0
        self.is_exiting: bool = False
        #: Whether starts raise: from the exit on, or earlier if too many came after the stop.
        self.is_closed: bool = False
        self.has_exited: bool = False
        #: How many starts may end on the spot before the stack is looked at. Negative where there is no fast path, once
        #: starts are refused and while somebody watches: this way it has one thing to look at, not two.
        self.budget: int = STARTS_PER_LOOK
        #: How many more may do so before one is made to pend.
        self.reserve: int = START_BUDGET - STARTS_PER_LOOK
        #: How many starts had ended on the spot when the budget was last renewed; it counts those since.
        self.ended_on_the_spot: int = 0
        #: What became of the other operations, and of the failures among those: they are subtracted from the successes.
        self.started: int = 0
        self.succeeded: int = 0
        self.failed: int = 0
        self.aborted: int = 0
        #: How many rounds of starts there were after the stop, and whether there is one.
        self.rounds: int = 0
        self.in_round: bool = False

    def __repr__(self) -> str:
        name = "" if self.name is None else f" {self.name!r}"
        state = "exited" if self.has_exited else "leaving" if self.stopped else "open"
        return (
            f"<{self.face_name}{name}: {self.on_exit.name}, {state}, "
            f"{self.pending_operations} pending>"
        )

    @property
    def pending_operations(self) -> int:
        """How many operations of this initiator are pending."""
        return sum(self.queues.values())

    @property
    @abc.abstractmethod
    def host(self) -> Host:
        """The initiator whose engine and dispatcher serve this owner."""

    @abc.abstractmethod
    def post(self, operation: Operation) -> None:
        """Have the end of an operation told by the dispatcher."""

    @abc.abstractmethod
    def watch_timer(self, timer: Due) -> None:
        """Have a timer fired when it is due."""

    def move_to(self, host: Host) -> None:
        """Be served by another host from now on; only threads can."""
        raise NotImplementedError

    # -- as an owner --------------------------------------------------------------------------------------------------

    def joined(self, queue: Queue) -> None:
        self.queues[queue] += 1
        self.started += 1
        if self.budget < 0:
            self.ended_on_the_spot += START_BUDGET - self.reserve
            self.reserve = START_BUDGET
        else:
            self.ended_on_the_spot += START_BUDGET - self.reserve - self.budget
            self.budget = STARTS_PER_LOOK
            self.reserve = START_BUDGET - STARTS_PER_LOOK

    def why_refused(self) -> str | None:
        return self.stopped

    def parted(self, queue: Queue) -> None:
        self.started -= self.queues.pop(queue, 0)  # they count as the adopter's

    def ended(self, operation: Operation, queue: Queue | None) -> None:
        if queue is not None:
            self.queues[queue] -= 1
            if not self.queues[queue]:
                del self.queues[queue]
            if operation.code:
                self.count_failure(operation)
            else:
                self.succeeded += 1
        if operation.code == OPERATION_ABORTED and operation.size_to_send:
            self.note_unsent(operation)
        host = self.host
        if operation.is_listened_to or host.instruments.watching:
            self.post(operation)
            return
        # There is nothing to call, so nothing that could run in the middle of whatever has ended the operation. To tell
        # of it here saves a trip through the dispatcher, which costs as much as all the rest of a send that pends.
        operation.tell(None)
        host.became_quiet()

    def count_failure(self, operation: Operation) -> None:
        """Count an operation that has not succeeded."""
        if operation.code == OPERATION_ABORTED:
            self.aborted += 1
        else:
            self.failed += 1

    def count_failure_on_the_spot(self, operation: Operation) -> None:
        """Count a start that the budget counts, which is for successes and failures alike."""
        self.succeeded -= 1
        self.count_failure(operation)

    def note_unsent(self, operation: Operation) -> None:
        """Note that a send was stopped, for the log if that is so because its owner exits."""
        if self.stopped is not None or self.grace_timer is not None:
            self.unfinished += 1
            self.unsent += operation.size_to_send

    def tell_unsent(self) -> None:
        """Write to the log what was stopped because its owner has exited."""
        if self.unfinished:
            name = "" if self.name is None else f" {self.name!r}"
            write_soon(
                self.inbox.token,
                STOPPED,
                f"{self.face_name}{name} was left under {self.on_exit.name}; sends stopped: {self.unfinished}, "
                f"bytes of them that were not sent: {self.unsent}",
            )

    def pace(self, operation: Operation) -> None:
        """Tell of an operation that ended on the spot and was answered "pending" all the same.

        Where nobody has to be called the one thing missing is a checkpoint of the caller's, and the trip through the
        dispatcher would cost more than all the starts since the last one spent on being counted. So the end is held
        back for `SocketAsyncEventArgs.wait` to tell. Whoever asks instead of waiting has it told by the dispatcher, and
        so has the next one that is paced, so at most one is held.
        """
        operation.end_later(self)
        if self.stopped is not None:
            self.note_late_start()
        if self.is_exiting or self.host.is_exiting or operation.is_listened_to:
            self.post(operation)
            return
        # In one step, because while the one before is told of, another start may be paced.
        before, self.held = self.held, operation
        if before is not None:
            self.post(before)

    def holds(self, operation: Operation) -> bool:
        return self.held is operation

    def tell_held(self) -> None:
        if get_ident() != self.trio_thread:
            self.inbox.post(self.tell_held)  # another thread asks
            return
        held, self.held = self.held, None
        if held is not None:
            self.post(held)

    def tell_held_now(self) -> None:
        host = self.host
        held, self.held = self.held, None
        if held is None:
            return  # somebody has asked for it at this very moment
        if host.instruments.watching:
            host.instruments.raising(held)
        held.tell(host.dispatcher)

    def tell_all_held(self) -> None:
        """Have told what is held back here and with the threads that it serves."""
        for owner in (self, *self.threads):
            owner.tell_held()

    def limit_changed(self, operation: Operation) -> None:
        if operation.limit is not None:
            self.watch_timer(operation.limit)

    # -- starting -----------------------------------------------------------------------------------------------------

    def require_open(self) -> None:
        """Raise unless operations can be started here, or were until the stop."""
        if self.is_closed:
            if not self.has_exited:
                raise InvalidOperationError(_WENT_ON)
            raise InvalidOperationError(
                "the initiator this task inherited has exited; open one in this task with "
                "'async with trio_send.open_initiator():'",
            )

    def spend(self) -> bool:
        """Note a start that ended on the spot; return whether it must be answered "pending" all the same."""
        if self.budget > 0 or self.refill():
            self.budget -= 1
            return False
        left = self.reserve
        if self.budget == 0:
            self.ended_on_the_spot += START_BUDGET - left + 1
            self.budget = STARTS_PER_LOOK
            self.reserve = START_BUDGET - STARTS_PER_LOOK
            return True
        if left == 0 or (left % STARTS_PER_LOOK == 0 and is_deep()):
            self.ended_on_the_spot += START_BUDGET - left + 1
            self.reserve = START_BUDGET
            return True
        self.reserve = left - 1
        return False

    def refill(self) -> bool:
        """Let the fast path have the starts up to the next look at the stack; return whether there are any."""
        if self.budget < 0 or self.reserve == 0 or is_deep():
            return False
        self.open_fast_path()
        return True

    def open_fast_path(self) -> None:
        """Let the fast path have the starts up to the next look at the stack."""
        self.budget = min(self.reserve, (self.reserve - 1) % STARTS_PER_LOOK + 1)
        self.reserve -= self.budget

    def close_fast_path(self) -> None:
        """Have no start take the fast path."""
        if self.budget >= 0:
            self.reserve += self.budget
            self.budget = NO_BUDGET

    @property
    def starts_left(self) -> int:
        """How many starts may yet end on the spot before one is made to pend."""
        return max(self.budget, 0) + self.reserve

    def set_watched(self, watched: bool) -> None:
        """Have starts keep away from the fast path, or let them take it again."""
        if watched:
            self.close_fast_path()
        elif self.stopped is None:
            self.open_fast_path()

    # -- the exit ------------------------------------------------------------------------------------------------------

    def occupied_queues(self) -> list[Queue]:
        """Return the queues in which operations of this owner and of the threads that it serves stand."""
        queues = dict(self.queues)
        for thread in self.threads:
            queues.update(thread.queues)
        return list(queues)

    @property
    def has_pending(self) -> bool:
        """Whether anything of this owner, or of a thread that it serves, is pending."""
        return bool(self.queues) or any(thread.queues for thread in self.threads)

    def begin_grace(self, why: str) -> None:
        """Begin the time of grace, if it has not begun yet."""
        if self.grace_timer is None:
            assert self.grace is not None
            self.grace_timer = _Grace(self, self.grace)
            self.watch_timer(self.grace_timer)
            if self.on_exit is ExitPolicy.FINISH_STARTED:
                self.stop_pending(why, spare_started=True)

    def hand_over(self) -> bool:
        """Hand over what is pending if there is somebody to take it; return whether there is."""
        adopter = self.adopter
        if adopter is None or adopter.has_exited or adopter.stopped is not None:
            return False
        for queue in list(self.queues):
            queue.hand_over(self, adopter)
        for thread in list(self.threads):
            thread.move_to(adopter.host)
        return True

    def be_adopted(self) -> None:
        """Have the adopter own from now on what handlers start in a context of this owner."""
        self.adopted_by = self.adopter

    def stop(self, why: str) -> None:
        """Stop all that is pending and refuse all that comes, of the threads that it serves too."""
        self.refuse(why)
        for thread in self.threads:
            thread.refuse(why)
        self.stop_pending(why)

    def stop_pending(self, why: str, *, spare_started: bool = False) -> None:
        """Stop all that is pending, or all of which no byte was accepted; none of its bytes goes out from here on."""
        queues = self.occupied_queues()
        OwnerEnds(self, OPERATION_ABORTED, why, queues, spare_started=spare_started).begin()

    def refuse(self, why: str) -> None:
        """Have starts end with OPERATION_ABORTED from now on."""
        if self.stopped is None:
            self.stopped = why
            self.close_fast_path()
            self.ended_on_the_spot += START_BUDGET - self.reserve
            self.reserve = START_BUDGET

    def note_late_start(self) -> None:
        """Take note of a start after the stop that was answered "pending"."""
        host = self.host
        if host.stopped is not None and not self.is_host:
            host.note_late_start()
        elif not self.in_round:
            self.in_round = True
            host.dispatcher.post(_Round(self))

    def round_over(self) -> None:
        """Take note that everything was told that was owed when the round began."""
        self.in_round = False
        if self.has_pending:
            return  # which has been stopped and ends in batches, so each of them has a round
        self.rounds += 1
        if self.rounds == MAX_ROUNDS:
            self.close()

    def close(self) -> None:
        """Have starts raise from now on."""
        with LOCK:  # a thread that has not seen it has put its start by now
            self.is_closed = True
