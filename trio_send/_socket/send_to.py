"""Datagrams to addresses of their own, in all three faces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import trio

from .._base.codes import SocketAsyncOperation, SocketFlags
from .._kernel.addresses import require_numeric
from .._messages.buffers import message_from_buffer
from .._operations.operation import Operation
from .begin_send import BeginEnd

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer

    from .async_result import AsyncResult
    from .event_args import SocketAsyncEventArgs

_SEND_TO: Final = SocketAsyncOperation.SEND_TO


class SendingTo(BeginEnd):
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
        if self._require_message(args) is None:
            return self._refuse(args)
        address = self._destination("remote_end_point", args._remote_end_point)
        self._require_initiator()
        return self._begin_args(args, None, address, _SEND_TO)

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
        self._require_usable()
        message = message_from_buffer("buffer", buffer, offset, size)
        address = self._destination("remote_end_point", remote_end_point)
        result = self._begin_message(message, address, socket_flags, callback, state, _SEND_TO)
        if result._failed_on_the_spot:
            raise result._exception()
        return result

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
        return await self._end(ar, _SEND_TO)

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
        return self._end_nowait(ar, _SEND_TO)

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
        self._require_usable()
        message = message_from_buffer("data", data, 0, None)
        destination = self._destination("address", address)
        return await self._send_awaited(Operation(), message, socket_flags, destination, _SEND_TO)

    def _destination(self, name: str, address: Any) -> Any:
        """Check an address and return what to give the kernel: None where there is no choice of receivers."""
        if address is None:
            raise TypeError(f"{name} is None, but must be the address to send to")
        port = self._port
        if port.family is not None:
            address = require_numeric(port.family, self._kernel, name, address, "sending")
        return None if port.is_stream or port.has_one_receiver else address
