"""Datagrams to addresses of their own, in all three faces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import trio

from .._base.codes import SocketAsyncOperation, SocketFlags
from .._messages.buffers import message_from_buffer
from .._operations.operation import Operation
from .core import Verb
from .results import begin_message, end, end_nowait, succeeded
from .starts import args_to_send, refuse_cut, send_awaited, start_args

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer

    from .async_result import AsyncResult
    from .event_args import SocketAsyncEventArgs

_SEND_TO: Final = SocketAsyncOperation.SEND_TO


class SendingTo(Verb):
    """The part of `Socket` that sends to a given address."""

    __slots__ = ()

    @trio.lowlevel.enable_ki_protection
    def send_to_async(self, args: SocketAsyncEventArgs) -> bool:
        """Start to send the message of ``args`` to ``args.remote_end_point``, as one datagram.

        The datagram waits its turn in the socket's one queue. A default remote host that `connect` has set stays what
        it is (F027), and none is needed. On a connection the address is ignored, and the message goes to the peer
        (F029).

        Args:
          args: what to send, and where to. They are in use until the operation has ended.

        Returns:
          True if the operation is pending: `SocketAsyncEventArgs.completed` will be raised, exactly once. False if it
          has ended on the spot, one way or the other, and the args tell how.

        Raises:
          TypeError: ``args`` is no args, or its ``remote_end_point`` is None or of the wrong shape (F249).
          ValueError: ``args`` has neither a buffer nor a buffer list, or the host in its ``remote_end_point`` is a name
            (F250).
          OperationInProgressError: ``args`` is in use.
          ObjectDisposedError: the socket or ``args`` was closed.
          InvalidOperationError: no initiator is open, the call comes from another thread, or the message of ``args``
            was cut and stands half sent on a torn stream.

        **Checkpoints**: never.

        **If cancelled**: nothing is raised here. The operation belongs to the initiator and ends with it.

        **Threads**: only from the Trio thread that uses the socket.
        """
        core = self._core
        operation = args_to_send(core, args)
        if operation is None:
            return refuse_cut(core, self, args)
        address = core.destination("remote_end_point", operation.remote_end_point)
        core.require_owner()
        return start_args(core, self, args, _SEND_TO, address=address)

    @trio.lowlevel.enable_ki_protection
    def begin_send_to(
        self,
        buffer: Buffer,
        offset: int = 0,
        size: int | None = None,
        socket_flags: SocketFlags = SocketFlags.NONE,
        remote_end_point: Any = None,
        callback: Callable[[AsyncResult], object] | None = None,
        state: Any = None,
    ) -> AsyncResult:
        """Start to send a datagram to an address; see `send_to_async`.

        Args:
          buffer: a contiguous bytes-like object; not copied.
          offset: where in the buffer to begin, in bytes.
          size: how many bytes to send; None stands for all from ``offset`` on.
          socket_flags: how to send.
          remote_end_point: where to, a Python socket address. It must be given, and a host in it must be numeric.
          callback: a function or async function to call with the result when the operation has ended, also when it
            ended on the spot; never from inside this call. It should call `end_send_to_nowait` or await `end_send_to`.
          state: anything of yours, found again as `AsyncResult.async_state`.

        Returns:
          The result to hand to `end_send_to`.

        Raises:
          TypeError: the buffer is None, not bytes-like or not contiguous; ``remote_end_point`` is None or of the wrong
            shape; or another argument is of a wrong type.
          ValueError: ``offset`` or ``size`` leaves the buffer, or the host in ``remote_end_point`` is a name (F250).
            The arguments are checked in this order: buffer, offset, size, remote_end_point (F025).
          SocketException: the send failed on the spot; nothing is pending and the callback will not be called.
          ObjectDisposedError: the socket was closed.
          InvalidOperationError: no initiator is open, or the call comes from another thread.

        **Checkpoints**: never.

        **If cancelled**: nothing is raised here. The operation belongs to the initiator and ends with it.

        **Threads**: only from the Trio thread that uses the socket.

        Source: the `begin_send` page, "you should use BeginSendTo".
        """
        core = self._core
        core.require_usable()
        message = message_from_buffer("buffer", buffer, offset, size)
        address = core.destination("remote_end_point", remote_end_point)
        result = begin_message(
            core, self, message, socket_flags, callback, state, _SEND_TO, address
        )
        return succeeded(result)

    async def end_send_to(self, ar: AsyncResult) -> int:
        """Wait until a send to an address has ended and take its result; once for each.

        Args:
          ar: what `begin_send_to` returned.

        Returns:
          How many bytes the kernel accepted: all of them.

        Raises:
          SocketException: the send failed or was stopped; its ``bytes_transferred`` is exact.
          TypeError: ``ar`` is None.
          ValueError: ``ar`` is no result of `begin_send_to` on this socket; it is left as it was.
          InvalidOperationError: the result was taken already, or the call comes from another thread.

        **Checkpoints**: always.

        **If cancelled**: `trio.Cancelled`; the operation goes on, because it belongs to its initiator, and the result
        can still be taken.

        **Threads**: only from the Trio thread that uses the socket.
        """
        return await end(self._core, self, ar, _SEND_TO)

    @trio.lowlevel.enable_ki_protection
    def end_send_to_nowait(self, ar: AsyncResult) -> int:
        """Take the result of a send to an address that has ended, as a synchronous callback does.

        Args:
          ar: what `begin_send_to` returned.

        Returns:
          How many bytes the kernel accepted: all of them.

        Raises:
          trio.WouldBlock: the send is pending.
          SocketException: the send failed or was stopped; its ``bytes_transferred`` is exact.
          TypeError: ``ar`` is None.
          ValueError: ``ar`` is no result of `begin_send_to` on this socket; it is left as it was.
          InvalidOperationError: the result was taken already, or the call comes from another thread.

        **Checkpoints**: never.

        **If cancelled**: nothing is raised here.

        **Threads**: only from the Trio thread that uses the socket.
        """
        return end_nowait(self._core, self, ar, _SEND_TO)

    @trio.lowlevel.enable_ki_protection
    async def send_to(
        self, data: Buffer, address: Any, socket_flags: SocketFlags = SocketFlags.NONE
    ) -> int:
        """Send a datagram to an address and wait until the kernel has accepted it.

        The calling task owns the operation, so no initiator is needed. It waits its turn in the socket's one queue.
        A default remote host stays what it is; on a connection the address is ignored.

        Args:
          data: a contiguous bytes-like object.
          address: where to, a Python socket address; a host in it must be numeric.
          socket_flags: how to send.

        Returns:
          How many bytes were accepted: all of them.

        Raises:
          SocketException: the send failed or was stopped; its ``bytes_transferred`` is exact.
          TypeError: ``data`` is None, not bytes-like or not contiguous; or ``address`` is None or of the wrong shape.
          ValueError: the host in ``address`` is a name (F250), or a number in it is out of range.
          ObjectDisposedError: the socket was closed.
          InvalidOperationError: the call comes from another thread.

        **Checkpoints**: always.

        **If cancelled**: `trio.Cancelled`, and the datagram is not sent. On a stream, as `send`.

        **Threads**: only from the Trio thread that uses the socket.
        """
        core = self._core
        core.require_usable()
        message = message_from_buffer("data", data, 0, None)
        destination = core.destination("address", address)
        return await send_awaited(
            core, self, Operation(), message, socket_flags, _SEND_TO, address=destination
        )
