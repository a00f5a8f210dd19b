"""The record behind `SocketAsyncEventArgs`: what to send or where to receive into, and what becomes of an event."""

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING, Any, Final, cast

from .._base.checks import counted
from .._base.codes import SocketAsyncOperation, SocketFlags
from .._base.errors import ObjectDisposedError, OperationInProgressError
from .._messages.buffers import short_range_size, short_size
from .._messages.packet_element import TransmitFileOptions
from .._operations.operation import IN_USE, Operation
from .._operations.states import IDLE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence, Sized
    from typing import Protocol

    from typing_extensions import Buffer

    from .._messages.buffers import Message, Piece
    from .._messages.packet_element import SendPacketsElement
    from .._messages.packets import Packets
    from .._operations.operation import Dispatcher

    class Face(Protocol):
        """The args, as far as their operation knows them."""

        def on_completed(self) -> object: ...


NO_FLAGS: Final = SocketFlags.NONE


def short_parts(
    message: Message | None,
) -> tuple[bytes | memoryview | None, Piece | Message | bytearray | None]:
    """Return what the fast path can send of a message: as it stands, or looked at for each send; one or none."""
    if message is None:
        return None, None
    if message.direct is not None:
        return message.direct, None
    if len(message.pieces) == 1:
        piece = message.pieces[0]
        buffer = piece.buffer
        if short_range_size(buffer, piece.offset, piece.size) >= 0:
            if piece.size == short_size(buffer):
                if type(buffer) is memoryview:
                    return buffer, None  # which may be released, but never has another length
                return None, cast("bytearray", buffer)
            return None, piece
    return None, message if message.fits_one_call else None


class EventArgsOperation(Operation):
    """The operation of args, which are set before it and which it does not change."""

    __slots__ = (
        "accept_socket",
        "buffer",
        "buffer_list",
        "caller",
        "connect_socket",
        "direct",
        "elements",
        "event",
        "flows_context",
        "is_by_name",
        "is_closed",
        "is_closing",
        "is_overridden",
        "packets",
        "piece",
        "prepared",
        "remote_end_point",
        "send_packets_flags",
        "settled",
        "size",
        "snapshot",
        "socket_flags",
    )

    face: Face | None
    socket: object

    def __init__(self, *, flows_context: bool, is_overridden: bool) -> None:
        super().__init__()
        self.buffer: Buffer | None = None
        self.buffer_list: Sequence[Buffer] | None = None
        self.socket_flags: SocketFlags = NO_FLAGS
        self.send_packets_flags: TransmitFileOptions = TransmitFileOptions.USE_DEFAULT_WORKER_THREAD
        self.remote_end_point: Any = None
        #: Whether they were closed, or are to be when the operation that is pending has ended.
        self.is_closed = self.is_closing = False
        # What the fast path hands to the kernel, and how many bytes that is; None where it cannot be that simple.
        self.direct: bytes | memoryview | None = None
        self.size = 0
        #: The same number if the results are those of a send of this very message by the fast path, so that another one
        #: leaves them as they are; -1 otherwise.
        self.settled = -1
        #: What it can send as well, though it may change: a `bytearray`, a flat range, or all of a message.
        self.piece: Piece | Message | bytearray | None = None
        #: The message of the buffer or the buffer list. So is `message`, except while packets are being sent.
        self.prepared: Message | None = None
        self.elements: Sequence[SendPacketsElement] | None = None
        #: What `elements` was when it was set, and the message that was made of it for the latest operation.
        self.snapshot: tuple[SendPacketsElement, ...] = ()
        self.packets: Packets | None = None
        self.accept_socket: object = None
        self.connect_socket: object = None
        #: Whether the latest connect was one to a name.
        self.is_by_name = False
        #: The event; its truth says whether it has handlers.
        self.event: Sized | None = None
        #: Whether handlers run in the context of the start.
        self.flows_context = flows_context
        #: Whether `on_completed` is the program's own.
        self.is_overridden = is_overridden
        #: What calls `on_completed` for the current activation, if it is not called directly.
        self.caller: Callable[[], object] | None = None

    def describe_count(self) -> str:
        if self.kind == SocketAsyncOperation.SEND_PACKETS and self.packets is not None:
            return f"{self.transferred} of {counted(self.packets.size, 'byte')} accepted"
        return super().describe_count()

    def require_configurable(self) -> None:
        self.require_idle()
        self.require_free()

    def require_idle(self) -> None:
        if self.is_closed:
            raise ObjectDisposedError("these args were closed; make others")
        if self.is_pending:
            raise OperationInProgressError(IN_USE)

    def assign(
        self,
        buffer: Buffer | None,
        buffers: Sequence[Buffer] | None,
        message: Message | None,
        direct: bytes | memoryview | None,
        piece: Piece | Message | bytearray | None,
    ) -> None:
        """Set what to send: all that says so, or nothing of it, whenever Ctrl-C strikes.

        Python looks at signals where a function begins, behind a call, and where a loop goes round. There is nothing of
        the kind between the first of the assignments and the last, nor is anything finalised there. So nobody has to
        keep Ctrl-C for later, and a loop that does nothing else can be interrupted.
        """
        size = 0 if message is None else message.size
        before = self.buffer_list, self.prepared, self.message  # which hold all the others
        while self.state != IDLE or self.is_closed:
            self.require_configurable()  # what has struck since the last look has changed the answer
        is_plain = self.socket_flags is NO_FLAGS
        self.buffer = buffer
        self.buffer_list = buffers
        self.prepared = self.message = message
        self.is_fresh = True
        self.size = size
        self.settled = -1
        self.direct = direct if is_plain else None
        self.piece = piece if is_plain else None
        del before

    def use_prepared(self) -> None:
        self.message = self.prepared
        self.is_fresh = True

    def reset_results(self) -> None:
        super().reset_results()
        self.settled = -1

    def let_go(self) -> None:
        super().let_go()
        if self.state == IDLE and self.message is not self.prepared:
            self.use_prepared()

    def dispose(self) -> None:
        """Let go of everything that was set, and refuse to have more set; one step, as `assign` is."""
        before = (
            self.direct,
            self.piece,
            self.buffer,
            self.buffer_list,
            self.elements,
            self.prepared,
            self.packets,
            self.snapshot,
            self.message,
        )
        self.is_closed = True
        self.direct = self.piece = None
        self.size = 0
        self.buffer = self.buffer_list = self.elements = self.prepared = self.packets = None
        self.snapshot = ()
        if self.state == IDLE:  # of a message that was cut, the socket may still want the rest
            self.message = None
        del before

    # -- whom to tell -------------------------------------------------------------------------------------------------

    @property
    def is_listened_to(self) -> bool:
        return self.is_overridden or bool(self.event)

    def capture_context(self) -> None:
        """Keep the caller's context for the handlers, if there is anybody to call."""
        if self.flows_context and self.is_listened_to:
            self.context = contextvars.copy_context()

    def tell(self, dispatcher: Dispatcher | None) -> None:
        queue, face = self.queue, self.face
        context, waiters = self.release()
        count, socket = self.transferred, self.socket  # a handler may start the args anew
        caller, self.caller = self.caller, None
        if dispatcher is None or face is None:
            if waiters is not None:
                waiters.wake(count)
            self.socket = None
            return
        is_to_begin = False
        try:
            if self.is_listened_to:
                handler = caller or face.on_completed
                is_to_begin = dispatcher.call(context, handler, begin=self.handler_begins)
        finally:
            if is_to_begin and not self.in_flight:
                # Somebody else's turn may come first, and the handler is to find them as they are, not started anew.
                self.keep(face, queue, waiters)
            else:
                if waiters is not None:
                    waiters.wake(count)
                if not self.in_flight and self.socket is socket:
                    self.socket = None  # args in a pool must not keep their last socket alive

    def handler_begins(self) -> None:
        """Be free, because an asynchronous handler takes its first step; whoever waits goes on after that."""
        if self.is_kept:
            _, waiters = self.release()
            if waiters is not None:
                waiters.wake(self.transferred)
            self.socket = None
