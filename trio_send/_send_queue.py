"""The sending FIFO: what coalesces, what breaks, and what tears a stream.

Three things can end more than one operation:

*A broken connection.* An errno after which no byte will ever pass again fails the operation at the head with its count,
and everything behind it with the same code and 0 bytes. Later starts get the first cause, without a system call.

*A torn stream.* When a message was stopped, or failed on a living connection, after some but not all of its bytes were
accepted, whatever is written next would be read as its continuation. So what waits behind it ends with
CONNECTION_ABORTED and 0 bytes, and later starts are refused alike, until the application sends the rest or gives it up.
Closing tears nothing, for nothing can follow. Datagrams cannot be cut.

*A connect that failed.* What waited for it was never connected.
"""

from __future__ import annotations

import errno as errno_module
from typing import TYPE_CHECKING, Final

import trio

from ._buffers import JOIN_PIECE_SIZE, JOIN_TOTAL, MAX_PIECES, BufferShrankError, release
from ._codes import (
    CONNECTION_DEAD_ERRNOS,
    NO_BUFFER_ERRNOS,
    SocketError,
    SocketFlags,
    native_send_flags,
)
from ._datagrams import CANNOT_SEGMENT_ERRNOS, JOIN_DATAGRAM_SIZE, Datagrams
from ._exceptions import SocketException
from ._packets import ATTEMPT_SIZE, Packets
from ._queue import BROKEN, CLOSED, OPERATION_COST, TORN, UNCONNECTED, OperationQueue
from ._torn import TornMessage
from ._watermarks import Watermarks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._buffers import Message
    from ._operation import Operation, Owner
    from ._port import Port

_CONNECTION_ABORTED: Final = int(SocketError.CONNECTION_ABORTED)
_NOT_CONNECTED: Final = int(SocketError.NOT_CONNECTED)

#: Out of kernel memory there is no event to wait for, so the attempt is repeated after pauses that double: 1 ms to
#: 512 ms, about one second in all. Then the operation fails with the error that it had all along.
FIRST_BACKOFF: Final = 0.001
MAX_BACKOFFS: Final = 10

#: Where there is no event for room at a datagram's address, at most so many seconds pass between attempts. They go on
#: for as long as the operation may wait, for it is the peer's reading that is waited for.
LONGEST_POLL: Final = 0.05

#: How many bytes one attempt of several calls may send, each call at a price of its own besides. UDP has no peer that
#: slows it down, and that of a stream may be as fast as the sender, so without a limit an attempt would take as long as
#: the message is.
ATTEMPT_ALLOWANCE: Final = 256 * 1024

#: After a second call in vain, 1, 3, 7 and at last this many calls that are accepted in part are not followed by one.
MAX_SKIPS: Final = 15

#: The native flags of an ordinary send.
PLAIN_FLAGS: Final = native_send_flags(SocketFlags.NONE) or 0

TORN_DETAIL: Final = (
    "an earlier message on this stream was cut after some of its bytes, so the peer would read this one as its "
    "continuation; send the rest first with socket.resume() or socket.send_rest(), or give it up with "
    "socket.forget_torn()"
)


class SendQueue(OperationQueue):
    """The FIFO for writing: sends, and the connect they wait for."""

    __slots__ = ("broken", "in_vain", "refuse_torn", "skips", "torn")

    writes = True

    def __init__(self, port: Port, *, refuse_torn: bool) -> None:
        super().__init__(port)
        self.marks: Watermarks = Watermarks()
        self.refuse_torn = refuse_torn
        #: How many calls that are accepted in part will not be followed by another one at once, and how many that were
        #: when the latest such call was in vain.
        self.skips = 0
        self.in_vain = 0
        #: The first error that killed the connection, as Winsock and native number; later starts get it too.
        self.broken: tuple[int, int] | None = None
        self.torn: TornMessage | None = None

    def refusal(self, operation: Operation) -> tuple[int, int, str | None] | None:
        """Return the error ``operation`` must end with at once, without a system call; None when there is none."""
        gate = self.gate
        if gate & TORN:
            return _CONNECTION_ABORTED, 0, TORN_DETAIL
        broken = self.broken  # which may vanish: another thread may ask while the socket is renewed
        if gate & BROKEN and broken is not None:
            return (*broken, None)
        if gate & UNCONNECTED and operation._address is None and not self._may_be_connecting():
            return _NOT_CONNECTED, errno_module.ENOTCONN, None
        return None

    def _may_be_connecting(self) -> bool:
        """Whether a connect waits in the queue. Without one, only datagrams with addresses of their own can wait."""
        operation = self.head
        while operation is not None and operation._address is not None:
            operation = operation._next
        return operation is not None

    # -- attempts -----------------------------------------------------------------------------------------------------

    def _attempt(self, operation: Operation) -> None:
        """Send as much of a message as the kernel takes, or one attempt may send.

        With a peer that reads fast, a call that was accepted in part is worth another one at once: a wait costs much
        more. With one that reads slowly the other call is in vain, and so is one a scheduler trip later. Which kind the
        peer is, is found out by trying, and forgotten after a while.
        """
        if operation._step is not None:
            operation._step.attempt(operation)
            return
        message = operation._message
        assert message is not None
        self.hopeful = False
        if type(message) is Datagrams:
            self._attempt_datagrams(operation, message)
            return
        if type(message) is Packets:
            self._attempt_packets(operation, message)
            return
        if len(message.pieces) > MAX_PIECES and not self.port.is_stream:
            # One datagram must be one call, and the kernel takes no longer list than this (F171).
            raise OSError(errno_module.EMSGSIZE, "too many buffers for one datagram")
        left = ATTEMPT_ALLOWANCE
        while left > 0:
            done = operation._transferred
            try:
                took_all = self._attempt_call(operation, message)
            except BlockingIOError:
                if left < ATTEMPT_ALLOWANCE:
                    self._refilled_in_vain()
                raise
            if left < ATTEMPT_ALLOWANCE:
                self.in_vain = 0
            if operation._transferred == message.size:
                return
            if not took_all and not self._may_refill():
                raise BlockingIOError
            left -= operation._transferred - done + OPERATION_COST
        self.hopeful = True
        raise BlockingIOError

    def _refilled_in_vain(self) -> None:
        self.skips = self.in_vain = min(2 * self.in_vain + 1, MAX_SKIPS)

    def _attempt_more(self, operation: Operation) -> bool:
        if not self._may_refill():
            return False
        done = operation._transferred
        ended = self._attempt_first(operation)
        if operation._transferred > done:
            self.in_vain = 0
        elif not ended:
            self._refilled_in_vain()
        return ended

    def _may_refill(self) -> bool:
        """Whether a call that was accepted in part is to be followed by another one at once."""
        if self.skips:
            self.skips -= 1
            return False
        return self.port.refills

    def _attempt_call(self, operation: Operation, message: Message) -> bool:
        """Send as much of a message as fits one system call; return whether all of that was accepted."""
        data = message.direct
        if data is not None:  # it cannot change, so any part of it may be handed over as it stands
            if operation._transferred:
                data = memoryview(data)[operation._transferred :]
            if operation._address is None:
                sent = self.port.send(data, operation._flags)
            else:
                sent = self._send_to(operation, data)
            self._account(operation, sent)
            return operation._transferred == message.size
        views: list[bytes | memoryview] = []
        opened: list[memoryview] = []
        head = self.head
        try:
            total = message.open(operation._transferred, views, opened, MAX_PIECES)
            if self.head is not head or self.gate & CLOSED:
                raise BlockingIOError
            sent = self._call_views(operation, views, total)
        finally:
            release(opened)
        self._account(operation, sent)
        return sent == total

    def _attempt_datagrams(self, operation: Operation, message: Datagrams) -> None:
        """Send as many datagrams as the kernel takes, or one attempt may send."""
        head = self.head
        left = ATTEMPT_ALLOWANCE
        while message.sent < message.count:
            if left <= 0:
                # The socket is as ready as it was, and only lets others have their turn.
                self.hopeful = True
                raise BlockingIOError
            opened: list[memoryview] = []
            try:
                views, size = message.open_run(self.port.max_segments, opened)
                if self.head is not head or self.gate & CLOSED:
                    raise BlockingIOError
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
            return self.port.send_segments(data, size, operation._flags, operation._address)
        except OSError as error:
            if error.errno not in CANNOT_SEGMENT_ERRNOS:
                raise
            message.cannot_share(size, error.errno)
            return None

    def _attempt_packets(self, operation: Operation, message: Packets) -> None:
        """Send buffers and ranges of files in turn, as much as the kernel takes or one attempt may send."""
        head = self.head
        end = min(message.size, operation._transferred + ATTEMPT_SIZE)
        while operation._transferred < end:
            found = message.file_at(operation._transferred)
            if found is None:
                if not self._attempt_call(operation, message):
                    raise BlockingIOError
                continue
            if self.head is not head or self.gate & CLOSED:
                raise BlockingIOError
            file, offset, left = found
            count = min(left, end - operation._transferred)
            sent, tried = file.send(self.port, operation._flags, offset, count)
            self._account(operation, sent)
            if sent < tried:
                raise BlockingIOError
        # It may be past the end, for what is in buffers is not cut there.
        if operation._transferred < message.size:
            self.hopeful = True
            raise BlockingIOError

    def _account(self, operation: Operation, sent: int) -> None:
        """Note bytes that the kernel accepted."""
        operation._transferred += sent
        self.accepted += sent
        self.backoff = 0.0
        self.backoffs = 0
        if operation._limit is not None:
            operation._limit.moved()
        if self.audience.instruments:
            self.audience.accepted(operation, self, sent)

    def _call(self, operation: Operation, data: bytes | memoryview) -> int:
        if operation._address is None:
            return self.port.send(data, operation._flags)
        return self._send_to(operation, data)

    def _send_to(self, operation: Operation, data: bytes | memoryview) -> int:
        try:
            return self.port.send_to(data, operation._flags, operation._address)
        except (TypeError, ValueError, OverflowError) as error:
            # An address of a family that is not checked beforehand, and the standard library cannot make use of it.
            raise SocketException(SocketError.INVALID_ARGUMENT, detail=str(error)) from None

    def _call_views(
        self, operation: Operation, views: Sequence[bytes | memoryview], total: int
    ) -> int:
        if len(views) == 1:
            return self._call(operation, views[0])
        if operation._address is None and total > min(JOIN_TOTAL, JOIN_PIECE_SIZE * len(views)):
            return self.port.send_gather(views, operation._flags)
        return self._call(operation, b"".join(views))

    def _attempt_head(self, head: Operation) -> int:
        message = head._message
        if head._step is not None or message is None:
            return super()._attempt_head(head)
        if self.gate & UNCONNECTED and head._address is None:
            # The connect in front of it has failed. The kernel's answer would be EPIPE, as for a dead connection.
            self._fail(head, _NOT_CONNECTED, errno_module.ENOTCONN)
            return 0
        done = head._transferred
        behind = head._next
        if (
            behind is not None
            and self.port.is_stream
            and self._is_plain(head)
            and self._is_plain(behind)
            and 0 < message.size - done < JOIN_TOTAL
        ):
            return self._attempt_run(head)
        try:
            self._attempt(head)
        except BlockingIOError:
            if head._transferred == done:
                raise
        else:
            self._finish(head)
        return head._transferred - done

    def _is_plain(self, operation: Operation) -> bool:
        """Whether the operation sends bytes that may share a system call with its neighbours'."""
        return (
            operation._step is None
            and operation._flags == PLAIN_FLAGS
            and operation._address is None
            and type(operation._message) is not Packets
        )

    def _attempt_run(self, head: Operation) -> int:
        """Send the head and as many of its followers as make up one sensible system call."""
        self.hopeful = False
        views: list[bytes | memoryview] = []
        opened: list[memoryview] = []
        generation = self.generation
        total = 0
        try:
            operation: Operation | None = head
            while operation is not None and total < JOIN_TOTAL and self._is_plain(operation):
                message = operation._message
                assert message is not None
                if message.direct is not None and not operation._transferred:
                    views.append(message.direct)
                    total += message.size
                    if len(views) == MAX_PIECES:
                        break
                    operation = operation._next
                    continue
                mark = len(views)
                try:
                    opened_bytes = message.open(
                        operation._transferred, views, opened, MAX_PIECES - mark
                    )
                except BufferShrankError:
                    if operation is head:
                        raise
                    del views[mark:]  # it fails when its turn comes
                    break
                total += opened_bytes
                if opened_bytes < message.size - operation._transferred or len(views) == MAX_PIECES:
                    break  # nothing may follow a message that is not here as a whole
                operation = operation._next
            if self.generation != generation:
                return 0
            accepted = self._call_views(head, views, total)
        finally:
            release(opened)
        left = accepted
        used = accepted - OPERATION_COST  # what the drain adds for one operation
        self.backoff = 0.0
        self.backoffs = 0
        while left:
            assert self.head is not None and self.head._message is not None
            head = self.head
            missing = self.head._message.size - head._transferred
            used += OPERATION_COST
            if left < missing:
                self._account(head, left)
                break
            # The account of what ends here and now, without the call: that is a sixth of the price of a long queue.
            head._transferred += missing
            self.accepted += missing
            if self.audience.instruments:
                self.audience.accepted(head, self, missing)
            left -= missing
            self._finish(head)
        return used

    # -- errors -------------------------------------------------------------------------------------------------------

    def _failed_first(
        self, operation: Operation, code: int, errno: int, detail: str | None = None
    ) -> bool:
        if operation._step is None:
            if self._back_off(errno):
                return False
            if self.port.is_stream and errno in CONNECTION_DEAD_ERRNOS:
                self._break(code, errno)
            elif self._is_cut(operation):  # it took several calls, or goes on with an earlier cut
                self._mark_torn(operation, detail)
                operation._become_cut()
        return super()._failed_first(operation, code, errno, detail)

    def _failed_head(
        self, head: Operation, code: int, errno: int, detail: str | None = None
    ) -> None:
        if head._step is not None:
            self._fail(head, code, errno, detail)
        elif self._back_off(errno):
            return
        elif self.port.is_stream and errno in CONNECTION_DEAD_ERRNOS:
            self._break(code, errno)
            assert self.broken is not None
            code, errno = self.broken  # of which a receive may have been told before
            self._fail(head, code, errno, detail)
            while self.head is not None:
                self._fail(self.head, code, errno)
        elif self._is_cut(head):
            self._mark_torn(head, detail)
            self._fail(head, code, errno, detail)
            self._tear(head, detail)
        else:
            self._fail(head, code, errno, detail)

    def _blocked(self, head: Operation) -> None:
        pause = self.backoff
        super()._blocked(head)
        if head._address is not None and self.port.polls_send_to:
            self.backoff = min(max(2 * pause, FIRST_BACKOFF), LONGEST_POLL)

    def _back_off(self, errno: int) -> bool:
        """Pause before the next attempt if that may help; return whether it may."""
        if errno not in NO_BUFFER_ERRNOS or self.backoffs == MAX_BACKOFFS:
            self.backoff = 0.0
            self.backoffs = 0
            return False
        self.backoff = FIRST_BACKOFF * 2**self.backoffs
        self.backoffs += 1
        return True

    def _break(self, code: int, errno: int) -> None:
        if self.broken is None:
            self.broken = code, errno
            self.gate |= BROKEN

    # -- torn streams -------------------------------------------------------------------------------------------------

    def _is_cut(self, operation: Operation) -> bool:
        return (
            self.port.is_stream
            and self.refuse_torn
            and operation._step is None
            and operation._message is not None
            and operation._is_started
            and operation._transferred < operation._message.size
        )

    def _mark_torn(self, operation: Operation, detail: str | None) -> None:
        self.torn = TornMessage(operation, detail)
        self.gate |= TORN

    def _tear(self, operation: Operation, detail: str | None) -> None:
        while self.head is not None:
            self._abort(self.head, _CONNECTION_ABORTED, TORN_DETAIL)

    @trio.lowlevel.enable_ki_protection
    def resume(self, operation: Operation, owner: Owner) -> bool:
        """Begin the rest of the message that was cut; return whether it is pending, as `start` does."""
        torn = self.torn
        assert torn is not None
        self.torn = None
        self.gate &= ~TORN
        operation._continues = True
        if self.audience.instruments and torn._is_about(operation):
            self.audience.started(operation, self)
        pending = self.start(operation, owner)
        if not torn._is_about(operation) or (not pending and self.torn is None):
            torn._operation._uncut()
        return pending

    @trio.lowlevel.enable_ki_protection
    def forget_torn(self) -> None:
        """Let the stream be written again; the operation that was cut is an ordinary idle one."""
        torn, self.torn = self.torn, None
        self.gate &= ~TORN
        if torn is not None:
            torn._operation._uncut()

    @trio.lowlevel.enable_ki_protection
    def renew(self, port: Port) -> None:
        self.forget_torn()
        super().renew(port)
        self.broken = None
        self.gate = self.gate & CLOSED | UNCONNECTED

    @trio.lowlevel.enable_ki_protection
    def close(self) -> None:
        self.forget_torn()
        super().close()
