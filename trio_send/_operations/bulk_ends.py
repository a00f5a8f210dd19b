"""The end of many operations at once: a socket is closed, a connection is dead, an owner leaves.

To end one operation takes 2 us, so 150,000 of them, ended in one go, would keep every other task waiting for 0.3 s. So
it is done in two parts. In one step, whose price does not depend on their number, the queue learns which operations
have to end, and how. From then on nothing is attempted there: no byte of them goes out, nor of what stands between
them. They are ended in the order of the queue, a batch at a time: the first batch at once, the others in scheduler
trips of their own. Whoever looks in between finds a queue in order, with operations that are pending until they have
ended. What is started meanwhile has its place behind them. The bit ENDING of the gate says that operations have yet to
end; the socket is not watched then.

An owner may have operations in 10,000 queues, and to tell all of those takes too long as well. So they learn of it one
after the other, and each at the latest before its next attempt.
"""

from __future__ import annotations

import sys
from collections import deque
from typing import TYPE_CHECKING, Final

import trio

from .._base.run_state import run_soon
from .gate import ENDING, STEP
from .steps import Steps

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Protocol

    from .operation import Operation, Owner, Queue

    class Batched(Protocol):
        """What is done in batches."""

        @property
        def is_ending(self) -> bool: ...

        def end_some(self, at_most: int) -> int: ...


#: Operations ended before the other tasks have their turn, which takes about 0.5 ms, and how many of them the turn of
#: one more queue counts for.
ENDS_PER_TRIP: Final = 256
TURN_COST: Final = 2


class BulkEnd:
    """Neighbours in a queue that have to end, or those among them that are an owner's.

    Args:
      code: what they end with, as Winsock number.
      errno: the native number of the error that they fail with; None if they are stopped.
      detail: what else there is to say of it.
      owner: whose operations; those of owners that leave with it count as its own. None stands for all.
      spare_started: whether to leave alone what has bytes accepted already.
      tears: whether they end because they stand behind a message that was cut.
    """

    __slots__ = (
        "code",
        "detail",
        "errno",
        "first",
        "last",
        "owner",
        "spare_started",
        "tears",
        "told",
    )

    def __init__(
        self,
        code: int,
        errno: int | None,
        detail: str | None,
        *,
        owner: Owner | None = None,
        spare_started: bool = False,
        tears: bool = False,
    ) -> None:
        self.code: int = code
        self.errno: int | None = errno
        self.detail: str | None = detail
        self.owner: Owner | None = owner
        self.spare_started: bool = spare_started
        self.tears: bool = tears
        #: Whose operation was the last to end.
        self.told: Owner | None = None
        #: Which operations have yet to be looked at; None when that is over.
        self.first: Operation | None = None
        self.last: Operation | None = None

    def takes(self, operation: Operation) -> bool:
        """Tell whether an operation that stands among those looked at has to end."""
        owner = self.owner
        if owner is None:
            return True
        if self.spare_started and operation.is_started:
            return False
        return operation.owner is not None and operation.owner.leaves_with(owner)

    def pass_by(self, operation: Operation) -> None:
        """Look no more at an operation, which is about to leave the queue, or stays."""
        if self.first is operation:
            self.first = None if self.last is operation else operation.next
        elif self.last is operation:
            self.last = operation.previous


class BulkEnds(Steps):
    """The part of a queue that ends many operations at once."""

    __slots__ = ("ends",)

    # The queue's own.
    head: Operation | None
    tail: Operation | None

    def __init__(self) -> None:
        super().__init__()
        #: What has to end, in the order in which it was asked for; None until there was something.
        self.ends: deque[BulkEnd] | None = None

    def _abort(self, operation: Operation, code: int, detail: str | None) -> None:
        raise NotImplementedError

    def _fail(self, operation: Operation, code: int, errno: int, detail: str | None = None) -> None:
        raise NotImplementedError

    def _stop_behind_cut(self, operation: Operation, end: BulkEnd) -> None:
        raise NotImplementedError

    def _stop_owner(self, end: BulkEnd, at_most: int | None) -> int:
        raise NotImplementedError

    @property
    def is_ending(self) -> bool:
        """Whether operations have yet to end that have to."""
        return bool(self.gate & ENDING)

    def goes_on(self) -> bool:
        """Tell whether an operation stands here that does not have to end."""
        if ENDING_OWNERS:
            self.request(self._learn_of_owners)
        ends = list(self.ends or ())
        operation = self.head
        while operation is not None:
            for end in ends:
                if end.takes(operation):
                    break
            else:
                return True
            ends = [end for end in ends if end.last is not operation]
            operation = operation.next
        return False

    def _end_in_bulk(self, *ends: BulkEnd, at_most: int | None = None) -> int:
        """Have operations of those that stand here now end; some of them at once.

        Args:
          ends: which ones, and how; for each operation, the first of them counts that takes it.
          at_most: how many to look at now, None for as many as one trip may. The others have their turn soon.

        Returns:
          How many were looked at.
        """
        if self.head is None:
            self.look_after()
            return 0
        for end in ends:
            end.first, end.last = self.head, self.tail
        if self.gate & ENDING:
            assert self.ends is not None
            self.ends.extend(ends)
            return 0  # these have their turn when that of the others is over
        self.ends = deque(ends)
        self.gate |= ENDING
        if at_most is None:
            at_most = ENDS_PER_TRIP
        done = self._end_some(at_most) if at_most else 0
        if self.gate & ENDING and not _end_soon(self):
            done += self._end_some(sys.maxsize)
        return done

    def _end_some(self, at_most: int) -> int:
        """Look at operations that may have to end, and end those; return how many were looked at."""
        ends = self.ends
        assert ends is not None
        done = 0
        while ends:
            end = ends[0]
            operation = end.first
            if operation is None:
                ends.popleft()
                continue
            if done == at_most:
                break
            done += 1
            takes = end.takes(operation)
            if takes and len(ends) > 1:
                self._leaves_ends(operation)
            else:
                end.first = None if operation is end.last else operation.next
            if not takes:
                continue
            if end.errno is not None:
                self._fail(operation, end.code, end.errno, end.detail)
            elif end.tears:
                self._stop_behind_cut(operation, end)
            else:
                self._abort(operation, end.code, end.detail)
        if not ends:
            self.gate &= ~ENDING
        self.look_after()
        return done

    def _leaves_ends(self, operation: Operation) -> None:
        """Take note that an operation is about to leave the queue, if any have to end here."""
        if self.ends:
            for end in self.ends:
                end.pass_by(operation)

    def _learn_of_owners(self) -> None:
        """Learn which owners' operations have to end, wherever they stand."""
        for owner_ends in tuple(ENDING_OWNERS):
            if owner_ends.take(self):
                self._stop_owner(owner_ends.make_end(), 0)

    @trio.lowlevel.enable_ki_protection
    def end_some(self, at_most: int) -> int:
        """End the next ones of those that have to end; return how many were looked at."""
        if self.gate & STEP:
            # It is held: Trio itself has this called, and no other step lasts until then.
            is_free = self._take_over()
            assert is_free
        self.gate |= STEP
        self.halted = False
        try:
            done = self._end_some(at_most) if self.ends else 0
        finally:
            self._leave()
        self._tell()
        return done


class OwnerEnds:
    """The end of an owner's operations, in all its queues.

    Args:
      owner: whose operations.
      code: what they end with.
      detail: why.
      queues: where they stand.
      spare_started: whether to leave alone what has bytes accepted already.
    """

    __slots__ = ("_code", "_detail", "_owner", "_spare_started", "_turns", "_untold")

    def __init__(
        self,
        owner: Owner,
        code: int,
        detail: str,
        queues: Iterable[Queue],
        *,
        spare_started: bool = False,
    ) -> None:
        self._owner: Owner = owner
        self._code: int = code
        self._detail: str = detail
        self._spare_started: bool = spare_started
        #: The queues in the order of their turns, and those that have yet to learn of it.
        self._turns: deque[Queue] = deque(queues)
        self._untold: set[object] = set(self._turns)

    def make_end(self) -> BulkEnd:
        """Return what it means for one queue."""
        return BulkEnd(
            self._code, None, self._detail, owner=self._owner, spare_started=self._spare_started
        )

    @property
    def is_ending(self) -> bool:
        """Whether some queues have yet to learn of it."""
        return bool(self._untold)

    @trio.lowlevel.enable_ki_protection
    def begin(self) -> None:
        """End as many operations as one scheduler trip may, and have the others end soon."""
        if not self._turns:
            return
        ENDING_OWNERS.append(self)
        # A step that is under way may make no more system calls.
        for queue in [queue for queue in self._turns if queue.gate & STEP]:
            self._tell(queue, 0)
        self.end_some(ENDS_PER_TRIP)
        if self.is_ending and not _end_soon(self):
            self.end_some(sys.maxsize)

    def take(self, queue: object) -> bool:
        """Take note that a queue learns of it now; return False if it is not about that queue, or not any more."""
        if queue not in self._untold:
            return False
        self._untold.discard(queue)
        if not self._untold:
            ENDING_OWNERS.remove(self)
        return True

    def end_some(self, at_most: int) -> int:
        """Tell some of the queues, and have them end what they can.

        Returns:
          How many operations were looked at, with what the turns of the queues count for.
        """
        done = 0
        while self._turns and done < at_most:
            done += self._tell(self._turns.popleft(), at_most - done)
        return done

    def _tell(self, queue: Queue, at_most: int) -> int:
        if not self.take(queue):
            return 0
        return TURN_COST + queue.stop_owner(
            self._owner,
            self._code,
            self._detail,
            spare_started=self._spare_started,
            at_most=at_most,
        )


#: The ends of owners that some queues have yet to learn of.
ENDING_OWNERS: Final[list[OwnerEnds]] = []


class _Trips:
    """What a run has to end in batches, and the scheduler trips in which it does."""

    __slots__ = ("_is_due", "_turns")

    def __init__(self) -> None:
        self._turns: deque[Batched] = deque()
        self._is_due: bool = False

    def add(self, batched: Batched) -> bool:
        """Have the rest of something done in batches; return False if Trio runs no more."""
        if not self._is_due:
            self._is_due = run_soon(self._make)
        if self._is_due:
            self._turns.append(batched)
        return self._is_due

    @trio.lowlevel.enable_ki_protection
    def _make(self) -> None:
        left = ENDS_PER_TRIP
        # All have a turn, however much one of them has to do.
        for _ in range(len(self._turns)):
            if left <= 0:
                break
            batched = self._turns.popleft()
            left -= TURN_COST + batched.end_some(left)
            if batched.is_ending:
                self._turns.append(batched)
        self._is_due = bool(self._turns) and run_soon(self._make)
        while self._turns and not self._is_due:  # that was the last trip of all
            self._turns.popleft().end_some(sys.maxsize)


def _end_soon(batched: Batched) -> bool:
    """Have the rest of something done in batches; return False where Trio does not run, or no more."""
    try:
        trips = _trips.get()
    except LookupError:
        trips = _Trips()
        _trips.set(trips)
    except RuntimeError:
        return False
    return trips.add(batched)


_trips: Final[trio.lowlevel.RunVar[_Trips]] = trio.lowlevel.RunVar("trio_send.bulk_ends")
