"""What an operation is told before it starts: what to send or where to receive into, how, to whom, and in what time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from .._base.checks import counted, require_seconds
from .._base.codes import SocketAsyncOperation, SocketFlags, require_flags
from .._base.errors import ObjectDisposedError, OperationInProgressError
from .._messages.buffers import (
    WholeBytes,
    message_from_buffer,
    message_from_list,
    short_range_size,
)
from .._messages.packet_element import require_elements, require_options
from .._operations.operation import IDLE, IN_USE, Operation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Buffer

    from .._messages.buffers import Message, Piece
    from .._messages.packet_element import SendPacketsElement, TransmitFileOptions
    from .._messages.packets import Packets

_NO_FLAGS: Final = SocketFlags.NONE
_RECEIVE_MESSAGE_FROM: Final = SocketAsyncOperation.RECEIVE_MESSAGE_FROM


def _short_parts(message: Message | None) -> tuple[bytes | memoryview | None, Piece | None]:
    """Return what the fast path can send of a message: as it stands, or looked at for each send; one or none."""
    if message is None:
        return None, None
    if message.direct is not None or len(message.pieces) != 1:
        return message.direct, None
    piece = message.pieces[0]
    return None, piece if short_range_size(piece.buffer, piece.offset, piece.size) >= 0 else None


class ConfiguredOperation(Operation):
    """The part of `SocketAsyncEventArgs` that is set before an operation, and that no operation changes."""

    __slots__ = (
        "_buffer",
        "_buffer_list",
        "_closed",
        "_direct",
        "_elements",
        "_packets",
        "_piece",
        "_prepared",
        "_remote_end_point",
        "_send_packets_flags",
        "_size",
        "_snapshot",
        "_socket_flags",
    )

    # `SocketAsyncEventArgs` sets them all: a constructor here would be one more call for every object that is made.
    _buffer: Buffer | None
    _buffer_list: Sequence[Buffer] | None
    _socket_flags: SocketFlags
    _send_packets_flags: TransmitFileOptions
    _remote_end_point: Any
    _closed: bool
    # What the fast path hands to the kernel, and how many bytes that is; None where it cannot be that simple.
    _direct: bytes | memoryview | None
    _size: int
    # What it can send as well, though it may change.
    _piece: Piece | None
    #: The message of the buffer or the buffer list. So is `_message`, except while packets are being sent.
    _prepared: Message | None
    _elements: Sequence[SendPacketsElement] | None
    #: What `_elements` was when it was set, and the message that was made of it for the latest operation.
    _snapshot: tuple[SendPacketsElement, ...]
    _packets: Packets | None

    def _describe_count(self) -> str:
        if self._last_operation == SocketAsyncOperation.SEND_PACKETS and self._packets is not None:
            return f"{self._transferred} of {counted(self._packets.size, 'byte')} accepted"
        return super()._describe_count()

    def _require_configurable(self) -> None:
        self._require_idle()
        self._require_free()

    def _require_idle(self) -> None:
        if self._closed:
            raise ObjectDisposedError("these args were closed; make others")
        if self._pending:
            raise OperationInProgressError(IN_USE)

    def _assign(
        self,
        buffer: Buffer | None,
        buffers: Sequence[Buffer] | None,
        message: Message | None,
        direct: bytes | memoryview | None,
        piece: Piece | None,
    ) -> None:
        """Set what to send: all that says so, or nothing of it, whenever Ctrl-C strikes.

        Python looks at signals where a function begins, behind a call, and where a loop goes round. There is nothing of
        the kind between the first of the assignments and the last, nor is anything finalised there. So nobody has to
        keep Ctrl-C for later, and a loop that does nothing else can be interrupted.
        """
        size = 0 if message is None else message.size
        before = self._buffer_list, self._prepared, self._message  # which hold all the others
        while self._state != IDLE or self._closed:
            self._require_configurable()  # what has struck since the last look has changed the answer
        is_plain = self._socket_flags is _NO_FLAGS
        self._buffer = buffer
        self._buffer_list = buffers
        self._prepared = self._message = message
        self._fresh = True
        self._size = size
        self._direct = direct if is_plain else None
        self._piece = piece if is_plain else None
        del before

    def _use_prepared(self) -> None:
        self._message = self._prepared
        self._fresh = True

    def _let_go(self) -> None:
        super()._let_go()
        if self._state == IDLE and self._message is not self._prepared:
            self._use_prepared()

    @property
    def buffer(self) -> Buffer | None:
        """The buffer that was set, the very object; None if none was."""
        return self._buffer

    @property
    def offset(self) -> int:
        """Where in the buffer the message, or the room for one, begins, in bytes; no operation moves it (F146)."""
        if self._buffer is None or self._prepared is None:
            return 0
        return self._prepared.pieces[0].offset

    @property
    def count(self) -> int:
        """How many bytes of the buffer to send, or to receive at most; no operation changes it (F146)."""
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
        if type(buffer) is bytes and count is None and offset == 0 and self._buffer_list is None:
            # The same by the shortest way: there are programs that do it for each message.
            self._assign(buffer, None, WholeBytes(buffer), buffer, None)
            return
        self._require_configurable()
        if buffer is None:
            if self._buffer_list is None:
                self._assign(None, None, None, None, None)
            return
        if self._buffer_list is not None:
            raise ValueError(
                "buffer and buffer_list exclude each other; set buffer_list to None first"
            )
        if isinstance(buffer, int):  # .NET's SetBuffer(offset, count)
            raise TypeError(
                "buffer must be a bytes-like object, not a number; to choose another range of the buffer that is set, "
                "call set_range(offset, count)"
            )
        message = message_from_buffer("buffer", buffer, offset, count, "count")
        self._assign(buffer, None, message, *_short_parts(message))

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
                self._assign(None, None, None, None, None)
            return
        if self._buffer is not None:
            raise ValueError(
                "buffer and buffer_list exclude each other; call set_buffer(None) first"
            )
        message = message_from_list("buffer_list", buffers)
        self._assign(None, buffers, message, *_short_parts(message))

    @property
    def send_packets_elements(self) -> Sequence[SendPacketsElement] | None:
        """What `Socket.send_packets_async` sends, in turn: the very object that was set, or None.

        What is sent is the list as it was when it was set. It has nothing to do with `buffer` and `buffer_list`, which
        may be set beside it. It can be set when no operation is pending (F106).
        """
        return self._elements

    @send_packets_elements.setter
    def send_packets_elements(self, elements: Sequence[SendPacketsElement] | None) -> None:
        self._require_configurable()
        snapshot = () if elements is None else require_elements(elements)
        before = self._elements, self._snapshot, self._packets
        self._elements = elements  # one step with the others, as in `_assign`
        self._snapshot = snapshot
        self._packets = None
        del before

    @property
    def send_packets_flags(self) -> TransmitFileOptions:
        """What becomes of the connection when `Socket.send_packets_async` has sent everything; by default, nothing.

        It can be set at any time, and is looked at by the start. Setting it to something else than
        `TransmitFileOptions` is a `ValueError`.
        """
        return self._send_packets_flags

    @send_packets_flags.setter
    def send_packets_flags(self, options: TransmitFileOptions) -> None:
        self._send_packets_flags = require_options(options)

    @property
    def socket_flags(self) -> SocketFlags:
        """The flags of the next operation, which no operation changes.

        After a `Socket.receive_message_from_async`, it shows besides what the system said of the message, such as
        TRUNCATED, until it is set or another operation is started. The next receive does not use that.
        """
        step = self._step
        if self._last_operation != _RECEIVE_MESSAGE_FROM or step is None:
            return self._socket_flags
        return self._socket_flags | step.flags

    @socket_flags.setter
    def socket_flags(self, flags: SocketFlags) -> None:
        require_flags(flags)
        flags = SocketFlags(flags)
        is_plain = flags is _NO_FLAGS
        message = direct = piece = None
        while message is not self._prepared:  # or another has been set while it was looked at
            message = self._prepared
            direct, piece = _short_parts(message)
        self._socket_flags = flags
        self._direct = direct if is_plain else None
        self._piece = piece if is_plain else None
        if self._last_operation == _RECEIVE_MESSAGE_FROM and self._step is not None:
            self._step.forget_flags()

    @property
    def remote_end_point(self) -> Any:
        """The address to connect or to send to, a Python socket address, or the one that a datagram came from.

        Receives that tell the sender put it here when they succeed, so that args can answer at once; no other operation
        changes it (F154). It is None then if the sender has no address. It can be set at any time. Whether it is an
        address is looked at by the start that needs one.
        """
        return self._remote_end_point

    @remote_end_point.setter
    def remote_end_point(self, address: Any) -> None:
        self._remote_end_point = address

    @property
    def timeout(self) -> float:
        """How many seconds an operation may be pending, counted from its start; `math.inf` by default.

        One that takes longer ends with TIMED_OUT and its exact count. It can be set when no operation is pending.
        Setting it to less than 0 is a `ValueError`.
        """
        return math.inf if self._limits is None else self._limits[0]

    @timeout.setter
    def timeout(self, seconds: float) -> None:
        self._set_limits("timeout", seconds, self.stall_timeout)

    @property
    def stall_timeout(self) -> float:
        """How many seconds a send may go without an accepted byte while it heads its queue; `math.inf` by default.

        One that stands still longer ends with TIMED_OUT and its exact count. It can be set when no operation is
        pending. Setting it to less than 0 is a `ValueError`.
        """
        return math.inf if self._limits is None else self._limits[1]

    @stall_timeout.setter
    def stall_timeout(self, seconds: float) -> None:
        self._set_limits("stall_timeout", seconds, self.timeout)

    def _set_limits(self, name: str, seconds: float, other: float) -> None:
        seconds = require_seconds(name, seconds)
        self._require_idle()
        limits = (seconds, other) if name == "timeout" else (other, seconds)
        self._limits = None if limits == (math.inf, math.inf) else limits

    def _retire(self) -> None:
        """Let go of everything that was set, and refuse to have more set; one step, as `_assign` is."""
        before = (
            self._direct,
            self._piece,
            self._buffer,
            self._buffer_list,
            self._elements,
            self._prepared,
            self._packets,
            self._snapshot,
            self._message,
        )
        self._closed = True
        self._direct = self._piece = None
        self._size = 0
        self._buffer = self._buffer_list = self._elements = self._prepared = self._packets = None
        self._snapshot = ()
        if self._state == IDLE:  # of a message that was cut, the socket may still want the rest
            self._message = None
        del before
