"""What one attempt to receive does: it takes what has arrived, and what it could not take is left for the next."""

from __future__ import annotations

import errno as errno_module
import socket as stdlib_socket
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from .._base.codes import SocketFlags
from .._base.errors import SocketException
from .._kernel.port import KernelPort
from .._kernel.received_message import (
    IPPacketInformation,
    Received,
    ask_for_information,
    receive_message,
)
from .._messages.buffers import MAX_PIECES, Message, release
from .._operations.operation import Operation, Step, describe_os_error
from .core import core_of
from .event_args_operation import EventArgsOperation

if TYPE_CHECKING:
    from collections.abc import Callable

    from .core import SocketCore

T = TypeVar("T")

#: After these a send is impossible, but what the peer has sent before is whole.
_ONE_WAY_ERRNOS: Final = frozenset({errno_module.EPIPE, errno_module.ESHUTDOWN})


#: What a receive finds on a socket that was shut down. Linux calls such a datagram socket readable for ever, though
#: nothing is there.
_END: Final = Received(0, b"", None, SocketFlags.NONE, None)


class ReceiveStep(Step):
    """Receives once, into the message of the operation."""

    __slots__ = ()

    def attempt(self, operation: Operation) -> None:
        core = core_of(operation.socket)
        room = _plain_room(operation)
        port, queue = core.port, core.receives
        if room is not None and type(port) is KernelPort and queue is not None:
            # The same as below, with the one call that matters, which itself locks what it fills.
            if queue.halted:
                raise BlockingIOError
            try:
                count = port.sock.recv_into(room, 0, operation.flags)
            except OSError as error:
                if not is_end(core, error):
                    raise
                count = 0
            if not count:
                _require_true_end(core)
            operation.transferred = count
            return
        if _has_no_room(operation):
            if _look(core, operation).size == 0:
                _require_true_end(core)
            return
        opened: list[memoryview] = []
        try:
            views = _open(core, operation, opened)
            call = core.require_receiver()
            operation.transferred = _ask(core, 0, call, views, operation.flags)
        finally:
            release(opened)
        if operation.transferred == 0:
            _require_true_end(core)


#: What receives into the message of an operation; it has no state of its own.
STEP: Final = ReceiveStep()


class ReceiveBytesStep(Step):
    """Receives once, as `bytes`."""

    __slots__ = ("_max_bytes", "data")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.data = b""

    def attempt(self, operation: Operation) -> None:
        core = core_of(operation.socket)
        kernel, queue = core.kernel, core.receives
        if kernel is not None and queue is not None:
            # The same as below, with the one call that matters.
            if queue.halted:
                raise BlockingIOError
            try:
                self.data = kernel.recv(self._max_bytes)
            except OSError as error:
                if not is_end(core, error):
                    raise
                self.data = b""
        else:
            room = bytearray(self._max_bytes)
            count = _ask(core, 0, core.require_receiver(), [memoryview(room)], 0)
            self.data = bytes(room[:count])
        if not self.data:
            _require_true_end(core)
        operation.transferred = len(self.data)


class ReceiveFromStep(Step):
    """Receives once, and keeps from whom and what else the kernel tells.

    Args:
      max_bytes: how many bytes to receive as `bytes`; None if they go into the message of the operation.
      informs: whether it is to be told how a datagram came.
    """

    __slots__ = ("_informs", "_max_bytes", "address", "data", "flags", "information")

    def __init__(self, max_bytes: int | None = None, *, informs: bool = False) -> None:
        self._max_bytes = max_bytes
        self._informs = informs
        self.data = b""
        self.address: Any = None
        self.flags = SocketFlags.NONE
        self.information: IPPacketInformation | None = None

    def forget_flags(self) -> None:
        self.flags = SocketFlags.NONE

    def result(self, count: int) -> tuple[Any, ...]:
        if self._informs:
            return count, self.flags, self.address, self.information
        return count, self.address

    def attempt(self, operation: Operation) -> None:
        core = core_of(operation.socket)
        port = core.require_kernel_port()
        if self._informs and not port.informs:
            _ask(core, None, ask_for_information, port.sock)
            port.informs = True
        opened: list[memoryview] = []
        try:
            if self._max_bytes is None and _has_no_room(operation):
                received = _look(core, operation, informs=self._informs)
            else:
                room = self._max_bytes or _open(core, operation, opened)
                call = partial(receive_message, informs=self._informs)
                received = _ask(core, _END, call, port.sock, room, operation.flags)
                operation.transferred = received.size
        finally:
            release(opened)
        if received.size == 0:
            _require_true_end(core)
        # On a connection the kernel does not say it, because there is only one.
        sender = core.peer if port.is_stream or port.has_one_receiver else received.address
        self.address = sender or None  # some systems say "" of a Unix socket that has no name
        self.data = received.data
        self.flags = received.flags
        self.information = received.information
        if isinstance(operation, EventArgsOperation):
            operation.remote_end_point = self.address


def _has_no_room(operation: Operation) -> bool:
    return operation.message is not None and operation.message.size == 0


def _look(core: SocketCore, operation: Operation, *, informs: bool = False) -> Received:
    """Return what there is to receive, of which one byte was looked at and all is left where it is.

    To ask for no bytes would not do: on a stream the answer is always that there they are.
    """
    flags = operation.flags | int(stdlib_socket.MSG_PEEK)
    if not isinstance(core.port, KernelPort):
        views = [memoryview(bytearray(1))]
        size = _ask(core, 0, core.require_receiver(), views, flags)
        return Received(size, b"", None, SocketFlags.NONE, None)
    call = partial(receive_message, informs=informs)
    found = _ask(core, _END, call, core.port.sock, 1, flags)
    # That there is more than one byte was not asked.
    return found._replace(data=b"", flags=found.flags & ~SocketFlags.TRUNCATED)


def _plain_room(operation: Operation) -> bytearray | None:
    """Return the room that the operation has if that is all of a `bytearray`, as it was when it was set."""
    message = operation.message
    if type(message) is not Message or len(message.pieces) != 1:
        return None
    piece = message.pieces[0]
    buffer = piece.buffer
    if type(buffer) is not bytearray or not 0 < len(buffer) == piece.size:
        return None
    return buffer


def _open(core: SocketCore, operation: Operation, opened: list[memoryview]) -> list[memoryview]:
    """Return views of the room that the operation has, all of which are in ``opened`` too."""
    message = operation.message
    assert message is not None
    if len(message.pieces) > MAX_PIECES and not core.port.is_stream:
        # What the kernel would not take in one call would be lost.
        raise OSError(errno_module.EMSGSIZE, "too many buffers for one datagram")
    views: list[memoryview] = []
    message.open(0, views, opened, MAX_PIECES)
    return views


def _ask(core: SocketCore, end: T, call: Callable[..., T], *args: Any) -> T:
    """Make a system call that receives, unless a stop was noted; return ``end`` if the socket was shut down."""
    queue = core.receives
    assert queue is not None
    try:
        return queue.ask(call, *args)
    except OSError as error:
        if not is_end(core, error):
            raise
        return end


def is_end(core: SocketCore, error: OSError) -> bool:
    """Tell whether what a call that receives has raised is the end, because the socket was shut down.

    An error that has killed the connection is noted, because the kernel reports it to one caller only.
    """
    if isinstance(error, BlockingIOError):
        return core.receive_was_shut_down
    code, errno, _ = describe_os_error(error)
    if core.sends.ends_connection(errno):
        core.sends.break_connection(code, errno)
    return False


def _require_true_end(core: SocketCore) -> None:
    """Raise if the stream has not ended but broken, of which another caller was told before."""
    broken = core.sends.broken
    if broken is not None and broken[1] not in _ONE_WAY_ERRNOS:
        raise SocketException(broken[0], native_error_code=broken[1])
