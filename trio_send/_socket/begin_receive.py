"""The begin/end face of receiving."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import trio

from .._base.codes import SocketAsyncOperation, SocketError, SocketFlags
from .._messages.buffers import message_of, require_writable
from .core import Verb
from .receive_starts import begin_receive
from .receive_steps import STEP
from .results import end, end_nowait, result_and_error, succeeded, try_take, wait_for_end

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from typing_extensions import Buffer

    from .async_result import AsyncResult

_RECEIVE: Final = SocketAsyncOperation.RECEIVE


class BeginReceiving(Verb):
    """The part of `Socket` that begins to receive and ends it by two calls."""

    __slots__ = ()

    @trio.lowlevel.enable_ki_protection
    def begin_receive(
        self,
        buffer_or_list: Buffer | Sequence[Buffer],
        offset: int = 0,
        size: int | None = None,
        socket_flags: SocketFlags = SocketFlags.NONE,
        callback: Callable[[AsyncResult], object] | None = None,
        state: Any = None,
    ) -> AsyncResult:
        """Start to receive into a buffer, or into a list of buffers, one after the other.

        Args:
          buffer_or_list: a writable, contiguous bytes-like object, or a list or tuple of them; leave it alone
            meanwhile. A list is looked at now and not again.
          offset: where in the buffer to begin, in bytes. Not for lists.
          size: how many bytes at most; None stands for all from ``offset`` on. Not for lists. Without room, it waits
            until there is something to receive, or the peer has finished, and takes nothing.
          socket_flags: how to receive: NONE, PEEK, OUT_OF_BAND or DONT_ROUTE.
          callback: a function or async function to call with the result when the operation has ended, also when it
            ended on the spot; never from inside this call. It should call `end_receive_nowait` or await `end_receive`.
          state: anything of yours, found again as `AsyncResult.async_state`.

        Returns:
          The result to hand to `end_receive`.

        Raises:
          TypeError: the buffer is None, not bytes-like or not contiguous.
          ValueError: ``offset`` or ``size`` leaves the buffer, the list is empty, or a buffer is read-only.
          SocketException: the receive failed on the spot; nothing is pending and the callback will not be called.
          ObjectDisposedError: the socket was closed.
          InvalidOperationError: no initiator is open, or the call comes from another thread.

        **Checkpoints**: never.

        **If cancelled**: nothing is raised here; see `receive_async`.

        **Threads**: only from the Trio thread that uses the socket.
        """
        result = self._begin_receive_result(
            buffer_or_list, offset, size, socket_flags, callback, state
        )
        return succeeded(result)

    @trio.lowlevel.enable_ki_protection
    def try_begin_receive(
        self,
        buffer_or_list: Buffer | Sequence[Buffer],
        offset: int = 0,
        size: int | None = None,
        socket_flags: SocketFlags = SocketFlags.NONE,
        callback: Callable[[AsyncResult], object] | None = None,
        state: Any = None,
    ) -> tuple[AsyncResult | None, SocketError]:
        """Start to receive, and return a failure on the spot instead of raising it.

        Args:
          buffer_or_list: as for `begin_receive`, like all the others.
          offset: where in the buffer to begin, in bytes.
          size: how many bytes at most.
          socket_flags: how to receive.
          callback: what to call when the operation has ended.
          state: anything of yours.

        Returns:
          The result and SUCCESS; or None and the error if the receive failed on the spot, and the callback will not be
          called. Never IO_PENDING.

        Raises:
          TypeError: as `begin_receive`.
          ValueError: as `begin_receive`.
          ObjectDisposedError: the socket was closed.
          InvalidOperationError: as `begin_receive`.

        **Checkpoints**: never.

        **If cancelled**: nothing is raised here; see `receive_async`.

        **Threads**: only from the Trio thread that uses the socket.

        Source: .NET's ``Socket.BeginReceive``, the overload with ``errorCode``.
        """
        result = self._begin_receive_result(
            buffer_or_list, offset, size, socket_flags, callback, state
        )
        return result_and_error(result)

    def _begin_receive_result(
        self,
        buffer_or_list: Buffer | Sequence[Buffer],
        offset: int,
        size: int | None,
        socket_flags: SocketFlags,
        callback: Callable[[AsyncResult], object] | None,
        state: Any,
    ) -> AsyncResult:
        self._core.require_usable()
        message = message_of("buffer_or_list", buffer_or_list, offset, size)
        is_list = isinstance(buffer_or_list, (list, tuple))
        require_writable("buffer_or_list", message, is_list=is_list)
        return begin_receive(
            self._core, self, message, socket_flags, callback, state, STEP, _RECEIVE
        )

    @trio.lowlevel.enable_ki_protection
    async def end_receive(self, ar: AsyncResult) -> int:
        """Wait until a receive has ended and take its result; once for each.

        Args:
          ar: what `begin_receive` returned.

        Returns:
          How many bytes were received; 0 when the peer has finished, or for an empty datagram.

        Raises:
          SocketException: the receive failed or was stopped; then no byte was received.
          TypeError: ``ar`` is None.
          ValueError: ``ar`` is no result of a receive on this socket; it is left as it was.
          InvalidOperationError: the result was taken already, or the call comes from another thread.

        **Checkpoints**: always.

        **If cancelled**: `trio.Cancelled`; the operation goes on, because it belongs to its initiator, and the result
        can still be taken.

        **Threads**: only from the Trio thread that uses the socket.
        """
        return await end(self._core, self, ar, _RECEIVE)

    @trio.lowlevel.enable_ki_protection
    async def try_end_receive(self, ar: AsyncResult) -> tuple[int, SocketError]:
        """Wait until a receive has ended and take its result, with an error returned instead of raised.

        Args:
          ar: what `begin_receive` returned.

        Returns:
          How many bytes were received, and SUCCESS or the error.

        Raises:
          TypeError: ``ar`` is None.
          ValueError: ``ar`` is no result of a receive on this socket; it is left as it was.
          InvalidOperationError: the result was taken already, or the call comes from another thread.

        **Checkpoints**: always.

        **If cancelled**: as `end_receive`.

        **Threads**: only from the Trio thread that uses the socket.

        Source: .NET's ``Socket.EndReceive``, the overload with ``errorCode``.
        """
        await wait_for_end(self._core, self, ar, _RECEIVE)
        return try_take(self._core, self, ar, _RECEIVE)

    @trio.lowlevel.enable_ki_protection
    def end_receive_nowait(self, ar: AsyncResult) -> int:
        """Take the result of a receive that has ended, as a synchronous callback does.

        Args:
          ar: what `begin_receive` returned.

        Returns:
          How many bytes were received; 0 when the peer has finished, or for an empty datagram.

        Raises:
          trio.WouldBlock: the receive is pending.
          SocketException: the receive failed or was stopped; then no byte was received.
          TypeError: ``ar`` is None.
          ValueError: ``ar`` is no result of a receive on this socket; it is left as it was.
          InvalidOperationError: the result was taken already, or the call comes from another thread.

        **Checkpoints**: never.

        **If cancelled**: nothing is raised here.

        **Threads**: only from the Trio thread that uses the socket.
        """
        return end_nowait(self._core, self, ar, _RECEIVE)

    @trio.lowlevel.enable_ki_protection
    def try_end_receive_nowait(self, ar: AsyncResult) -> tuple[int, SocketError]:
        """Take the result of a receive that has ended, with an error returned instead of raised.

        Args:
          ar: what `begin_receive` returned.

        Returns:
          How many bytes were received, and SUCCESS or the error.

        Raises:
          trio.WouldBlock: the receive is pending.
          TypeError: ``ar`` is None.
          ValueError: ``ar`` is no result of a receive on this socket; it is left as it was.
          InvalidOperationError: the result was taken already, or the call comes from another thread.

        **Checkpoints**: never.

        **If cancelled**: nothing is raised here.

        **Threads**: only from the Trio thread that uses the socket.

        Source: .NET's ``Socket.EndReceive``, the overload with ``errorCode``.
        """
        return try_take(self._core, self, ar, _RECEIVE)
