"""The begin/end face: single-use results, callbacks, and the call that takes the count."""

from __future__ import annotations

from threading import get_ident
from typing import TYPE_CHECKING, Any, Final

import trio

from .._base.codes import SocketAsyncOperation, SocketError, SocketFlags
from .._messages.buffers import message_of, range_message, short_range_size, short_size
from .._operations.gate import STEP
from .._operations.queue import ATTEMPT_ERRORS
from .._operations.send_calls import PLAIN_FLAGS
from .._owners.current import get_owner
from .async_result import AsyncResult, EndedResult
from .core import Verb
from .results import (
    begin_message,
    conclude,
    end,
    end_nowait,
    record_of,
    result_and_error,
    succeeded,
    try_take,
    wait_for_end,
)
from .starts import NO_FLAGS, prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from typing_extensions import Buffer

    from .._messages.buffers import BufferShrankError, Message
    from .._owners.exiting_owner import ExitingOwner
    from .core import SocketCore

_SEND: Final = SocketAsyncOperation.SEND
#: What looks like it and is no number, such as False, is for the full checks.
_ZERO: Final = 0


class BeginSending(Verb):
    """The part of `Socket` whose operations are begun and ended by two calls."""

    __slots__ = ()

    @trio.lowlevel.enable_ki_protection
    def begin_send(
        self,
        buffer_or_list: Buffer | Sequence[Buffer],
        offset: int = 0,
        size: int | None = None,
        socket_flags: SocketFlags = SocketFlags.NONE,
        callback: Callable[[AsyncResult], object] | None = None,
        state: Any = None,
    ) -> AsyncResult:
        """Start to send a buffer, or a list of buffers as one message.

        Args:
          buffer_or_list: a contiguous bytes-like object, or a list or tuple of them; not copied. A list is looked at
            now and not again.
          offset: where in the buffer to begin, in bytes. Not for lists.
          size: how many bytes to send; None stands for all from ``offset`` on. Not for lists.
          socket_flags: how to send.
          callback: a function or async function to call with the result when the operation has ended, also when it
            ended on the spot; never from inside this call. It should call `end_send_nowait` or await `end_send`.
          state: anything of yours, found again as `AsyncResult.async_state`.

        Returns:
          The result to hand to `end_send`.

        Raises:
          TypeError: the buffer is None, not bytes-like or not contiguous; or another argument is of a wrong type.
          ValueError: ``offset`` or ``size`` leaves the buffer, or the list is empty.
          SocketException: the send failed on the spot; nothing is pending and the callback will not be called.
          ObjectDisposedError: the socket was closed (F001).
          InvalidOperationError: no initiator is open, or the call comes from another thread.

        **Checkpoints**: never. After many starts in a row that ended on the spot, failed ones too, one is answered as
        pending although it has ended, so that a loop over `begin_send` and `end_send` yields now and then.

        **If cancelled**: nothing is raised here. The operation belongs to the initiator, ends with it, and carries the
        exact count.

        **Threads**: only from the Trio thread that uses the socket.

        Source: the `begin_send` page.
        """
        # The fast path, as in `send_async`.
        owner = get_owner(None)
        core = self._core
        queue = core.sends
        buffer: Any = buffer_or_list
        kind = type(buffer)
        if (
            callback is not None
            or size is not None
            or offset is not _ZERO
            or socket_flags is not NO_FLAGS
            or owner is None
            or owner is not core.checked
            or get_ident() != core.thread
            or (count := len(buffer) if kind is bytes else short_size(buffer)) < 0
            or (owner.budget <= 0 and not owner.refill())
            or queue.gate  # the last look, because nothing may strike between this and what follows
        ):
            result = self._begin_result(buffer, offset, size, socket_flags, callback, state)
            return result if type(result) is EndedResult else succeeded(result)
        queue.gate = STEP
        try:
            if kind is bytes:
                send = core.send
                sent = send(buffer, PLAIN_FLAGS)
            else:
                sent = queue.send_range(buffer, 0, count)
        except ATTEMPT_ERRORS as error:
            return self._begin_send_stuck(buffer, 0, count, state, owner, 0, error)
        except BaseException:
            queue.end_attempt()
            raise
        queue.accepted += sent
        if sent != count:
            return self._begin_send_stuck(buffer, 0, count, state, owner, sent, None)
        if queue.gate == STEP:
            queue.gate = 0
        else:
            queue.end_attempt()
        budget = owner.budget
        if budget > 0:  # else another start has spent it in the middle of this
            owner.budget = budget - 1
        ended = EndedResult()
        ended.origin = self
        ended.async_state = state
        ended.transferred = sent
        ended.is_taken = False
        ended.handle = None
        return ended

    @trio.lowlevel.enable_ki_protection
    def _begin_send_stuck(
        self,
        buffer: Buffer,
        offset: int,
        count: int,
        state: Any,
        owner: ExitingOwner,
        sent: int,
        error: OSError | BufferShrankError | None,
    ) -> AsyncResult:
        """Go on with `begin_send` after a first attempt on the fast path that did not send everything."""
        message = range_message(buffer, offset, count)
        return succeeded(_go_on_result(self._core, self, message, state, owner, sent, error))

    @trio.lowlevel.enable_ki_protection
    def try_begin_send(
        self,
        buffer_or_list: Buffer | Sequence[Buffer],
        offset: int = 0,
        size: int | None = None,
        socket_flags: SocketFlags = SocketFlags.NONE,
        callback: Callable[[AsyncResult], object] | None = None,
        state: Any = None,
    ) -> tuple[AsyncResult | None, SocketError]:
        """Start to send, and return a failure on the spot instead of raising it.

        Args:
          buffer_or_list: as for `begin_send`, like all the others.
          offset: where in the buffer to begin, in bytes.
          size: how many bytes to send.
          socket_flags: how to send.
          callback: what to call when the operation has ended.
          state: anything of yours.

        Returns:
          The result and SUCCESS; or None and the error if the send failed on the spot, and the callback will not be
          called (F053). Never IO_PENDING.

        Raises:
          TypeError: as `begin_send`.
          ValueError: as `begin_send`.
          ObjectDisposedError: the socket was closed (F002).
          InvalidOperationError: as `begin_send`.

        **Checkpoints**: never, as `begin_send`.

        **If cancelled**: nothing is raised here; see `begin_send`.

        **Threads**: only from the Trio thread that uses the socket.

        Source: the `begin_send` page, the overload with ``errorCode``.
        """
        result = self._begin_result(buffer_or_list, offset, size, socket_flags, callback, state)
        return result_and_error(result)

    @trio.lowlevel.enable_ki_protection
    def _begin_result(
        self,
        buffer_or_list: Buffer | Sequence[Buffer],
        offset: int,
        size: int | None,
        socket_flags: SocketFlags,
        callback: Callable[[AsyncResult], object] | None,
        state: Any,
    ) -> AsyncResult:
        """Begin a send of anything, by the same short way if it can go that."""
        owner = get_owner(None)
        core = self._core
        queue = core.sends
        if (
            callback is None
            and socket_flags is NO_FLAGS
            and owner is not None
            and owner is core.checked
            and get_ident() == core.thread
            and not queue.gate
        ):
            buffer: Any = buffer_or_list
            message: Message | None = None
            count = short_range_size(buffer, offset, size)
            if count < 0:
                message = message_of("buffer_or_list", buffer, offset, size)
                count = message.size
            if (
                (message is None or message.fits_one_call)
                and (owner.budget > 0 or owner.refill())
                and not queue.gate  # the last look, as above
            ):
                return self._begin_attempt(buffer, offset, count, message, state, owner)
        return self._begin_fully(buffer_or_list, offset, size, socket_flags, callback, state)

    def _begin_attempt(
        self,
        buffer: Any,
        offset: int,
        count: int,
        message: Message | None,
        state: Any,
        owner: ExitingOwner,
    ) -> AsyncResult:
        """Begin a send that nothing is in the way of: of a flat range of a buffer, or of any other message."""
        core = self._core
        queue = core.sends
        queue.gate = STEP
        sent = 0
        error: OSError | BufferShrankError | None = None
        try:
            sent = (
                queue.send_range(buffer, offset, count)
                if message is None
                else queue.send_message(message)
            )
        except ATTEMPT_ERRORS as caught:
            error = caught.with_traceback(None)
        except BaseException:
            queue.end_attempt()
            raise
        queue.accepted += sent
        if sent != count or error is not None:
            if message is None:
                message = range_message(buffer, offset, count)
            return _go_on_result(core, self, message, state, owner, sent, error)
        if queue.gate == STEP:
            queue.gate = 0
        else:
            queue.end_attempt()
        if owner.budget > 0:
            owner.budget -= 1
        ended = EndedResult()
        ended.origin = self
        ended.async_state = state
        ended.transferred = sent
        ended.is_taken = False
        ended.handle = None
        return ended

    def _begin_fully(
        self,
        buffer_or_list: Buffer | Sequence[Buffer],
        offset: int,
        size: int | None,
        socket_flags: SocketFlags,
        callback: Callable[[AsyncResult], object] | None,
        state: Any,
    ) -> AsyncResult:
        """Begin a send after all the checks, as an operation like any other."""
        core = self._core
        core.require_usable()
        message = message_of("buffer_or_list", buffer_or_list, offset, size)
        checked = core.checked
        if checked is not get_owner(None) and callback is None and socket_flags is NO_FLAGS:
            # Perhaps the short way lacked nothing but a look at the owner, as with the first send on a connection.
            owner = core.require_owner()
            if owner is not checked and owner.budget >= 0:
                return self._begin_result(buffer_or_list, offset, size, socket_flags, None, state)
        return begin_message(core, self, message, socket_flags, callback, state, _SEND)

    @trio.lowlevel.enable_ki_protection
    async def end_send(self, ar: AsyncResult) -> int:
        """Wait until a send has ended and take its result; once for each.

        Args:
          ar: what `begin_send` returned.

        Returns:
          How many bytes the kernel accepted: all of them.

        Raises:
          SocketException: the send failed or was stopped; its ``bytes_transferred`` is exact.
          TypeError: ``ar`` is None.
          ValueError: ``ar`` is no result of a send on this socket; it is left as it was.
          InvalidOperationError: the result was taken already (F038), or the call comes from another thread.

        **Checkpoints**: always.

        **If cancelled**: `trio.Cancelled`; the operation goes on, because it belongs to its initiator, and the result
        can still be taken.

        **Threads**: only from the Trio thread that uses the socket.

        Source: the `begin_send` page.
        """
        return await end(self._core, self, ar, _SEND)

    @trio.lowlevel.enable_ki_protection
    async def try_end_send(self, ar: AsyncResult) -> tuple[int, SocketError]:
        """Wait until a send has ended and take its result, with an error returned instead of raised.

        Args:
          ar: what `begin_send` returned.

        Returns:
          How many bytes the kernel accepted, exact in every case, and SUCCESS or the error.

        Raises:
          TypeError: ``ar`` is None.
          ValueError: ``ar`` is no result of a send on this socket; it is left as it was.
          InvalidOperationError: the result was taken already (F038), or the call comes from another thread.

        **Checkpoints**: always.

        **If cancelled**: as `end_send`.

        **Threads**: only from the Trio thread that uses the socket.

        Source: the `begin_send` page.
        """
        await wait_for_end(self._core, self, ar, _SEND)
        return try_take(self._core, self, ar, _SEND)

    @trio.lowlevel.enable_ki_protection
    def end_send_nowait(self, ar: AsyncResult) -> int:
        """Take the result of a send that has ended, as a synchronous callback does.

        Args:
          ar: what `begin_send` returned.

        Returns:
          How many bytes the kernel accepted: all of them.

        Raises:
          trio.WouldBlock: the send is pending.
          SocketException: the send failed or was stopped; its ``bytes_transferred`` is exact.
          TypeError: ``ar`` is None.
          ValueError: ``ar`` is no result of a send on this socket; it is left as it was.
          InvalidOperationError: the result was taken already (F038), or the call comes from another thread.

        **Checkpoints**: never.

        **If cancelled**: nothing is raised here.

        **Threads**: only from the Trio thread that uses the socket.

        Source: the `begin_send` page.
        """
        if type(ar) is EndedResult and ar.origin is self and not ar.is_taken:
            # The fast path. Nothing here is shared, so the thread may be any.
            ar.is_taken = True
            return ar.transferred
        return end_nowait(self._core, self, ar, _SEND)

    @trio.lowlevel.enable_ki_protection
    def try_end_send_nowait(self, ar: AsyncResult) -> tuple[int, SocketError]:
        """Take the result of a send that has ended, with an error returned instead of raised.

        Args:
          ar: what `begin_send` returned.

        Returns:
          How many bytes the kernel accepted, exact in every case, and SUCCESS or the error.

        Raises:
          trio.WouldBlock: the send is pending.
          TypeError: ``ar`` is None.
          ValueError: ``ar`` is no result of a send on this socket; it is left as it was.
          InvalidOperationError: the result was taken already (F038), or the call comes from another thread.

        **Checkpoints**: never.

        **If cancelled**: nothing is raised here.

        **Threads**: only from the Trio thread that uses the socket.

        Source: the `begin_send` page.
        """
        return try_take(self._core, self, ar, _SEND)


def _go_on_result(
    core: SocketCore,
    socket: Verb,
    message: Message,
    state: Any,
    owner: ExitingOwner,
    sent: int,
    error: OSError | BufferShrankError | None,
) -> AsyncResult:
    """Go on after a first attempt on the fast path that did not send everything."""
    result = AsyncResult(socket, core.token, None, state)
    operation = record_of(result)
    operation.claim()
    operation.message = message
    prepare(core, socket, operation, _SEND, face=result)
    operation.flags = PLAIN_FLAGS
    operation.transferred = sent
    return conclude(core, result, owner, core.sends.go_on(operation, owner, error))
