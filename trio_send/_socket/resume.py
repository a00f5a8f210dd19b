"""What is done about a message that was cut: its rest is sent, or given up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from .._base.checks import counted
from .._base.codes import SocketAsyncOperation
from .._base.error_numbers import SUCCESS
from .._base.errors import InvalidOperationError
from .._messages.packets import Packets
from .._operations.operation import Operation
from .._owners.awaiting_task import perform
from .core import Verb
from .event_args_operation import EventArgsOperation
from .starts import operation_of, prepare, refuse_cut, require_startable, set_send_flags, settle
from .torn_message import TornMessage

if TYPE_CHECKING:
    from .._operations.cut import Cut
    from .core import SocketCore
    from .event_args import SocketAsyncEventArgs

_SEND: Final = SocketAsyncOperation.SEND


class Resuming(Verb):
    """The part of `Socket` that makes a torn stream whole again."""

    __slots__ = ()

    @property
    def torn(self) -> TornMessage | None:
        """The message that was cut on this stream; None while the stream is whole.

        As long as it is not None, starts are refused with CONNECTION_ABORTED, because the peer would read what comes
        next as the continuation of the message that was cut.
        """
        cut = self._core.sends.torn
        return None if cut is None else TornMessage(cut)

    @trio.lowlevel.enable_ki_protection
    def forget_torn(self) -> None:
        """Give up the rest of the message that was cut, and let the stream be written again.

        For protocols whose peer knows how to go on behind half a message. The operation that was cut is an ordinary
        idle one afterwards.

        Raises:
          ObjectDisposedError: the socket was closed.
          InvalidOperationError: the call comes from another thread.

        **Threads**: only from the Trio thread that uses the socket.
        """
        self._core.require_usable()
        self._core.sends.forget_torn()

    @trio.lowlevel.enable_ki_protection
    def resume(self, args: SocketAsyncEventArgs) -> bool:
        """Start to send the rest of the message that was cut on this stream, which is then whole again.

        Args:
          args: the ones that were cut; their count goes on where it stopped. For a message that was started in another
            way, fresh args for exactly its rest: ``SocketAsyncEventArgs(buffer_list=socket.torn.remaining)``. The
            time limits of the args that are passed apply, counted from this call; if one of them has cut the message,
            set a longer one first, or the rest may be cut in the same way.

        Returns:
          Whether the operation is pending, as `send_async` does.

        Raises:
          InvalidOperationError: the stream is not torn, or as `send_async`.
          ValueError: ``args`` are other ones, and not as long as the rest.
          TypeError: as `send_async`.
          OperationInProgressError: the end of the cut operation has not been told yet, or ``args`` are in use.
          ObjectDisposedError: as `send_async`.

        **Checkpoints**: never.

        **If cancelled**: nothing is raised here; see `send_async`.

        **Threads**: only from the Trio thread that uses the socket.
        """
        core = self._core
        core.require_usable()
        operation = operation_of(args)
        if operation.is_pending:
            require_startable(operation)
        cut = _require_cut(core)
        is_cut = cut.operation is operation
        if not is_cut:
            require_startable(operation)
            rest = cut.operation.size_to_send
            if operation.message is None or operation.size != rest:
                raise ValueError(
                    f"args holds {counted(operation.size, 'byte')}, but the rest of the message that was cut is "
                    f"{rest}; make args with buffer_list=socket.torn.remaining",
                )
        owner = core.require_owner()
        if owner.why_refused() is not None:
            if not is_cut:
                operation.reset_results()
            return refuse_cut(core, self, args)
        operation.claim()
        if not is_cut:
            prepare(core, self, operation, _SEND, face=args)
            if not set_send_flags(operation, operation.socket_flags):
                return settle(core, operation)
        operation.set_error(SUCCESS, 0)
        operation.socket = self
        operation.face = args
        operation.capture_context()
        pending = core.sends.resume(operation, owner) or settle(core, operation)
        operation.let_go()
        return pending

    @trio.lowlevel.enable_ki_protection
    async def send_rest(self) -> int:
        """Send the rest of the message that was cut on this stream, which is then whole again.

        The count of args that were cut goes on where it stopped. Their own `SocketAsyncEventArgs.timeout` and
        `SocketAsyncEventArgs.stall_timeout` apply again, counted from this call; if one of them has cut the message,
        set a longer one first, or the rest may be cut in the same way. Of a message that was started in another way,
        the scope around this call is the only limit.

        Returns:
          How many bytes the rest was.

        Raises:
          SocketException: the send failed or was stopped; its ``bytes_transferred`` is exact.
          InvalidOperationError: the stream is not torn, or the call comes from another thread.
          OperationInProgressError: the end of the cut operation has not been told yet.
          ObjectDisposedError: the socket was closed.

        **Checkpoints**: always.

        **If cancelled**: `trio.Cancelled`; the stream is torn again, unless no byte of the rest is missing.

        **Threads**: only from the Trio thread that uses the socket.
        """
        core = self._core
        core.require_usable()
        cut = _require_cut(core)
        if isinstance(cut.operation, EventArgsOperation) and cut.operation.is_pending:
            require_startable(cut.operation)
        await trio.lowlevel.checkpoint_if_cancelled()
        before = cut.operation.transferred
        message = cut.operation.message
        if isinstance(cut.operation, EventArgsOperation) or type(message) is Packets:
            operation = cut.operation  # which holds the files open
            operation.claim()
            operation.face = cut.face
        else:
            assert message is not None
            operation = Operation()
            operation.claim()
            operation.message = message.tail(before)
            prepare(core, self, operation, _SEND)
            operation.flags = cut.operation.flags
            before = 0
        operation.set_error(SUCCESS, 0)
        try:
            return await perform(operation, core.sends, core.sends.resume) - before
        finally:
            operation.let_go()


def _require_cut(core: SocketCore) -> Cut:
    cut = core.sends.torn
    if cut is None:
        raise InvalidOperationError(
            "this stream is not torn, so there is no rest to send; start a send instead"
        )
    return cut
