"""Receiving, in a FIFO of its own: an attempt takes what has arrived, and what was stopped has taken nothing."""

from __future__ import annotations

import errno as errno_module
import sys
from typing import TYPE_CHECKING, Any, Final

import trio

from .._base.checks import require_whole_number
from .._base.codes import (
    SocketAsyncOperation,
    SocketError,
    SocketFlags,
    native_receive_flags,
)
from .._messages.buffers import Message, message_from_buffer, require_writable
from .._operations.operation import Operation, Step
from .._operations.queue import UNCONNECTED
from .._owners.awaiting_task import perform, tell_on_the_spot
from .async_result import AsyncResult, make_result
from .disconnect import Disconnecting
from .receive_steps import ReceiveBytesStep, ReceiveStep

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer

    from .event_args import SocketAsyncEventArgs

_RECEIVE: Final = SocketAsyncOperation.RECEIVE

#: What receives into the message of an operation; it has no state of its own.
STEP: Final = ReceiveStep()


class Receiving(Disconnecting):
    """The part of `Socket` that receives."""

    __slots__ = ()

    # -- event args ---------------------------------------------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    def receive_async(self, args: SocketAsyncEventArgs) -> bool:
        """Start to receive into the buffer, or the buffer list, of ``args``.

        The operation ends as soon as anything has arrived; `SocketAsyncEventArgs.bytes_transferred` tells how much, and
        nothing behind that is touched. 0 bytes without an error mean that the peer has finished (F289), or an empty
        datagram. What does not fit of a datagram is lost. Receives have a FIFO of their own, so sends that wait do not
        hold them up, nor the other way round.

        If there is no room, because the buffer is empty, the operation ends when there is something to receive, or the
        peer has finished, and takes nothing. So a server needs no buffer for a client that is silent.

        Args:
          args: where to receive into, and with which flags: NONE, PEEK, OUT_OF_BAND or DONT_ROUTE. They are in use
            until the operation has ended.

        Returns:
          True if the operation is pending: `SocketAsyncEventArgs.completed` will be raised, exactly once. False if it
          has ended on the spot, one way or the other: the args tell how, and the event is not raised. A socket that is
          not connected and flags that are not accepted are told by the args too.

        Raises:
          TypeError: ``args`` is None or something else.
          ValueError: ``args`` has neither a buffer nor a buffer list, or one that is read-only.
          OperationInProgressError: ``args`` is in use.
          ObjectDisposedError: the socket or ``args`` was closed.
          InvalidOperationError: no initiator is open, the call comes from another thread, or the message of ``args``
            was cut and stands half sent on a torn stream.

        **Checkpoints**: never. After many starts in a row that ended on the spot, one is answered "pending" although it
        has ended, as `send_async` does.

        **If cancelled**: nothing is raised here. The operation belongs to the initiator and ends with it; then it has
        received nothing, and what arrives is left for the next.

        **Threads**: only from the Trio thread that uses the socket.
        """
        return self._receive_args(args, STEP, _RECEIVE)

    # -- await --------------------------------------------------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Receive what has arrived, as soon as something has.

        Args:
          max_bytes: how many bytes at most.

        Returns:
          The bytes; ``b""`` when the peer has finished, or for an empty datagram.

        Raises:
          SocketException: the connection is broken, or there is none.
          TypeError: ``max_bytes`` is no whole number.
          ValueError: ``max_bytes`` is not positive, or more than there can be.
          InvalidOperationError: the call comes from another thread.
          ObjectDisposedError: the socket was closed.

        **Checkpoints**: always.

        **If cancelled**: `trio.Cancelled`, and nothing has been received.

        **Threads**: only from the Trio thread that uses the socket.
        """
        self._require_usable()
        step = ReceiveBytesStep(require_max_bytes(max_bytes))
        await self._receive(step, None, _RECEIVE)
        return step.data

    @trio.lowlevel.enable_ki_protection
    async def receive_into(self, buffer: Buffer) -> int:
        """Receive what has arrived into a buffer, as soon as something has.

        Args:
          buffer: a writable, contiguous bytes-like object; leave it alone meanwhile. With an empty one, it waits until
            there is something to receive, or the peer has finished, and takes nothing.

        Returns:
          How many bytes were received; 0 when the peer has finished, for an empty datagram, and into an empty buffer.

        Raises:
          SocketException: the connection is broken, or there is none.
          TypeError: ``buffer`` is not bytes-like or not contiguous.
          ValueError: ``buffer`` is read-only.
          InvalidOperationError: the call comes from another thread.
          ObjectDisposedError: the socket was closed.

        **Checkpoints**: always.

        **If cancelled**: `trio.Cancelled`, and nothing has been received.

        **Threads**: only from the Trio thread that uses the socket.
        """
        self._require_usable()
        message = message_from_buffer("buffer", buffer, 0, None)
        require_writable("buffer", message, is_list=False)
        return await self._receive(STEP, message, _RECEIVE)

    # -- shared -------------------------------------------------------------------------------------------------------

    def _receive_args(
        self, args: SocketAsyncEventArgs, step: Step, kind: SocketAsyncOperation
    ) -> bool:
        """Check args and begin to receive into their message; return what is to be answered."""
        self._require_usable()
        self._require_args(args)
        self._require_startable(args)
        message = args._message
        if message is None:
            raise ValueError(
                "args has nothing to receive into; give it a buffer with set_buffer(), or set its buffer_list"
            )
        is_list = args._buffer_list is not None
        require_writable("buffer_list" if is_list else "buffer", message, is_list=is_list)
        self._require_initiator()
        flags = args._socket_flags
        return self._start_receive(args, message, flags, step, kind) or self._settle(args)

    def _begin_receive(
        self,
        message: Message,
        socket_flags: SocketFlags,
        callback: Callable[[AsyncResult], object] | None,
        state: Any,
        step: Step,
        kind: SocketAsyncOperation,
    ) -> AsyncResult:
        """Begin to receive into a message that was checked."""
        initiator = self._require_initiator()
        result = make_result(self, callback, state)
        pending = self._start_receive(result, message, socket_flags, step, kind)
        return self._conclude(result, pending, initiator)

    async def _receive(
        self, step: Step, message: Message | None, kind: SocketAsyncOperation
    ) -> int:
        await trio.lowlevel.checkpoint_if_cancelled()
        operation = Operation()
        if self._describe_receive(
            operation, message, SocketFlags.NONE, step, kind
        ) and self._admit_receive(operation):
            return await perform(operation, self._reading_queue())
        return await tell_on_the_spot(operation, self._sends)

    def _start_receive(
        self,
        operation: SocketAsyncEventArgs | AsyncResult,
        message: Message,
        flags: SocketFlags,
        step: Step,
        kind: SocketAsyncOperation,
    ) -> bool:
        """Begin a receive for the initiator that was checked; return whether it is pending."""
        initiator = self._checked  # None if the socket was closed in the middle of this
        operation._capture_context()
        if self._describe_receive(operation, message, flags, step, kind) and (
            initiator is None or initiator._stopped is not None or self._admit_receive(operation)
        ):
            return self._begin(operation, self._reading_queue(), kind)
        return False

    def _describe_receive(
        self,
        operation: Operation,
        message: Message | None,
        flags: SocketFlags,
        step: Step,
        kind: SocketAsyncOperation,
    ) -> bool:
        """Note what to receive and how; return False if that is impossible, with the reason in the results."""
        operation._message = message
        self._note(operation, step, kind)
        native = native_receive_flags(flags)
        if native is None:
            operation._set_error(
                SocketError.OPERATION_NOT_SUPPORTED,
                0,
                f"{SocketFlags(flags)!r} cannot be used to receive on this system",
            )
            return False
        operation._flags = native
        return True

    def _admit_receive(self, operation: Operation) -> bool:
        """Return False if there is nobody to receive from, with the reason in the results."""
        if self._sends.gate & UNCONNECTED and self._port.is_stream:
            # Also while it is being connected: the kernel would tell the receive, and it alone, why that has failed.
            operation._set_error(SocketError.NOT_CONNECTED, errno_module.ENOTCONN)
            return False
        return True


def require_max_bytes(max_bytes: int) -> int:
    """Return how many bytes to receive at most, if that is a number of bytes.

    Where it is used, the error would strike whoever makes the attempt, which may be another task.
    """
    max_bytes = require_whole_number("max_bytes", max_bytes, "bytes")
    if not 1 <= max_bytes <= sys.maxsize:
        raise ValueError(
            f"max_bytes is {max_bytes}, but must be at least 1, and at most {sys.maxsize}"
        )
    return max_bytes
