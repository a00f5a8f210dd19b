"""Sending, in two of its three faces: event args and await."""

from __future__ import annotations

from threading import get_ident
from typing import TYPE_CHECKING, Any, Final

import trio

from .._base.codes import SocketAsyncOperation, SocketFlags
from .._base.error_numbers import SUCCESS
from .._messages.buffers import (
    BufferShrankError,
    Message,
    Piece,
    message_of,
    range_message,
    short_size,
    unreadable,
)
from .._operations.gate import BUSY, STEP
from .._operations.operation import Operation
from .._operations.queue import ATTEMPT_ERRORS
from .._operations.send_calls import PLAIN_FLAGS
from .._operations.states import IDLE, TRYING
from .._owners.awaiting_task import perform
from .._owners.current import get_owner
from .core import Verb
from .event_args import SocketAsyncEventArgs
from .starts import (
    NO_FLAGS,
    NOTHING_TO_SEND,
    args_to_send,
    claim_message,
    operation_of,
    prepare,
    record_of,
    refuse_cut,
    require_startable,
    send_awaited,
    settle,
    start_args,
)

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from typing_extensions import Buffer

    from .._owners.exiting_owner import ExitingOwner
    from .core import SocketCore

_SEND: Final = SocketAsyncOperation.SEND


class Sending(Verb):
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
        owner = get_owner(None)
        thread = get_ident()
        core = self._core
        queue = core.sends
        try:
            operation = args._operation
            data = operation.direct
        except AttributeError:
            return self._send_async(args)
        # The looks. Nothing is called between the first of them and what follows, so nothing can strike there.
        if (
            owner is not core.checked
            or owner is None
            or owner.budget < 0
            or thread != core.thread
            or operation.state
            or (data is None and operation.piece is None)
        ):
            return self._send_async(args)
        if not queue.gate:
            # From here on whatever runs in the middle finds the queue in a step, and the args in use.
            queue.gate = STEP
            operation.state = TRYING
        elif queue.gate == BUSY:
            # If nothing is in the way but those in front, a long queue should cost as little as a short one.
            claim_message(operation)
            prepare(core, self, operation, _SEND, face=args)
            operation.flags = PLAIN_FLAGS
            return queue.join(operation, owner) or settle(core, operation)
        else:
            return self._send_async(args)
        try:
            if data is None:
                piece: Any = operation.piece
                kind = type(piece)
                if kind is Piece:
                    sent = queue.send_range(piece.buffer, piece.offset, piece.size, operation)
                elif kind is not bytearray:
                    sent = queue.send_message(piece, operation)
                elif (
                    len(piece) == operation.size
                    and operation.state == TRYING
                    and queue.gate == STEP
                ):
                    sent = core.send(piece, PLAIN_FLAGS)
                else:  # it has another length, or somebody has asked for something meanwhile
                    sent = queue.send_range(piece, 0, operation.size, operation)
            else:
                send = core.send
                sent = send(data, PLAIN_FLAGS)
        except ATTEMPT_ERRORS as error:
            return self._send_async_stuck(args, owner, 0, error)
        except BaseException as error:
            if isinstance(error, ValueError) and type(data) is memoryview:  # it was released
                return self._send_async_stuck(args, owner, 0, unreadable(error))
            operation.rest(queue)
            queue.end_attempt()
            raise
        queue.accepted += sent
        if sent != operation.settled:
            if sent != operation.size:
                return self._send_async_stuck(args, owner, sent)
            operation.transferred = operation.settled = sent
            operation.code = SUCCESS
            operation.is_fresh = False
            operation.kind = _SEND
        budget = owner.budget
        if queue.gate == STEP and budget > 0:
            queue.gate = 0
            owner.budget = budget - 1
            operation.state = IDLE
            return False
        return self._send_async_ended(args, owner)

    @trio.lowlevel.enable_ki_protection
    def _send_async_ended(self, args: SocketAsyncEventArgs, owner: ExitingOwner) -> bool:
        """Go on with plain args all of which was sent, when something is to be done besides."""
        core, operation = self._core, record_of(args)
        core.sends.end_attempt()
        if owner.budget or owner.refill():
            owner.budget -= 1
            operation.state = IDLE
            return False
        operation.socket = self
        operation.face = args
        operation.capture_context()
        return settle(core, operation)

    @trio.lowlevel.enable_ki_protection
    def _send_async_stuck(
        self,
        args: SocketAsyncEventArgs,
        owner: ExitingOwner,
        sent: int,
        error: OSError | BufferShrankError | None = None,
    ) -> bool:
        """Go on with plain args that have to wait, or whose first attempt failed."""
        core, operation = self._core, record_of(args)
        prepare(core, self, operation, _SEND, face=args)
        operation.transferred = sent
        operation.flags = PLAIN_FLAGS
        return core.sends.go_on(operation, owner, error) or settle(core, operation)

    @trio.lowlevel.enable_ki_protection
    def _send_async(self, args: SocketAsyncEventArgs) -> bool:
        """Send after all the checks."""
        core = self._core
        if core.checked is not get_owner(None) and may_be_sent(args):
            # Perhaps the short way lacked nothing but a look at the owner, as with the first send on a connection.
            core.require_usable()
            checked = core.checked
            owner = core.require_owner()
            if owner is not checked and owner.budget >= 0:
                return self.send_async(args)
        operation = args_to_send(core, args)
        if operation is None:
            return refuse_cut(core, self, args)
        core.require_owner()
        return start_args(core, self, args, _SEND)

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
        core = self._core
        queue = core.sends
        if core.token is None:
            core.require_usable()  # which notes the run
        buffer: Any = data
        message: Message | None = None
        if (
            socket_flags is NO_FLAGS
            and not queue.gate
            and not queue.instruments.watching
            and get_ident() == core.thread
            and trio.lowlevel.current_trio_token() is core.token
            and not isinstance(data, SocketAsyncEventArgs)
        ):
            # The same short way as in `send_async`. It does not yield before the send, so no task can come between.
            size = len(data) if type(data) is bytes else short_size(data)
            if size < 0:
                message = message_of("data", data, 0, None)
                size = message.size
            await trio.lowlevel.checkpoint_if_cancelled()
            if (message is None or message.fits_one_call) and not queue.gate:
                sent = 0
                error: OSError | BufferShrankError | None = None
                queue.gate = STEP
                try:
                    sent = (
                        core.send(buffer, PLAIN_FLAGS)
                        if type(data) is bytes
                        else queue.send_range(buffer, 0, size)
                        if message is None
                        else queue.send_message(message)
                    )
                except ATTEMPT_ERRORS as caught:
                    # With a traceback, this frame and the exception would hold each other.
                    error = caught.with_traceback(None)
                except BaseException:
                    queue.end_attempt()
                    raise
                queue.accepted += sent
                if sent != size or error is not None:
                    if message is None:
                        message = range_message(buffer, 0, size)
                    return await _go_on_awaited(core, message, sent, error)
                if queue.gate == STEP:
                    queue.gate = 0
                else:
                    queue.end_attempt()
                await trio.lowlevel.cancel_shielded_checkpoint()
                return sent
        core.require_usable()
        if isinstance(data, SocketAsyncEventArgs):
            operation = operation_of(data)
            require_startable(operation)
            if operation.message is None:
                raise ValueError(NOTHING_TO_SEND)
            return await send_awaited(
                core, self, operation, operation.message, operation.socket_flags, _SEND, face=data
            )
        if message is None:
            message = message_of("data", data, 0, None)
        return await send_awaited(core, self, Operation(), message, socket_flags, _SEND)


def may_be_sent(args: object) -> bool:
    """Tell whether there is nothing about args that a start could refuse or the short way could not send."""
    if not isinstance(args, SocketAsyncEventArgs):
        return False
    operation = args._operation
    return operation.state == IDLE and (operation.direct is not None or operation.piece is not None)


@trio.lowlevel.enable_ki_protection
def _go_on_awaited(
    core: SocketCore, message: Message, sent: int, error: OSError | BufferShrankError | None
) -> Coroutine[Any, Any, int]:
    """Go on after a first attempt on the short way that did not send everything; return what to await."""
    operation = Operation()
    operation.claim()
    operation.is_fresh = False
    operation.message = message
    operation.flags = PLAIN_FLAGS
    operation.kind = _SEND
    operation.transferred = sent
    return perform(operation, core.sends, core.sends.go_on, error)
