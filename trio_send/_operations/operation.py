"""One activation of an operation: its state, its count, its outcome.

The states, and what each means for the queue the operation stands in::

    IDLE       in no queue. Never started, or ended and told; may be started
    TRYING     in no queue: a start is under way, and its first attempt may be made at this moment
    HALTED     the same, and what ran in the middle of it has stopped the operation
    POSTED     in no queue yet: started by another thread, or in the middle of a step of the queue; on its way
    ARRIVED    in no queue yet: started by another thread, and the start is about to be made here
    QUEUED     in one queue, at its head (then some bytes may be accepted already) or behind it (then none)
    DONE       in no queue: all accepted, the owner has yet to be told
    FAILED     in no queue: an error, the owner has yet to be told
    ABORTED    in no queue: stopped, the owner has yet to be told
    CUT        in no queue: told, but its message stands half sent on a torn stream; may only be resumed

"Sending" is not among them. An attempt and its accounting are one synchronous step, protected against
KeyboardInterrupt, and what is asked for in the middle of it (by a finaliser, a signal handler, a buffer's or a port's
own code) is noted and done at its end: that is why completion always wins over a cancel that comes at the same time.

An operation that ends on the spot is TRYING and then IDLE again: its results are written, and that is all. Only what
is pending has an activation number, an owner, and an end that is told exactly once.
"""

from __future__ import annotations

import abc
import enum
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol

import outcome
import trio

from .._base.checks import NotCopied, counted
from .._base.codes import (
    SocketAsyncOperation,
    SocketError,
    SocketFlags,
    socket_error_from_errno,
)
from .._base.errors import (
    InvalidOperationError,
    OperationInProgressError,
    SocketClosedError,
    SocketException,
)
from .._base.waiting_tasks import WaitingTasks
from .._messages.packets import Packets

if TYPE_CHECKING:
    from contextvars import Context

    from .._messages.buffers import Message

    class Queue(Protocol):
        """The queue that an operation stands in, as far as the operation knows it."""

        halted: bool

        def is_torn_by(self, operation: Operation) -> bool: ...
        def require_own(self) -> None: ...
        def stop(self, operation: Operation, code: int, detail: str | None) -> bool: ...
        def request_stop(self, operation: Operation, code: int, detail: str | None) -> bool: ...


class State(enum.IntEnum):
    """Where an activation stands; the table of the module's docstring."""

    IDLE = 0
    TRYING = 1
    HALTED = 2
    POSTED = 3
    ARRIVED = 4
    QUEUED = 5
    DONE = 6
    FAILED = 7
    ABORTED = 8
    CUT = 9


# Looking a member up costs more than all of a transition, so the code compares plain numbers.
IDLE: Final = int(State.IDLE)
TRYING: Final = int(State.TRYING)
HALTED: Final = int(State.HALTED)
POSTED: Final = int(State.POSTED)
ARRIVED: Final = int(State.ARRIVED)
QUEUED: Final = int(State.QUEUED)
DONE: Final = int(State.DONE)
FAILED: Final = int(State.FAILED)
ABORTED: Final = int(State.ABORTED)
CUT: Final = int(State.CUT)

#: Which states may follow which. DONE and FAILED follow TRYING only for an operation that ended in its first attempt
#: and whose caller is told later all the same: for a callback, or because it has run too long without yielding. CUT
#: follows TRYING when a first attempt of several system calls fails after the first of them, and when a start that was
#: to resume the message is refused. POSTED goes back to what it was when the run of Trio has ended and nobody takes the
#: post in. FAILED follows ARRIVED when the start is refused that another thread believes to be pending. From IDLE and
#: CUT, args whose end is told go back to DONE and FAILED until an asynchronous handler takes its first step.
TRANSITIONS: Final[dict[State, frozenset[State]]] = {
    State.IDLE: frozenset({State.TRYING, State.DONE, State.FAILED}),
    State.TRYING: frozenset(
        {
            State.IDLE,
            State.HALTED,
            State.POSTED,
            State.QUEUED,
            State.DONE,
            State.FAILED,
            State.CUT,
        }
    ),
    State.HALTED: frozenset({State.IDLE, State.QUEUED, State.DONE, State.FAILED, State.CUT}),
    State.POSTED: frozenset(
        {State.QUEUED, State.ARRIVED, State.DONE, State.FAILED, State.IDLE, State.CUT}
    ),
    State.ARRIVED: frozenset({State.TRYING, State.FAILED}),
    State.QUEUED: frozenset({State.DONE, State.FAILED, State.ABORTED}),
    State.DONE: frozenset({State.IDLE}),
    State.FAILED: frozenset({State.IDLE, State.CUT}),
    State.ABORTED: frozenset({State.IDLE, State.CUT}),
    State.CUT: frozenset({State.IDLE, State.TRYING, State.DONE, State.FAILED}),
}

_ALLOWED: Final = tuple(frozenset(map(int, TRANSITIONS[state])) for state in State)

_FREE: Final = frozenset({IDLE, CUT, ARRIVED})

#: Why operations end whose socket is closed. By this very object it is known that they did.
IN_USE: Final = (
    "these args are in use by an operation that is pending; wait for it to end, or use other args"
)

CLOSED_DETAIL: Final = "the socket was closed while the operation was pending"

_SUCCESS: Final = int(SocketError.SUCCESS)
_RECEIVES: Final = frozenset(
    (
        SocketAsyncOperation.RECEIVE,
        SocketAsyncOperation.RECEIVE_FROM,
        SocketAsyncOperation.RECEIVE_MESSAGE_FROM,
    )
)


class Owner(NotCopied, abc.ABC):
    """Whoever ends an operation when it leaves: an initiator, or a task that awaits it.

    The owner of a queue's head watches the queue's socket, and is told of each end of its own operations, whoever
    brought it about.
    """

    __slots__ = ()

    #: Whether it waits for the end of its operation before it starts another, and so bounds by itself what it queues.
    waits: ClassVar[bool] = False

    def _leaves_with(self, leaver: Owner) -> bool:
        """Tell whether the owner's operations end when ``leaver`` leaves."""
        return self is leaver

    def _take_in(self) -> None:
        """Take in what other threads have posted; asked only of the owner of a posted operation."""
        raise NotImplementedError

    def _why_refused(self) -> str | None:
        """Why operations end with OPERATION_ABORTED that are started now; None as long as they do not."""
        return None

    def _parted(self, queue: Any) -> None:
        """Note that all of the owner's operations in ``queue`` are another's from now on."""
        raise NotImplementedError

    @abc.abstractmethod
    def _joined(self, queue: Any) -> None:
        """Note that one more of the owner's operations stands in ``queue``."""

    @abc.abstractmethod
    def _ended(self, operation: Operation, queue: Any) -> None:
        """Note that an operation is terminal and has left ``queue`` (None: it was in none); tell of it."""

    def _holds(self, operation: Operation) -> bool:
        """Tell whether the end of ``operation`` is held back."""
        return False

    def _tell_held(self) -> None:
        """Have the end that is held back told as that of any other operation."""
        raise NotImplementedError

    def _tell_held_at_once(self) -> None:
        """Tell of the end that is held back here and now."""
        raise NotImplementedError

    def _is_about_to_sleep(self) -> bool:
        """Tell whether it is the calling task, and waits for the socket, but is not asleep yet."""
        return False

    @abc.abstractmethod
    def _limit_changed(self, operation: Operation) -> None:
        """Watch the time limits of an operation, which have come up or come earlier."""

    @abc.abstractmethod
    def _watch(self, queue: Any) -> None:
        """See to it that ``queue`` is drained when its socket is ready; repeated calls are harmless."""

    @abc.abstractmethod
    def _unwatch(self, queue: Any) -> None:
        """Stop watching ``queue``."""


class Step:
    """What one attempt of an operation other than a send does.

    Attributes:
      must_be_awaited: whether the next attempt is due not when the descriptor is ready, but when `wait_ready` returns.
      sends_message: whether the operation's message, if it has one, is sent when the step is done.
      address: whom it is about, for those who watch; None if there is nobody, or nobody yet.
      data: what it has received, for those who watch, unless that went into the operation's message.
      flags: what the kernel said of the message that it has received.
      information: how that message came; None if nobody has told.
    """

    __slots__ = ()

    must_be_awaited = False
    sends_message = False
    address: Any = None
    data = b""
    flags = SocketFlags.NONE
    information: Any = None

    def attempt(self, operation: Operation) -> None:
        """Try once, without waiting.

        Raises:
          BlockingIOError: not yet; try again when the socket is ready.
          OSError: the operation failed.
        """
        raise NotImplementedError

    async def wait_ready(self, operation: Operation) -> None:
        """Wait until the next attempt is due, if `must_be_awaited`."""
        raise NotImplementedError

    def forget_flags(self) -> None:
        """Let `flags` be none."""

    def result(self, count: int) -> Any:
        """Return what the end method returns after a success that has transferred ``count`` bytes."""
        return count

    def abandon(self, socket: Any) -> None:
        """Clean up on ``socket`` after an operation that was stopped before it was complete, and has been told so."""


class Operation(NotCopied):
    """One operation: an activation at a time, each with one outcome.

    `SocketAsyncEventArgs` and `AsyncResult` are operations; an awaited send of plain bytes is a bare one.
    """

    __slots__ = (
        "__weakref__",
        "_activation",
        "_address",
        "_code",
        "_context",
        "_continues",
        "_detail",
        "_errno",
        "_flags",
        "_fresh",
        "_last_operation",
        "_limit",
        "_limits",
        "_message",
        "_next",
        "_owner",
        "_previous",
        "_queue",
        "_socket",
        "_state",
        "_step",
        "_trace",
        "_transferred",
        "_waiters",
    )

    #: Whether it is to be disposed of when it has ended; args alone can be closed.
    _closing = False

    def __init__(self) -> None:
        self._state = IDLE
        #: Numbers the pending activations, so that a stop aimed at one cannot hit the next.
        self._activation = 0
        self._last_operation = SocketAsyncOperation.NONE
        # What to send, and how.
        self._message: Message | None = None
        self._flags = 0
        self._address: Any = None
        self._step: Step | None = None
        #: Whether the message is the rest of one that was cut, so that its first byte is not the first of a message.
        self._continues = False
        # Results of the latest activation, as plain numbers; enums, exceptions and outcomes are made when read.
        self._transferred = 0
        self._code = _SUCCESS
        self._errno = 0
        self._detail: str | None = None
        #: Whether the message was put there after the latest activation, so that the count is not about it.
        self._fresh = True
        # Where it stands: its neighbours in the queue, and who is told of its end.
        self._queue: Queue | None = None
        self._next: Operation | None = None
        self._previous: Operation | None = None
        self._owner: Owner | None = None
        self._socket: Any = None
        self._context: Context | None = None
        #: The time limits of every activation, as seconds in all and seconds standing still; None when there are none.
        self._limits: tuple[float, float] | None = None
        #: Those of the current activation, at work.
        self._limit: Any = None
        self._waiters: WaitingTasks[int | None] | None = None
        #: What instruments were told of the latest activation they have seen; theirs alone.
        self._trace: Any = None

    def __repr__(self) -> str:
        return f"<an awaited {SocketAsyncOperation(self._last_operation).name}: {self._describe_count()}>"

    # -- the transitions ------------------------------------------------------------------------------------------

    def _move(self, state: int) -> None:
        assert state in _ALLOWED[self._state], f"{State(self._state).name} -> {State(state).name}"
        self._state = state

    def _activate(self, state: int, owner: Owner) -> None:
        """Become pending, with the count and the error that the first attempt may have left."""
        before = self._state
        self._move(state)
        if before != POSTED:  # else it has its number already, by which it may be stopped
            self._activation += 1
        self._owner = owner

    def _end_later(self, owner: Owner) -> None:
        """Be told to the owner although the first attempt ended the operation."""
        self._activate(DONE if self._code == _SUCCESS else FAILED, owner)

    def _post(self, owner: Owner) -> None:
        """Become pending in another thread, before the first attempt, which is made in the Trio thread."""
        self._activate(POSTED, owner)

    def _arrive(self) -> None:
        """Be free for the one start that another thread has posted, and in use for everybody else."""
        self._move(ARRIVED)
        self._activation -= 1  # the start gives it the number by which it may be stopped once more

    def _claim(self) -> None:
        """Begin a start, unless one is under way already that came in the middle of this one's checks."""
        # Nothing is called between the look and what follows from it, so nothing can strike there.
        if self._state in _FREE:
            self._state = TRYING
        else:
            raise OperationInProgressError(IN_USE)

    def _rest(self, queue: Queue | None) -> None:
        """End a start that leaves nothing pending.

        Args:
          queue: whose torn message the operation may be now, or still be.
        """
        cut = queue is not None and queue.is_torn_by(self)
        self._move(CUT if cut else IDLE)
        self._queue = self._owner = self._context = None
        if self._closing:
            self._dispose()

    def _halt(self, detail: str) -> None:
        """Note a stop that comes in the middle of the first attempt."""
        if self._state == TRYING:
            self._move(HALTED)
            self._detail = detail
        if self._queue is not None:
            self._queue.halted = True

    def _reset_results(self) -> None:
        self._continues = False
        self._transferred = 0
        self._code = _SUCCESS
        self._errno = 0
        if self._state != HALTED:
            self._detail = None
        self._fresh = False

    def _set_error(self, code: int, errno: int, detail: str | None = None) -> None:
        """Record why an operation that is not pending failed; its count stays."""
        self._code = code
        self._errno = errno
        self._detail = detail

    def _drop_limit(self) -> None:
        if self._limit is not None:
            self._limit.over()
            self._limit = None

    def _finish(self) -> None:
        self._move(DONE)
        if self._limit is not None:
            self._drop_limit()

    def _fail(self, code: int, errno: int, detail: str | None = None) -> None:
        self._move(FAILED)
        self._drop_limit()
        self._set_error(code, errno, detail)

    def _abort(self, code: int, detail: str | None) -> None:
        self._move(ABORTED)
        self._drop_limit()
        self._set_error(code, 0, detail)

    def _release(self) -> tuple[Context | None, WaitingTasks[int | None] | None]:
        """Leave the terminal state for IDLE or CUT: the owner is being told, the operation may be used again.

        Returns:
          The context to call handlers in, and the tasks to wake.
        """
        queue = self._queue
        cut = queue is not None and queue.is_torn_by(self)
        self._move(CUT if cut else IDLE)
        if type(self._message) is Packets:
            self._let_go()
        context, waiters = self._context, self._waiters
        self._queue = self._owner = self._context = self._waiters = None
        if self._closing:
            self._dispose()
        return context, waiters

    def _keep(self, queue: Any, waiters: WaitingTasks[int | None] | None) -> None:
        """Be in use again, as before `_release`, until the handler that is to be told has its first turn.

        It is nobody's then. The handler has it released once more.
        """
        self._move(DONE if self._code == _SUCCESS else FAILED)
        self._queue = queue
        self._waiters = waiters

    @property
    def _is_kept(self) -> bool:
        return self._in_flight and self._owner is None

    def _dispose(self) -> None:
        """Let go of everything, because the operation was closed while it was pending."""
        raise NotImplementedError

    def _uncut(self) -> None:
        """Leave CUT, because the stream is not torn by this operation any more."""
        if self._state == CUT:
            self._move(IDLE)
            self._let_go()

    def _let_go(self) -> None:
        """Close the files of a message that nothing more can be sent of; repeated calls are harmless."""
        message = self._message
        if type(message) is Packets and self._state == IDLE:
            message.close()

    # -- what the owner does when it tells --------------------------------------------------------------------------

    def _completed(self, dispatcher: Any) -> None:
        """Be told: become free, have the dispatcher call whoever has to be called, wake whoever waits.

        Args:
          dispatcher: who calls; None if it was found that nobody has to be called.
        """
        raise NotImplementedError

    def _wake(self, waiters: WaitingTasks[int | None] | None, count: int) -> None:
        """Wake the tasks that wait for an activation, with its count."""
        if waiters is not None:
            waiters.wake(count)

    def _describe_count(self) -> str:
        """Say how far the latest activation came."""
        size = 0 if self._message is None else self._message.size
        done = "received" if self._last_operation in _RECEIVES else "accepted"
        return f"{self._transferred} of {counted(size, 'byte')} {done}"

    @property
    def _size_to_send(self) -> int:
        """How many bytes of the message have to be accepted until the operation is complete."""
        message, step = self._message, self._step
        if message is None or (step is not None and not step.sends_message):
            return 0
        return message.size - self._transferred

    @property
    def _is_started(self) -> bool:
        """Whether the peer may have begun to read the message."""
        return self._transferred > 0 or self._continues

    # -- reading ------------------------------------------------------------------------------------------------------

    @property
    def _in_flight(self) -> bool:
        """Whether the operation was started and its end has yet to be told."""
        return TRYING <= self._state <= ABORTED

    @property
    def _pending(self) -> bool:
        """The same for whoever asks from outside, which sees to it that the answer will change."""
        if not TRYING <= self._state <= ABORTED:
            return False
        self._ask()
        return True

    @trio.lowlevel.enable_ki_protection
    def _ask(self) -> None:
        """Have the end told if it is held back."""
        # Read once: another thread may ask while the Trio thread lets go of the owner.
        owner = self._owner
        if owner is not None and owner._holds(self):
            owner._tell_held()

    @property
    def _is_listened_to(self) -> bool:
        """Whether anything has to be called when the operation has ended."""
        return False

    def _exception(self) -> SocketException:
        """Build the error of the latest activation.

        A stored exception would hold the frames it was raised through, and those the operation: a cycle for each
        failure. So it is built for each reader.
        """
        # Only a send speaks of bytes.
        count = self._transferred if self._step is None else None
        if self._detail is CLOSED_DETAIL:
            return SocketClosedError(CLOSED_DETAIL, bytes_transferred=count, native_error_code=None)
        return SocketException(
            self._code,
            bytes_transferred=count,
            native_error_code=self._errno or None,
            detail=self._detail,
        )

    def _outcome(self) -> outcome.Value[int] | outcome.Error | None:
        if self._pending or self._last_operation == SocketAsyncOperation.NONE:
            return None
        return self._settled_outcome()

    def _settled_outcome(self) -> outcome.Value[int] | outcome.Error:
        if self._code == _SUCCESS:
            return outcome.Value(self._transferred)
        return outcome.Error(self._exception())

    def _remaining(self) -> list[memoryview]:
        if self._message is None:
            return []
        return self._message.remaining(0 if self._fresh else self._transferred)

    @trio.lowlevel.enable_ki_protection
    async def _wait(self) -> int:
        """Park until the owner has told of the current activation; return its count."""
        # First of all stand where the end is told, for it may come at any instant.
        waiters: WaitingTasks[int | None] = WaitingTasks(None)
        if self._waiters is None:
            self._waiters = waiters
        waiters = self._waiters
        count, activation, owner = self._transferred, self._activation, self._owner
        if owner is not None and owner._holds(self):
            # The checkpoint is all that its end was held back for.
            await trio.lowlevel.checkpoint()
            if self._activation != activation:
                return count
            if owner._holds(self):
                owner._tell_held_at_once()
                return count
            if not self._in_flight:
                return count
            # Somebody has asked for it meanwhile, so it is on its way.
        told = await waiters.wait(lambda: waiters.news is not None or not self._in_flight)
        return self._transferred if told is None else told

    @trio.lowlevel.enable_ki_protection
    def _request_stop(self, code: int, detail: str) -> bool:
        """Stop the operation if it is pending.

        Returns:
          Whether it was stopped, or will be at the end of the step that is under way unless that completes it.
        """
        if self._in_flight and not trio.lowlevel.in_trio_run():
            raise InvalidOperationError(
                "this operation can be stopped like this in the Trio thread alone; "
                "from any other, call trio_send.from_thread.cancel()",
            )
        if self._state == TRYING or self._state == HALTED:
            self._halt(detail)
            return True
        if self._state == POSTED and self._queue is None:
            assert self._owner is not None
            self._owner._take_in()
        if self._state != POSTED and self._state != QUEUED:
            return False
        assert self._queue is not None
        self._queue.require_own()
        return self._queue.request_stop(self, code, detail)

    def _require_free(self) -> None:
        """Raise unless a start is possible as far as the operation itself is concerned."""
        if self._state == CUT:
            raise InvalidOperationError(
                f"the message of this operation was cut after {counted(self._transferred, 'byte')} and its stream is "
                "torn; to send the rest, pass the operation to socket.resume(); to give it up, call "
                "socket.forget_torn()",
            )


def describe_os_error(error: OSError) -> tuple[int, int, str | None]:
    """Return the Winsock number and the native number of an error, and what else there is to say of it."""
    if isinstance(error, SocketException):
        return error.error_code, error.native_error_code, error._detail
    if not error.errno:  # made by hand, without a number
        return int(SocketError.SOCKET_ERROR), 0, str(error) or None
    return int(socket_error_from_errno(error.errno)), error.errno, None
