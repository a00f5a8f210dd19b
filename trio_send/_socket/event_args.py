"""`SocketAsyncEventArgs`: a reusable operation that raises ``Completed``."""

from __future__ import annotations

import contextvars
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final

import trio

from .._base.codes import SocketAsyncOperation, SocketError, SocketFlags
from .._messages.packet_element import TransmitFileOptions
from .._owners.dispatcher import Dispatcher, call_in_order
from .completed_event import CompletedEvent
from .event_args_settings import ConfiguredOperation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    import outcome
    from typing_extensions import Buffer, Self

    from .._base.errors import SocketException
    from .._kernel.received_message import IPPacketInformation
    from .._messages.packet_element import SendPacketsElement
    from .socket import Socket

_OPERATION_ABORTED: Final = int(SocketError.OPERATION_ABORTED)
_RECEIVE_MESSAGE_FROM: Final = SocketAsyncOperation.RECEIVE_MESSAGE_FROM


class SocketAsyncEventArgs(ConfiguredOperation):
    """One reusable operation: what to send or where to receive into, how it went, and whom to tell.

    An object serves one operation at a time (F093), any number of them in turn, on any sockets (F159). It is free again
    before ``Completed`` is raised, so a handler may configure and start it anew (F130): before a synchronous one is
    called, and before an asynchronous one takes its first step.

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
        "_caller",
        "_closing",
        "_completed_event",
        "_connect_socket",
        "_flow_context",
        "_is_by_name",
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
        self._buffer = self._buffer_list = self._elements = self._prepared = self._packets = None
        self._snapshot = ()
        self._socket_flags = SocketFlags.NONE
        self._send_packets_flags = TransmitFileOptions.USE_DEFAULT_WORKER_THREAD
        self._remote_end_point = None
        self._direct = self._piece = None
        self._size = 0
        self._closed = False
        self.user_token: Any = user_token
        self._accept_socket: Any = None
        self._connect_socket: Any = None
        self._is_by_name = False
        #: Whether `Socket.disconnect_async` leaves a socket that can be connected again. It can be set at any time.
        self.disconnect_reuse_socket: bool = False
        self._completed_event: CompletedEvent | None = None
        self._flow_context = flow_context
        #: What calls `on_completed` for the current activation, if it is not called directly.
        self._caller: Callable[[], object] | None = None
        #: Whether to close them when the operation that is pending has ended.
        self._closing = False
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
        """The socket that the latest connect connected; None while it is pending and after a failure (F151).

        If the connection stands and only the message that was to be sent on it has failed, that is the socket, too.
        Later operations leave it alone, so args that have connected keep their socket alive. Set it to None to let the
        socket go; so does `SocketAsyncEventArgsPool.push`. Nothing else can be set, and not while the args are in use.
        """
        # The step is done when the connection stands; what fails after that is the send of the message.
        if self._last_operation == SocketAsyncOperation.CONNECT and (
            self._pending or (self._code and self._step is not None)
        ):
            return None
        return self._connect_socket  # type: ignore[no-any-return]

    @connect_socket.setter
    @trio.lowlevel.enable_ki_protection
    def connect_socket(self, socket: None) -> None:
        if socket is not None:
            raise TypeError(
                f"connect_socket can be set to None alone, not to {socket!r}; a connect sets it to its socket"
            )
        if not self._closed:  # closed ones should let it go more than any
            self._require_idle()
        self._connect_socket = None

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

    @property
    def receive_message_from_packet_info(self) -> IPPacketInformation | None:
        """How the datagram came that the latest operation has received with `Socket.receive_message_from_async`.

        None after other operations, and where the system does not tell: on Windows, and of other sockets than those of
        UDP.
        """
        step = self._step
        if self._last_operation != _RECEIVE_MESSAGE_FROM or step is None:
            return None
        return step.information  # type: ignore[no-any-return]

    # -- whom to tell -------------------------------------------------------------------------------------------------

    @property
    @trio.lowlevel.enable_ki_protection
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
        event = self._completed_event
        if event is None:
            return None
        handlers = event._handlers
        if len(handlers) == 1:
            result = handlers[0](self._socket, self)
            # To ask None whether it is a coroutine takes longer than to call a small handler.
            return result if result is not None and isinstance(result, Coroutine) else None
        return call_in_order(iter(handlers), self._socket, self)

    @property
    def _is_listened_to(self) -> bool:
        event = self._completed_event
        if event is not None and event._handlers:
            return True
        kind = type(self)
        return (
            kind is not SocketAsyncEventArgs
            and kind.on_completed is not SocketAsyncEventArgs.on_completed
        )

    def _capture_context(self) -> None:
        """Keep the caller's context for the handlers, if there is anybody to call."""
        if self._flow_context and self._is_listened_to:
            self._context = contextvars.copy_context()

    def _completed(self, dispatcher: Dispatcher | None) -> None:
        queue = self._queue
        context, waiters = self._release()
        count, socket = self._transferred, self._socket  # a handler may start the args anew
        caller, self._caller = self._caller, None
        if dispatcher is None:
            if waiters:
                self._wake(waiters, count)
            self._socket = None
            return
        is_to_begin = False
        try:
            if self._is_listened_to:
                handler = caller or self.on_completed
                is_to_begin = dispatcher.call(context, handler, begin=self._handler_begins)
        finally:
            if is_to_begin and not self._in_flight:
                # Somebody else's turn may come first, and the handler is to find them as they are, not started anew.
                self._keep(queue, waiters)
            else:
                if waiters:
                    self._wake(waiters, count)
                if not self._in_flight and self._socket is socket:
                    self._socket = None  # args in a pool must not keep their last socket alive

    def _handler_begins(self) -> None:
        """Be free, for an asynchronous handler takes its first step; whoever waits goes on after that."""
        if self._is_kept:
            _, waiters = self._release()
            if waiters:
                self._wake(waiters, self._transferred)
            self._socket = None

    async def wait(self) -> int:
        """Wait until the operation that is pending has ended and its handlers were called.

        Asynchronous ones have run to their first checkpoint by then, and may still be running.

        Returns:
          Its count of accepted bytes, even when a handler has started the args anew meanwhile. It does not raise the
          operation's error, so that one look at `socket_error` serves operations that pended and others alike. On idle
          args, the count of the latest operation.

        **Checkpoints**: always.

        **If cancelled**: `trio.Cancelled`; the operation goes on, because it belongs to its initiator.

        **Threads**: only from the Trio thread that uses the socket.
        """
        if not self._in_flight:
            count = self._transferred
            await trio.lowlevel.checkpoint()
            return count
        return await self._wait()

    # -- stopping and closing -----------------------------------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    def cancel(self, reason: str | None = None, *, activation: int | None = None) -> bool:
        """Stop the operation that is pending.

        It ends with OPERATION_ABORTED, the exact count and ``reason`` in its error's text. If that cuts a message on a
        stream, the operations behind it end with CONNECTION_ABORTED and 0 bytes, and the stream is torn.

        Args:
          reason: why, for people.
          activation: stop it only if it still is the one of this number (`activation`).

        Returns:
          True if the operation was stopped; False if there was none to stop, or all its bytes were accepted already.

        Raises:
          InvalidOperationError: the call comes from another thread.

        **Checkpoints**: never.

        **If cancelled**: nothing is raised here.

        **Threads**: only from the Trio thread that uses the socket; elsewhere, `trio_send.from_thread.cancel`.
        """
        if activation is not None and activation != self._activation:
            return False
        return self._request_stop(_OPERATION_ABORTED, reason or "the operation was cancelled")

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
        self._retire()

    def __enter__(self) -> Self:
        return self

    @trio.lowlevel.enable_ki_protection
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
