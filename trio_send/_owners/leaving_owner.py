"""Owners that leave: what becomes of their pending operations then.

An initiator leaves when its scope is left, a thread when it ends. Both own any number of operations in any number of
queues, both have an exit policy, and both come to an end in the same two steps: they stop, from when on starts end on
the spot with OPERATION_ABORTED; and they exit, from when on a start is a mistake and raises.

Between the two a program may go on starting whatever it is told, in a loop or from its handlers. So now and then such a
start is answered "pending" as well, for then the loop comes to a checkpoint and the handler returns. That alone ends no
handler that starts again after every event. So after a number of rounds starts raise although the exit is yet to come:
what is still owed is told, nothing more comes, and so the exit can.

A guest is an owner that somebody else serves: a thread has neither engine nor dispatcher and borrows those of an
initiator, its host. Whoever leaves first ends the guest's operations, by its own policy.
"""

from __future__ import annotations

import abc
import sys
from collections import defaultdict
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final

import trio

from .._base.codes import SocketError
from .._base.errors import InvalidOperationError
from .._base.inbox import LOCK
from .._operations.operation import Operation, Owner
from .._operations.time_limit import Timer
from .._tracing.log import STOPPED, write_soon
from .exit_policy import ExitPolicy

if TYPE_CHECKING:
    from .._base.inbox import Door
    from .._operations.queue import OperationQueue

_OPERATION_ABORTED: Final = int(SocketError.OPERATION_ABORTED)

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


class _Grace(Timer):
    """The end of an owner's patience with what it lets finish."""

    __slots__ = ("_at", "_leaver")

    def __init__(self, leaver: Leaver, seconds: float) -> None:
        self._leaver = leaver
        self._at = trio.current_time() + seconds

    def is_live(self) -> bool:
        return not self._leaver._exited

    def due(self) -> float:
        return self._at

    def fire(self) -> None:
        grace = self._leaver.grace
        self._leaver._stop(f"its initiator was left, and its grace of {grace:g} s was over")


class _Round(Operation):
    """What goes through the dispatcher behind all that was owed when a round of starts after the stop began."""

    __slots__ = ("_leaver",)

    def __init__(self, leaver: Leaver) -> None:
        super().__init__()
        self._leaver = leaver

    def _completed(self, dispatcher: Any) -> None:
        self._leaver._round_over()


class Leaver(Owner):
    """An owner of many operations, which ends them under a policy when it leaves.

    Attributes:
      name: what it is called in representations.
      on_exit: its exit policy.
      grace: the seconds that DRAIN and FINISH_STARTED give; None for the others.
    """

    __slots__ = (
        "__weakref__",
        "_aborted",
        "_budget",
        "_closed",
        "_door",
        "_exited",
        "_failed",
        "_grace",
        "_guests",
        "_heir",
        "_held",
        "_in_round",
        "_leaving",
        "_on_the_spot",
        "_queues",
        "_reserve",
        "_rounds",
        "_started",
        "_stopped",
        "_succeeded",
        "_successor",
        "_unfinished",
        "_unsent",
        "grace",
        "name",
        "on_exit",
    )

    def __init__(
        self,
        on_exit: ExitPolicy,
        grace: float | None,
        name: str | None,
        heir: Leaver | None,
        door: Door,
    ) -> None:
        self.name: str | None = name
        self.on_exit: ExitPolicy = on_exit
        self.grace: float | None = grace
        #: How other threads reach the run that serves it.
        self._door = door
        #: Who takes over what is pending; only under ADOPT.
        self._heir = heir
        #: Who has taken over, and owns from then on what handlers start in a context of this owner.
        self._successor: Leaver | None = None
        #: Set once the patience of the policy is being used up.
        self._grace: _Grace | None = None
        #: Where its pending operations stand, and how many there.
        # To count in it is one step, in the middle of which nothing else can count.
        self._queues: defaultdict[OperationQueue, int] = defaultdict(int)
        #: The owners that it serves, in the order of their arrival.
        self._guests: dict[Leaver, None] = {}
        #: Why starts are refused; None as long as they are not.
        self._stopped: str | None = None
        #: The one operation whose end is held back; see `_pace`.
        self._held: Operation | None = None
        #: How many sends have ended because it leaves, and how many of their bytes were not accepted.
        self._unfinished = self._unsent = 0
        self._leaving = False
        #: Whether starts raise: from the exit on, or earlier if too many came after the stop.
        self._closed = False
        self._exited = False
        #: How many starts may end on the spot before the stack is looked at. Negative where there is no fast path, once
        #: starts are refused and while somebody watches: this way it has one thing to look at, not two.
        self._budget = STARTS_PER_LOOK
        #: How many more may do so before one is made to pend.
        self._reserve = START_BUDGET - STARTS_PER_LOOK
        #: How many starts had ended on the spot when the budget was last renewed; it counts those since.
        self._on_the_spot = 0
        #: What became of the other operations, and of the failures among those: they are subtracted from the successes.
        self._started = self._succeeded = self._failed = self._aborted = 0
        #: How many rounds of starts there were after the stop, and whether there is one.
        self._rounds = 0
        self._in_round = False

    def __repr__(self) -> str:
        name = "" if self.name is None else f" {self.name!r}"
        state = "exited" if self._exited else "leaving" if self._stopped else "open"
        return (
            f"<{type(self).__name__}{name}: {self.on_exit.name}, {state}, "
            f"{self.pending_operations} pending>"
        )

    @property
    def pending_operations(self) -> int:
        """How many operations of this initiator are pending."""
        return sum(self._queues.values())

    @property
    @abc.abstractmethod
    def _server(self) -> Any:
        """The initiator whose engine and dispatcher serve this owner."""

    @abc.abstractmethod
    def _post(self, operation: Operation) -> None:
        """Have the end of an operation told by the dispatcher."""

    @abc.abstractmethod
    def _watch_timer(self, timer: Timer) -> None:
        """Have a timer fired when it is due."""

    def _move_to(self, server: Any) -> None:
        """Be served by somebody else from now on; only guests can."""
        raise NotImplementedError

    # -- as an owner --------------------------------------------------------------------------------------------------

    def _joined(self, queue: OperationQueue) -> None:
        self._queues[queue] += 1
        self._started += 1
        self._on_the_spot += START_BUDGET - self._starts_left
        if self._budget < 0:
            self._reserve = START_BUDGET
        else:
            self._budget = STARTS_PER_LOOK
            self._reserve = START_BUDGET - STARTS_PER_LOOK

    def _why_refused(self) -> str | None:
        return self._stopped

    def _parted(self, queue: OperationQueue) -> None:
        self._started -= self._queues.pop(queue, 0)  # they count as the heir's

    def _ended(self, operation: Operation, queue: OperationQueue | None) -> None:
        if queue is not None:
            self._queues[queue] -= 1
            if not self._queues[queue]:
                del self._queues[queue]
            if operation._code:
                self._count_failure(operation)
            else:
                self._succeeded += 1
        if operation._code == _OPERATION_ABORTED and operation._size_to_send:
            self._note_unsent(operation)
        server = self._server
        if operation._is_listened_to or server._audience.instruments:
            self._post(operation)
            return
        # There is nothing to call, so nothing that could run in the middle of whatever has ended the operation. To tell
        # of it here saves a trip through the dispatcher, which costs as much as all the rest of a send that pends.
        operation._completed(None)
        if server._quiet is not None:
            server._became_quiet()

    def _count_failure(self, operation: Operation) -> None:
        if operation._code == _OPERATION_ABORTED:
            self._aborted += 1
        else:
            self._failed += 1

    def _count_failure_on_the_spot(self, operation: Operation) -> None:
        """Count a start that the budget counts, which is for successes and failures alike."""
        self._succeeded -= 1
        self._count_failure(operation)

    def _note_unsent(self, operation: Operation) -> None:
        """Note that a send was stopped, for the log if that is so because its owner leaves."""
        if self._stopped is not None or self._grace is not None:
            self._unfinished += 1
            self._unsent += operation._size_to_send

    def _tell_unsent(self) -> None:
        """Write to the log what was stopped because its owner has left."""
        if self._unfinished:
            name = "" if self.name is None else f" {self.name!r}"
            write_soon(
                self._door.token,
                STOPPED,
                f"{type(self).__name__}{name} was left under {self.on_exit.name}; sends stopped: {self._unfinished}, "
                f"bytes of them that were not sent: {self._unsent}",
            )

    def _pace(self, operation: Operation) -> None:
        """Tell of an operation that ended on the spot and was answered "pending" all the same.

        Where nobody has to be called the one thing missing is a checkpoint of the caller's, and the trip through the
        dispatcher would cost more than all the starts since the last one spent on being counted. So the end is held
        back for `SocketAsyncEventArgs.wait` to tell. Whoever asks instead of waiting has it told by the dispatcher, and
        so has the next one that is paced, so at most one is held.
        """
        operation._end_later(self)
        if self._stopped is not None:
            self._note_late_start()
        if self._leaving or self._server._leaving or operation._is_listened_to:
            self._post(operation)
            return
        # In one step, for while the one before is told of, another start may be paced.
        before, self._held = self._held, operation
        if before is not None:
            self._post(before)

    def _holds(self, operation: Operation) -> bool:
        return self._held is operation

    def _tell_held(self) -> None:
        if get_ident() != self._server._thread:
            self._door.post(self._tell_held)  # another thread asks
            return
        held, self._held = self._held, None
        if held is not None:
            self._post(held)

    def _tell_held_at_once(self) -> None:
        server = self._server
        held, self._held = self._held, None
        if held is None:
            return  # somebody has asked for it at this very moment
        if server._audience.instruments:
            server._audience.raising(held)
        held._completed(server._dispatcher)

    def _tell_all_held(self) -> None:
        """Have told what is held back here and with the guests."""
        for leaver in (self, *self._guests):
            leaver._tell_held()

    def _limit_changed(self, operation: Operation) -> None:
        self._watch_timer(operation._limit)

    # -- starting -----------------------------------------------------------------------------------------------------

    def _require_open(self) -> None:
        """Raise unless operations can be started here, or were until the stop."""
        if self._closed:
            if not self._exited:
                raise InvalidOperationError(_WENT_ON)
            raise InvalidOperationError(
                "the initiator this task inherited has exited; open one in this task with "
                "'async with trio_send.open_initiator():'",
            )

    def _spend(self) -> bool:
        """Note a start that ended on the spot; return whether it must be answered "pending" all the same."""
        if self._budget > 0 or self._refill():
            self._budget -= 1
            return False
        left = self._reserve
        if self._budget == 0:
            self._on_the_spot += START_BUDGET - left + 1
            self._budget = STARTS_PER_LOOK
            self._reserve = START_BUDGET - STARTS_PER_LOOK
            return True
        if left == 0 or (left % STARTS_PER_LOOK == 0 and is_deep()):
            self._on_the_spot += START_BUDGET - left + 1
            self._reserve = START_BUDGET
            return True
        self._reserve = left - 1
        return False

    def _refill(self) -> bool:
        """Let the fast path have the starts up to the next look at the stack; return whether there are any."""
        if self._budget < 0 or self._reserve == 0 or is_deep():
            return False
        self._open_fast_path()
        return True

    def _open_fast_path(self) -> None:
        self._budget = min(self._reserve, (self._reserve - 1) % STARTS_PER_LOOK + 1)
        self._reserve -= self._budget

    def _close_fast_path(self) -> None:
        if self._budget >= 0:
            self._reserve += self._budget
            self._budget = NO_BUDGET

    @property
    def _starts_left(self) -> int:
        """How many starts may yet end on the spot before one is made to pend."""
        return max(self._budget, 0) + self._reserve

    def _set_watched(self, watched: bool) -> None:
        """Have starts keep away from the fast path, or let them take it again."""
        if watched:
            self._close_fast_path()
        elif self._stopped is None:
            self._open_fast_path()

    # -- leaving ------------------------------------------------------------------------------------------------------

    def _occupied(self) -> list[OperationQueue]:
        """Return the queues in which operations of this owner and its guests stand."""
        queues = dict(self._queues)
        for guest in self._guests:
            queues.update(guest._queues)
        return list(queues)

    @property
    def _has_pending(self) -> bool:
        """Whether anything of this owner or its guests is pending."""
        return bool(self._queues) or any(guest._queues for guest in self._guests)

    def _lose_patience(self, why: str) -> None:
        """Begin the time of grace, if it has not begun yet."""
        if self._grace is None:
            assert self.grace is not None
            self._grace = _Grace(self, self.grace)
            self._watch_timer(self._grace)
            if self.on_exit is ExitPolicy.FINISH_STARTED:
                for queue in self._occupied():
                    queue.stop_owner(self, _OPERATION_ABORTED, why, spare_started=True)

    def _bequeath(self) -> bool:
        """Hand over what is pending if there is somebody to take it; return whether there is."""
        heir = self._heir
        if heir is None or heir._exited or heir._stopped is not None:
            return False
        for queue in list(self._queues):
            queue.hand_over(self, heir)
        for guest in list(self._guests):
            guest._move_to(heir._server)
        return True

    def _stop(self, why: str) -> None:
        """Stop all that is pending and refuse all that comes, of guests too."""
        self._refuse(why)
        for guest in self._guests:
            guest._refuse(why)
        # Over a copy: a dict that is emptied from the front is searched from the front, past all its holes.
        for queue in self._occupied():
            queue.stop_owner(self, _OPERATION_ABORTED, why)

    def _refuse(self, why: str) -> None:
        if self._stopped is None:
            self._stopped = why
            self._close_fast_path()
            self._on_the_spot += START_BUDGET - self._reserve
            self._reserve = START_BUDGET

    def _note_late_start(self) -> None:
        """Take note of a start after the stop that was answered "pending"."""
        server = self._server
        if server is not self and server._stopped is not None:
            server._note_late_start()
        elif not self._in_round:
            self._in_round = True
            server._dispatcher.post(_Round(self))

    def _round_over(self) -> None:
        """Take note that everything was told that was owed when the round began."""
        self._in_round = False
        self._rounds += 1
        if self._rounds == MAX_ROUNDS:
            self._close()

    def _close(self) -> None:
        """Have starts raise from now on."""
        with LOCK:  # a thread that has not seen it has put its start by now
            self._closed = True
