"""Starting whatever a socket can start from a thread that does not run Trio; see `trio_send.from_thread`.

The method itself is called in the Trio thread, when the post is taken in. What the thread has been handed is in use
from the post on, so nobody else can start it meanwhile; for that one call it is as good as free.
"""

from __future__ import annotations

import contextvars
import inspect
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from .._base.codes import SocketAsyncOperation, SocketError
from .._base.error_numbers import OPERATION_ABORTED
from .._base.inbox import LOCK
from .._base.interrupts import one_step
from .._operations.gate import CLOSED
from .._operations.operation import CLOSED_DETAIL, describe_os_error
from .._operations.states import ARRIVED
from .._socket.async_result import HandedOut, ResultOperation
from .._socket.core import core_of
from .._socket.results import result_and_operation
from .._socket.socket import Socket
from .._socket.starts import operation_of, require_startable
from .lifetime import find_thread_owner, prepare_for_handlers, require_plain_thread
from .starts import begin_send, deliver, require_socket, send_async, try_begin_send

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import ParamSpec

    from .._owners.thread_owner import ThreadOwner
    from .._socket.async_result import AsyncResult
    from .._socket.event_args import SocketAsyncEventArgs
    from .._socket.event_args_operation import EventArgsOperation

    P = ParamSpec("P")

T = TypeVar("T")

_SENDS: Final[dict[str, Callable[..., Any]]] = {
    "send_async": send_async,
    "begin_send": begin_send,
    "try_begin_send": try_begin_send,
}

_KINDS: Final = {
    "accept_async": SocketAsyncOperation.ACCEPT,
    "begin_accept": SocketAsyncOperation.ACCEPT,
    "begin_connect": SocketAsyncOperation.CONNECT,
    "begin_receive": SocketAsyncOperation.RECEIVE,
    "begin_receive_from": SocketAsyncOperation.RECEIVE_FROM,
    "begin_receive_message_from": SocketAsyncOperation.RECEIVE_MESSAGE_FROM,
    "begin_send_to": SocketAsyncOperation.SEND_TO,
    "connect_async": SocketAsyncOperation.CONNECT,
    "disconnect_async": SocketAsyncOperation.DISCONNECT,
    "receive_async": SocketAsyncOperation.RECEIVE,
    "receive_from_async": SocketAsyncOperation.RECEIVE_FROM,
    "receive_message_from_async": SocketAsyncOperation.RECEIVE_MESSAGE_FROM,
    "send_packets_async": SocketAsyncOperation.SEND_PACKETS,
    "send_to_async": SocketAsyncOperation.SEND_TO,
    "try_begin_receive": SocketAsyncOperation.RECEIVE,
}


class _AnyStart:
    """A call of a start on its way into the Trio thread."""

    __slots__ = ("_call", "_context", "_face", "_operation", "_owner", "_socket")

    def __init__(
        self,
        socket: Socket,
        face: AsyncResult | SocketAsyncEventArgs,
        operation: EventArgsOperation | ResultOperation,
        owner: ThreadOwner,
        call: Callable[[], Any],
    ) -> None:
        self._socket = socket
        self._face = face
        self._operation = operation
        self._owner = owner
        self._call = call
        # What the method captures is a copy of this one.
        self._context = contextvars.copy_context()
        self._context.run(prepare_for_handlers, owner)

    def __call__(self) -> None:
        """Call the method; the end is told in any case, because the thread was answered "pending"."""
        operation, owner = self._operation, self._owner
        owner.be_served()
        operation.arrive()
        if not self._ends_on_the_spot():
            return
        if operation.state == ARRIVED:
            operation.trace = None  # whoever watches has not seen it start
        if owner.stopped is not None:
            owner.note_late_start()
        # What has ended on the spot has let go of these.
        operation.socket = self._socket
        operation.face = self._face
        self._context.run(operation.capture_context)
        operation.end_later(owner)
        operation.queue = core_of(self._socket).sends  # which knows whether a message was cut
        owner.ended(operation, None)

    def _ends_on_the_spot(self) -> bool:
        """Call the method; return whether that ended the operation, and nobody tells of it yet."""
        operation = self._operation
        try:
            answer = self._context.run(self._call)
        except Exception as error:
            if not operation.code:
                operation.set_error(*self._describe(error))
            answer = False
        if not isinstance(operation, ResultOperation):
            return not answer
        on_the_spot = operation.completed_synchronously or answer is False
        operation.completed_synchronously = False  # the thread could not have taken it
        return on_the_spot and not operation.can_be_taken  # else its callback is told anyway

    def _describe(self, error: Exception) -> tuple[int, int, str | None]:
        """Return the numbers and the sentence of an error that nobody is there to catch."""
        if core_of(self._socket).sends.gate & CLOSED:
            return OPERATION_ABORTED, 0, CLOSED_DETAIL
        if isinstance(error, OSError):
            return describe_os_error(error)
        if self._owner.stopped is not None:
            return OPERATION_ABORTED, 0, self._owner.stopped
        code = SocketError.SOCKET_ERROR
        if isinstance(error, (TypeError, ValueError)):
            code = SocketError.INVALID_ARGUMENT
        return int(code), 0, str(error) or type(error).__name__


@one_step
def start(method: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Start any operation of a socket from a thread that does not run Trio, as in ``start(socket.begin_accept)``.

    ``send_async``, ``begin_send`` and ``try_begin_send`` of a socket are started as by the functions of those names
    here. Any other method is called in the Trio thread, soon. It is answered as pending at once, and what it says then
    is told in the end: also an error that in Trio would be raised by the call. INVALID_ARGUMENT stands for `TypeError`
    and `ValueError`, with their sentence.

    The host is the one of ``with initiator(...)``, or the one that the thread has inherited. Callbacks and handlers run
    in the Trio thread.

    Args:
      method: a method of a `Socket` that starts an operation: one whose name begins with ``begin_``, ``try_begin_`` or
        ends in ``_async``.
      args: what to call it with.
      kwargs: what to call it with by name.

    Returns:
      What the method returns when the operation is pending: True for one that takes args, whose ``completed`` will be
      raised, exactly once; for the others the result to hand to `end`, from ``try_begin_receive`` with SUCCESS.

    Raises:
      TypeError: ``method`` is something else, or cannot be called like this; the callback is no function; or what
        should be args is something else.
      SocketException: as `begin_send`, and only where that is what ``method`` stands for.
      OperationInProgressError: the args are in use.
      ObjectDisposedError: the socket or the args were closed.
      InvalidOperationError: as `begin_send`; or the message of the args was cut and stands half sent on a torn stream.

    **Checkpoints**: never; it does not wait for the Trio thread either.

    **If cancelled**: nothing is raised here. The operation belongs to the thread, and ends with it or with its host.

    **Threads**: only those that do not run Trio; in Trio, the method itself.
    """
    socket = getattr(method, "__self__", None)
    name = getattr(method, "__name__", "")
    if not isinstance(socket, Socket) or not (name in _SENDS or name in _KINDS):
        raise TypeError(
            "method must be one of a trio_send.Socket that starts an operation, such as socket.begin_accept, not "
            f"{method!r}; to call anything else in the Trio thread, use trio.from_thread.run_sync()"
        )
    require_plain_thread(
        "start",
        f"call socket.{name}(), or where host is not current host.run_sync(socket.{name}, ...)",
    )
    if name in _SENDS:
        return cast("T", _SENDS[name](socket, *args, **kwargs))
    bound = inspect.signature(method).bind(*args, **kwargs)
    owner = find_thread_owner(None, "start")
    require_socket(socket, owner)
    if name.endswith("_async"):
        (event_args,) = bound.args
        operation = operation_of(event_args)
        _post(socket, event_args, operation, owner, _KINDS[name], lambda: method(*args, **kwargs))
        return cast("T", True)
    values = bound.arguments
    result, made = result_and_operation(
        socket, owner.inbox.token, values.get("callback"), values.get("state")
    )
    values["callback"] = HandedOut(result)
    _post(
        socket,
        result,
        made,
        owner,
        _KINDS[name],
        lambda: method(*bound.args, **bound.kwargs),
    )
    return cast("T", (result, SocketError.SUCCESS) if name.startswith("try_") else result)


def _post(
    socket: Socket,
    face: AsyncResult | SocketAsyncEventArgs,
    operation: EventArgsOperation | ResultOperation,
    owner: ThreadOwner,
    kind: SocketAsyncOperation,
    call: Callable[[], Any],
) -> None:
    """Have a start made in the Trio thread, for an operation that is in use from now on."""
    post = _AnyStart(socket, face, operation, owner, call)
    with LOCK:
        owner.require_open()
        require_startable(operation)
        operation.claim()
        operation.reset_results()
        operation.kind = kind
        operation.socket = socket
        operation.face = face
        operation.post(owner)
        owner.inbox.put(post)
    deliver(post, operation, owner, core_of(socket))
