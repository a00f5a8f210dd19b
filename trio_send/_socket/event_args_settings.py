"""What an operation is told before it starts: what to send or where to receive into, how, to whom, and in what time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from .._base.checks import NotCopied, require_seconds
from .._base.codes import SocketAsyncOperation, SocketFlags, require_flags
from .._messages.buffers import WholeBytes, message_from_buffer, message_from_list
from .._messages.packet_element import require_elements, require_options
from .event_args_operation import NO_FLAGS, EventArgsOperation, short_parts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Buffer

    from .._messages.packet_element import SendPacketsElement, TransmitFileOptions

_RECEIVE_MESSAGE_FROM: Final = SocketAsyncOperation.RECEIVE_MESSAGE_FROM


class EventArgsSettings(NotCopied):
    """The part of `SocketAsyncEventArgs` that is set before an operation, and that no operation changes."""

    __slots__ = ("__weakref__", "_operation")

    _operation: EventArgsOperation

    @property
    def buffer(self) -> Buffer | None:
        """The buffer that was set, the very object; None if none was."""
        return self._operation.buffer

    @property
    def offset(self) -> int:
        """Where in the buffer the message, or the room for one, begins, in bytes; no operation moves it (F146)."""
        if self._operation.buffer is None or self._operation.prepared is None:
            return 0
        return self._operation.prepared.pieces[0].offset

    @property
    def count(self) -> int:
        """How many bytes of the buffer to send, or to receive at most; no operation changes it (F146)."""
        if self._operation.buffer is None or self._operation.prepared is None:
            return 0
        return self._operation.prepared.size

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
        if (
            type(buffer) is bytes
            and count is None
            and offset == 0
            and self._operation.buffer_list is None
        ):
            # The same by the shortest way: there are programs that do it for each message.
            self._operation.assign(buffer, None, WholeBytes(buffer), buffer, None)
            return
        self._operation.require_configurable()
        if buffer is None:
            if self._operation.buffer_list is None:
                self._operation.assign(None, None, None, None, None)
            return
        if self._operation.buffer_list is not None:
            raise ValueError(
                "buffer and buffer_list exclude each other; set buffer_list to None first"
            )
        if isinstance(buffer, int):  # .NET's SetBuffer(offset, count)
            raise TypeError(
                "buffer must be a bytes-like object, not a number; to choose another range of the buffer that is set, "
                "call set_range(offset, count)"
            )
        message = message_from_buffer("buffer", buffer, offset, count, "count")
        self._operation.assign(buffer, None, message, *short_parts(message))

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
        self._operation.require_configurable()
        if self._operation.buffer is not None:
            self.set_buffer(self._operation.buffer, offset, count)

    @property
    def buffer_list(self) -> Sequence[Buffer] | None:
        """Several buffers to send as one message: the very object that was set (F111), or None.

        What is sent is the list as it was when it was set (F112). Setting it while a `buffer` is set is a `ValueError`
        (F097); setting None is always fine (F100); a bad member changes nothing (F114).
        """
        return self._operation.buffer_list

    @buffer_list.setter
    def buffer_list(self, buffers: Sequence[Buffer] | None) -> None:
        self._set_list(buffers)

    def _set_list(self, buffers: Sequence[Buffer] | None) -> None:
        operation = self._operation
        operation.require_configurable()
        if buffers is None:
            if operation.buffer_list is not None:
                operation.assign(None, None, None, None, None)
            return
        if operation.buffer is not None:
            raise ValueError(
                "buffer and buffer_list exclude each other; call set_buffer(None) first"
            )
        message = message_from_list("buffer_list", buffers)
        operation.assign(None, buffers, message, *short_parts(message))

    @property
    def send_packets_elements(self) -> Sequence[SendPacketsElement] | None:
        """What `Socket.send_packets_async` sends, in turn: the very object that was set, or None.

        What is sent is the list as it was when it was set. It has nothing to do with `buffer` and `buffer_list`, which
        may be set beside it. It can be set when no operation is pending (F106).
        """
        return self._operation.elements

    @send_packets_elements.setter
    def send_packets_elements(self, elements: Sequence[SendPacketsElement] | None) -> None:
        self._operation.require_configurable()
        snapshot = () if elements is None else require_elements(elements)
        before = self._operation.elements, self._operation.snapshot, self._operation.packets
        self._operation.elements = (
            elements  # one step with the others, as in `EventArgsOperation.assign`
        )
        self._operation.snapshot = snapshot
        self._operation.packets = None
        del before

    @property
    def send_packets_flags(self) -> TransmitFileOptions:
        """What becomes of the connection when `Socket.send_packets_async` has sent everything; by default, nothing.

        It can be set at any time, and is looked at by the start. Setting it to something else than
        `TransmitFileOptions` is a `ValueError`.
        """
        return self._operation.send_packets_flags

    @send_packets_flags.setter
    def send_packets_flags(self, options: TransmitFileOptions) -> None:
        self._operation.send_packets_flags = require_options(options)

    @property
    def socket_flags(self) -> SocketFlags:
        """The flags of the next operation, which no operation changes.

        After a `Socket.receive_message_from_async`, it shows besides what the system said of the message, such as
        TRUNCATED, until it is set or another operation is started. The next receive does not use that.
        """
        step = self._operation.step
        if self._operation.kind != _RECEIVE_MESSAGE_FROM or step is None:
            return self._operation.socket_flags
        return self._operation.socket_flags | step.flags

    @socket_flags.setter
    def socket_flags(self, flags: SocketFlags) -> None:
        require_flags(flags)
        flags = SocketFlags(flags)
        is_plain = flags is NO_FLAGS
        message = direct = piece = None
        while (
            message is not self._operation.prepared
        ):  # or another has been set while it was looked at
            message = self._operation.prepared
            direct, piece = short_parts(message)
        self._operation.socket_flags = flags
        self._operation.direct = direct if is_plain else None
        self._operation.piece = piece if is_plain else None
        if self._operation.kind == _RECEIVE_MESSAGE_FROM and self._operation.step is not None:
            self._operation.step.forget_flags()

    @property
    def remote_end_point(self) -> Any:
        """The address to connect or to send to, a Python socket address, or the one that a datagram came from.

        Receives that tell the sender put it here when they succeed, so that args can answer at once; no other operation
        changes it (F154). It is None then if the sender has no address. It can be set at any time. Whether it is an
        address is looked at by the start that needs one.
        """
        return self._operation.remote_end_point

    @remote_end_point.setter
    def remote_end_point(self, address: Any) -> None:
        self._operation.remote_end_point = address

    @property
    def timeout(self) -> float:
        """How many seconds an operation may be pending, counted from its start; `math.inf` by default.

        One that takes longer ends with TIMED_OUT and its exact count. It can be set when no operation is pending.
        Setting it to less than 0 is a `ValueError`.
        """
        return math.inf if self._operation.limits is None else self._operation.limits[0]

    @timeout.setter
    def timeout(self, seconds: float) -> None:
        self._set_limits("timeout", seconds, self.stall_timeout)

    @property
    def stall_timeout(self) -> float:
        """How many seconds a send may go without an accepted byte while it heads its queue; `math.inf` by default.

        One that stands still longer ends with TIMED_OUT and its exact count. It can be set when no operation is
        pending. Setting it to less than 0 is a `ValueError`.
        """
        return math.inf if self._operation.limits is None else self._operation.limits[1]

    @stall_timeout.setter
    def stall_timeout(self, seconds: float) -> None:
        self._set_limits("stall_timeout", seconds, self.timeout)

    def _set_limits(self, name: str, seconds: float, other: float) -> None:
        seconds = require_seconds(name, seconds)
        self._operation.require_idle()
        limits = (seconds, other) if name == "timeout" else (other, seconds)
        self._operation.limits = None if limits == (math.inf, math.inf) else limits
