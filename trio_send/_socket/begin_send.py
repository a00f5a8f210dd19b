"""The begin/end face: single-use results, callbacks, and the call that takes the count."""

from __future__ import annotations

from threading import get_ident
from typing import TYPE_CHECKING, Any, Final

import trio

from .._base.codes import SocketAsyncOperation, SocketError, SocketFlags, require_flags
from .._messages.buffers import range_message, short_range_size, short_size
from .._operations.queue import ATTEMPT_ERRORS, STEP
from .._operations.send_attempts import PLAIN_FLAGS
from .._owners.current import get_initiator
from .async_result import AsyncResult, EndedResult, make_result
from .send import NO_FLAGS, Sending, message_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from typing_extensions import Buffer

    from .._base.errors import SocketException
    from .._messages.buffers import BufferShrankError, Message
    from .._operations.operation import Step
    from .._operations.queue import OperationQueue
    from .._owners.leaving_owner import Leaver

_SEND: Final = SocketAsyncOperation.SEND
_new: Final = object.__new__
#: What looks like it and is no number, such as False, is for the full checks.
_ZERO: Final = 0


class BeginEnd(Sending):
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
        initiator = get_initiator(None)
        queue = self._sends
        buffer: Any = buffer_or_list
        kind = type(buffer)
        if (
            callback is None
            and size is None
            and offset is _ZERO
            and socket_flags is NO_FLAGS
            and initiator is not None
            and initiator is self._checked
            and get_ident() == self._thread
            and (count := len(buffer) if kind is bytes else short_size(buffer)) >= 0
            and (initiator._budget > 0 or initiator._refill())
            and not queue.gate  # the last look, for nothing may strike between this and what follows
        ):
            queue.gate = STEP
            try:
                sent = (
                    self._send(buffer, PLAIN_FLAGS)
                    if kind is bytes
                    else queue.send_range(buffer, 0, count)
                )
            except ATTEMPT_ERRORS as error:
                return self._begin_send_stuck(buffer, 0, count, state, initiator, 0, error)
            except BaseException:
                queue.end_attempt()
                raise
            else:
                queue.accepted += sent
                if sent == count:
                    if queue.gate == STEP:
                        queue.gate = 0
                    else:
                        queue.end_attempt()
                    if (
                        initiator._budget > 0
                    ):  # else another start has spent it in the middle of this
                        initiator._budget -= 1
                    ended = _new(EndedResult)
                    ended._origin = self
                    ended._async_state = state
                    ended._transferred = sent
                    ended._ended = False
                    ended._handle = None
                    return ended
                return self._begin_send_stuck(buffer, 0, count, state, initiator, sent, None)
        else:
            is_whole = size is None and offset is _ZERO  # and has been looked at
            begin = self._begin_fully if is_whole else self._begin_result
            result = begin(buffer, offset, size, socket_flags, callback, state)
        if result._failed_on_the_spot:
            raise result._exception()
        return result

    @trio.lowlevel.enable_ki_protection
    def _begin_send_stuck(
        self,
        buffer: Buffer,
        offset: int,
        count: int,
        state: Any,
        initiator: Leaver,
        sent: int,
        error: OSError | BufferShrankError | None,
    ) -> AsyncResult:
        """Go on with `begin_send` after a first attempt on the fast path that did not send everything."""
        message = range_message(buffer, offset, count)
        result = self._begin_stuck(message, state, initiator, sent, error)
        if result._failed_on_the_spot:
            raise result._exception()
        return result

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
        if result._failed_on_the_spot:
            return None, SocketError(result._code)
        return result, SocketError.SUCCESS

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
        initiator = get_initiator(None)
        queue = self._sends
        if (
            callback is None
            and socket_flags is NO_FLAGS
            and initiator is not None
            and initiator is self._checked
            and get_ident() == self._thread
            and (count := short_range_size(buffer_or_list, offset, size)) >= 0
            and (initiator._budget > 0 or initiator._refill())
            and not queue.gate  # the last look, as above
        ):
            buffer: Any = buffer_or_list
            sent = 0
            error: OSError | BufferShrankError | None = None
            queue.gate = STEP
            try:
                sent = queue.send_range(buffer, offset, count)
            except ATTEMPT_ERRORS as caught:
                error = caught.with_traceback(None)
            except BaseException:
                queue.end_attempt()
                raise
            queue.accepted += sent
            if sent != count or error is not None:
                message = range_message(buffer, offset, count)
                return self._begin_stuck(message, state, initiator, sent, error)
            if queue.gate == STEP:
                queue.gate = 0
            else:
                queue.end_attempt()
            if initiator._budget > 0:
                initiator._budget -= 1
            ended = _new(EndedResult)
            ended._origin = self
            ended._async_state = state
            ended._transferred = sent
            ended._ended = False
            ended._handle = None
            return ended
        return self._begin_fully(buffer_or_list, offset, size, socket_flags, callback, state)

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
        self._require_usable()
        message = message_of("buffer_or_list", buffer_or_list, offset, size)
        return self._begin_message(message, None, socket_flags, callback, state, _SEND)

    def _begin_message(
        self,
        message: Message,
        address: Any,
        socket_flags: SocketFlags,
        callback: Callable[[AsyncResult], object] | None,
        state: Any,
        kind: SocketAsyncOperation,
    ) -> AsyncResult:
        """Begin a send of a message, and to an address, that were checked."""
        require_flags(socket_flags)
        result = make_result(self, callback, state)
        initiator = self._require_initiator()
        result._claim()
        result._reset_results()
        result._capture_context()
        return self._conclude(
            result, self._begin_send(result, message, socket_flags, address, kind), initiator
        )

    def _begin_stuck(
        self,
        message: Message,
        state: Any,
        initiator: Leaver,
        sent: int,
        error: OSError | BufferShrankError | None,
    ) -> AsyncResult:
        """Go on after a first attempt on the fast path that did not send everything."""
        result = AsyncResult(self, None, state)
        result._claim()
        result._reset_results()
        self._describe(result, message, NO_FLAGS, None, _SEND)
        result._transferred = sent
        result._socket = self
        return self._conclude(result, self._sends.go_on(result, initiator, error), initiator)

    def _conclude(self, result: AsyncResult, pending: bool, initiator: Leaver) -> AsyncResult:
        """Settle what is left to do for a result that was begun."""
        if pending:
            return result
        if result._code:
            self._sends.count_on_the_spot(result)
            initiator._count_failure_on_the_spot(result)
        if initiator._spend():
            result._queue = self._sends  # knows whether its message was cut
            initiator._pace(result)
        else:
            result._completed_synchronously = True
            if not result._code and result._callback is not None:
                result._end_later(initiator)
                result._can_be_taken = True
                initiator._ended(result, None)
            else:
                result._rest(self._sends)
        if self._sends.audience.instruments:
            self._sends.audience.ended_on_the_spot(result, self._sends)
        return result

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
        return await self._end(ar, _SEND)

    @trio.lowlevel.enable_ki_protection
    async def _end(self, ar: AsyncResult, kind: SocketAsyncOperation) -> int:
        await self._wait_for_end(ar, kind)
        return self._end_nowait(ar, kind)

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
        await self._wait_for_end(ar, _SEND)
        self._take(ar, _SEND)
        return ar._transferred, SocketError(ar._code)

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
        if type(ar) is EndedResult and ar._origin is self and not ar._ended:
            # The fast path. Nothing here is shared, so the thread may be any.
            ar._ended = True
            return ar._transferred
        return self._end_nowait(ar, _SEND)

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
        self._take(ar, _SEND)
        return ar._transferred, SocketError(ar._code)

    # -- shared -------------------------------------------------------------------------------------------------------

    def _require_result(self, ar: AsyncResult, kind: SocketAsyncOperation) -> None:
        if get_ident() != self._thread:
            self._require_usable()
        if ar is None:
            raise TypeError("ar is None, but must be what the begin method returned")
        if not isinstance(ar, AsyncResult):
            raise ValueError(f"ar must be what the begin method returned, not {type(ar).__name__}")
        if ar._origin is not self:
            raise ValueError("ar is the result of an operation on another socket")
        if ar._last_operation != kind:
            raise ValueError(f"ar is the result of {ar._last_operation.name}, not of {kind.name}")

    def _end_nowait(self, ar: AsyncResult, kind: SocketAsyncOperation) -> int:
        error = self._take(ar, kind)
        count = ar._transferred
        try:
            if error is not None:
                raise error
        finally:
            del ar, error  # a frame that holds what it raised is a cycle
        return count

    async def _wait_for_end(self, ar: AsyncResult, kind: SocketAsyncOperation) -> None:
        """Wait, with at least one checkpoint, until ``ar`` has been told."""
        self._require_result(ar, kind)
        if ar._ended or ar._can_be_taken or not ar._in_flight:
            await trio.lowlevel.checkpoint()
        else:
            await ar._wait()

    def _take(self, ar: AsyncResult, kind: SocketAsyncOperation) -> SocketException | None:
        """Take a result; return the error to raise."""
        self._require_result(ar, kind)
        if not ar.is_completed:
            raise trio.WouldBlock
        ar._take()
        return ar._exception() if ar._code else None

    @trio.lowlevel.enable_ki_protection
    def _begin_step(
        self,
        step: Step,
        queue: OperationQueue,
        kind: SocketAsyncOperation,
        callback: Callable[[AsyncResult], object] | None,
        state: Any,
    ) -> AsyncResult:
        result = make_result(self, callback, state)
        initiator = self._require_initiator()
        self._note(result, step, kind)
        result._capture_context()
        self._conclude(result, self._begin(result, queue, kind), initiator)
        if result._failed_on_the_spot:
            raise result._exception()
        return result
