"""Receiving, in a FIFO of its own: an attempt takes what has arrived, and what was stopped has taken nothing."""

from __future__ import annotations

from threading import get_ident
from typing import TYPE_CHECKING, Final

import trio

from .._base.codes import SocketAsyncOperation
from .._messages.buffers import message_from_buffer, require_writable
from .._operations.gate import BROKEN, CLOSED, FORKED, STEP, UNCONNECTED
from .core import Verb
from .receive_starts import (
    MOST_BYTES,
    go_on_receiving,
    receive_args,
    receive_awaited,
    require_max_bytes,
)
from .receive_steps import STEP as RECEIVE_STEP, ReceiveBytesStep

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from .event_args import SocketAsyncEventArgs

_RECEIVE: Final = SocketAsyncOperation.RECEIVE

#: For which bits of the gate of the sends a receive has more to look at.
_IN_THE_WAY: Final = CLOSED | FORKED | UNCONNECTED | BROKEN


class Receiving(Verb):
    """The part of `Socket` that receives."""

    __slots__ = ()

    # -- event args ---------------------------------------------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    def receive_async(self, args: SocketAsyncEventArgs) -> bool:
        """Start to receive into the buffer, or the buffer list, of ``args``.

        The operation ends as soon as anything has arrived; `SocketAsyncEventArgs.bytes_transferred` tells how much, and
        nothing behind that is touched. 0 bytes without an error mean that the peer has finished (F289), or an empty
        datagram. What does not fit of a datagram is lost. Receives have a FIFO of their own, so sends that wait do not
        hold them up, nor the other way round.

        If there is no room, because the buffer is empty, the operation ends when there is something to receive, or the
        peer has finished, and takes nothing. So a server needs no buffer for a client that is silent.

        Args:
          args: where to receive into, and with which flags: NONE, PEEK, OUT_OF_BAND or DONT_ROUTE. They are in use
            until the operation has ended.

        Returns:
          True if the operation is pending: `SocketAsyncEventArgs.completed` will be raised, exactly once. False if it
          has ended on the spot, one way or the other: the args tell how, and the event is not raised. A socket that is
          not connected and flags that are not accepted are told by the args too.

        Raises:
          TypeError: ``args`` is None or something else.
          ValueError: ``args`` has neither a buffer nor a buffer list, or one that is read-only.
          OperationInProgressError: ``args`` is in use.
          ObjectDisposedError: the socket or ``args`` was closed.
          InvalidOperationError: no initiator is open, the call comes from another thread, or the message of ``args``
            was cut and stands half sent on a torn stream.

        **Checkpoints**: never. After many starts in a row that ended on the spot, one is answered "pending" although it
        has ended, as `send_async` does.

        **If cancelled**: nothing is raised here. The operation belongs to the initiator and ends with it; then it has
        received nothing, and what arrives is left for the next.

        **Threads**: only from the Trio thread that uses the socket.
        """
        return receive_args(self._core, self, args, RECEIVE_STEP, _RECEIVE)

    # -- await --------------------------------------------------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Receive what has arrived, as soon as something has.

        Args:
          max_bytes: how many bytes at most.

        Returns:
          The bytes; ``b""`` when the peer has finished, or for an empty datagram.

        Raises:
          SocketException: the connection is broken, or there is none.
          TypeError: ``max_bytes`` is no whole number.
          ValueError: ``max_bytes`` is not positive, or more than there can be.
          InvalidOperationError: the call comes from another thread.
          ObjectDisposedError: the socket was closed.

        **Checkpoints**: always.

        **If cancelled**: `trio.Cancelled`, and nothing has been received.

        **Threads**: only from the Trio thread that uses the socket.
        """
        core = self._core
        queue, kernel = core.receives, core.kernel
        if (
            queue is not None
            and kernel is not None
            and not queue.gate
            and not core.sends.gate & _IN_THE_WAY
            and not queue.instruments.watching
            and core.token is not None
            and get_ident() == core.thread
            and trio.lowlevel.current_trio_token() is core.token
            and type(max_bytes) is int
            and 0 < max_bytes <= MOST_BYTES
        ):
            # The same in short. It does not yield before the attempt, so no task can come between.
            await trio.lowlevel.checkpoint_if_cancelled()
            if not queue.gate:
                data = b""
                error: OSError | None = None
                queue.gate = STEP
                try:
                    data = kernel.recv(max_bytes)
                except OSError as caught:
                    # With a traceback, this frame and the exception would hold each other.
                    error = caught.with_traceback(None)
                except BaseException:
                    queue.end_attempt()
                    raise
                if error is not None:
                    step = ReceiveBytesStep(max_bytes)
                    await go_on_receiving(core, self, step, _RECEIVE, error)
                    return step.data
                if queue.gate == STEP:
                    queue.gate = 0
                else:
                    queue.end_attempt()
                await trio.lowlevel.cancel_shielded_checkpoint()
                return data
        core.require_usable()
        step = ReceiveBytesStep(require_max_bytes(max_bytes))
        await receive_awaited(core, self, step, None, _RECEIVE)
        return step.data

    @trio.lowlevel.enable_ki_protection
    async def receive_into(self, buffer: Buffer) -> int:
        """Receive what has arrived into a buffer, as soon as something has.

        Args:
          buffer: a writable, contiguous bytes-like object; leave it alone meanwhile. With an empty one, it waits until
            there is something to receive, or the peer has finished, and takes nothing.

        Returns:
          How many bytes were received; 0 when the peer has finished, for an empty datagram, and into an empty buffer.

        Raises:
          SocketException: the connection is broken, or there is none.
          TypeError: ``buffer`` is not bytes-like or not contiguous.
          ValueError: ``buffer`` is read-only.
          InvalidOperationError: the call comes from another thread.
          ObjectDisposedError: the socket was closed.

        **Checkpoints**: always.

        **If cancelled**: `trio.Cancelled`, and nothing has been received.

        **Threads**: only from the Trio thread that uses the socket.
        """
        self._core.require_usable()
        message = message_from_buffer("buffer", buffer, 0, None)
        require_writable("buffer", message, is_list=False)
        return await receive_awaited(self._core, self, RECEIVE_STEP, message, _RECEIVE)
