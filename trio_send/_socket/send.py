"""Two of the three faces of sending: event args and await."""

from __future__ import annotations

from threading import get_ident
from typing import TYPE_CHECKING, Any, Final

import trio

from .._base.codes import (
    SocketAsyncOperation,
    SocketError,
    SocketFlags,
    native_send_flags,
    require_flags,
)
from .._base.errors import ObjectDisposedError
from .._messages.buffers import (
    BufferShrankError,
    Message,
    message_from_buffer,
    message_from_list,
    range_message,
    short_size,
)
from .._operations.operation import CUT, IDLE, TRYING, Operation
from .._operations.queue import ATTEMPT_ERRORS, BUSY, STEP
from .._operations.send_attempts import PLAIN_FLAGS
from .._owners.awaiting_task import describe_interruption, perform, tell_on_the_spot
from .._owners.current import get_initiator
from .endpoint import Endpoint
from .event_args import SocketAsyncEventArgs

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from typing_extensions import Buffer

    from .._owners.leaving_owner import Leaver

_SEND: Final = SocketAsyncOperation.SEND
_SUCCESS: Final = int(SocketError.SUCCESS)
#: What a caller that passes no flags passes; the truth of a flag costs more than all the rest of the look at a start.
NO_FLAGS: Final = SocketFlags.NONE

_NOT_BEGUN: Final = "the awaiting task was interrupted before the operation began"
_NOTHING_TO_SEND: Final = (
    "args has nothing to send; give it a buffer with set_buffer(), or set its buffer_list"
)


class Sending(Endpoint):
    """The part of `Socket` that sends."""

    __slots__ = ()

    # -- event args ---------------------------------------------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    def send_async(self, args: SocketAsyncEventArgs) -> bool:
        """Start to send the message of ``args``.

        What the kernel takes at once is sent at once. All bytes of the message are sent, in however many steps, before
        the first byte of any message that is started later on this socket.

        Args:
          args: what to send. They are in use until the operation has ended.

        Returns:
          True if the operation is pending: `SocketAsyncEventArgs.completed` will be raised, exactly once. False if it
          has ended on the spot, one way or the other: the args tell how, and the event is not raised (F119). Errors of
          the connection, a message too long for a datagram (F178), a socket that was never connected (F091), and a torn
          stream, and a queue that is full (`when_full`) are told by the args too, not raised.

        Raises:
          TypeError: ``args`` is None or something else.
          ValueError: ``args`` has neither a buffer nor a buffer list.
          OperationInProgressError: ``args`` is in use (F087).
          ObjectDisposedError: the socket or ``args`` was closed (F081, F088).
          InvalidOperationError: no initiator is open, the call comes from another thread, or the message of ``args``
            was cut and stands half sent on a torn stream.

        **Checkpoints**: never. After many starts in a row that ended on the spot, one is answered "pending" although it
        has ended, so that a loop over `send_async` and `SocketAsyncEventArgs.wait` yields now and then.

        **If cancelled**: nothing is raised here. The operation belongs to the initiator, ends with it, and carries the
        exact count.

        **Threads**: only from the Trio thread that uses the socket.

        Source: the `send_async` page.
        """
        # The fast path: one look at each of what could be in the way, then the send. Everything else is for the others.
        initiator = get_initiator(None)
        queue = self._sends
        try:
            data = args._direct
        except AttributeError:
            return self._send_async(args)
        if (
            initiator is None
            or initiator is not self._checked
            or initiator._budget < 0
            or get_ident() != self._thread
            # The last looks. Nothing is called between them and what follows, so nothing can strike there.
            or args._state
            or (args._piece is None if data is None else args._direct is not data)
        ):
            return self._send_async(args)
        if not queue.gate:
            # From here on whatever runs in the middle finds the queue in a step, and the args in use.
            queue.gate = STEP
            args._state = TRYING
        elif queue.gate == BUSY:
            # If nothing is in the way but those in front, a long queue should cost as little as a short one.
            return self._send_async_behind(args, initiator)
        else:
            return self._send_async(args)
        try:
            if data is None:
                piece: Any = args._piece
                sent = queue.send_range(piece.buffer, piece.offset, piece.size, args)
            else:
                sent = self._send(data, PLAIN_FLAGS)
        except ATTEMPT_ERRORS as error:
            return self._send_async_stuck(args, initiator, 0, error)
        except BaseException:
            args._rest(queue)
            queue.end_attempt()
            raise
        queue.accepted += sent
        args._transferred = sent
        args._code = _SUCCESS
        args._fresh = False
        args._last_operation = _SEND
        if sent == args._size:
            if queue.gate == STEP and initiator._budget > 0:
                queue.gate = 0
                initiator._budget -= 1
                args._state = IDLE
                return False
            return self._send_async_ended(args, initiator)
        return self._send_async_stuck(args, initiator, sent)

    @trio.lowlevel.enable_ki_protection
    def _send_async_ended(self, args: SocketAsyncEventArgs, initiator: Leaver) -> bool:
        """Go on with plain args all of which was sent, when something is to be done besides."""
        self._sends.end_attempt()
        if initiator._budget or initiator._refill():
            initiator._budget -= 1
            args._state = IDLE
            return False
        args._socket = self
        args._capture_context()
        return self._settle(args)

    @trio.lowlevel.enable_ki_protection
    def _send_async_stuck(
        self,
        args: SocketAsyncEventArgs,
        initiator: Leaver,
        sent: int,
        error: OSError | BufferShrankError | None = None,
    ) -> bool:
        """Go on with plain args that have to wait, or whose first attempt failed."""
        args._reset_results()
        args._transferred = sent
        args._last_operation = _SEND
        args._socket = self
        args._flags = PLAIN_FLAGS
        args._address = args._step = None
        args._capture_context()
        return self._sends.go_on(args, initiator, error) or self._settle(args)

    def _send_async_behind(self, args: SocketAsyncEventArgs, initiator: Leaver) -> bool:
        """Have plain args wait behind others."""
        self._claim_message(args)
        args._reset_results()
        args._last_operation = _SEND
        args._socket = self
        args._flags = PLAIN_FLAGS
        args._address = args._step = None
        args._capture_context()
        return self._sends.join(args, initiator) or self._settle(args)

    def _send_async(self, args: SocketAsyncEventArgs) -> bool:
        if self._require_message(args) is None:
            return self._refuse(args)
        checked = self._checked
        initiator = self._require_initiator()
        if (
            initiator is not checked
            and initiator._budget >= 0
            and (args._direct is not None or args._piece is not None)
        ):
            # Perhaps the short way lacked nothing else, as with the first send on a connection.
            return self.send_async(args)
        return self._begin_args(args, None, None, _SEND)

    def _require_message(self, args: SocketAsyncEventArgs) -> Message | None:
        """Return the message of args that can be started; None if `_refuse` is to answer for them; or raise."""
        self._require_usable()
        self._require_args(args)
        if self._is_refused_as_cut(args):
            return None
        self._require_startable(args)
        if args._message is None:
            raise ValueError(_NOTHING_TO_SEND)
        return args._message

    def _is_refused_as_cut(self, args: SocketAsyncEventArgs) -> bool:
        """Tell whether args are started that were cut here, and after the stop."""
        return (
            args._state == CUT
            and self._sends.is_torn_by(args)
            and self._require_initiator()._stopped is not None
        )

    def _refuse(self, args: SocketAsyncEventArgs) -> bool:
        """Answer for args that were cut and started after the stop: as for any others, but their count and rest stay.

        So a handler that restarts blindly while its initiator is left does no harm.
        """
        initiator = self._require_initiator()
        args._claim()
        if self._sends.audience.instruments:
            self._sends.audience.started(args, self._sends)
        args._set_error(SocketError.OPERATION_ABORTED, 0, initiator._stopped)
        args._socket = self
        args._capture_context()
        return self._settle(args)

    def _begin_args(
        self,
        args: SocketAsyncEventArgs,
        message: Message | None,
        address: Any,
        kind: SocketAsyncOperation,
    ) -> bool:
        """Begin the send of args that were checked, of their own message or another; return whether it is pending."""
        if message is None:
            message = self._claim_message(args)
        else:
            args._claim()
        args._reset_results()
        args._capture_context()
        return self._begin_send(args, message, args._socket_flags, address, kind) or self._settle(
            args
        )

    def _claim_message(self, args: SocketAsyncEventArgs) -> Message:
        """Claim args; return their message, which may have become another one in the middle of the checks."""
        args._claim()
        if args._message is None:
            args._rest(None)
            raise ValueError(_NOTHING_TO_SEND)
        return args._message

    def _require_args(self, args: SocketAsyncEventArgs) -> None:
        if not isinstance(args, SocketAsyncEventArgs):
            raise TypeError(f"args must be a SocketAsyncEventArgs, not {type(args).__name__}")
        if args._closed:
            raise ObjectDisposedError("these args were closed; make others")

    def _begin_send(
        self,
        operation: Operation,
        message: Message,
        flags: SocketFlags,
        address: Any,
        kind: SocketAsyncOperation,
    ) -> bool:
        """Begin a send whose results are reset, for the initiator that was checked; return whether it is pending."""
        initiator = self._checked  # None if the socket was closed in the middle of this
        if self._describe(operation, message, flags, address, kind) and (
            initiator is None or initiator._stopped is not None or self._admit(operation)
        ):
            return self._begin(operation, self._sends, kind)
        operation._socket = self
        return False

    def _describe(
        self,
        operation: Operation,
        message: Message,
        flags: SocketFlags,
        address: Any,
        kind: SocketAsyncOperation,
    ) -> bool:
        """Note what to send and how; return False if that is impossible, with the reason in the results."""
        operation._message = message
        operation._address = address
        operation._step = None
        operation._last_operation = kind
        if self._sends.audience.instruments:
            self._sends.audience.started(operation, self._sends)
        return self._describe_flags(operation, flags)

    def _describe_flags(self, operation: Operation, flags: SocketFlags) -> bool:
        native = native_send_flags(flags)
        if native is None:
            operation._set_error(
                SocketError.OPERATION_NOT_SUPPORTED,
                0,
                f"{SocketFlags(flags)!r} cannot be used to send on this system",
            )
            return False
        operation._flags = native
        return True

    def _admit(self, operation: Operation, *, waits: bool = False) -> bool:
        """Return False if the socket takes no sends, with the reason in the results.

        Args:
          operation: which.
          waits: whether a task awaits it, so that it has its place in a full queue too.
        """
        refusal = self._sends.refusal(operation, waits)
        if refusal is not None:
            operation._set_error(*refusal)
            return False
        return True

    # -- await --------------------------------------------------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    async def send(
        self,
        data: Buffer | Sequence[Buffer] | SocketAsyncEventArgs,
        socket_flags: SocketFlags = SocketFlags.NONE,
    ) -> int:
        """Send a whole message and wait until the kernel has accepted all of it.

        The calling task owns the operation, so no initiator is needed. It waits its turn in the socket's one queue.

        Args:
          data: a contiguous bytes-like object, a list or tuple of them as one message, or args. Args tell afterwards,
            whatever happened, how many bytes were accepted and what remains; they bring their own flags, and
            `SocketAsyncEventArgs.completed` is not raised.
          socket_flags: how to send.

        Returns:
          How many bytes were accepted: all of them.

        Raises:
          SocketException: the send failed or was stopped; its ``bytes_transferred`` is exact.
          TypeError: ``data`` is None, not bytes-like or not contiguous.
          ValueError: ``data`` is args without a buffer.
          OperationInProgressError: ``data`` is args that are in use.
          ObjectDisposedError: the socket, or the args, was closed.
          InvalidOperationError: the call comes from another thread, or the message of the args stands half sent on a
            torn stream.

        **Checkpoints**: always.

        **If cancelled**: `trio.Cancelled`, and no further byte is sent. If some bytes were accepted, the stream is
        torn; `torn` tells the count and the rest, and so do args. If the socket was closed in the same moment, it is
        not torn, and only args tell.

        **Threads**: only from the Trio thread that uses the socket.
        """
        queue = self._sends
        if (
            socket_flags is NO_FLAGS
            and not queue.gate
            and not queue.audience.instruments
            and self._token is not None
            and get_ident() == self._thread
            and trio.lowlevel.current_trio_token() is self._token
            and (size := len(data) if type(data) is bytes else short_size(data)) >= 0
        ):
            # The same short way as in `send_async`. It does not yield before the send, so no task can come between.
            buffer: Any = data
            await trio.lowlevel.checkpoint_if_cancelled()
            if not queue.gate:
                sent = 0
                error: OSError | BufferShrankError | None = None
                queue.gate = STEP
                try:
                    sent = (
                        self._send(data, PLAIN_FLAGS)
                        if type(data) is bytes
                        else queue.send_range(buffer, 0, size)
                    )
                except ATTEMPT_ERRORS as caught:
                    # With a traceback, this frame and the exception would hold each other.
                    error = caught.with_traceback(None)
                except BaseException:
                    queue.end_attempt()
                    raise
                queue.accepted += sent
                if sent != size or error is not None:
                    message = range_message(buffer, 0, size)
                    return await self._send_awaited_stuck(message, sent, error)
                if queue.gate == STEP:
                    queue.gate = 0
                else:
                    queue.end_attempt()
                await trio.lowlevel.cancel_shielded_checkpoint()
                return sent
        self._require_usable()
        if isinstance(data, SocketAsyncEventArgs):
            self._require_args(data)
            self._require_startable(data)
            if data._message is None:
                raise ValueError(_NOTHING_TO_SEND)
            return await self._send_awaited(data, data._message, data._socket_flags, None, _SEND)
        return await self._send_awaited(
            Operation(), message_of("data", data, 0, None), socket_flags, None, _SEND
        )

    @trio.lowlevel.enable_ki_protection
    def _send_awaited_stuck(
        self, message: Message, sent: int, error: OSError | BufferShrankError | None
    ) -> Coroutine[Any, Any, int]:
        """Go on after a first attempt on the short way that did not send everything; return what to await."""
        operation = Operation()
        operation._claim()
        operation._fresh = False
        operation._message = message
        operation._flags = PLAIN_FLAGS
        operation._last_operation = _SEND
        operation._transferred = sent
        return perform(operation, self._sends, self._sends.go_on, error)

    @trio.lowlevel.enable_ki_protection
    async def _send_awaited(
        self,
        operation: Operation,
        message: Message,
        flags: SocketFlags,
        address: Any,
        kind: SocketAsyncOperation,
    ) -> int:
        require_flags(flags)
        # If the task is cancelled, the operation has ended before it began, and must not go on saying how the one
        # before it ended. That is noted first, for a checkpoint lets others run, who may start the same object.
        operation._claim()
        operation._reset_results()
        operation._step = None
        operation._last_operation = kind
        operation._set_error(SocketError.OPERATION_ABORTED, 0, _NOT_BEGUN)
        operation._rest(None)
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
        except BaseException as interruption:
            if operation._state == IDLE and operation._code and operation._detail is _NOT_BEGUN:
                operation._detail = describe_interruption(interruption)
            raise
        if isinstance(operation, SocketAsyncEventArgs):
            message = self._claim_message(operation)
        else:
            operation._claim()
        operation._reset_results()
        if self._describe(operation, message, flags, address, kind) and self._admit(
            operation, waits=True
        ):
            return await perform(operation, self._sends)
        return await tell_on_the_spot(operation, self._sends)


def message_of(
    name: str, data: Buffer | Sequence[Buffer], offset: int, size: int | None
) -> Message:
    """Check what is to be sent, one buffer or a list of them."""
    if isinstance(data, (list, tuple)):
        if offset != 0 or size is not None:
            raise ValueError(
                "offset and size are for a single buffer; slice the members of a list instead"
            )
        if not data:
            raise ValueError(f"{name} is an empty list, but must hold at least one buffer")  # F017
        return message_from_list(name, data)
    return message_from_buffer(
        name,
        data,  # type: ignore[arg-type]
        offset,
        size,
        otherwise="or a list or tuple of them",
    )
