"""`SocketAsyncEventArgs`: a reusable operation that raises ``Completed``."""

from __future__ import annotations

import contextvars
import math
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final, final

import trio

from ._buffers import Message, message_from_buffer, message_from_list
from ._codes import SocketAsyncOperation, SocketError, SocketFlags, require_flags
from ._dispatcher import Dispatcher, call_in_order
from ._exceptions import ObjectDisposedError, OperationInProgressError, SocketException
from ._operation import IDLE, Operation
from ._packets import Packets, SendPacketsElement, require_elements

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    import outcome
    from typing_extensions import Buffer, Self

    from ._socket import Socket

_NO_FLAGS: Final = SocketFlags.NONE
_OPERATION_ABORTED: Final = int(SocketError.OPERATION_ABORTED)


@final
class CompletedEvent:
    """The handlers of one args object, as ``args.completed``.

    Add one with ``args.completed += handler`` and take it off with ``args.completed -= handler``. A handler is called
    as ``handler(socket, args)`` and may be a function or an async function. Handlers run in the order they were added
    (F127); from the first asynchronous one on, in a task of their own.
    """

    __slots__ = ("_handlers",)

    def __init__(self) -> None:
        self._handlers: tuple[Callable[[Any, Any], object], ...] = ()

    def __iadd__(self, handler: Callable[[Any, Any], object]) -> Self:
        if not callable(handler):
            raise TypeError(
                f"handler must be a function of (socket, args), not {type(handler).__name__}"
            )
        self._handlers = (*self._handlers, handler)
        return self

    def __isub__(self, handler: Callable[[Any, Any], object]) -> Self:
        handlers = list(self._handlers)
        for index in range(len(handlers) - 1, -1, -1):
            # The latest of equal ones, as .NET has it; an unknown one is ignored.
            if handlers[index] == handler:
                del handlers[index]
                break
        self._handlers = tuple(handlers)
        return self

    def __len__(self) -> int:
        return len(self._handlers)

    def __bool__(self) -> bool:
        return bool(self._handlers)

    def __repr__(self) -> str:
        return f"<CompletedEvent: {len(self._handlers)} handlers>"


class SocketAsyncEventArgs(Operation):
    """One reusable operation: what to send or where to receive into, how it went, and whom to tell.

    An object serves one operation at a time (F093), any number of them in turn, on any sockets (F159). It is free again
    before ``Completed`` is raised, so a handler may configure and start it anew (F130).

    Args:
      buffer: what to send, any contiguous bytes-like object; or a writable one to receive into. It is not copied.
        Leave it alone while it is in use.
      offset: where in the buffer to begin, in bytes.
      count: how many bytes to send; None stands for all from ``offset`` on.
      buffer_list: several buffers to send as one message, instead of ``buffer``.
      user_token: anything of yours; never touched (F145).
      flow_context: whether handlers run in the `contextvars` context of the start. If not, they run in a copy of the
        initiator's.

    Raises:
      TypeError: a buffer is not bytes-like or not contiguous.
      ValueError: ``offset`` or ``count`` leaves the buffer, or ``buffer`` and ``buffer_list`` are both given.

    Source: the `send_async` page.
    """

    __slots__ = (
        "_accept_socket",
        "_buffer",
        "_buffer_list",
        "_caller",
        "_closed",
        "_closing",
        "_completed_event",
        "_connect_socket",
        "_direct",
        "_elements",
        "_flow_context",
        "_is_by_name",
        "_packets",
        "_prepared",
        "_remote_end_point",
        "_size",
        "_snapshot",
        "_socket_flags",
        "disconnect_reuse_socket",
        "user_token",
    )

    def __init__(
        self,
        buffer: Buffer | None = None,
        offset: int = 0,
        count: int | None = None,
        *,
        buffer_list: Sequence[Buffer] | None = None,
        user_token: Any = None,
        flow_context: bool = True,
    ) -> None:
        super().__init__()
        self.user_token: Any = user_token
        self._buffer: Buffer | None = None
        self._buffer_list: Sequence[Buffer] | None = None
        self._socket_flags = SocketFlags.NONE
        self._remote_end_point: Any = None
        self._accept_socket: Any = None
        self._connect_socket: Any = None
        self._is_by_name = False
        #: Whether `Socket.disconnect_async` leaves a socket that can be connected again. It can be set at any time.
        self.disconnect_reuse_socket: bool = False
        self._completed_event: CompletedEvent | None = None
        self._flow_context = flow_context
        #: What calls `on_completed` for the current activation, if it is not called directly.
        self._caller: Callable[[], object] | None = None
        self._closed = False
        self._closing = False
        # What the fast path hands to the kernel, and how many bytes that is; None where it cannot be that simple.
        self._direct: bytes | memoryview | None = None
        self._size = 0
        #: The message of the buffer or the buffer list. So is `_message`, except while packets are being sent.
        self._prepared: Message | None = None
        self._elements: Sequence[SendPacketsElement] | None = None
        #: What `_elements` was when it was set, and the message that was made of it for the latest operation.
        self._snapshot: tuple[SendPacketsElement, ...] = ()
        self._packets: Packets | None = None
        if buffer is not None:
            self.set_buffer(buffer, offset, count)
        if buffer_list is not None:
            self.buffer_list = buffer_list

    def __repr__(self) -> str:
        if self._closed:
            return "<SocketAsyncEventArgs: closed>"
        state = "pending" if self._in_flight else SocketError(self._code).name
        kind = self._last_operation.name
        return f"<SocketAsyncEventArgs: {kind}, {state}, {self._describe_count()}>"

    def _describe_count(self) -> str:
        if self._last_operation == SocketAsyncOperation.SEND_PACKETS and self._packets is not None:
            return f"{self._transferred} of {self._packets.size} bytes accepted"
        return super()._describe_count()

    # -- what to send -------------------------------------------------------------------------------------------------

    def _require_configurable(self) -> None:
        self._require_idle()
        self._require_free()

    def _require_idle(self) -> None:
        if self._closed:
            raise ObjectDisposedError("these args were closed; make others")
        if self._pending:
            raise OperationInProgressError(
                "these args are in use by an operation that is pending; wait for it to end, or use other args",
            )

    def _assign(self, message: Message | None) -> None:
        self._prepared = message
        self._use_prepared()
        self._refresh()

    def _use_prepared(self) -> None:
        self._message = self._prepared
        self._fresh = True

    def _let_go(self) -> None:
        super()._let_go()
        if self._state == IDLE and self._message is not self._prepared:
            self._use_prepared()

    def _refresh(self) -> None:
        message = self._prepared
        self._direct = None
        self._size = 0
        if message is not None:
            self._size = message.size
            if self._socket_flags == _NO_FLAGS and not self._closed:
                self._direct = message.direct

    @property
    def buffer(self) -> Buffer | None:
        """The buffer that was set, the very object; None if none was."""
        return self._buffer

    @property
    def offset(self) -> int:
        """Where in the buffer the message begins, in bytes; no operation moves it (F146)."""
        if self._buffer is None or self._prepared is None:
            return 0
        return self._prepared.pieces[0].offset

    @property
    def count(self) -> int:
        """How many bytes of the buffer to send; no operation changes it (F146)."""
        if self._buffer is None or self._prepared is None:
            return 0
        return self._prepared.size

    def set_buffer(self, buffer: Buffer | None, offset: int = 0, count: int | None = None) -> None:
        """Set what to send, or where to receive into: a range of one buffer, which is not copied.

        Args:
          buffer: any contiguous bytes-like object, or None to have none; ``offset`` and ``count`` are ignored then
            (F101).
          offset: where to begin, in bytes.
          count: how many bytes; None stands for all from ``offset`` on.

        Raises:
          TypeError: ``buffer`` is not bytes-like or not contiguous.
          ValueError: a `buffer_list` is set (F098), or the range leaves the buffer (F102).
          OperationInProgressError: the args are in use (F106).
          ObjectDisposedError: the args were closed (F108).
          InvalidOperationError: their message was cut and stands half sent on a torn stream.

        **Threads**: only from the Trio thread that uses the socket.
        """
        self._require_configurable()
        if buffer is None:
            self._buffer = None
            if self._buffer_list is None:
                self._assign(None)
            return
        if self._buffer_list is not None:
            raise ValueError(
                "buffer and buffer_list exclude each other; set buffer_list to None first"
            )
        message = message_from_buffer("buffer", buffer, offset, count, "count")
        self._buffer = buffer
        self._assign(message)

    def set_range(self, offset: int, count: int | None = None) -> None:
        """Choose another range of the buffer that is set; without one, do nothing (F103).

        Args:
          offset: where to begin, in bytes.
          count: how many bytes; None stands for all from ``offset`` on.

        Raises:
          ValueError: the range leaves the buffer.
          OperationInProgressError: the args are in use (F106).
          ObjectDisposedError: the args were closed (F108).
          InvalidOperationError: their message was cut and stands half sent on a torn stream.

        **Threads**: only from the Trio thread that uses the socket.
        """
        self._require_configurable()
        if self._buffer is not None:
            self.set_buffer(self._buffer, offset, count)

    @property
    def buffer_list(self) -> Sequence[Buffer] | None:
        """Several buffers to send as one message: the very object that was set (F111), or None.

        What is sent is the list as it was when it was set (F112). Setting it while a `buffer` is set is a `ValueError`
        (F097); setting None is always fine (F100); a bad member changes nothing (F114).
        """
        return self._buffer_list

    @buffer_list.setter
    def buffer_list(self, buffers: Sequence[Buffer] | None) -> None:
        self._require_configurable()
        if buffers is None:
            if self._buffer_list is not None:
                self._buffer_list = None
                self._assign(None)
            return
        if self._buffer is not None:
            raise ValueError(
                "buffer and buffer_list exclude each other; call set_buffer(None) first"
            )
        message = message_from_list("buffer_list", buffers)
        self._buffer_list = buffers
        self._assign(message)

    @property
    def send_packets_elements(self) -> Sequence[SendPacketsElement] | None:
        """What `Socket.send_packets_async` sends, as one message: the very object that was set, or None.

        What is sent is the list as it was when it was set. It has nothing to do with `buffer` and `buffer_list`, which
        may be set beside it. It can be set when no operation is pending (F106).
        """
        return self._elements

    @send_packets_elements.setter
    def send_packets_elements(self, elements: Sequence[SendPacketsElement] | None) -> None:
        self._require_configurable()
        snapshot = () if elements is None else require_elements(elements)
        self._elements = elements
        self._snapshot = snapshot
        self._packets = None

    @property
    def socket_flags(self) -> SocketFlags:
        """The flags of the next send; no operation changes them."""
        return self._socket_flags

    @socket_flags.setter
    def socket_flags(self, flags: SocketFlags) -> None:
        require_flags(flags)
        self._socket_flags = SocketFlags(flags)
        self._refresh()

    @property
    def remote_end_point(self) -> Any:
        """The address to connect to, a Python socket address; no operation changes it (F154)."""
        return self._remote_end_point

    @remote_end_point.setter
    def remote_end_point(self, address: Any) -> None:
        self._remote_end_point = address

    @property
    def timeout(self) -> float:
        """How many seconds an operation may be pending, counted from its start; `math.inf` by default.

        One that takes longer ends with TIMED_OUT and its exact count. It can be set when no operation is pending.
        """
        return math.inf if self._limits is None else self._limits[0]

    @timeout.setter
    def timeout(self, seconds: float) -> None:
        self._set_limits("timeout", seconds, self.stall_timeout)

    @property
    def stall_timeout(self) -> float:
        """How many seconds a send may go without an accepted byte while it heads its queue; `math.inf` by default.

        One that stands still longer ends with TIMED_OUT and its exact count. It can be set when no operation is
        pending.
        """
        return math.inf if self._limits is None else self._limits[1]

    @stall_timeout.setter
    def stall_timeout(self, seconds: float) -> None:
        self._set_limits("stall_timeout", seconds, self.timeout)

    def _set_limits(self, name: str, seconds: float, other: float) -> None:
        if not seconds >= 0:
            raise ValueError(
                f"{name} is {seconds}, but must be a number of seconds from 0 on, or math.inf"
            )
        self._require_idle()
        limits = (float(seconds), other) if name == "timeout" else (other, float(seconds))
        self._limits = None if limits == (math.inf, math.inf) else limits

    # -- how it went --------------------------------------------------------------------------------------------------

    @property
    def pending(self) -> bool:
        """Whether an operation was started with these args that has not been told as ended."""
        return self._pending

    @property
    def activation(self) -> int:
        """The number of the current or latest pending operation; each gets the next one."""
        return self._activation

    @property
    def bytes_transferred(self) -> int:
        """How many bytes the kernel accepted, or gave: exact at any time, final once the operation has ended.

        The same on success, failure and abort. Accepted is not delivered.
        """
        return self._transferred

    @property
    def socket_error(self) -> SocketError:
        """How the latest operation ended; IO_PENDING while it is pending."""
        return SocketError.IO_PENDING if self._pending else SocketError(self._code)

    @property
    def last_operation(self) -> SocketAsyncOperation:
        """The kind of the current or latest operation, set at its start (F139)."""
        return self._last_operation

    @property
    def outcome(self) -> outcome.Value[int] | outcome.Error | None:
        """How the latest operation ended, as an outcome that holds the count or the `SocketException`.

        None while it is pending and before the first. Each reading makes another one, so each can be unwrapped once.
        """
        return self._outcome()

    @property
    def remaining(self) -> list[memoryview]:
        """Views of the bytes of the message that were not accepted, or of the room that is left, for a ``buffer_list``.

        While you hold them, the buffers are locked against resizing. Of packets that are being sent or were cut, there
        are none if something lies in a file, and reading it raises `InvalidOperationError`; see `remaining_elements`.
        """
        return self._remaining()

    @property
    def remaining_elements(self) -> list[SendPacketsElement]:
        """What was not accepted of the `send_packets_elements`, fit to be set in their place.

        A file that was given by its path is named by its path, and opened anew when it is sent. To send the rest of
        the very file that was cut, whatever has become of its path, use `Socket.resume` or `Socket.send_rest`.
        """
        if self._packets is None or self._last_operation != SocketAsyncOperation.SEND_PACKETS:
            return list(self._snapshot)
        return self._packets.rest(self._transferred)

    @property
    def accept_socket(self) -> Socket | None:
        """The socket that the latest accept made; it must be None before the next one."""
        return self._accept_socket  # type: ignore[no-any-return]

    @accept_socket.setter
    def accept_socket(self, socket: Socket | None) -> None:
        self._accept_socket = socket

    @property
    def connect_socket(self) -> Socket | None:
        """The socket that the latest connect connected; None while it is pending and after a failure (F151)."""
        if self._last_operation == SocketAsyncOperation.CONNECT and (self._pending or self._code):
            return None
        return self._connect_socket  # type: ignore[no-any-return]

    @property
    def connect_by_name_error(self) -> SocketException | None:
        """What went wrong with the latest operation, if that was a connect to a name; None otherwise (F150).

        The looking up, or the last of the addresses that were tried.
        """
        if (
            self._last_operation != SocketAsyncOperation.CONNECT
            or not self._is_by_name
            or self._pending
            or not self._code
        ):
            return None
        return self._exception()

    # -- whom to tell -------------------------------------------------------------------------------------------------

    @property
    def completed(self) -> CompletedEvent:
        """The event that is raised once for each operation that was pending, and for no other.

        ``args.completed += handler`` adds a handler, called as ``handler(socket, args)``; ``-=`` takes one off.
        """
        self._ask()  # a handler that is added before the end is told is called
        if self._completed_event is None:
            self._completed_event = CompletedEvent()
        return self._completed_event

    @completed.setter
    def completed(self, event: CompletedEvent) -> None:
        if event is not self._completed_event:
            raise AttributeError(
                "completed cannot be replaced; add a handler with +=, take one off with -="
            )

    def on_completed(self) -> Coroutine[Any, Any, object] | None:
        """Raise `completed`; override it to be told without a handler (F129).

        Returns:
          None, or a coroutine that still has to run. It then runs as a task of the initiator.

        **Threads**: called in the Trio thread that uses the socket, or in a worker thread if the operation
        was started so.
        """
        if not self._completed_event:
            return None
        handlers = self._completed_event._handlers
        if len(handlers) == 1:
            result = handlers[0](self._socket, self)
            return result if isinstance(result, Coroutine) else None
        return call_in_order(iter(handlers), self._socket, self)

    @property
    def _is_listened_to(self) -> bool:
        event = self._completed_event
        if event is not None and event._handlers:
            return True
        return type(self).on_completed is not SocketAsyncEventArgs.on_completed

    def _capture_context(self) -> None:
        """Keep the caller's context for the handlers, if there is anybody to call."""
        if self._flow_context and self._is_listened_to:
            self._context = contextvars.copy_context()

    def _release(self) -> tuple[contextvars.Context | None, list[trio.lowlevel.Task] | None]:
        released = super()._release()
        if self._closing:
            self._dispose()
        return released

    def _completed(self, dispatcher: Dispatcher) -> None:
        context, waiters = self._release()
        count, socket = self._transferred, self._socket  # a handler may start the args anew
        caller, self._caller = self._caller, None
        try:
            if self._is_listened_to:
                dispatcher.call(context, caller or self.on_completed)
        finally:
            if waiters:
                self._wake(waiters, count)
            if not self._in_flight and self._socket is socket:
                self._socket = None  # args in a pool must not keep their last socket alive

    async def wait(self) -> int:
        """Wait until the operation that is pending has ended and its synchronous handlers were called.

        Returns:
          Its count of accepted bytes, even when a handler has started the args anew meanwhile. It does not raise the
          operation's error, so that one look at `socket_error` serves operations that pended and others alike. On idle
          args, the count of the latest operation.

        **Checkpoints**: always.

        **If cancelled**: `trio.Cancelled`; the operation goes on, for it belongs to its initiator.

        **Threads**: only from the Trio thread that uses the socket.
        """
        if not self._in_flight:
            count = self._transferred
            await trio.lowlevel.checkpoint()
            return count
        return await self._wait()

    # -- stopping and closing -----------------------------------------------------------------------------------------

    def cancel(self, reason: str | None = None, *, activation: int | None = None) -> bool:
        """Stop the operation that is pending.

        It ends with OPERATION_ABORTED, the exact count and ``reason`` in its error's text. If that cuts a message on a
        stream, the operations behind it end with CONNECTION_ABORTED and 0 bytes, and the stream is torn.

        Args:
          reason: why, for people.
          activation: stop it only if it still is the one of this number (`activation`).

        Returns:
          True if the operation was stopped; False if there was none to stop, or all its bytes were accepted already.

        **Checkpoints**: never.

        **If cancelled**: nothing is raised here.

        **Threads**: only from the Trio thread that uses the socket; elsewhere, `trio_send.from_thread.cancel`.
        """
        if activation is not None and activation != self._activation:
            return False
        if not self._can_be_stopped():
            return False
        return bool(
            self._queue.stop(self, _OPERATION_ABORTED, reason or "the operation was cancelled")
        )

    def close(self) -> None:
        """Let go of the buffers and refuse further use; repeated calls are harmless (F155).

        If an operation is pending, this happens when it has ended, before ``Completed`` is raised (F156, F157). It
        cancels nothing and touches no socket (F158).

        **Threads**: only from the Trio thread that uses the socket.
        """
        if self._pending:
            self._closing = True
        else:
            self._dispose()

    def _dispose(self) -> None:
        self._closing = False
        self._closed = True
        self._buffer = self._buffer_list = self._elements = self._prepared = self._packets = None
        self._snapshot = ()
        if self._state == IDLE:  # of a message that was cut, the socket may still want the rest
            self._message = None
        self._refresh()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
