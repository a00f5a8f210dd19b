"""Receiving with all that the system tells of a datagram, in all three faces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs
import trio

from .._base.codes import SocketAsyncOperation, SocketFlags
from .._messages.buffers import message_from_buffer, require_writable
from .core import Verb
from .receive_starts import begin_receive, receive_args, receive_awaited, require_max_bytes
from .receive_steps import ReceiveFromStep
from .results import end_value, succeeded, wait_for_end

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer

    from .._kernel.received_message import IPPacketInformation
    from .async_result import AsyncResult
    from .event_args import SocketAsyncEventArgs

_RECEIVE_MESSAGE_FROM: Final = SocketAsyncOperation.RECEIVE_MESSAGE_FROM


@attrs.frozen(slots=True)
class ReceivedMessageFrom:
    """What `Socket.receive_message_from` has received.

    Attributes:
      data: the bytes.
      socket_flags: what the system said of the message, for example TRUNCATED.
      remote_end_point: the address of the sender, a Python socket address; None if the sender has none.
      packet_information: how the datagram came; None where the system does not tell.

    Source: .NET's ``SocketReceiveMessageFromResult``.
    """

    data: bytes
    socket_flags: SocketFlags
    remote_end_point: Any
    packet_information: IPPacketInformation | None


class ReceivingMessageFrom(Verb):
    """The part of `Socket` that receives and tells how a message came."""

    __slots__ = ()

    @trio.lowlevel.enable_ki_protection
    def receive_message_from_async(self, args: SocketAsyncEventArgs) -> bool:
        """Start to receive into the buffer, or the buffer list, of ``args``, and to tell how the message came.

        It is `receive_from_async`, in the same FIFO, with two things more when it has succeeded.
        `SocketAsyncEventArgs.socket_flags` shows TRUNCATED if a datagram was longer than there was room, so that its
        end is lost. `SocketAsyncEventArgs.receive_message_from_packet_info` is the own address to which the datagram
        was sent, and the interface by which it came. The system notes that from the first such receive on the socket
        on; of what arrived before, the interface may be 0.

        Args:
          args: where to receive into, and with which flags, as for `receive_async`. They are in use until the operation
            has ended.

        Returns:
          True if the operation is pending: `SocketAsyncEventArgs.completed` will be raised, exactly once. False if it
          has ended on the spot, one way or the other, and the args tell how.

        Raises:
          TypeError: ``args`` is None or something else.
          ValueError: ``args`` has neither a buffer nor a buffer list, or one that is read-only.
          OperationInProgressError: ``args`` is in use.
          ObjectDisposedError: the socket or ``args`` was closed.
          InvalidOperationError: no initiator is open, the call comes from another thread, or the message of ``args``
            was cut and stands half sent on a torn stream.

        **Checkpoints**: never, as `receive_async`.

        **If cancelled**: nothing is raised here. The operation belongs to the initiator and ends with it; then it has
        received nothing, and what arrives is left for the next.

        **Threads**: only from the Trio thread that uses the socket.

        Source: .NET's ``Socket.ReceiveMessageFromAsync``; fact F154.
        """
        return receive_args(
            self._core, self, args, ReceiveFromStep(informs=True), _RECEIVE_MESSAGE_FROM
        )

    @trio.lowlevel.enable_ki_protection
    def begin_receive_message_from(
        self,
        buffer: Buffer,
        offset: int = 0,
        size: int | None = None,
        socket_flags: SocketFlags = SocketFlags.NONE,
        callback: Callable[[AsyncResult], object] | None = None,
        state: Any = None,
    ) -> AsyncResult:
        """Start to receive into a buffer, and to tell how the message came; see `receive_message_from_async`.

        Args:
          buffer: a writable, contiguous bytes-like object; leave it alone meanwhile.
          offset: where in the buffer to begin, in bytes.
          size: how many bytes at most; None stands for all from ``offset`` on. Without room, it waits until there is
            something to receive, tells how that came, and takes nothing.
          socket_flags: how to receive: NONE, PEEK, OUT_OF_BAND or DONT_ROUTE.
          callback: a function or async function to call with the result when the operation has ended, also when it
            ended on the spot; never from inside this call. It should call `end_receive_message_from_nowait` or await
            `end_receive_message_from`.
          state: anything of yours, found again as `AsyncResult.async_state`.

        Returns:
          The result to hand to `end_receive_message_from`.

        Raises:
          TypeError: the buffer is None, not bytes-like or not contiguous.
          ValueError: ``offset`` or ``size`` leaves the buffer, or the buffer is read-only.
          SocketException: the receive failed on the spot; nothing is pending and the callback will not be called.
          ObjectDisposedError: the socket was closed.
          InvalidOperationError: no initiator is open, or the call comes from another thread.

        **Checkpoints**: never.

        **If cancelled**: nothing is raised here; see `receive_message_from_async`.

        **Threads**: only from the Trio thread that uses the socket.

        Source: .NET's ``Socket.BeginReceiveMessageFrom``.
        """
        self._core.require_usable()
        message = message_from_buffer("buffer", buffer, offset, size)
        require_writable("buffer", message, is_list=False)
        step, kind = ReceiveFromStep(informs=True), _RECEIVE_MESSAGE_FROM
        result = begin_receive(self._core, self, message, socket_flags, callback, state, step, kind)
        return succeeded(result)

    @trio.lowlevel.enable_ki_protection
    async def end_receive_message_from(
        self, ar: AsyncResult
    ) -> tuple[int, SocketFlags, Any, IPPacketInformation | None]:
        """Wait until a receive that tells how the message came has ended and take its result; once for each.

        Args:
          ar: what `begin_receive_message_from` returned.

        Returns:
          How many bytes were received; what the system said of the message, for example TRUNCATED; the address of the
          sender, None for one that has no address; and how the message came, None where the system does not tell.

        Raises:
          SocketException: the receive failed or was stopped; then no byte was received.
          TypeError: ``ar`` is None.
          ValueError: ``ar`` is no result of `begin_receive_message_from` on this socket; it is left as it was.
          InvalidOperationError: the result was taken already, or the call comes from another thread.

        **Checkpoints**: always.

        **If cancelled**: `trio.Cancelled`; the operation goes on, because it belongs to its initiator, and the result
        can still be taken.

        **Threads**: only from the Trio thread that uses the socket.

        Source: .NET's ``Socket.EndReceiveMessageFrom``.
        """
        await wait_for_end(self._core, self, ar, _RECEIVE_MESSAGE_FROM)
        return self.end_receive_message_from_nowait(ar)

    @trio.lowlevel.enable_ki_protection
    def end_receive_message_from_nowait(
        self, ar: AsyncResult
    ) -> tuple[int, SocketFlags, Any, IPPacketInformation | None]:
        """Take the result of a receive that tells how the message came and has ended, as a synchronous callback does.

        Args:
          ar: what `begin_receive_message_from` returned.

        Returns:
          As `end_receive_message_from`.

        Raises:
          trio.WouldBlock: the receive is pending.
          SocketException: the receive failed or was stopped; then no byte was received.
          TypeError: ``ar`` is None.
          ValueError: ``ar`` is no result of `begin_receive_message_from` on this socket; it is left as it was.
          InvalidOperationError: the result was taken already, or the call comes from another thread.

        **Checkpoints**: never.

        **If cancelled**: nothing is raised here.

        **Threads**: only from the Trio thread that uses the socket.

        Source: .NET's ``Socket.EndReceiveMessageFrom``.
        """
        return end_value(self._core, self, ar, _RECEIVE_MESSAGE_FROM)  # type: ignore[no-any-return]

    @trio.lowlevel.enable_ki_protection
    async def receive_message_from(self, max_bytes: int = 65536) -> ReceivedMessageFrom:
        """Receive what has arrived, as soon as something has, and tell how it came.

        Args:
          max_bytes: how many bytes at most.

        Returns:
          The bytes, what the system said of the message, the address of the sender, the own address to which it was
          sent and the interface by which it came; see `receive_message_from_async`.

        Raises:
          SocketException: the connection is broken, or there is none, or an earlier datagram of this socket found
            nobody.
          TypeError: ``max_bytes`` is no whole number.
          ValueError: ``max_bytes`` is not positive, or more than there can be.
          InvalidOperationError: the call comes from another thread.
          ObjectDisposedError: the socket was closed.

        **Checkpoints**: always.

        **If cancelled**: `trio.Cancelled`, and nothing has been received.

        **Threads**: only from the Trio thread that uses the socket.

        Source: .NET's ``Socket.ReceiveMessageFromAsync``.
        """
        self._core.require_usable()
        step = ReceiveFromStep(require_max_bytes(max_bytes), informs=True)
        await receive_awaited(self._core, self, step, None, _RECEIVE_MESSAGE_FROM)
        return ReceivedMessageFrom(step.data, step.flags, step.address, step.information)
