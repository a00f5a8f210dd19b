"""What is done about a message that was cut: its rest is sent, or given up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from .._base.checks import counted
from .._base.codes import SocketAsyncOperation, SocketError, SocketFlags
from .._base.errors import InvalidOperationError
from .._messages.packets import Packets
from .._operations.operation import Operation
from .._owners.awaiting_task import perform
from .event_args import SocketAsyncEventArgs
from .send import Sending

if TYPE_CHECKING:
    from .._operations.torn import TornMessage

_SEND: Final = SocketAsyncOperation.SEND
_SUCCESS: Final = int(SocketError.SUCCESS)


class Resuming(Sending):
    """The part of `Socket` that makes a torn stream whole again."""

    __slots__ = ()

    @property
    def torn(self) -> TornMessage | None:
        """The message that was cut on this stream; None while the stream is whole.

        As long as it is not None, starts are refused with CONNECTION_ABORTED, because the peer would read what comes
        next as the continuation of the message that was cut.
        """
        return self._sends.torn

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
        self._require_usable()
        self._sends.forget_torn()

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
        self._require_usable()
        self._require_args(args)
        if args._pending:
            self._require_startable(args)
        torn = self._require_torn()
        if not torn._is_about(args):
            self._require_startable(args)
            rest = torn.size - torn.bytes_transferred
            if args._message is None or args._size != rest:
                raise ValueError(
                    f"args holds {counted(args._size, 'byte')}, but the rest of the message that was cut is {rest}; "
                    "make args with buffer_list=socket.torn.remaining",
                )
        initiator = self._require_initiator()
        if initiator._stopped is not None:
            if not torn._is_about(args):
                args._reset_results()
            return self._refuse(args)
        args._claim()
        if not torn._is_about(args):
            args._reset_results()
            assert args._message is not None
            if not self._describe(args, args._message, args._socket_flags, None, _SEND):
                args._socket = self
                return self._settle(args)
        args._set_error(_SUCCESS, 0)
        args._socket = self
        args._capture_context()
        pending = self._sends.resume(args, initiator) or self._settle(args)
        args._let_go()
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
        self._require_usable()
        torn = self._require_torn()
        cut = torn._operation
        if isinstance(cut, SocketAsyncEventArgs) and cut._pending:
            self._require_startable(cut)
        await trio.lowlevel.checkpoint_if_cancelled()
        before = cut._transferred
        if isinstance(cut, SocketAsyncEventArgs) or type(cut._message) is Packets:
            operation: Operation = cut  # which holds the files open
            operation._claim()
        else:
            assert cut._message is not None
            operation = Operation()
            operation._claim()
            operation._reset_results()
            self._describe(operation, cut._message.tail(before), SocketFlags.NONE, None, _SEND)
            operation._flags = cut._flags
            before = 0
        operation._set_error(_SUCCESS, 0)
        try:
            return await perform(operation, self._sends, self._sends.resume) - before
        finally:
            operation._let_go()

    def _require_torn(self) -> TornMessage:
        torn = self._sends.torn
        if torn is None:
            raise InvalidOperationError(
                "this stream is not torn, so there is no rest to send; start a send instead"
            )
        return torn
