"""Sending files: as elements of one message with event args, or one file and await."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, BinaryIO, Final

import trio

from .._base.codes import SocketAsyncOperation, SocketError, SocketFlags
from .._base.errors import SocketException
from .._messages.packet_element import TransmitFileOptions, file_element
from .._messages.packets import Packets
from .._operations.operation import Operation
from .connection_end import end_connection
from .core import Verb
from .starts import (
    is_refused_as_cut,
    operation_of,
    prepare,
    refuse_cut,
    require_startable,
    send_awaited,
    settle,
    start_args,
)

if TYPE_CHECKING:
    import os

    from .event_args import SocketAsyncEventArgs

_SEND_PACKETS: Final = SocketAsyncOperation.SEND_PACKETS
_NO_FLAGS: Final = "packets can only be sent without flags"
_NO_STREAM: Final = (
    "a file can only be sent on a stream; send_packets_async() sends one as a datagram"
)


class SendingFiles(Verb):
    """The part of `Socket` that sends files."""

    __slots__ = ()

    @trio.lowlevel.enable_ki_protection
    def send_packets_async(self, args: SocketAsyncEventArgs) -> bool:
        """Start to send the ``send_packets_elements`` of ``args``, buffers and files in turn.

        On a stream they are one message, and it is a send like any other: all of it goes out before the first byte of
        any message that is started later, its count is exact, and if it is cut the stream is torn. Files are opened
        here. They are sent as they are now: what is appended to them later is not, and if one becomes shorter before
        its turn has come, the operation fails with FAULT and its exact count. The kernel moves the bytes itself where
        it can and no `SendPacketsElement.copy` is asked for; else they are read and sent.

        On a datagram socket that is connected each element is a datagram, an empty one too; or, if any of them has
        `SendPacketsElement.end_of_packet`, each run up to such a mark or to the end. They are one operation, so nothing
        else is sent between them. It ends at the first that fails, and `SocketAsyncEventArgs.remaining_elements` are
        those that were not accepted. Files are read for each attempt, at most 2 MiB for a datagram.

        With `SocketAsyncEventArgs.send_packets_flags` the connection is ended when all was accepted, and the operation
        has ended when that is done. If that fails, the operation fails and has the full count.

        While a message that was cut may still be resumed, its files stay open: until it has been sent, or
        `forget_torn` or `close` gives it up.

        Args:
          args: what to send. They are in use until the operation has ended. Their buffers have no part in it.

        Returns:
          True if the operation is pending: `SocketAsyncEventArgs.completed` will be raised, exactly once. False if it
          has ended on the spot, one way or the other; the args tell how. Any ``socket_flags`` are told by the args
          with OPERATION_NOT_SUPPORTED.

        Raises:
          TypeError: ``args`` is None or something else.
          ValueError: ``args`` has no ``send_packets_elements``; or a file does not have the range, does not say how
            long it is while no count is given, is a pipe or the like, or was closed.
          OSError: a file could not be opened, for example `FileNotFoundError`, or not flushed. Nothing has changed
            then.
          OperationInProgressError: ``args`` is in use.
          ObjectDisposedError: the socket or ``args`` was closed.
          InvalidOperationError: as for `send_async`.

        **Checkpoints**: never. But it waits for the disk, like every later step that sends a part of a file that the
        system does not have in memory, and no other task runs meanwhile. One step sends at most 2 MiB.

        **If cancelled**: nothing is raised here. The operation belongs to the initiator, ends with it, and carries the
        exact count.

        **Threads**: only from the Trio thread that uses the socket.

        Source: .NET's ``Socket.SendPacketsAsync``; facts F106, F203, F204 and F260.
        """
        core = self._core
        core.require_usable()
        operation = operation_of(args)
        if is_refused_as_cut(core, operation):
            return refuse_cut(core, self, args)
        require_startable(operation)
        if operation.elements is None:
            raise ValueError("args has no send_packets_elements; set them to a list")
        core.require_owner()
        options = operation.send_packets_flags
        afterwards = None
        if options:
            is_reused = bool(options & TransmitFileOptions.REUSE_SOCKET)
            afterwards = partial(end_connection, core, is_reused)
        apart = not core.port.is_stream
        packets = Packets(operation.snapshot, apart=apart, afterwards=afterwards)
        operation.packets = packets
        if operation.socket_flags == SocketFlags.NONE:
            pending = start_args(core, self, args, _SEND_PACKETS, packets)
        else:
            operation.claim()
            operation.message = packets
            prepare(core, self, operation, _SEND_PACKETS, face=args)
            operation.set_error(SocketError.OPERATION_NOT_SUPPORTED, 0, _NO_FLAGS)
            pending = settle(core, operation)
        operation.let_go()
        return pending

    @trio.lowlevel.enable_ki_protection
    async def send_file(
        self,
        file: str | os.PathLike[str] | BinaryIO,
        offset: int = 0,
        count: int | None = None,
        *,
        copy: bool = False,
    ) -> int:
        """Send a file, or a range of one, as one message and wait until the kernel has accepted all of it.

        The calling task owns the operation, so no initiator is needed. It waits its turn in the socket's one queue.
        How much is sent is settled when the file is opened: what is appended later is not.

        Args:
          file: a path, or a file that is open for reading in binary mode. Its position is neither used nor moved, and
            it may be closed meanwhile. What the program has written to it and not flushed is flushed first.
          offset: where in the file to begin, in bytes.
          count: how many bytes to send; None stands for all from ``offset`` on.
          copy: whether the file is read and sent, in pieces of at most 64 KiB. If not, the kernel sends it by itself
            where it can, which is faster; but what is written to the file before the peer has read may then reach the
            peer, even after this call has returned.

        Returns:
          How many bytes were accepted: all of them.

        Raises:
          SocketException: the send failed or was stopped; its ``bytes_transferred`` is exact. FAULT if the file became
            shorter meanwhile, OPERATION_NOT_SUPPORTED if the socket is not a stream.
          OSError: the file could not be opened, for example `FileNotFoundError`, or not flushed.
          TypeError: ``file`` is neither a path nor a file, or a file in text mode.
          ValueError: the file does not have the range, does not say how long it is while no count is given, is a pipe
            or the like, or is not open for reading.
          ObjectDisposedError: the socket was closed.
          InvalidOperationError: the call comes from another thread.

        **Checkpoints**: always. Between them it waits for the disk if the system does not have the file in memory, at
        most 2 MiB at a time, and no other task runs meanwhile.

        **If cancelled**: `trio.Cancelled`, and no further byte is sent. If some bytes were accepted, the stream is
        torn; `torn` tells the count, and `send_rest` sends the rest of the same file, which stays open until then.

        **Threads**: only from the Trio thread that uses the socket.
        """
        core = self._core
        core.require_usable()
        element = file_element(file, offset, count, copy)
        if not core.port.is_stream:
            raise SocketException(SocketError.OPERATION_NOT_SUPPORTED, detail=_NO_STREAM)
        operation = Operation()
        try:
            operation.message = packets = Packets([element])
        except (OSError, ValueError):
            await trio.lowlevel.checkpoint()
            raise
        try:
            return await send_awaited(
                core, self, operation, packets, SocketFlags.NONE, _SEND_PACKETS
            )
        finally:
            operation.let_go()
