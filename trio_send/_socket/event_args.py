"""`SocketAsyncEventArgs`: a reusable operation that raises ``Completed``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import trio

from .._base.codes import SocketAsyncOperation, SocketError
from .._owners.lent_watch import wait_until_told
from .completed_event import CompletedEvent
from .event_args_operation import EventArgsOperation
from .event_args_settings import EventArgsSettings

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence
    from types import TracebackType

    import outcome
    from typing_extensions import Buffer, Self

    from .._base.errors import SocketException
    from .._kernel.received_message import IPPacketInformation
    from .._messages.packet_element import SendPacketsElement
    from .socket import Socket


class SocketAsyncEventArgs(EventArgsSettings):
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

    __slots__ = ("disconnect_reuse_socket", "user_token")

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
        kind = type(self)
        self._operation = EventArgsOperation(
            flows_context=flow_context,
            is_overridden=kind is not SocketAsyncEventArgs
            and kind.on_completed is not SocketAsyncEventArgs.on_completed,
        )
        self.user_token: Any = user_token
        #: Whether `Socket.disconnect_async` leaves a socket that can be connected again. It can be set at any time.
        self.disconnect_reuse_socket: bool = False
        if buffer is not None:
            self.set_buffer(buffer, offset, count)
        if buffer_list is not None:
            self.buffer_list = buffer_list

    def __repr__(self) -> str:
        if self._operation.is_closed:
            return "<SocketAsyncEventArgs: closed>"
        state = "pending" if self._operation.in_flight else SocketError(self._operation.code).name
        kind = self._operation.kind.name
        return f"<SocketAsyncEventArgs: {kind}, {state}, {self._operation.describe_count()}>"

    # -- how it went --------------------------------------------------------------------------------------------------

    @property
    def pending(self) -> bool:
        """Whether an operation was started with these args that has not been told as ended."""
        return self._operation.is_pending

    @property
    def activation(self) -> int:
        """The number of the current or latest pending operation; each gets the next one."""
        return self._operation.activation

    @property
    def bytes_transferred(self) -> int:
        """How many bytes the kernel accepted, or gave: exact at any time, final once the operation has ended.

        The same on success, failure and abort. Accepted is not delivered.
        """
        return self._operation.transferred

    @property
    def socket_error(self) -> SocketError:
        """How the latest operation ended; IO_PENDING while it is pending."""
        return (
            SocketError.IO_PENDING
            if self._operation.is_pending
            else SocketError(self._operation.code)
        )

    @property
    def last_operation(self) -> SocketAsyncOperation:
        """The kind of the current or latest operation, set at its start (F139)."""
        return self._operation.kind

    @property
    def outcome(self) -> outcome.Value[int] | outcome.Error | None:
        """How the latest operation ended, as an outcome that holds the count or the `SocketException`.

        None while it is pending and before the first. Each reading makes another one, so each can be unwrapped once.
        """
        return self._operation.make_outcome()

    @property
    def remaining(self) -> list[memoryview]:
        """Views of the bytes of the message that were not accepted, or of the room that is left, for a ``buffer_list``.

        While you hold them, the buffers are locked against resizing. Of packets that are being sent or were cut, there
        are none if something lies in a file, and reading it raises `InvalidOperationError`; see `remaining_elements`.
        """
        return self._operation.remaining()

    @property
    def remaining_elements(self) -> list[SendPacketsElement]:
        """What was not accepted of the `send_packets_elements`, fit to be set in their place.

        A file that was given by its path is named by its path, and opened anew when it is sent. To send the rest of
        the very file that was cut, whatever has become of its path, use `Socket.resume` or `Socket.send_rest`.
        """
        if (
            self._operation.packets is None
            or self._operation.kind != SocketAsyncOperation.SEND_PACKETS
        ):
            return list(self._operation.snapshot)
        return self._operation.packets.rest(self._operation.transferred)

    @property
    def accept_socket(self) -> Socket | None:
        """The socket that the latest accept made; it must be None before the next one."""
        return cast("Socket | None", self._operation.accept_socket)

    @accept_socket.setter
    def accept_socket(self, socket: Socket | None) -> None:
        self._operation.accept_socket = socket

    @property
    def connect_socket(self) -> Socket | None:
        """The socket that the latest connect connected; None while it is pending and after a failure (F151).

        If the connection stands and only the message that was to be sent on it has failed, that is the socket, too.
        Later operations leave it alone, so args that have connected keep their socket alive. Set it to None to let the
        socket go; so does `SocketAsyncEventArgsPool.push`. Nothing else can be set, and not while the args are in use.
        """
        operation = self._operation
        # The step is done when the connection stands; what fails after that is the send of the message.
        if operation.kind == SocketAsyncOperation.CONNECT and (
            operation.is_pending or (operation.code and operation.step is not None)
        ):
            return None
        return cast("Socket | None", self._operation.connect_socket)

    @connect_socket.setter
    @trio.lowlevel.enable_ki_protection
    def connect_socket(self, socket: None) -> None:
        if socket is not None:
            raise TypeError(
                f"connect_socket can be set to None alone, not to {socket!r}; a connect sets it to its socket"
            )
        if not self._operation.is_closed:  # closed ones should let it go more than any
            self._operation.require_idle()
        self._operation.connect_socket = None

    @property
    def connect_by_name_error(self) -> SocketException | None:
        """What went wrong with the latest operation, if that was a connect to a name; None otherwise (F150).

        The looking up, or the last of the addresses that were tried.
        """
        if (
            self._operation.kind != SocketAsyncOperation.CONNECT
            or not self._operation.is_by_name
            or self._operation.is_pending
            or not self._operation.code
        ):
            return None
        return self._operation.make_error()

    @property
    def receive_message_from_packet_info(self) -> IPPacketInformation | None:
        """How the datagram came that the latest operation has received with `Socket.receive_message_from_async`.

        None after other operations, and where the system does not tell: on Windows, and of other sockets than those of
        UDP.
        """
        step = self._operation.step
        return None if step is None else step.information

    # -- whom to tell -------------------------------------------------------------------------------------------------

    @property
    def completed(self) -> CompletedEvent:
        """The event that is raised once for each operation that was pending, and for no other.

        ``args.completed += handler`` adds a handler, called as ``handler(socket, args)``; ``-=`` takes one off.
        """
        self._operation.tell_if_held()  # a handler that is added before the end is told is called
        event = self._operation.event
        if event is None:
            event = self._operation.event = CompletedEvent()
        return cast("CompletedEvent", event)

    @completed.setter
    def completed(self, event: CompletedEvent) -> None:
        if event is not self._operation.event:
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
        event = cast("CompletedEvent | None", self._operation.event)
        return None if event is None else event._call(self._operation.socket, self)

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
        if not self._operation.in_flight:
            count = self._operation.transferred
            await trio.lowlevel.checkpoint()
            return count
        return await wait_until_told(self._operation)

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
        if activation is not None and activation != self._operation.activation:
            return False
        return self._operation.cancel(reason)

    def close(self) -> None:
        """Let go of the buffers and refuse further use; repeated calls are harmless (F155).

        If an operation is pending, this happens when it has ended, before ``Completed`` is raised (F156, F157). It
        cancels nothing and touches no socket (F158).

        **Threads**: only from the Trio thread that uses the socket.
        """
        if self._operation.is_pending:
            self._operation.is_closing = True
        else:
            self._operation.dispose()

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
