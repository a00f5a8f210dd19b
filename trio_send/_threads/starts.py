"""Starting and stopping sends from a thread that does not run Trio; see `trio_send.from_thread` for the reasons."""

from __future__ import annotations

from collections.abc import Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from .._base.codes import SocketAsyncOperation, SocketError, SocketFlags, require_flags
from .._base.error_numbers import OPERATION_ABORTED, SOCKET_ERROR
from .._base.errors import InvalidOperationError, SocketClosedError
from .._base.inbox import LOCK
from .._base.interrupts import one_step
from .._messages.buffers import message_of
from .._operations.gate import CLOSED
from .._operations.operation import CANCELLED_DETAIL, Operation
from .._operations.states import CUT
from .._owners.exiting_owner import ExitingOwner
from .._socket.async_result import AsyncResult, ResultOperation
from .._socket.core import SocketCore, core_of
from .._socket.event_args import SocketAsyncEventArgs
from .._socket.event_args_operation import EventArgsOperation
from .._socket.results import operation_behind, result_and_error, result_and_operation, succeeded
from .._socket.socket import Socket
from .._socket.starts import (
    NOTHING_TO_SEND,
    admit,
    operation_of,
    require_startable,
    set_send_flags,
)
from .lifetime import enter, find_thread_owner, prepare_for_handlers, require_plain_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from typing_extensions import Buffer

    from .._messages.buffers import Message
    from .._owners.initiator import Initiator
    from .._owners.thread_owner import ThreadOwner


class _Start:
    """A start on its way into the Trio thread."""

    __slots__ = ("_core", "_operation", "_owner")

    def __init__(
        self, core: SocketCore, operation: EventArgsOperation | ResultOperation, owner: ThreadOwner
    ) -> None:
        self._core = core
        self._operation = operation
        self._owner = owner

    def __call__(self) -> None:
        """Make the first attempt; the end is told in any case, because the thread was answered "pending"."""
        core, operation, owner = self._core, self._operation, self._owner
        owner.be_served()
        sends = core.sends
        if owner.stopped is not None:
            owner.refuses(operation)
            owner.note_late_start()
        elif operation.code:
            pass  # it has failed in its thread, which was answered "pending" to have it wait
        elif sends.gate & CLOSED:
            sends.refuse_closed(operation)
        else:
            try:
                core.require_usable()  # which notes the run that it is used in
                if sends.instruments.watching:
                    sends.instruments.started(operation, sends)
                if admit(core, operation) and sends.start(operation, owner):
                    return
            except Exception as error:
                # A buffer may be a program that raises; there is nobody here to hear of it.
                operation.set_error(SOCKET_ERROR, 0, f"its buffer raised {error!r}")
        operation.end_later(owner)
        operation.queue = sends  # which knows whether the message was cut
        sends.count_on_the_spot(operation)
        owner.ended(operation, None)
        if sends.instruments.watching:
            sends.instruments.ended_on_the_spot(operation, sends)


def require_socket(socket: Socket, owner: ThreadOwner) -> SocketCore:
    """Return the core of a socket that can be used by the run of an owner's host, or raise."""
    if not isinstance(socket, Socket):
        raise TypeError(f"socket must be a trio_send.Socket, not {type(socket).__name__}")
    core = core_of(socket)
    core.sends.require_own()
    if core.thread != owner.trio_thread:
        raise InvalidOperationError(
            "this socket belongs to another thread than the one in which the host's run of Trio takes place; make it "
            "in the Trio thread",
        )
    if core.token is not None and core.token is not owner.inbox.token:
        raise InvalidOperationError(
            "this socket was used in another call of trio.run() than the host's; make a socket for each",
        )
    if core.sends.gate & CLOSED:
        raise SocketClosedError("this socket was closed")
    return core


def _start(
    socket: Socket,
    face: AsyncResult | SocketAsyncEventArgs,
    operation: EventArgsOperation | ResultOperation,
    message: Message,
    flags: SocketFlags,
    owner: ThreadOwner,
    caller: Callable[[], object] | None = None,
) -> bool:
    """Post a send; return False if it has failed on the spot, with the reason in the results."""
    core = core_of(socket)
    start = _Start(core, operation, owner)
    with LOCK:
        owner.require_open()
        if isinstance(face, SocketAsyncEventArgs):
            operation_of(face)
        # As in Trio, a blind restart while the owner exits keeps its count.
        is_refused = owner.why_refused() is not None
        keeps = is_refused and operation.state == CUT and core.sends.is_torn_by(operation)
        if not keeps:
            require_startable(operation)
        operation.claim()
        try:
            if not keeps:
                operation.reset_results()
                operation.message = message
                operation.address = operation.step = None
                operation.kind = SocketAsyncOperation.SEND
            operation.socket = socket
            operation.face = face
            if (
                not owner.refuses(operation)
                and set_send_flags(operation, flags)
                and admit(core, operation)
            ):
                owner.failures_in_a_row = 0
            elif not owner.spend_in_thread():
                operation.rest(core.sends)
                return False
            operation.capture_context()
            if operation.context is not None:
                operation.context.run(prepare_for_handlers, owner)
            if isinstance(operation, EventArgsOperation):
                operation.caller = caller
            operation.post(owner)
            owner.inbox.put(start)
        except BaseException:
            if operation.in_flight:
                operation.rest(core.sends)
            raise
    deliver(start, operation, owner, core)
    return True


def deliver(
    start: Callable[[], None], operation: Operation, owner: ThreadOwner, core: SocketCore
) -> None:
    """Have the start of an operation taken in that was put into the inbox, or raise and leave all as it was."""
    taken_in = False
    try:
        taken_in = owner.inbox.wake()
    finally:
        if not taken_in:
            taken_in = not owner.inbox.take_back(start)
            if not taken_in:
                operation.rest(core.sends)
    if not taken_in:
        raise InvalidOperationError(
            "the run of Trio that served this thread is over; nothing was started"
        )


def begin_send(
    socket: Socket,
    buffer_or_list: Buffer | Sequence[Buffer],
    offset: int = 0,
    size: int | None = None,
    socket_flags: SocketFlags = SocketFlags.NONE,
    callback: Callable[[AsyncResult], object] | None = None,
    state: Any = None,
    *,
    host: Initiator | None = None,
    callbacks_in_thread: bool = False,
) -> AsyncResult:
    """Start to send a buffer, or a list of buffers as one message, from a thread that does not run Trio.

    Args:
      socket: the socket, which lives in the Trio thread.
      buffer_or_list: as for `Socket.begin_send`, like the others up to ``state``. Leave it alone until the end.
      offset: where in the buffer to begin, in bytes.
      size: how many bytes to send.
      socket_flags: how to send.
      callback: a function or async function to call with the result when the operation has ended.
      state: anything of yours.
      host: the initiator that serves this thread. Not needed inside ``with initiator(...)``, and in threads that
        inherit one, as those of `trio.to_thread.run_sync` do.
      callbacks_in_thread: whether ``callback`` is called in a worker thread, by `trio.to_thread.run_sync`, and may
        block there. Otherwise it is called in the Trio thread.

    Returns:
      The result to hand to `end_send`. The first attempt may be yet to come, so an error that the kernel reports is
      found there.

    Raises:
      TypeError: the buffer is None, not bytes-like or not contiguous; ``socket`` or ``host`` is something else.
      ValueError: ``offset`` or ``size`` leaves the buffer, or the list is empty.
      SocketException: the socket was never connected, is torn or broken, or the owner or host is leaving; nothing is
        pending and the callback will not be called.
      ObjectDisposedError: the socket was closed.
      InvalidOperationError: this thread runs Trio, or has no host; the host has exited; the socket belongs to another
        thread or run than the host.

    **Checkpoints**: never; it does not wait for the Trio thread either. After many starts in a row that failed on the
    spot, one is answered as pending although it has failed, so that a loop comes to where it waits now and then.

    **If cancelled**: nothing is raised here. The operation belongs to the thread, ends with it or with its host, and
    carries the exact count.

    **Threads**: only those that do not run Trio; in Trio, `Socket.begin_send`.

    Source: the `begin_send` page, "the ability to send data within a separate execution thread".
    """
    result = _begin(
        "begin_send",
        socket,
        buffer_or_list,
        offset,
        size,
        socket_flags,
        callback,
        state,
        host,
        callbacks_in_thread,
    )
    return succeeded(result)


def try_begin_send(
    socket: Socket,
    buffer_or_list: Buffer | Sequence[Buffer],
    offset: int = 0,
    size: int | None = None,
    socket_flags: SocketFlags = SocketFlags.NONE,
    callback: Callable[[AsyncResult], object] | None = None,
    state: Any = None,
    *,
    host: Initiator | None = None,
    callbacks_in_thread: bool = False,
) -> tuple[AsyncResult | None, SocketError]:
    """Start to send as `begin_send` does, and return a failure on the spot instead of raising it.

    Args:
      socket: as for `begin_send`, like all the others.
      buffer_or_list: what to send.
      offset: where in the buffer to begin, in bytes.
      size: how many bytes to send.
      socket_flags: how to send.
      callback: what to call when the operation has ended.
      state: anything of yours.
      host: the initiator that serves this thread.
      callbacks_in_thread: whether ``callback`` is called in a worker thread.

    Returns:
      The result and SUCCESS; or None and the error if the send failed on the spot (F053).

    Raises:
      TypeError: as `begin_send`.
      ValueError: as `begin_send`.
      ObjectDisposedError: as `begin_send`.
      InvalidOperationError: as `begin_send`.

    **Checkpoints**: never, as `begin_send`; it does not wait for the Trio thread either.

    **If cancelled**: nothing is raised here; see `begin_send`.

    **Threads**: only those that do not run Trio; in Trio, `Socket.try_begin_send`.

    Source: the `begin_send` page, the overload with ``errorCode``.
    """
    result = _begin(
        "try_begin_send",
        socket,
        buffer_or_list,
        offset,
        size,
        socket_flags,
        callback,
        state,
        host,
        callbacks_in_thread,
    )
    return result_and_error(result)


@one_step
def _begin(
    name: str,
    socket: Socket,
    buffer_or_list: Buffer | Sequence[Buffer],
    offset: int,
    size: int | None,
    flags: SocketFlags,
    callback: Callable[[AsyncResult], object] | None,
    state: Any,
    host: Initiator | None,
    callbacks_in_thread: bool,
) -> AsyncResult:
    """Begin a send for the function of that name; if it has failed on the spot, the result tells how."""
    require_plain_thread(
        name,
        f"call socket.{name}(), or where host is not current host.run_sync(socket.{name}, ...)",
    )
    owner = find_thread_owner(host, name)
    require_socket(socket, owner)
    require_flags(flags)
    if callback is not None and callbacks_in_thread and callable(callback):
        callback = partial(_call_in_thread, owner, callback)
    result, operation = result_and_operation(socket, owner.inbox.token, callback, state)
    message = message_of("buffer_or_list", buffer_or_list, offset, size)
    operation.completed_synchronously = not _start(socket, result, operation, message, flags, owner)
    return result


@one_step
def send_async(
    socket: Socket,
    args: SocketAsyncEventArgs,
    *,
    host: Initiator | None = None,
    callbacks_in_thread: bool = False,
) -> bool:
    """Start to send the message of ``args`` from a thread that does not run Trio.

    Args:
      socket: the socket, which lives in the Trio thread.
      args: what to send. They are in use until the operation has ended; until then leave them alone, but for reading.
      host: as for `begin_send`.
      callbacks_in_thread: whether the handlers of `SocketAsyncEventArgs.completed` are called in a worker thread.

    Returns:
      True if the operation is pending, which it is even if the kernel takes everything at the first attempt, because
      that may be yet to come: ``completed`` will be raised, exactly once. False if it has failed on the spot: the args
      tell how, and the event is not raised.

    Raises:
      TypeError: ``args``, ``socket`` or ``host`` is something else.
      ValueError: ``args`` has neither a buffer nor a buffer list.
      OperationInProgressError: ``args`` is in use.
      ObjectDisposedError: the socket or ``args`` was closed.
      InvalidOperationError: as `begin_send`; or the message of ``args`` was cut and stands half sent on a torn stream.

    **Checkpoints**: never, as `begin_send`; it does not wait for the Trio thread either.

    **If cancelled**: nothing is raised here; see `begin_send`.

    **Threads**: only those that do not run Trio; in Trio, `Socket.send_async`.

    Source: the `send_async` page.
    """
    require_plain_thread(
        "send_async",
        "call socket.send_async(), or where host is not current host.run_sync(socket.send_async, args)",
    )
    owner = find_thread_owner(host, "send_async")
    require_socket(socket, owner)
    operation = operation_of(args)
    if operation.message is None:
        raise ValueError(NOTHING_TO_SEND)
    caller = partial(_call_in_thread, owner, args.on_completed) if callbacks_in_thread else None
    return _start(socket, args, operation, operation.message, operation.socket_flags, owner, caller)


# Handlers in a worker thread ------------------------------------------------------------------------------------------


async def _call_in_thread(
    owner: ThreadOwner, handler: Callable[..., object], *args: object
) -> None:
    """Call a handler in a worker thread, whatever is cancelled; if it proves asynchronous, finish it here."""
    with trio.CancelScope(shield=True):
        (result,) = await trio.to_thread.run_sync(_call_here, owner, handler, *args)
    if isinstance(result, Coroutine):
        await result


def _call_here(owner: ThreadOwner, handler: Callable[..., object], *args: object) -> tuple[object]:
    """Call a handler; what it starts belongs to the thread whose send it is told of."""
    enter(owner)
    return (handler(*args),)


# Stopping -------------------------------------------------------------------------------------------------------------


@one_step
def cancel(operation: AsyncResult | SocketAsyncEventArgs, reason: str | None = None) -> None:
    """Stop a send that is pending, without waiting until it has stopped.

    It ends with OPERATION_ABORTED, the exact count and ``reason`` in its error's text, unless it has ended or all its
    bytes were accepted by then. The next use of the same args is not touched.

    Args:
      operation: what `begin_send` returned, or the args that were passed to `send_async`.
      reason: why, for people.

    Raises:
      TypeError: ``operation`` is something else.
      InvalidOperationError: this thread runs Trio, or the operation is awaited by a task, whose scope is to be
        cancelled instead.

    **Checkpoints**: never; it does not wait for the Trio thread either.

    **If cancelled**: nothing is raised here.

    **Threads**: only those that do not run Trio; in Trio, `AsyncResult.cancel` and `SocketAsyncEventArgs.cancel`.
    """
    require_plain_thread("cancel", "call cancel() of the operation")
    if not isinstance(operation, (AsyncResult, SocketAsyncEventArgs)):
        raise TypeError(
            "operation must be what begin_send() returned, or args that are in use, "
            f"not {type(operation).__name__}"
        )
    record = operation_behind(operation)
    owner = None if record is None else record.owner
    if record is None or owner is None:
        return
    if not isinstance(owner, ExitingOwner):
        raise InvalidOperationError(
            "these args are awaited by a task; cancel the scope of that task"
        )
    activation = record.activation

    def stop() -> None:
        if record.activation == activation and record.queue is not None:
            record.queue.stop(record, OPERATION_ABORTED, reason or CANCELLED_DETAIL)

    owner.inbox.post(stop)
