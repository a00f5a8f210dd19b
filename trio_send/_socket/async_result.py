"""`AsyncResult`: the single-use operation that the begin methods return."""

from __future__ import annotations

import contextvars
import sys
from typing import TYPE_CHECKING, Any, Final, final

import trio

from .._base.checks import counted
from .._base.codes import SocketAsyncOperation, SocketError
from .._base.errors import InvalidOperationError
from .._base.inbox import LOCK
from .._base.interrupts import one_step, quietly
from .._base.wait_handle import WaitHandle
from .._operations.operation import IDLE, Operation
from .._tracing.log import LOST, write_soon

if TYPE_CHECKING:
    from collections.abc import Callable

    import outcome

    from .._base.errors import SocketException
    from .._owners.dispatcher import Dispatcher

_OPERATION_ABORTED: Final = int(SocketError.OPERATION_ABORTED)
_SUCCESS: Final = int(SocketError.SUCCESS)


class AsyncResult(Operation):
    """One operation that a begin method started: hand it to the matching end method, once.

    Everything can be read before and after that, and after the socket was closed. If an operation that was pending has
    failed, and the result is forgotten before anybody has called its end method or read its `outcome`, the log
    ``trio_send`` gets a warning.

    Source: the `begin_send` page's ``IAsyncResult``.
    """

    __slots__ = (
        "_async_state",
        "_callback",
        "_can_be_taken",
        "_completed_synchronously",
        "_ended",
        "_failure",
        "_handle",
        "_origin",
    )

    def __init__(
        self, socket: Any, callback: Callable[[AsyncResult], object] | None, state: Any
    ) -> None:
        super().__init__()
        if callback is not None and not callable(callback):
            raise TypeError(
                f"callback must be a function of the result, not {type(callback).__name__}"
            )
        #: Whose end method may take it.
        self._origin = socket
        self._callback = callback
        self._async_state = state
        self._completed_synchronously = False
        #: Whether the operation has ended for everybody, though its callback has yet to be called.
        self._can_be_taken = False
        self._ended = False
        self._handle: WaitHandle | None = None
        #: There if it has failed, until somebody is told of that.
        self._failure: _Failure | None = None

    def __repr__(self) -> str:
        state = "pending" if self._in_flight else SocketError(self._code).name
        return f"<AsyncResult: {self._last_operation.name}, {state}, {self._describe_count()}>"

    @property
    def async_state(self) -> Any:
        """The ``state`` object that was passed to the begin method."""
        return self._async_state

    @property
    def async_wait_handle(self) -> WaitHandle:
        """A flag that is set when the operation has ended, before the callback is called (F067).

        The same object at each reading (F070).
        """
        handle = self._handle
        return self._make_handle() if handle is None else handle

    @one_step
    def _make_handle(self) -> WaitHandle:
        with LOCK:  # or two threads that ask at the same time would wait for two flags, and one is never set
            if self._handle is None:
                self._handle = WaitHandle()
        if self.is_completed:
            self._handle._signal()
        return self._handle

    @property
    def completed_synchronously(self) -> bool:
        """Whether the operation had ended when the begin method returned, so that its result can be taken at once.

        False also for the one start in many that is answered as pending although the kernel has taken everything, so
        that a loop over starts yields now and then.
        """
        return self._completed_synchronously

    @property
    def is_completed(self) -> bool:
        """Whether the operation has ended; true before the callback is called (F066)."""
        return not self._pending or self._can_be_taken

    @property
    def bytes_transferred(self) -> int:
        """How many bytes the kernel accepted, or gave: exact at any time, final once the operation has ended."""
        return self._transferred

    @property
    def outcome(self) -> outcome.Value[int] | outcome.Error | None:
        """How the operation ended, as an outcome that holds the count or the `SocketException`; None while pending.

        Each reading makes another one, so that reading it does not use up the end method's single call.
        """
        if not self.is_completed:
            return None
        self._be_told()
        return self._settled_outcome()

    @property
    def remaining(self) -> list[memoryview]:
        """Views of the bytes of the message that were not accepted, or of the room left, for a ``buffer_list``."""
        return self._remaining()

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
        return self._request_stop(_OPERATION_ABORTED, reason or "the operation was cancelled")

    def _completed(self, dispatcher: Dispatcher | None) -> None:
        context, waiters = self._release()
        if self._handle is not None:
            self._handle._signal()
        if self._code and self._code != _OPERATION_ABORTED and not self._ended:
            self._failure = _Failure(self._origin._token, self._last_operation, self._exception())
        self._wake(waiters, self._transferred)
        callback, self._callback = self._callback, None
        if dispatcher is not None and callback is not None:
            dispatcher.call(context, callback, self)

    @property
    def _is_listened_to(self) -> bool:
        return self._callback is not None

    def _capture_context(self) -> None:
        if self._callback is not None:
            self._context = contextvars.copy_context()

    @property
    def _failed_on_the_spot(self) -> bool:
        return self._completed_synchronously and self._code != 0

    def _value(self) -> Any:
        """What the end method returns after a success."""
        step = self._step
        return self._transferred if step is None else step.result(self._transferred)

    def _take(self) -> None:
        """Use up the single call of the end method."""
        with LOCK:  # two threads may try at the same time
            if self._ended:
                raise InvalidOperationError(
                    "the end method was called for this result already, and can be called once; "
                    "its bytes_transferred and outcome can be read as often as you like",
                )
            self._ended = True
        self._be_told()

    def _be_told(self) -> None:
        """Note that somebody learns how the operation has ended."""
        if self._failure is not None:
            self._failure.is_told = True


@final
class HandedOut:
    """Stands for the callback of a result that another thread has been handed already.

    Args:
      result: with what the begin method is to go on, rather than make one.
    """

    __slots__ = ("result",)

    def __init__(self, result: AsyncResult) -> None:
        self.result = result


def make_result(socket: Any, callback: Any, state: Any) -> AsyncResult:
    """Return the result of a start that is about to be made."""
    if type(callback) is HandedOut:
        return callback.result
    return AsyncResult(socket, callback, state)


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
            quietly(self._write)

    @one_step
    def _write(self) -> None:
        name = self._kind.name.lower()
        line = f"a begin_{name} has failed, and nobody has called end_{name} for it: {self._error}"
        write_soon(self._token, LOST, line)


@final
class EndedResult(AsyncResult):
    """The result of a send of which the kernel took all at once, and whose end nobody has to be told.

    That is what most results are, and to make a whole operation for one costs as much as the send. So what is the same
    for all of them is said here once, and hides the attributes of the operation: there is no message to go on with, no
    error, no place in a queue, no owner. Whoever makes one fills in the few that are left.
    """

    __slots__ = ()

    _activation = 0
    _callback = None
    _can_be_taken = False
    _code = _SUCCESS
    _completed_synchronously = True
    _failure = None
    _last_operation = SocketAsyncOperation.SEND
    _message = None
    _owner = None
    _state = IDLE
    _step = None
    is_completed = True

    def _describe_count(self) -> str:
        return f"{self._transferred} of {counted(self._transferred, 'byte')} accepted"
