"""One attempt to send: what is handed to the kernel in one system call, and how many calls there are.

A single buffer is handed over as it stands, many small ones are joined, larger ones gathered. Small messages that are
neighbours in the queue share a call, and what it accepted is split among them exactly. Datagrams for one receiver may
share one too; files go from descriptor to descriptor.
"""

from __future__ import annotations

import errno as errno_module
from typing import TYPE_CHECKING, Final

from .._base.checks import counted
from .._base.codes import SocketError, SocketFlags, native_send_flags
from .._base.error_numbers import FAULT, NOT_CONNECTED
from .._base.errors import SocketException
from .._base.tries import Tries
from .._messages.buffers import (
    JOIN_PIECE_SIZE,
    JOIN_TOTAL,
    MAX_PIECES,
    BufferShrankError,
    Message,
    release,
    shrunk,
    unreadable,
)
from .._messages.datagrams import CANNOT_SEGMENT_ERRNOS, JOIN_DATAGRAM_SIZE, Datagrams
from .._messages.packets import ATTEMPT_SIZE, Packets
from .gate import STEP, UNCONNECTED
from .queue import OPERATION_COST, OperationQueue
from .states import HALTED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._kernel.port import Port
    from .operation import Operation


#: How many bytes one attempt of several calls may send, each call at a price of its own besides. UDP has no peer that
#: slows it down, and that of a stream may be as fast as the sender, so without a limit an attempt would take as long as
#: the message is.
ATTEMPT_ALLOWANCE: Final = 256 * 1024

#: The native flags of an ordinary send.
PLAIN_FLAGS: Final = native_send_flags(SocketFlags.NONE) or 0


def is_gathered(views: Sequence[bytes | memoryview], total: int) -> bool:
    """Tell whether pieces are handed to the kernel as they are, which costs less than to join them."""
    return len(views) > 1 and total > min(JOIN_TOTAL, JOIN_PIECE_SIZE * len(views))


class SendCalls(OperationQueue):
    """The part of `SendQueue` that makes the system calls."""

    __slots__ = ("refills", "tries")

    writes = True

    def __init__(self, port: Port) -> None:
        super().__init__(port)
        #: The calls that follow one which was accepted in part, at once.
        self.refills = Tries()
        self.tries: Tries = Tries()

    def attempt(self, operation: Operation) -> None:
        """Send as much of a message as the kernel takes, or one attempt may send.

        With a peer that reads fast, a call that was accepted in part is worth another one at once: a wait costs much
        more. With one that reads slowly the other call is in vain, and so is one a scheduler trip later. Which kind the
        peer is, is found out by trying, and forgotten after a while.
        """
        if operation.step is not None:
            super().attempt(operation)
            return
        message = operation.message
        assert message is not None
        self.hopeful = False
        if type(message) is Datagrams:
            self._attempt_datagrams(operation, message)
            return
        if type(message) is Packets:
            self._attempt_packets(operation, message)
            return
        if not self.port.is_stream and not message.fits_one_call:
            # One datagram must be one call.
            raise OSError(errno_module.EMSGSIZE, "too many buffers for one datagram")
        left = ATTEMPT_ALLOWANCE
        while left > 0:
            done = operation.transferred
            try:
                took_all = self._attempt_call(operation, message)
            except BlockingIOError:
                if left < ATTEMPT_ALLOWANCE:
                    self.refills.learn(in_vain=True)
                raise
            if left < ATTEMPT_ALLOWANCE:
                self.refills.learn(in_vain=False)
            if operation.transferred == message.size:
                return
            if not took_all and not self._may_refill():
                raise BlockingIOError
            left -= operation.transferred - done + OPERATION_COST
        self.hopeful = True
        raise BlockingIOError

    def send_range(
        self,
        buffer: bytes | bytearray | memoryview,
        offset: int,
        size: int,
        operation: Operation | None = None,
    ) -> int:
        """Make the first attempt for a face that has begun a step, to send what `short_range_size` measures.

        What can change is looked at right before the call. A whole buffer is handed over as it stands, because the call
        itself locks it; a range is viewed for the time of the call, or copied if it is small, which costs less.

        Args:
          buffer: what to send.
          offset: where the range begins.
          size: how many bytes it has.
          operation: what may be stopped in the middle, if anybody holds it.

        Returns:
          How many bytes were accepted. More than ``size`` if a whole `bytearray` has grown in the middle.

        Raises:
          OSError: as `Port.send`; BlockingIOError also if a stop was noted.
          BufferShrankError: the range is not there any more.
        """
        view: memoryview | None = None
        try:
            if type(buffer) is memoryview:
                try:
                    if buffer.nbytes != size:
                        buffer = view = buffer[offset : offset + size]
                except ValueError as error:
                    raise unreadable(error) from None
            elif (offset or len(buffer) != size) and size <= JOIN_PIECE_SIZE:
                length = len(buffer)
                buffer = buffer[offset : offset + size]
                if length < offset + size or len(buffer) != size:
                    raise shrunk(length, offset + size)
            elif offset or len(buffer) != size:
                length = len(buffer)
                # The view of the whole goes at once, and the one that is left holds all that there is to hold.
                buffer = view = memoryview(buffer)[offset : offset + size]
                if length < offset + size or view.nbytes != size:
                    raise shrunk(length, offset + size)
            # What was made here may have run a finaliser.
            if self.gate != STEP and self.halted:
                raise BlockingIOError
            if operation is not None and operation.state == HALTED:
                raise BlockingIOError
            return self.port.send(buffer, PLAIN_FLAGS)
        finally:
            if view is not None:
                view.release()

    def send_message(self, message: Message, operation: Operation | None = None) -> int:
        """Make the first attempt for a face that has begun a step, to send what `send_range` cannot.

        Args:
          message: of at most `MAX_PIECES` pieces.
          operation: as for `send_range`.

        Returns:
          How many bytes were accepted.

        Raises:
          OSError: as `send_range`.
          BufferShrankError: a piece is not there any more.
        """
        data = message.direct
        views: list[bytes | memoryview] = []
        opened: list[memoryview] = []
        try:
            total = 0
            if data is None:
                total = message.open(0, views, opened, MAX_PIECES)
                if not is_gathered(views, total):
                    data = views[0] if len(views) == 1 else b"".join(views)
            # The views may have run code of the program's.
            if self.gate != STEP and self.halted:
                raise BlockingIOError
            if operation is not None and operation.state == HALTED:
                raise BlockingIOError
            if data is None:
                return self.port.send_gather(views, PLAIN_FLAGS)
            return self.port.send(data, PLAIN_FLAGS)
        finally:
            release(opened)

    def _attempt_more(self, operation: Operation) -> bool:
        message = operation.message
        assert message is not None
        if operation.transferred > message.size:
            # It was handed over as a whole, and code that ran in the middle of the step has made it longer.
            return self._failed_first(
                operation,
                FAULT,
                errno_module.EFAULT,
                f"the buffer was made longer than {counted(message.size, 'byte')} at the very moment of its send, so "
                "more went out than was to be sent; leave a buffer alone until its send has ended",
            )
        if not self._may_refill():
            return False
        done = operation.transferred
        ended = self._attempt_first(operation)
        if operation.transferred > done:
            self.refills.learn(in_vain=False)
        elif not ended:
            self.refills.learn(in_vain=True)
        return ended

    def _may_refill(self) -> bool:
        """Whether a call that was accepted in part is to be followed by another one at once."""
        if self.refills.skips:
            self.refills.skips -= 1
            return False
        return self.port.refills

    def _attempt_call(self, operation: Operation, message: Message) -> bool:
        """Send as much of a message as fits one system call; return whether all of that was accepted."""
        data = message.direct
        if data is not None:  # it cannot change, so any part of it may be handed over as it stands
            if operation.transferred:
                data = memoryview(data)[operation.transferred :]
            self._account(operation, self._call(operation, data))
            return operation.transferred == message.size
        views: list[bytes | memoryview] = []
        opened: list[memoryview] = []
        try:
            total = message.open(operation.transferred, views, opened, MAX_PIECES)
            sent = self._call_views(operation, views, total)
        finally:
            release(opened)
        self._account(operation, sent)
        return sent == total

    def _attempt_datagrams(self, operation: Operation, message: Datagrams) -> None:
        """Send as many datagrams as the kernel takes, or one attempt may send."""
        left = ATTEMPT_ALLOWANCE
        while message.sent < message.count:
            if left <= 0:
                # The socket is as ready as it was, and only lets others have their turn.
                self.hopeful = True
                raise BlockingIOError
            opened: list[memoryview] = []
            try:
                views, size = message.open_run(self.port.max_segments, opened)
                sent = self._call_segments(operation, message, views, size)
            finally:
                release(opened)
            if sent is not None:
                message.sent += len(views)
                self._account(operation, sent)
                left -= sent + len(views) * OPERATION_COST

    def _call_segments(
        self,
        operation: Operation,
        message: Datagrams,
        views: Sequence[bytes | memoryview],
        size: int,
    ) -> int | None:
        """Send datagrams in one call; return None if it turned out that it takes several."""
        if len(views) == 1:
            return self._call(operation, views[0])
        data = [b"".join(views)] if size <= JOIN_DATAGRAM_SIZE else views
        try:
            return self.ask(self.port.send_segments, data, size, operation.flags, operation.address)
        except OSError as error:
            if error.errno not in CANNOT_SEGMENT_ERRNOS:
                raise
            message.cannot_share(size, error.errno)
            return None

    def _attempt_packets(self, operation: Operation, message: Packets) -> None:
        """Send packets, as much as the kernel takes or one attempt may send, and do what is to be done afterwards."""
        if message.datagrams is None:
            self._attempt_parts(operation, message)
        else:
            self._attempt_packet_datagrams(operation, message, message.datagrams)
        if message.afterwards is not None:
            self.ask(message.afterwards)

    def _attempt_packet_datagrams(self, operation: Operation, message: Packets, count: int) -> None:
        left = ATTEMPT_ALLOWANCE
        while message.sent < count:
            if left <= 0:
                self.hopeful = True
                raise BlockingIOError
            opened: list[memoryview] = []
            size = message.size
            try:
                views = message.open_datagram(opened)
                if message.size < size and self.head is operation:
                    self._expect_less(size - message.size)
                if len(views) > MAX_PIECES:
                    views = [b"".join(views)]
                sent = self._call_views(operation, views, sum(map(len, views)))
            finally:
                release(opened)
            message.sent += 1
            self._account(operation, sent)
            left -= sent + OPERATION_COST

    def _attempt_parts(self, operation: Operation, message: Packets) -> None:
        """Send buffers and ranges of files in turn, as one message on a stream."""
        end = min(message.size, operation.transferred + ATTEMPT_SIZE)
        while operation.transferred < end:
            if not message.is_in_file(operation.transferred):
                if not self._attempt_call(operation, message):
                    raise BlockingIOError
                continue
            start = operation.transferred
            sent, tried = message.send_file(
                self.ask, self.port, operation.flags, start, end - start
            )
            if tried == 0:
                missing = message.end_file(start)
                end = min(end, message.size)
                if self.head is operation:
                    self._expect_less(missing)
                continue
            self._account(operation, sent)
            if sent < tried:
                raise BlockingIOError
        # It may be past the end, because what is in buffers is not cut there.
        if operation.transferred < message.size:
            self.hopeful = True
            raise BlockingIOError

    def _account(self, operation: Operation, sent: int) -> None:
        """Note bytes that the kernel accepted."""
        operation.transferred += sent
        self.accepted += sent
        self.backoff = 0.0
        self.backoffs = 0
        if operation.limit is not None:
            operation.limit.moved()
        if self.instruments.watching:
            self.instruments.accepted(operation, self, sent)

    def _call(self, operation: Operation, data: bytes | memoryview) -> int:
        if operation.address is None:
            return self.ask(self.port.send, data, operation.flags)
        return self._send_to(operation, data)

    def _send_to(self, operation: Operation, data: bytes | memoryview) -> int:
        try:
            return self.ask(self.port.send_to, data, operation.flags, operation.address)
        except (TypeError, ValueError, OverflowError) as error:
            # An address of a family that is not checked beforehand, and the standard library cannot make use of it.
            raise SocketException(SocketError.INVALID_ARGUMENT, detail=str(error)) from None

    def _call_views(
        self, operation: Operation, views: Sequence[bytes | memoryview], total: int
    ) -> int:
        if len(views) == 1:
            return self._call(operation, views[0])
        if operation.address is None and is_gathered(views, total):
            return self.ask(self.port.send_gather, views, operation.flags)
        return self._call(operation, b"".join(views))

    def _attempt_head(self, head: Operation) -> int:
        message = head.message
        if head.step is not None or message is None:
            return super()._attempt_head(head)
        if self.gate & UNCONNECTED and head.address is None:
            # The connect in front of it has failed. The kernel's answer would be EPIPE, as for a dead connection.
            self._fail(head, NOT_CONNECTED, errno_module.ENOTCONN)
            return 0
        done = head.transferred
        behind = head.next
        if (
            behind is not None
            and self.port.is_stream
            and self._is_plain(head)
            and self._is_plain(behind)
            and 0 < message.size - done < JOIN_TOTAL
        ):
            return self._attempt_run(head)
        try:
            self.attempt(head)
        except BlockingIOError:
            if head.transferred == done:
                raise
        else:
            self._finish(head)
        return head.transferred - done

    def _is_plain(self, operation: Operation) -> bool:
        """Whether the operation sends bytes that may share a system call with its neighbours'."""
        return (
            operation.step is None
            and operation.flags == PLAIN_FLAGS
            and operation.address is None
            and type(operation.message) is not Packets
        )

    def _attempt_run(self, head: Operation) -> int:
        """Send the head and as many of its followers as make up one sensible system call."""
        # First collect: whole messages, in the order of the queue, until the call is large enough.
        self.hopeful = False
        views: list[bytes | memoryview] = []
        opened: list[memoryview] = []
        total = 0
        try:
            operation: Operation | None = head
            while operation is not None and total < JOIN_TOTAL and self._is_plain(operation):
                message = operation.message
                assert message is not None
                if message.direct is not None and not operation.transferred:
                    # It cannot change, so it needs no view. Most messages are like this.
                    views.append(message.direct)
                    total += message.size
                    if len(views) == MAX_PIECES:
                        break
                    operation = operation.next
                    continue
                mark = len(views)
                try:
                    opened_bytes = message.open(
                        operation.transferred, views, opened, MAX_PIECES - mark
                    )
                except BufferShrankError:
                    if operation is head:
                        raise
                    del views[mark:]  # it fails when its turn comes
                    break
                total += opened_bytes
                if opened_bytes < message.size - operation.transferred or len(views) == MAX_PIECES:
                    break  # nothing may follow a message that is not here as a whole
                operation = operation.next
            accepted = self._call_views(head, views, total)
        finally:
            release(opened)
        # Then divide what was accepted among them, from the front. Whoever is whole has ended and leaves the queue at
        # once; at most one is left with a part, and that is the head. So when this is over, no follower has any bytes.
        left = accepted
        used = accepted - OPERATION_COST  # what the drain adds for one operation
        self.backoff = 0.0
        self.backoffs = 0
        while left:
            assert self.head is not None and self.head.message is not None
            head = self.head
            missing = self.head.message.size - head.transferred
            used += OPERATION_COST
            if left < missing:
                self._account(head, left)
                break
            # The account of what ends here and now, without the call: that is a sixth of the price of a long queue.
            head.transferred += missing
            self.accepted += missing
            if self.instruments.watching:
                self.instruments.accepted(head, self, missing)
            left -= missing
            self._finish(head)
        return used
