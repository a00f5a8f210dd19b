"""Receiving together with the address of the sender, in all three faces."""

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

    from .async_result import AsyncResult
    from .event_args import SocketAsyncEventArgs

_RECEIVE_FROM: Final = SocketAsyncOperation.RECEIVE_FROM


@attrs.frozen(slots=True)
class ReceivedFrom:
    """What `Socket.receive_from` has received.

    Attributes:
      data: the bytes.
      remote_end_point: the address of the sender, a Python socket address; None if the sender has none, as a Unix
        socket may.
      truncated: whether the datagram was longer than there was room, so that its end is lost.

    Source: .NET's ``SocketReceiveFromResult``.
    """

    data: bytes
    remote_end_point: Any
    truncated: bool


class ReceivingFrom(Verb):
    """The part of `Socket` that receives and tells the sender."""

    __slots__ = ()

    @trio.lowlevel.enable_ki_protection
    def receive_from_async(self, args: SocketAsyncEventArgs) -> bool:
        """Start to receive into the buffer, or the buffer list, of ``args``, and to tell the sender.

        It is `receive_async`, in the same FIFO, with one thing more: when it has succeeded,
        `SocketAsyncEventArgs.remote_end_point` is the address that the datagram came from, whatever it was before, so
        that `send_to_async` with the same args answers. It is the peer on a connection, and None for a sender that
        has no address. Unlike in .NET it need not be set before. What does not fit of a datagram is lost, and
        `receive_message_from_async` tells of that.

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

        Source: .NET's ``Socket.ReceiveFromAsync``; fact F154.
        """
        return receive_args(self._core, self, args, ReceiveFromStep(), _RECEIVE_FROM)

    @trio.lowlevel.enable_ki_protection
    def begin_receive_from(
        self,
        buffer: Buffer,
        offset: int = 0,
        size: int | None = None,
        socket_flags: SocketFlags = SocketFlags.NONE,
        callback: Callable[[AsyncResult], object] | None = None,
        state: Any = None,
    ) -> AsyncResult:
        """Start to receive into a buffer, and to tell the sender.

        Args:
          buffer: a writable, contiguous bytes-like object; leave it alone meanwhile.
          offset: where in the buffer to begin, in bytes.
          size: how many bytes at most; None stands for all from ``offset`` on. Without room, it waits until there is
            something to receive, tells its sender, and takes nothing.
          socket_flags: how to receive: NONE, PEEK, OUT_OF_BAND or DONT_ROUTE.
          callback: a function or async function to call with the result when the operation has ended, also when it
            ended on the spot; never from inside this call. It should call `end_receive_from_nowait` or await
            `end_receive_from`.
          state: anything of yours, found again as `AsyncResult.async_state`.

        Returns:
          The result to hand to `end_receive_from`.

        Raises:
          TypeError: the buffer is None, not bytes-like or not contiguous.
          ValueError: ``offset`` or ``size`` leaves the buffer, or the buffer is read-only.
          SocketException: the receive failed on the spot; nothing is pending and the callback will not be called.
          ObjectDisposedError: the socket was closed.
          InvalidOperationError: no initiator is open, or the call comes from another thread.

        **Checkpoints**: never.

        **If cancelled**: nothing is raised here; see `receive_from_async`.

        **Threads**: only from the Trio thread that uses the socket.

        Source: .NET's ``Socket.BeginReceiveFrom``.
        """
        self._core.require_usable()
        message = message_from_buffer("buffer", buffer, offset, size)
        require_writable("buffer", message, is_list=False)
        step = ReceiveFromStep()
        result = begin_receive(
            self._core, self, message, socket_flags, callback, state, step, _RECEIVE_FROM
        )
        return succeeded(result)

    @trio.lowlevel.enable_ki_protection
    async def end_receive_from(self, ar: AsyncResult) -> tuple[int, Any]:
        """Wait until a receive that tells the sender has ended and take its result; once for each.

        Args:
          ar: what `begin_receive_from` returned.

        Returns:
          How many bytes were received, and the address they came from; None for a sender that has no address.

        Raises:
          SocketException: the receive failed or was stopped; then no byte was received.
          TypeError: ``ar`` is None.
          ValueError: ``ar`` is no result of `begin_receive_from` on this socket; it is left as it was.
          InvalidOperationError: the result was taken already, or the call comes from another thread.

        **Checkpoints**: always.

        **If cancelled**: `trio.Cancelled`; the operation goes on, because it belongs to its initiator, and the result
        can still be taken.

        **Threads**: only from the Trio thread that uses the socket.

        Source: .NET's ``Socket.EndReceiveFrom``.
        """
        await wait_for_end(self._core, self, ar, _RECEIVE_FROM)
        return self.end_receive_from_nowait(ar)

    @trio.lowlevel.enable_ki_protection
    def end_receive_from_nowait(self, ar: AsyncResult) -> tuple[int, Any]:
        """Take the result of a receive that tells the sender and has ended, as a synchronous callback does.

        Args:
          ar: what `begin_receive_from` returned.

        Returns:
          How many bytes were received, and the address they came from; None for a sender that has no address.

        Raises:
          trio.WouldBlock: the receive is pending.
          SocketException: the receive failed or was stopped; then no byte was received.
          TypeError: ``ar`` is None.
          ValueError: ``ar`` is no result of `begin_receive_from` on this socket; it is left as it was.
          InvalidOperationError: the result was taken already, or the call comes from another thread.

        **Checkpoints**: never.

        **If cancelled**: nothing is raised here.

        **Threads**: only from the Trio thread that uses the socket.

        Source: .NET's ``Socket.EndReceiveFrom``.
        """
        return end_value(self._core, self, ar, _RECEIVE_FROM)  # type: ignore[no-any-return]

    @trio.lowlevel.enable_ki_protection
    async def receive_from(self, max_bytes: int = 65536) -> ReceivedFrom:
        """Receive what has arrived, as soon as something has, and tell the sender.

        Args:
          max_bytes: how many bytes at most.

        Returns:
          The bytes, the address they came from, and whether a datagram was longer than ``max_bytes``.

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

        Source: .NET's ``Socket.ReceiveFromAsync``.
        """
        self._core.require_usable()
        step = ReceiveFromStep(require_max_bytes(max_bytes))
        await receive_awaited(self._core, self, step, None, _RECEIVE_FROM)
        truncated = bool(step.flags & SocketFlags.TRUNCATED)
        return ReceivedFrom(step.data, step.address, truncated)
