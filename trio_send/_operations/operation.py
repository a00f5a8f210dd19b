"""One operation: what is sent and how far it came, its neighbours in the queue, and whom its end is told.

`Operation` is a record: its folder changes it, the queue above all, and the folders above read it. What a program holds
is a face that holds the record, such as args or a result; an awaited send of plain bytes has none. While the operation
is under way the record knows its face, and lets go of it when the end is told, so that the two are no cycle then.

An operation that ends on the spot is TRYING and then IDLE again: its results are written, and that is all. Only what
is pending has an activation number, an owner, and an end that is told exactly once.

`Owner` and `Queue` stand here as well, as far as the three have to know each other.
"""

from __future__ import annotations

import abc
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
from .._base.error_numbers import OPERATION_ABORTED, SUCCESS
from .._base.errors import (
    InvalidOperationError,
    OperationInProgressError,
    SocketClosedError,
    SocketException,
    detail_of,
)
from .._base.waiting_tasks import WaitingTasks
from .._messages.packets import Packets
from .states import (
    ABORTED,
    ALLOWED,
    ARRIVED,
    CUT,
    DONE,
    FAILED,
    FREE,
    HALTED,
    IDLE,
    POSTED,
    QUEUED,
    TRYING,
    State,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from contextvars import Context

    from .._base.tries import Tries
    from .._kernel.port import Port
    from .._kernel.received_message import IPPacketInformation
    from .._messages.buffers import Message
    from .._tracing.instrument import TracedOperation

    class Queue(Protocol):
        """The queue that an operation stands in, as far as the operation and its owner know it."""

        gate: int
        halted: bool
        hopeful: bool
        watched: object

        @property
        def port(self) -> Port: ...
        @property
        def writes(self) -> bool: ...
        @property
        def head(self) -> Operation | None: ...
        @property
        def watcher(self) -> Owner | None: ...
        @property
        def refused(self) -> Owner | None: ...
        @property
        def backoff(self) -> float: ...
        @property
        def others_wait(self) -> bool: ...
        @property
        def tries(self) -> Tries | None: ...

        def is_torn_by(self, operation: Operation) -> bool: ...
        def require_own(self) -> None: ...
        def stop(self, operation: Operation, code: int, detail: str | None) -> bool: ...
        def request_stop(self, operation: Operation, code: int, detail: str | None) -> bool: ...
        def stop_owner(
            self,
            owner: Owner,
            code: int,
            detail: str | None,
            *,
            spare_started: bool = False,
            at_most: int | None = None,
        ) -> int: ...
        def hand_over(self, owner: Owner, adopter: Owner) -> None: ...
        def descriptor(self) -> int: ...
        def lend(self, operation: Operation, borrower: WaitingTasks[int | None]) -> bool: ...
        def look_after(self) -> None: ...
        def request(self, action: Callable[[], object], *, halts: bool = True) -> bool: ...
        def wait_ready(self) -> Coroutine[Any, Any, None]: ...
        def drain(self, allowance: int) -> int: ...

    class Due(Protocol):
        """Something that is due at some time."""

        def is_live(self) -> bool: ...
        def due(self) -> float: ...
        def fire(self) -> None: ...

    class Limit(Due, Protocol):
        """The time limits of one activation, at work."""

        def moved(self) -> None: ...
        def over(self) -> None: ...

    class Dispatcher(Protocol):
        """Who calls the handlers."""

        def call(
            self,
            context: Context | None,
            handler: Callable[..., object],
            *args: object,
            begin: Callable[[], None] | None = None,
        ) -> bool: ...


IN_USE: Final = (
    "these args are in use by an operation that is pending; wait for it to end, or use other args"
)

#: Why operations end whose socket is closed. By this very object it is known that they did.
CLOSED_DETAIL: Final = "the socket was closed while the operation was pending"

CANCELLED_DETAIL: Final = "the operation was cancelled"

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

    def leaves_with(self, exiting: Owner) -> bool:
        """Tell whether the owner's operations end when ``exiting`` leaves."""
        return self is exiting

    def take_in(self) -> None:
        """Take in what other threads have posted; asked only of the owner of a posted operation."""
        raise NotImplementedError

    def why_refused(self) -> str | None:
        """Why operations end with OPERATION_ABORTED that are started now; None as long as they do not."""
        return None

    def refuses(self, operation: Operation) -> bool:
        """Tell whether ``operation`` cannot be started any more, with the reason in its results then."""
        why = self.why_refused()
        if why is None:
            return False
        operation.set_error(OPERATION_ABORTED, 0, why)
        return True

    def parted(self, queue: Queue) -> None:
        """Note that all of the owner's operations in ``queue`` are another's from now on."""
        raise NotImplementedError

    @abc.abstractmethod
    def joined(self, queue: Queue) -> None:
        """Note that one more of the owner's operations stands in ``queue``."""

    @abc.abstractmethod
    def ended(self, operation: Operation, queue: Queue | None) -> None:
        """Note that an operation is terminal and has left ``queue`` (None: it was in none); tell of it."""

    def holds(self, operation: Operation) -> bool:
        """Tell whether the end of ``operation`` is held back."""
        return False

    def tell_held(self) -> None:
        """Have the end that is held back told as that of any other operation."""
        raise NotImplementedError

    def tell_held_now(self) -> None:
        """Tell of the end that is held back here and now."""
        raise NotImplementedError

    @abc.abstractmethod
    def limit_changed(self, operation: Operation) -> None:
        """Watch the time limits of an operation, which have come up or come earlier."""

    @abc.abstractmethod
    def watch(self, queue: Queue) -> None:
        """See to it that ``queue`` is drained when its socket is ready; repeated calls are harmless."""

    @abc.abstractmethod
    def unwatch(self, queue: Queue) -> None:
        """Stop watching ``queue``."""

    def lend(self, queue: Queue, borrower: object) -> bool:
        """Let a task watch ``queue`` until `unwatch`, or until it gives the watch back; return whether it may."""
        return False


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
    information: IPPacketInformation | None = None

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
    """The record of one operation: an activation at a time, each with one outcome."""

    __slots__ = (
        "__weakref__",
        "activation",
        "address",
        "code",
        "context",
        "continues",
        "detail",
        "errno",
        "face",
        "flags",
        "is_fresh",
        "kind",
        "limit",
        "limits",
        "message",
        "next",
        "owner",
        "previous",
        "queue",
        "socket",
        "state",
        "step",
        "trace",
        "transferred",
        "waiters",
    )

    #: Whether it is to be disposed of when it has ended; args alone can be closed.
    is_closing = False

    def __init__(self) -> None:
        #: What the program holds, while the operation is under way; None if that is nothing.
        self.face: Any = None
        self.state: int = IDLE
        #: Numbers the pending activations, so that a stop aimed at one cannot hit the next.
        self.activation: int = 0
        self.kind: SocketAsyncOperation = SocketAsyncOperation.NONE
        # What to send, and how.
        self.message: Message | None = None
        self.flags: int = 0
        self.address: Any = None
        self.step: Step | None = None
        #: Whether the message is the rest of one that was cut, so that its first byte is not the first of a message.
        self.continues: bool = False
        # Results of the latest activation, as plain numbers; enums, exceptions and outcomes are made when read.
        self.transferred: int = 0
        self.code: int = SUCCESS
        self.errno: int = 0
        self.detail: str | None = None
        #: Whether the message was put there after the latest activation, so that the count is not about it.
        self.is_fresh: bool = True
        # Where it stands: its neighbours in the queue, and who is told of its end.
        self.queue: Queue | None = None
        self.next: Operation | None = None
        self.previous: Operation | None = None
        self.owner: Owner | None = None
        self.socket: object = None
        self.context: Context | None = None
        #: The time limits of every activation, as seconds in all and seconds standing still; None when there are none.
        self.limits: tuple[float, float] | None = None
        #: Those of the current activation, at work.
        self.limit: Limit | None = None
        self.waiters: WaitingTasks[int | None] | None = None
        #: What instruments were told of the latest activation they have seen; theirs alone.
        self.trace: TracedOperation | None = None

    def __repr__(self) -> str:
        return f"<an awaited {SocketAsyncOperation(self.kind).name}: {self.describe_count()}>"

    # -- the transitions ------------------------------------------------------------------------------------------

    def move(self, state: int) -> None:
        assert state in ALLOWED[self.state], f"{State(self.state).name} -> {State(state).name}"
        self.state = state

    def activate(self, state: int, owner: Owner) -> None:
        """Become pending, with the count and the error that the first attempt may have left."""
        before = self.state
        self.move(state)
        if before != POSTED:  # else it has its number already, by which it may be stopped
            self.activation += 1
        self.owner = owner

    def end_later(self, owner: Owner) -> None:
        """Be told to the owner although the first attempt ended the operation."""
        self.activate(DONE if self.code == SUCCESS else FAILED, owner)

    def post(self, owner: Owner) -> None:
        """Become pending in another thread, before the first attempt, which is made in the Trio thread."""
        self.activate(POSTED, owner)

    def arrive(self) -> None:
        """Be free for the one start that another thread has posted, and in use for everybody else."""
        self.move(ARRIVED)
        self.activation -= 1  # the start gives it the number by which it may be stopped once more

    def claim(self) -> None:
        """Begin a start, unless one is under way already that came in the middle of this one's checks."""
        # Nothing is called between the look and what follows from it, so nothing can strike there.
        if self.state in FREE:
            self.state = TRYING
        else:
            raise OperationInProgressError(IN_USE)

    def rest(self, queue: Queue | None) -> None:
        """End a start that leaves nothing pending.

        Args:
          queue: whose torn message the operation may be now, or still be.
        """
        cut = queue is not None and queue.is_torn_by(self)
        self.move(CUT if cut else IDLE)
        self.queue = self.owner = self.context = self.face = None
        if self.is_closing:
            self.dispose()

    def halt(self, detail: str) -> None:
        """Note a stop that comes in the middle of the first attempt."""
        if self.state == TRYING:
            self.move(HALTED)
            self.detail = detail
        if self.queue is not None:
            self.queue.halted = True

    def reset_results(self) -> None:
        self.continues = False
        self.transferred = 0
        self.code = SUCCESS
        self.errno = 0
        if self.state != HALTED:
            self.detail = None
        self.is_fresh = False

    def set_error(self, code: int, errno: int, detail: str | None = None) -> None:
        """Record why an operation that is not pending failed; its count stays."""
        self.code = code
        self.errno = errno
        self.detail = detail

    def drop_limit(self) -> None:
        if self.limit is not None:
            self.limit.over()
            self.limit = None

    def finish(self) -> None:
        self.move(DONE)
        if self.limit is not None:
            self.drop_limit()

    def fail(self, code: int, errno: int, detail: str | None = None) -> None:
        self.move(FAILED)
        self.drop_limit()
        self.set_error(code, errno, detail)

    def abort(self, code: int, detail: str | None) -> None:
        self.move(ABORTED)
        self.drop_limit()
        self.set_error(code, 0, detail)

    def release(self) -> tuple[Context | None, WaitingTasks[int | None] | None]:
        """Leave the terminal state for IDLE or CUT: the owner is being told, the operation may be used again.

        Returns:
          The context to call handlers in, and the tasks to wake.
        """
        queue = self.queue
        cut = queue is not None and queue.is_torn_by(self)
        self.move(CUT if cut else IDLE)
        if type(self.message) is Packets:
            self.let_go()
        context, waiters = self.context, self.waiters
        self.queue = self.owner = self.context = self.waiters = self.face = None
        if self.is_closing:
            self.dispose()
        return context, waiters

    def keep(
        self, face: object, queue: Queue | None, waiters: WaitingTasks[int | None] | None
    ) -> None:
        """Be in use again, as before `release`, until the handler that is to be told has its first turn.

        It is nobody's then. The handler has it released once more.
        """
        self.move(DONE if self.code == SUCCESS else FAILED)
        self.face = face
        self.queue = queue
        self.waiters = waiters

    @property
    def is_kept(self) -> bool:
        return self.in_flight and self.owner is None

    def dispose(self) -> None:
        """Let go of everything, because the operation was closed while it was pending."""
        raise NotImplementedError

    def uncut(self) -> None:
        """Leave CUT, because the stream is not torn by this operation any more."""
        if self.state == CUT:
            self.move(IDLE)
            self.let_go()

    def let_go(self) -> None:
        """Close the files of a message that nothing more can be sent of; repeated calls are harmless."""
        message = self.message
        if type(message) is Packets and self.state == IDLE:
            message.close()

    def capture_context(self) -> None:
        """Keep the caller's context for those who are told, if there is anybody to call."""

    # -- what the owner does when it tells --------------------------------------------------------------------------

    def tell(self, dispatcher: Dispatcher | None) -> None:
        """Be told: become free, have the dispatcher call whoever has to be called, wake whoever waits.

        Args:
          dispatcher: who calls; None if it was found that nobody has to be called.
        """
        raise NotImplementedError

    def wake(self, waiters: WaitingTasks[int | None] | None, count: int) -> None:
        """Wake the tasks that wait for an activation, with its count."""
        if waiters is not None:
            waiters.wake(count)

    def describe_count(self) -> str:
        """Say how far the latest activation came."""
        size = 0 if self.message is None else self.message.size
        done = "received" if self.kind in _RECEIVES else "accepted"
        return f"{self.transferred} of {counted(size, 'byte')} {done}"

    @property
    def size_to_send(self) -> int:
        """How many bytes of the message have to be accepted until the operation is complete."""
        message, step = self.message, self.step
        if message is None or (step is not None and not step.sends_message):
            return 0
        return message.size - self.transferred

    @property
    def is_started(self) -> bool:
        """Whether the peer may have begun to read the message."""
        return self.transferred > 0 or self.continues

    # -- reading ------------------------------------------------------------------------------------------------------

    @property
    def in_flight(self) -> bool:
        """Whether the operation was started and its end has yet to be told."""
        return TRYING <= self.state <= ABORTED

    @property
    def is_pending(self) -> bool:
        """The same for whoever asks from outside, which sees to it that the answer will change."""
        if not TRYING <= self.state <= ABORTED:
            return False
        self.tell_if_held()
        return True

    @trio.lowlevel.enable_ki_protection
    def tell_if_held(self) -> None:
        """Have the end told if it is held back."""
        # Read once: another thread may ask while the Trio thread lets go of the owner.
        owner = self.owner
        if owner is not None and owner.holds(self):
            owner.tell_held()

    @property
    def is_listened_to(self) -> bool:
        """Whether anything has to be called when the operation has ended."""
        raise NotImplementedError

    def make_error(self) -> SocketException:
        """Build the error of the latest activation.

        A stored exception would hold the frames it was raised through, and those the operation: a cycle for each
        failure. So it is built for each reader.
        """
        # Only a send speaks of bytes.
        count = self.transferred if self.step is None else None
        if self.detail is CLOSED_DETAIL:
            return SocketClosedError(CLOSED_DETAIL, bytes_transferred=count, native_error_code=None)
        return SocketException(
            self.code,
            bytes_transferred=count,
            native_error_code=self.errno or None,
            detail=self.detail,
        )

    def make_outcome(self) -> outcome.Value[int] | outcome.Error | None:
        if self.is_pending or self.kind == SocketAsyncOperation.NONE:
            return None
        return self.settled_outcome()

    def settled_outcome(self) -> outcome.Value[int] | outcome.Error:
        if self.code == SUCCESS:
            return outcome.Value(self.transferred)
        return outcome.Error(self.make_error())

    def remaining(self) -> list[memoryview]:
        if self.message is None:
            return []
        return self.message.remaining(0 if self.is_fresh else self.transferred)

    @trio.lowlevel.enable_ki_protection
    async def wait(self) -> int:
        """Park until the owner has told of the current activation; return its count."""
        # First of all stand where the end is told, because it may come at any instant.
        waiters: WaitingTasks[int | None] = WaitingTasks(None)
        if self.waiters is None:
            self.waiters = waiters
        waiters = self.waiters
        count, activation, owner = self.transferred, self.activation, self.owner
        if owner is not None and owner.holds(self):
            # The checkpoint is all that its end was held back for.
            await trio.lowlevel.checkpoint()
            if self.activation != activation:
                return count
            if owner.holds(self):
                owner.tell_held_now()
                return count
            if not self.in_flight:
                return count
            # Somebody has asked for it meanwhile, so it is on its way.
        told = await waiters.wait(lambda: waiters.news is not None or not self.in_flight)
        return self.transferred if told is None else told

    @trio.lowlevel.enable_ki_protection
    def request_stop(self, code: int, detail: str) -> bool:
        """Stop the operation if it is pending.

        Returns:
          Whether it was stopped, or will be at the end of the step that is under way unless that completes it.
        """
        if self.in_flight and not trio.lowlevel.in_trio_run():
            raise InvalidOperationError(
                "this operation can be stopped like this in the Trio thread alone; "
                "from any other, call trio_send.from_thread.cancel()",
            )
        if self.state == TRYING or self.state == HALTED:
            self.halt(detail)
            return True
        if self.state == POSTED and self.queue is None:
            assert self.owner is not None
            self.owner.take_in()
        if self.state != POSTED and self.state != QUEUED:
            return False
        assert self.queue is not None
        self.queue.require_own()
        return self.queue.request_stop(self, code, detail)

    def cancel(self, reason: str | None) -> bool:
        """Stop the operation because the program asks for it; return what `request_stop` does."""
        return self.request_stop(OPERATION_ABORTED, reason or CANCELLED_DETAIL)

    def require_free(self) -> None:
        """Raise unless a start is possible as far as the operation itself is concerned."""
        if self.state == CUT:
            raise InvalidOperationError(
                f"the message of this operation was cut after {counted(self.transferred, 'byte')} and its stream is "
                "torn; to send the rest, pass the operation to socket.resume(); to give it up, call "
                "socket.forget_torn()",
            )


def describe_os_error(error: OSError) -> tuple[int, int, str | None]:
    """Return the Winsock number and the native number of an error, and what else there is to say of it."""
    if isinstance(error, SocketException):
        return error.error_code, error.native_error_code, detail_of(error)
    if not error.errno:  # made by hand, without a number
        return int(SocketError.SOCKET_ERROR), 0, str(error) or None
    return int(socket_error_from_errno(error.errno)), error.errno, None
