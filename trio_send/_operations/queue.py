"""The FIFO of one socket and one direction: the one place where operations wait and bytes move.

What every start does, whichever face it came through:

1. The faces check: right thread, socket open, arguments legal, operation free, an owner at hand. A refused start has
   changed nothing.
2. If the queue is empty, the first attempt is made at once. All accepted, or an error: the operation has ended on the
   spot, nothing is pending, nobody will be told.
3. Otherwise the operation joins the queue with the count so far and is pending. Its owner watches the socket while the
   operation heads the queue.
4. Whoever finds the socket ready drains the queue: sends as much as the kernel takes for the head, and for its
   neighbours in the same system call where that pays, and splits the accepted count among them exactly. It may be
   another owner than that of the operations behind the head; a drain is synchronous and tells each owner of its own.
5. What has ended leaves the queue and its owner is told, in order, exactly once.

Three rules hold the promises up:

*Only the head can have bytes accepted and not be finished.* Followers that were accepted whole in one call with the
head have left the queue by the time the call's accounting is done.

*Whatever changes the queue is one step.* What the program's own code asks for in the middle of one is done at its end;
`steps` says how.

*The queue is a linked list through the operations.* An operation that is stopped leaves at once, at a price that does
not depend on how many others wait, and nothing of it stays behind: no tombstone that a restart of the same object
could be mistaken for, no reference to its buffer.
"""

from __future__ import annotations

import errno as errno_module
import math
import sys
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final

import trio

from .._base.error_numbers import FAULT, OPERATION_ABORTED
from .._base.errors import InvalidOperationError
from .._base.run_state import between_tasks
from .._messages.buffers import BufferShrankError
from .bulk_ends import ENDING_OWNERS, BulkEnd, BulkEnds
from .gate import BUSY, CLOSED, ENDING, FORKED, FULL, REFUSING, STEP
from .operation import CLOSED_DETAIL, Operation, Owner, describe_os_error
from .states import HALTED, POSTED, QUEUED, TRYING
from .time_limit import TimeLimit
from .watermarks import OPERATION_WEIGHT

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, MutableMapping

    from .._base.tries import Tries
    from .._base.waiting_tasks import WaitingTasks
    from .._kernel.port import Port
    from .cut import Cut
    from .watermarks import Watermarks

#: What an attempt raises if it has not sent anything.
ATTEMPT_ERRORS: Final = (OSError, BufferShrankError)

#: What ending one operation costs of a drain's allowance, so that a crowd of tiny operations counts as work too.
OPERATION_COST: Final = 1024

FORKED_DETAIL: Final = "the operation goes on in the process that this one was forked off"
RAISED_DETAIL: Final = (
    "the port, or a buffer, raised what is no error of a socket in the middle of the message"
)
DISCONNECTED_DETAIL: Final = "the socket was disconnected while the operation was pending"


class OperationQueue(BulkEnds):
    """The FIFO for one direction of a socket; this class alone serves the reading one."""

    __slots__ = (
        "abandoned",
        "aborted",
        "accepted",
        "backoff",
        "backoffs",
        "drained",
        "failed",
        "head",
        "hopeful",
        "length",
        "marks",
        "offered",
        "others_wait",
        "port",
        "socket_id",
        "started",
        "succeeded",
        "tail",
        "watched",
    )

    #: Whether the queue waits for its socket to become writable rather than readable.
    writes: ClassVar[bool] = False
    #: The attempts that a task makes a scheduler trip later, before it waits; None where they never help. With them,
    #: pieces of 16 KiB for a fast reader on a Unix socket cost 1.2 of Trio's ``send_all``; without, 1.8.
    tries: Tries | None = None
    #: The message that was cut on this stream; only what is written can be.
    torn: Cut | None = None
    #: Who of those that are refused behind a cut was the last to be told; None while nobody is being refused.
    refused: Owner | None = None
    #: The sends of awaiting tasks that failed, by task, if somebody asks for them.
    failures: MutableMapping[trio.lowlevel.Task, Operation] | None = None

    def __init__(self, port: Port) -> None:
        super().__init__()
        self.port = port
        #: All bytes that were accepted on this socket; for the reading queue none.
        self.accepted = 0
        # What became of the operations: those that had to wait, and the sends that failed without. What succeeds at
        # once has no count of its own, which would be a twentieth of all that the library adds to the system call.
        self.started = self.succeeded = self.failed = self.aborted = 0
        #: How many bytes those had left to send when they began to wait or failed, how many of them were accepted in
        #: drains, and how many never will be.
        self.offered = self.drained = self.abandoned = 0
        self.head: Operation | None = None
        self.tail: Operation | None = None
        self.length = 0
        #: How the watcher's engine waits for it just now, or who was lent the watch; None when nobody does.
        self.watched: object = None
        #: Whether the latest attempt stopped because it had used up its allowance, and not for want of room.
        self.hopeful = False
        #: How long to pause before the next attempt, instead of waiting for the socket; 0 when there is no need.
        self.backoff = 0.0
        self.backoffs = 0
        #: Whether others than the library may wait for the descriptor, who must not be told that it is closed.
        self.others_wait = False
        #: The number of the socket, by which instruments know it.
        self.socket_id = 0
        #: How full it is; None for the reading queue, where no bytes wait.
        self.marks: Watermarks | None = None

    def require_own(self) -> None:
        """Raise in a process that was forked off the one that made the socket."""
        if self.gate & FORKED:
            raise InvalidOperationError(
                "this socket belongs to the process that this one was forked off; here it can be closed, and what is "
                "to be used here as well has to be made anew of its descriptor, for example with "
                "Socket.from_stdlib(socket.socket(fileno=os.dup(sock.fileno())))"
            )

    def is_torn_by(self, operation: Operation) -> bool:
        """Tell whether it was the message of ``operation`` that was cut on this stream."""
        return self.torn is not None and self.torn.operation is operation

    @property
    def queued_bytes(self) -> int:
        """How many bytes wait to be accepted."""
        return 0 if self.head is None or self.marks is None else self.marks.goal - self.accepted

    @property
    def weight(self) -> int:
        """What the queue weighs for its marks, in bytes: those that wait, and a constant for each operation."""
        return self.queued_bytes + self.length * OPERATION_WEIGHT

    def _expect_no_more_of(self, operation: Operation) -> None:
        """Take note that an operation leaves before all its bytes were accepted."""
        self._expect_less(operation.size_to_send)

    def _expect_less(self, count: int) -> None:
        """Take note that some of the bytes that wait will not be sent."""
        if self.marks is not None:
            self.marks.goal -= count
            self.abandoned += count

    def _count_failure(self, operation: Operation) -> None:
        if operation.code == OPERATION_ABORTED:
            self.aborted += 1
        else:
            self.failed += 1

    def count_on_the_spot(self, operation: Operation) -> None:
        """Count an operation that has ended and never stood in the queue, if it is a send that failed."""
        if operation.code and operation.step is None:
            self.started += 1
            self._count_failure(operation)
            size = max(0, operation.size_to_send)  # more may have gone out than was to be sent
            self.offered += size
            self.abandoned += size

    def descriptor(self) -> int:
        """Return the descriptor that tells when a drain is worth while, or -1 if it takes `wait_ready` to know."""
        step = None if self.head is None else self.head.step
        if self.backoff or (step is not None and step.must_be_awaited):
            return -1
        return self.port.fileno()

    def wait_ready(self) -> Coroutine[Any, Any, None]:
        """Return what to await until a drain is worth while."""
        head = self.head
        if self.hopeful:
            self.hopeful = False
            return trio.lowlevel.checkpoint()  # noqa: ASYNC105
        if self.backoff:
            return trio.sleep(self.backoff)  # noqa: ASYNC105
        if head is not None and head.step is not None and head.step.must_be_awaited:
            return head.step.wait_ready(head)
        if self.writes:
            return self.port.wait_writable()
        return self.port.wait_readable()

    # -- the linked list ----------------------------------------------------------------------------------------------

    def _append(self, operation: Operation) -> None:
        operation.queue = self
        tail = self.tail
        if tail is None:
            self.head = operation
            self.gate |= BUSY
        else:
            tail.next = operation
            operation.previous = tail
        self.tail = operation
        self.length += 1

    def _unlink(self, operation: Operation) -> None:
        before, behind = operation.previous, operation.next
        if before is None:
            self.head = behind
        else:
            before.next = behind
        if behind is None:
            self.tail = before
        else:
            behind.previous = before
        operation.previous = operation.next = None
        self.length -= 1
        if behind is None and before is None:
            self.gate &= ~BUSY
        elif before is None and behind is not None and behind.limit is not None:
            behind.limit.moved()
            assert behind.owner is not None
            behind.owner.limit_changed(behind)

    def _rewatch(self) -> None:
        """Have the socket watched by the owner of the head, and by nobody else; by nobody while operations end."""
        head, watcher = None if self.gate & ENDING else self.head, self.watcher
        owner = None if head is None else head.owner
        if watcher is not owner:
            self.watcher = owner
            if watcher is not None and self.watched is not None:
                watcher.unwatch(self)
        if owner is not None:
            owner.watch(self)

    @trio.lowlevel.enable_ki_protection
    def _watch_first(self) -> None:
        """Have the socket watched for the one operation that has just joined the queue."""
        if not self._hold():
            self._rewatch()

    @trio.lowlevel.enable_ki_protection
    def lend(self, operation: Operation, borrower: WaitingTasks[int | None]) -> bool:
        """Let a task that waits for the end of an operation watch the socket in the place of the owner.

        Args:
          operation: what it waits for.
          borrower: where its end is told, and who watches.

        Returns:
          Whether it watches until it is asked to give the watch back. Else somebody else does.
        """
        watcher = self.watcher
        if (
            self.gate != BUSY
            or self.head is not operation
            or operation.waiters is not None
            or watcher is None
            or self.others_wait
            or self.instruments.watching
        ):
            return False
        self.gate = BUSY | STEP
        self.halted = False
        try:
            operation.waiters = borrower
            return watcher.lend(self, borrower)
        finally:
            self._leave()

    def unwatch(self) -> None:
        """Stop watching the socket until the step ends, because its number will stand for another descriptor."""
        if self.watcher is not None and self.watched is not None:
            self.watcher.unwatch(self)

    def look_after(self) -> None:
        """Have the right owner watch, after operations may have ended, and those told who wait for room."""
        self._rewatch()
        if self.marks is not None and self.marks.is_above:
            self._weigh(self.marks)

    def _weigh(self, marks: Watermarks) -> None:
        marks.update(self.weight)
        if marks.is_above and marks.refuses:
            self.gate |= FULL
        else:
            self.gate &= ~FULL

    # -- starting -----------------------------------------------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    def start(self, operation: Operation, owner: Owner) -> bool:
        """Begin an operation that was claimed and whose results are reset, or one that goes on where it was cut.

        Returns:
          Whether it is pending. If not, its results tell how it ended, and whoever called lets it rest.
        """
        if self.gate & (STEP | CLOSED):
            if self.gate & CLOSED:
                return self.refuse_closed(operation)
            if not self._take_over():
                return self._post(operation, owner)
        self.gate |= STEP
        self.halted = False
        try:
            pending = self._start(operation, owner)
        except BaseException:
            self._give_up(operation)
            raise
        finally:
            self._leave()
        if pending:
            self._tell()
        return pending

    def _take_up(self, operation: Operation) -> None:
        """Begin with an operation in a step, in which it can be stopped by halting that."""
        if ENDING_OWNERS:
            self._learn_of_owners()
        operation.queue = self
        if operation.state == HALTED:
            self.halted = True

    def _start(self, operation: Operation, owner: Owner) -> bool:
        self._take_up(operation)
        if self.gate & REFUSING and self._is_refused(operation, owner):
            return False
        if self.head is None and self._attempt_first(operation):
            return False
        return self._join(operation, owner)

    @trio.lowlevel.enable_ki_protection
    def go_on(
        self, operation: Operation, owner: Owner, error: OSError | BufferShrankError | None
    ) -> bool:
        """Go on with the step in which a face has made the first attempt of an operation, which that did not complete.

        Args:
          operation: its count says what the attempt has sent.
          owner: as for `start`.
          error: what the attempt raised, if it did.

        Returns:
          Whether it is pending, as `start` does.
        """
        operation.queue = self
        if operation.state == HALTED:
            self.halted = True
        try:
            if error is None:
                ended = self._attempt_more(operation)
            else:
                # What is wanting most of the time is room.
                ended = type(error) is not BlockingIOError and self._missed_first(operation, error)
            pending = not ended and self._join(operation, owner)
        except BaseException:
            self._give_up(operation)
            raise
        finally:
            self._leave()
        if pending and self.instruments.watching:
            self.instruments.tell()
        return pending

    def _give_up(self, operation: Operation) -> None:
        """Let an operation rest whose first attempt has raised what is no error of a socket; a port can do that."""
        if operation.state in (TRYING, HALTED):
            if self._is_cut(operation):  # in an earlier call, or before it was resumed
                operation.set_error(OPERATION_ABORTED, 0, RAISED_DETAIL)
                self._mark_torn(operation, RAISED_DETAIL)
            operation.rest(self)

    @trio.lowlevel.enable_ki_protection
    def end_attempt(self) -> None:
        """End the step in which a face has made an attempt, when there is nothing to `go_on` with."""
        self._leave()

    @trio.lowlevel.enable_ki_protection
    def join(self, operation: Operation, owner: Owner) -> bool:
        """Begin an operation behind others, without an attempt; return whether it is pending, as `start` does."""
        # In the middle of a step there is no place to stand in yet. It is posted, and has its place when the step ends.
        if self.gate & STEP and not self._take_over():
            return self._post(operation, owner)
        self.gate |= STEP
        self.halted = False
        try:
            self._take_up(operation)
            # The face has looked at this, but what was called since then may have torn the stream or broken it.
            refused = bool(self.gate & REFUSING) and self._is_refused(operation, owner)
            pending = not refused and self._join(operation, owner)
        finally:
            self._leave()
        self._tell()
        return pending

    def refuse_closed(self, operation: Operation) -> bool:
        """Answer for an operation whose start found the socket closed in the middle of it."""
        operation.set_error(OPERATION_ABORTED, 0, CLOSED_DETAIL)
        return False

    def _join(self, operation: Operation, owner: Owner, *, counted: bool = False) -> bool:
        """Put an operation whose first attempt did not end it at the end of the queue.

        Args:
          operation: which.
          owner: whose it is.
          counted: whether the owner knows of it.

        Returns:
          Whether it is pending: True, unless what ran in the middle of the attempt has closed the socket.
        """
        if self.gate & CLOSED:
            return self.refuse_closed(operation)
        detail = operation.detail if operation.state == HALTED else None
        operation.activate(QUEUED, owner)
        self._append(operation)
        self.started += 1
        marks = self.marks
        if marks is not None:
            if self.head is operation:
                marks.goal = self.accepted
            size = operation.size_to_send
            marks.goal += size
            self.offered += size
            if marks.goal - self.accepted + self.length * OPERATION_WEIGHT > marks.high:
                marks.is_above = True
                if marks.refuses:
                    self.gate |= FULL
        if not counted:
            owner.joined(self)
        if operation.limits is not None:
            timeout, stall_timeout = operation.limits
            operation.limit = TimeLimit(
                operation, timeout, stall_timeout if operation.step is None else math.inf
            )
            if self.head is operation:
                operation.limit.moved()
            if between_tasks():  # then the step is held at its end
                self._note(partial(owner.limit_changed, operation), halts=False)
            else:
                owner.limit_changed(operation)
        if self.instruments.watching:
            self.instruments.queued(operation, self)
        if self.head is operation:
            if owner.waits and not counted:
                self.watcher = owner  # which is the calling task, and about to wait
            else:
                self._watch_first()
        if detail is not None:
            self._note(
                partial(self._stop, operation, operation.activation, OPERATION_ABORTED, detail)
            )
        return True

    def _post(
        self,
        operation: Operation,
        owner: Owner,
        start: Callable[[Operation, Owner], None] | None = None,
    ) -> bool:
        """Begin an operation at the end of the step that is under way; until then it is pending behind it."""
        operation.queue = self
        if operation.state != POSTED:  # else another thread has
            operation.activate(POSTED, owner)
        owner.joined(self)
        self._note(partial(start or self._start_posted, operation, owner), halts=False)
        return True

    def _start_posted(self, operation: Operation, owner: Owner) -> None:
        if ENDING_OWNERS:
            self._learn_of_owners()
        refusal = self.refusal(operation, owner.waits)
        stopped = owner.why_refused()
        if self.gate & CLOSED:
            self.refuse_closed(operation)
        elif stopped is not None:
            operation.set_error(OPERATION_ABORTED, 0, stopped)
        elif refusal is not None:
            operation.set_error(*refusal)
        elif not self._attempt_posted(operation):
            self._join(operation, owner, counted=True)
            return
        self._end_posted(operation, owner)

    def _attempt_posted(self, operation: Operation) -> bool:
        """Attempt an operation that was posted, if nothing is in front of it; return whether that ended it."""
        if self.head is not None:
            return False
        try:
            return self._attempt_first(operation)
        except BaseException:
            # What is no error of a socket is not for the call that happens to end the step. Whoever drains the queue
            # will meet it again, and that is where it ends the owner.
            return False

    def _end_posted(self, operation: Operation, owner: Owner) -> None:
        self.count_on_the_spot(operation)
        operation.end_later(owner)
        if self.instruments.watching:
            self.instruments.completed(operation, self, on_the_spot=True)
        owner.ended(operation, self)

    def _is_refused(self, operation: Operation, owner: Owner) -> bool:
        """Look once more whether a send is possible, because that may have changed since its start looked."""
        refusal = self.refusal(operation, owner.waits) if operation.step is None else None
        if refusal is not None:
            operation.set_error(*refusal)
        return refusal is not None

    def refusal(self, operation: Operation, waits: bool) -> tuple[int, int, str | None] | None:
        """Return the error ``operation`` must end with at once, without a system call; None when there is none.

        Args:
          operation: which.
          waits: whether its owner waits for its end.
        """
        return None

    def _attempt_first(self, operation: Operation) -> bool:
        """Attempt an operation that is not in the queue; return whether that ended it."""
        try:
            self.attempt(operation)
        except ATTEMPT_ERRORS as error:
            return self._missed_first(operation, error)
        return True

    def _missed_first(self, operation: Operation, error: OSError | BufferShrankError) -> bool:
        """Deal with what the first attempt has raised; return whether that ended the operation."""
        if isinstance(error, BlockingIOError):
            return False
        if isinstance(error, BufferShrankError):
            return self._failed_first(operation, FAULT, errno_module.EFAULT, str(error))
        return self._failed_first(operation, *describe_os_error(error))

    def _failed_first(
        self, operation: Operation, code: int, errno: int, detail: str | None = None
    ) -> bool:
        """Deal with an error of the first attempt; return whether that ended the operation."""
        operation.set_error(code, errno, detail)
        return True

    def _attempt_more(self, operation: Operation) -> bool:
        """Follow a call that was accepted in part with another one if that may help; return whether that ended it."""
        raise NotImplementedError

    def attempt(self, operation: Operation) -> None:
        assert operation.step is not None
        self.ask(operation.step.attempt, operation)

    # -- draining -----------------------------------------------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    def drain(self, allowance: int) -> int:
        """Work off the queue until the kernel takes no more, or ``allowance`` bytes have gone.

        Returns:
          How much of the allowance was used.
        """
        head = self.head
        step = None if head is None else head.step
        if (
            step is not None
            and head is not None
            and head is self.tail
            and head.limit is None
            and self.gate == BUSY
            and not ENDING_OWNERS
            and not self.instruments.watching
        ):
            # One waits and nobody watches: the same as below, written out.
            self.gate = BUSY | STEP
            self.halted = False
            try:
                try:
                    self.ask(step.attempt, head)
                    is_done = True
                except ATTEMPT_ERRORS as error:
                    is_done = False
                    self._missed(head, error)
                if is_done:
                    self._finish_alone(head)
                elif self.watched is None or self.head is not head:
                    self.look_after()
            finally:
                self._leave()
            if self.instruments.watching:
                self.instruments.tell()
            return OPERATION_COST
        if self.gate & STEP and not self._take_over():
            self._note(partial(self._drain, allowance), halts=False)
            return 0
        self.gate |= STEP
        self.halted = False
        try:
            used = self._drain(allowance)
        finally:
            self._leave()
        self._tell()
        return used

    def request_drain(self, allowance: int) -> None:
        """Do the same because the program has changed what an attempt will find."""
        self.request(partial(self._drain, allowance), halts=False)

    def _drain(self, allowance: int) -> int:
        used = 0
        if ENDING_OWNERS:
            self._learn_of_owners()
        if self.gate & FORKED:
            self._abort_all(FORKED_DETAIL)
        before = self.accepted
        try:
            while used < allowance and not self.gate & ENDING:
                head = self.head
                if head is None:
                    break
                used += OPERATION_COST
                try:
                    used += self._attempt_head(head)
                except ATTEMPT_ERRORS as error:
                    self._missed(head, error)
                if self.head is head:
                    break  # sent in part, or to be tried again after a pause: the kernel takes no more
        finally:
            self.drained += self.accepted - before
        self.look_after()
        return used

    def _attempt_head(self, head: Operation) -> int:
        """Attempt the head, and finish what is complete then; return how much of the allowance that used."""
        self.attempt(head)
        self._finish(head)
        return 0

    def _missed(self, head: Operation, error: OSError | BufferShrankError) -> None:
        """Deal with what an attempt of the head has raised."""
        if isinstance(error, BlockingIOError):
            self._blocked(head)
        elif isinstance(error, BufferShrankError):
            self._failed_head(head, FAULT, errno_module.EFAULT, str(error))
        else:
            self._failed_head(head, *describe_os_error(error))

    def _blocked(self, head: Operation) -> None:
        """Take note that the head has to wait."""
        self.hopeful = False
        self.backoff = 0.0  # it is room that is lacking now, not memory
        self.backoffs = 0

    def _failed_head(
        self, head: Operation, code: int, errno: int, detail: str | None = None
    ) -> None:
        """Deal with an error of the head."""
        self._fail(head, code, errno, detail)

    def _finish(self, operation: Operation) -> None:
        owner = operation.owner
        assert owner is not None
        self._unlink(operation)
        operation.finish()
        self.succeeded += 1
        if self.instruments.watching:
            self.instruments.completed(operation, self)
        owner.ended(operation, self)

    def _finish_alone(self, operation: Operation) -> None:
        """Finish the only operation, while nobody watches, and look after the queue that is empty then."""
        owner = operation.owner
        assert owner is not None
        self.head = self.tail = None
        self.length = 0
        self.gate &= ~BUSY
        operation.finish()
        self.succeeded += 1
        owner.ended(operation, self)
        watcher, self.watcher = self.watcher, None
        if self.watched is not None and watcher is not None:
            watcher.unwatch(self)
        if self.marks is not None and self.marks.is_above:
            self._weigh(self.marks)

    def _fail(self, operation: Operation, code: int, errno: int, detail: str | None = None) -> None:
        owner = operation.owner
        assert owner is not None
        self._unlink(operation)
        operation.fail(code, errno, detail)
        self._count_failure(operation)
        self._expect_no_more_of(operation)
        if self.instruments.watching:
            self.instruments.completed(operation, self)
        owner.ended(operation, self)

    # -- stopping -----------------------------------------------------------------------------------------------------

    def _abort(self, operation: Operation, code: int, detail: str | None) -> None:
        owner = operation.owner
        assert owner is not None
        if operation is self.head and self.watcher is not None and self.descriptor() < 0:
            # What is waited for concerns this operation alone, such as the looking up of a name.
            self.watcher.unwatch(self)
            self.watcher = None
            self.backoff = 0.0
            self.backoffs = 0
        self._unlink(operation)
        operation.abort(code, detail)
        self._count_failure(operation)
        self._expect_no_more_of(operation)
        if self.instruments.watching:
            self.instruments.completed(operation, self)
        step, socket = operation.step, operation.socket
        owner.ended(operation, self)  # it may have been told then, and so have let its socket go
        if step is not None:
            step.abandon(socket)

    def _is_cut(self, operation: Operation) -> bool:
        """Whether stopping ``operation`` now leaves the peer with a part of its message."""
        return False

    def _tear(self) -> None:
        """Refuse to write behind a cut message."""

    @trio.lowlevel.enable_ki_protection
    def stop(self, operation: Operation, code: int, detail: str | None) -> bool:
        """Stop one operation, for its owner or its time limit.

        Returns:
          Whether that is done. If not, there is nothing to stop, or a step is under way, at whose end it will be done.
        """
        activation = operation.activation
        if self.gate & STEP and not self._take_over():
            self._note(partial(self._stop, operation, activation, code, detail))
            return False
        self.gate |= STEP
        self.halted = False
        try:
            stopped = self._stop(operation, activation, code, detail)
        finally:
            self._leave()
        self._tell()
        return stopped

    @trio.lowlevel.enable_ki_protection
    def request_stop(self, operation: Operation, code: int, detail: str | None) -> bool:
        """Stop one operation that is pending here, because the program asks for it.

        Returns:
          Whether it was stopped, or will be at the end of the step that is under way unless that completes it.
        """
        stopped: list[bool] = []
        activation = operation.activation
        done = self.request(lambda: stopped.append(self._stop(operation, activation, code, detail)))
        return stopped[0] if done else True

    def _stop(self, operation: Operation, activation: int, code: int, detail: str | None) -> bool:
        if (
            operation.queue is not self
            or operation.state != QUEUED
            or operation.activation != activation
        ):
            return False
        if ENDING_OWNERS:
            self._learn_of_owners()
        self._leaves_ends(operation)
        cut = self._is_cut(operation)
        if cut:
            self._mark_torn(operation, detail)
        self._abort(operation, code, detail)
        if cut:
            self._tear()
        self.look_after()
        return True

    def stop_owner(
        self,
        owner: Owner,
        code: int,
        detail: str | None,
        *,
        spare_started: bool = False,
        at_most: int | None = None,
    ) -> int:
        """Stop every operation of an owner that leaves, then those of others if they would follow a cut message.

        In this order, so that each of the owner's operations ends as its own stop, in order of their start, and none
        of them as a follower of the first.

        Args:
          owner: whose operations; those of owners that leave with it count as its own.
          code: what they end with.
          detail: why.
          spare_started: whether to leave alone what has bytes accepted already.
          at_most: how many operations to look at now, None for as many as one scheduler trip may. The others have
            their turn soon.

        Returns:
          How many were looked at.
        """
        done: list[int] = []
        end = BulkEnd(code, None, detail, owner=owner, spare_started=spare_started)
        self.request(lambda: done.append(self._stop_owner(end, at_most)))
        return done[0] if done else 0

    def _stop_owner(self, end: BulkEnd, at_most: int | None) -> int:
        head = self.head
        if head is None or not (end.takes(head) and self._is_cut(head)):
            return self._end_in_bulk(end, at_most=at_most)
        # Before its owner is told, who may look at the torn stream then.
        self._mark_torn(head, end.detail)
        return self._end_in_bulk(end, *self._ends_behind_cut(), at_most=at_most)

    def _ends_behind_cut(self) -> tuple[BulkEnd, ...]:
        """Return what becomes of operations that stand behind a message which is cut."""
        raise NotImplementedError

    def hand_over(self, owner: Owner, adopter: Owner) -> None:
        """Make ``adopter`` the owner of all operations of an owner that leaves."""
        self.request(partial(self._hand_over, owner, adopter), halts=False)

    def _hand_over(self, owner: Owner, adopter: Owner) -> None:
        if ENDING_OWNERS:
            self._learn_of_owners()
        if self.gate & ENDING:
            # What has to end as the owner's must not live on as the adopter's.
            self._end_some(sys.maxsize)
        # The counts first: the adopter counts each operation as its own, so they must not count twice.
        owner.parted(self)
        operation = self.head
        while operation is not None:
            if operation.owner is owner:
                operation.owner = adopter
                adopter.joined(self)
                if operation.limit is not None:
                    adopter.limit_changed(operation)
            operation = operation.next
        self._rewatch()

    def _mark_torn(self, operation: Operation, detail: str | None) -> None:
        """Note what was cut, before its owner is told."""

    @trio.lowlevel.enable_ki_protection
    def close(self, then: Callable[[], object]) -> None:
        """Stop everything for good, in order; then do something else. Nothing can be started from this moment on.

        It tears nothing, because there is nothing to be written behind.
        """
        self.gate |= CLOSED
        self.request(partial(self._close, then))

    def _close(self, then: Callable[[], object]) -> None:
        self._abort_all(CLOSED_DETAIL)
        then()

    def renew(self, port: Port, allowance: int, then: Callable[[], object]) -> None:
        """Have what is pending learn of the end of the connection, stop the rest, and serve a fresh descriptor.

        Args:
          port: the fresh one.
          allowance: as for `drain`.
          then: what to do when that is done.
        """
        self.request(partial(self._renew, port, allowance, then))

    def _renew(self, port: Port, allowance: int, then: Callable[[], object]) -> None:
        self._drain(allowance)
        self._abort_all(DISCONNECTED_DETAIL)
        self.port = port
        then()

    def _abort_all(self, detail: str) -> None:
        if ENDING_OWNERS:
            self._learn_of_owners()
        head = self.head
        if self.gate & ENDING and head is not None:
            # Its task may wait for the descriptor, which is about to be closed, so it cannot wait for its turn.
            self._leaves_ends(head)
            self._abort(head, OPERATION_ABORTED, detail)
        self._end_in_bulk(BulkEnd(OPERATION_ABORTED, None, detail))
