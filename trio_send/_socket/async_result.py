"""`AsyncResult`: what the begin methods return, for one call of the matching end method."""

from __future__ import annotations

import contextvars
import sys
from _thread import interrupt_main
from typing import TYPE_CHECKING, Any, final

import outcome as outcome_module
import trio

from .._base.checks import NotCopied, counted
from .._base.codes import SocketAsyncOperation, SocketError
from .._base.error_numbers import OPERATION_ABORTED
from .._base.errors import InvalidOperationError
from .._base.inbox import LOCK
from .._base.interrupts import one_step, quietly
from .._base.wait_handle import WaitHandle, signal
from .._operations.operation import Operation
from .._tracing.log import LOST, write_soon

if TYPE_CHECKING:
    from collections.abc import Callable

    import outcome

    from .._base.errors import SocketException
    from .._operations.operation import Dispatcher

_TAKEN = (
    "the end method was called for this result already, and can be called once; "
    "its bytes_transferred and outcome can be read as often as you like"
)


@final
class ResultOperation(Operation):
    """The operation behind a result."""

    __slots__ = (
        "async_state",
        "callback",
        "can_be_taken",
        "completed_synchronously",
        "failure",
        "handle",
        "is_taken",
        "origin",
        "token",
    )

    face: AsyncResult | None

    def __init__(
        self,
        origin: object,
        token: trio.lowlevel.TrioToken | None,
        callback: Callable[[AsyncResult], object] | None,
        state: Any,
    ) -> None:
        super().__init__()
        if callback is not None and not callable(callback):
            raise TypeError(
                f"callback must be a function of the result, not {type(callback).__name__}"
            )
        #: Whose end method may take the result.
        self.origin = origin
        self.async_state = state
        #: The run whose log is told of a failure that nobody asks for.
        self.token = token
        self.callback = callback
        self.completed_synchronously = False
        #: Whether the operation has ended for everybody, though its callback has yet to be called.
        self.can_be_taken = False
        self.is_taken = False
        self.handle: WaitHandle | None = None
        #: There if it has failed, until somebody is told of that.
        self.failure: _Failure | None = None

    @property
    def is_completed(self) -> bool:
        """Whether the operation has ended; true before the callback is called."""
        return not self.is_pending or self.can_be_taken

    @property
    def failed_on_the_spot(self) -> bool:
        """Whether the begin method has to tell of a failure, and the result is of no use."""
        return self.completed_synchronously and self.code != 0

    def make_handle(self) -> WaitHandle:
        """Return the flag that is set at the end."""
        with LOCK:  # or two threads that ask at the same time would wait for two flags, and one is never set
            if self.handle is None:
                self.handle = WaitHandle()
        if self.is_completed:
            signal(self.handle)
        return self.handle

    @property
    def is_listened_to(self) -> bool:
        return self.callback is not None

    def capture_context(self) -> None:
        """Keep the caller's context for the callback, if there is one."""
        if self.callback is not None:
            self.context = contextvars.copy_context()

    def tell(self, dispatcher: Dispatcher | None) -> None:
        face = self.face
        context, waiters = self.release()
        if self.handle is not None:
            signal(self.handle)
        if self.code and self.code != OPERATION_ABORTED and not self.is_taken:
            assert self.token is not None
            self.failure = _Failure(self.token, self.kind, self.make_error())
        self.wake(waiters, self.transferred)
        callback, self.callback = self.callback, None
        if dispatcher is not None and callback is not None:
            dispatcher.call(context, callback, face)

    @property
    def value(self) -> Any:
        """What the end method returns after a success."""
        return self.transferred if self.step is None else self.step.result(self.transferred)

    def take(self) -> None:
        """Use up the single call of the end method."""
        with LOCK:  # two threads may try at the same time
            if self.is_taken:
                raise InvalidOperationError(_TAKEN)
            self.is_taken = True
        self.be_told()

    def be_told(self) -> None:
        """Note that somebody learns how the operation has ended."""
        if self.failure is not None:
            self.failure.is_told = True


class AsyncResult(NotCopied):
    """One operation that a begin method started: hand it to the matching end method, once.

    Everything can be read before and after that, and after the socket was closed. If an operation that was pending has
    failed, and the result is forgotten before anybody has called its end method or read its `outcome`, the log
    ``trio_send`` gets a warning.

    Source: the `begin_send` page's ``IAsyncResult``.
    """

    __slots__ = ("__weakref__", "_operation")

    def __init__(
        self,
        origin: object,
        token: trio.lowlevel.TrioToken | None,
        callback: Callable[[AsyncResult], object] | None,
        state: Any,
    ) -> None:
        self._operation = ResultOperation(origin, token, callback, state)

    def __repr__(self) -> str:
        state = "pending" if self._operation.in_flight else SocketError(self._operation.code).name
        return f"<AsyncResult: {self._operation.kind.name}, {state}, {self._operation.describe_count()}>"

    @property
    def async_state(self) -> Any:
        """The ``state`` object that was passed to the begin method."""
        return self._operation.async_state

    @property
    def async_wait_handle(self) -> WaitHandle:
        """A flag that is set when the operation has ended, before the callback is called (F067).

        The same object at each reading (F070).
        """
        handle = self._operation.handle
        return self._make_handle() if handle is None else handle

    @one_step
    def _make_handle(self) -> WaitHandle:
        return self._operation.make_handle()

    @property
    def completed_synchronously(self) -> bool:
        """Whether the operation had ended when the begin method returned, so that its result can be taken at once.

        False also for the one start in many that is answered as pending although the kernel has taken everything, so
        that a loop over starts yields now and then.
        """
        return self._operation.completed_synchronously

    @property
    def is_completed(self) -> bool:
        """Whether the operation has ended; true before the callback is called (F066)."""
        return self._operation.is_completed

    @property
    def bytes_transferred(self) -> int:
        """How many bytes the kernel accepted, or gave: exact at any time, final once the operation has ended."""
        return self._operation.transferred

    @property
    def outcome(self) -> outcome.Value[int] | outcome.Error | None:
        """How the operation ended, as an outcome that holds the count or the `SocketException`; None while pending.

        Each reading makes another one, so that reading it does not use up the end method's single call.
        """
        if not self.is_completed:
            return None
        self._operation.be_told()
        return self._operation.settled_outcome()

    @property
    def remaining(self) -> list[memoryview]:
        """Views of the bytes of the message that were not accepted, or of the room left, for a ``buffer_list``."""
        return self._operation.remaining()

    @trio.lowlevel.enable_ki_protection
    def cancel(self, reason: str | None = None) -> bool:
        """Stop the operation if it is pending.

        It ends with OPERATION_ABORTED, the exact count and ``reason`` in its error's text. If that cuts a message on a
        stream, the operations behind it end with CONNECTION_ABORTED and 0 bytes, and the stream is torn.

        Args:
          reason: why, for people.

        Returns:
          True if the operation was stopped; False if it had ended, or all its bytes were accepted already.

        Raises:
          InvalidOperationError: the call comes from another thread.

        **Checkpoints**: never.

        **If cancelled**: nothing is raised here.

        **Threads**: only from the Trio thread that uses the socket; elsewhere, `trio_send.from_thread.cancel`.
        """
        return self._operation.cancel(reason)


@final
class HandedOut:
    """Stands for the callback of a result that another thread has been handed already.

    Args:
      result: with what the begin method is to go on, rather than make one.
    """

    __slots__ = ("result",)

    def __init__(self, result: AsyncResult) -> None:
        self.result = result


@final
class _Failure:
    """A failure of an operation: if it is forgotten before anybody was told of it, the log is.

    An object of its own, because a finaliser makes every object of its class dearer, and few results are failures.
    """

    __slots__ = ("_error", "_kind", "_token", "is_told")

    def __init__(
        self,
        token: trio.lowlevel.TrioToken,
        kind: SocketAsyncOperation,
        error: SocketException,
    ) -> None:
        self._token = token
        self._kind = kind
        self._error = error
        self.is_told = False

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        # At the end of the process the one who holds the lock of Trio's way in may be gone.
        if not self.is_told and not is_finalizing():
            _ = [*map(interrupt_main, quietly(self._write))]

    @one_step
    def _write(self) -> None:
        if self.is_told:
            return  # Ctrl-C has struck behind this step
        self.is_told = True
        name = self._kind.name.lower()
        line = f"a begin_{name} has failed, and nobody has called end_{name} for it: {self._error}"
        write_soon(self._token, LOST, line)


@final
class EndedResult(AsyncResult):
    """The result of a send of which the kernel took all at once, and whose end nobody has to be told.

    That is what most results are, and to make an operation for one costs as much as the send. So there is none: no
    message to go on with, no error, no place in a queue, no owner. Whoever makes one fills in the attributes.

    Attributes:
      origin: whose end method may take it.
      async_state: the ``state`` object that was passed to the begin method.
      transferred: how many bytes were accepted.
      is_taken: whether the single call of the end method was made.
      handle: the flag that is set; None until it is asked for.
    """

    __slots__ = ("async_state", "handle", "is_taken", "origin", "transferred")

    origin: object
    async_state: Any
    transferred: int
    is_taken: bool
    handle: WaitHandle | None

    completed_synchronously = True
    is_completed = True

    # One that is built in makes a start in Python cheaper by a tenth of a system call.
    if TYPE_CHECKING:

        def __init__(self) -> None: ...

    else:
        __init__ = object.__init__

    def __repr__(self) -> str:
        size = counted(self.transferred, "byte")
        return f"<AsyncResult: SEND, SUCCESS, {self.transferred} of {size} accepted>"

    @property
    def async_wait_handle(self) -> WaitHandle:
        """A flag that is set."""
        return self._make_handle() if self.handle is None else self.handle

    @one_step
    def _make_handle(self) -> WaitHandle:
        with LOCK:
            if self.handle is None:
                self.handle = WaitHandle()
        signal(self.handle)
        return self.handle

    @property
    def bytes_transferred(self) -> int:
        """How many bytes the kernel accepted: all of them."""
        return self.transferred

    @property
    def outcome(self) -> outcome.Value[int]:
        """The count."""
        return outcome_module.Value(self.transferred)

    @property
    def remaining(self) -> list[memoryview]:
        """Nothing."""
        return []

    def cancel(self, reason: str | None = None) -> bool:
        """Find nothing to stop."""
        return False

    def take(self) -> None:
        """Use up the single call of the end method."""
        with LOCK:
            if self.is_taken:
                raise InvalidOperationError(_TAKEN)
            self.is_taken = True
