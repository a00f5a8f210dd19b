"""The sending FIFO: what breaks, and what tears a stream.

Three things can end more than one operation:

*A broken connection.* An errno after which no byte will ever pass again fails the operation at the head with its count,
and everything behind it with the same code and 0 bytes. Later starts get the first cause, without a system call.

*A torn stream.* When a message was stopped, or failed on a living connection, after some but not all of its bytes were
accepted, whatever is written next would be read as its continuation. So what waits behind it ends with
CONNECTION_ABORTED and 0 bytes, and later starts are refused alike, until the application sends the rest or gives it up.
Closing tears nothing, because nothing can follow. Datagrams cannot be cut.

*A connect that failed.* What waited for it was never connected.
"""

from __future__ import annotations

import errno as errno_module
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from .._base.codes import (
    CONNECTION_DEAD_ERRNOS,
    NO_BUFFER_ERRNOS,
)
from .._base.error_numbers import (
    CONNECTION_ABORTED,
    NO_BUFFER_SPACE_AVAILABLE,
    NOT_CONNECTED,
    OPERATION_ABORTED,
)
from .bulk_ends import BulkEnd
from .cut import Cut
from .gate import BROKEN, FULL, STEP, TORN, UNCONNECTED
from .lone_sends import LoneSends
from .watermarks import Watermarks

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._kernel.port import Port
    from .operation import Operation, Owner


_GIVEN_UP: Final = "the rest was given up in the middle of the call that was to send it"

#: Out of kernel memory there is no event to wait for, so the attempt is repeated after pauses that double: 1 ms to
#: 512 ms, about one second in all. Then the operation fails with the error that it had all along.
FIRST_BACKOFF: Final = 0.001
MAX_BACKOFFS: Final = 10

#: Where there is no event for room at a datagram's address, at most so many seconds pass between attempts. They go on
#: for as long as the operation may wait, because it is the peer's reading that is waited for.
LONGEST_POLL: Final = 0.05

TORN_DETAIL: Final = (
    "an earlier message on this stream was cut after some of its bytes, so the peer would read this one as its "
    "continuation; send the rest first with socket.resume() or socket.send_rest(), or give it up with "
    "socket.forget_torn()"
)

FULL_DETAIL: Final = (
    "more waits in the sending queue than high_water allows, and when_full is 'refuse'; nothing was sent, so wait with "
    "'await socket.wait_below_low_water()' and start it again, or use 'await socket.send()', which waits its turn"
)


class SendQueue(LoneSends):
    """The FIFO for writing: sends, and the connect they wait for."""

    __slots__ = ("broken", "failures", "refuse_torn", "refused", "torn")

    def __init__(self, port: Port, *, refuse_torn: bool) -> None:
        super().__init__(port)
        self.refused = self.failures = None
        self.marks: Watermarks = Watermarks()
        self.refuse_torn = refuse_torn
        #: The first error that killed the connection, as Winsock and native number; later starts get it too.
        self.broken: tuple[int, int] | None = None
        self.torn: Cut | None = None

    def weigh(self) -> None:
        """Compare what waits with the marks, one of which was moved."""
        self._weigh(self.marks)

    def set_refuses(self, refuses: bool) -> None:
        """Settle whether starts are refused while too much waits."""
        self.marks.refuses = refuses
        self.weigh()

    def refusal(self, operation: Operation, waits: bool) -> tuple[int, int, str | None] | None:
        gate = self.gate
        if gate & TORN:
            return CONNECTION_ABORTED, 0, TORN_DETAIL
        broken = self.broken  # which may vanish: another thread may ask while the socket is renewed
        if broken is not None:
            return (*broken, None)
        if gate & UNCONNECTED and operation.address is None and not self._may_be_connecting():
            return NOT_CONNECTED, errno_module.ENOTCONN, None
        if gate & FULL and not waits and operation.step is None:
            return NO_BUFFER_SPACE_AVAILABLE, 0, FULL_DETAIL
        return None

    def _may_be_connecting(self) -> bool:
        """Whether a connect waits in the queue. Without one, only datagrams with addresses of their own can wait."""
        operation = self.head
        while operation is not None and operation.address is not None:
            operation = operation.next
        return operation is not None

    # -- errors -------------------------------------------------------------------------------------------------------

    def _failed_first(
        self, operation: Operation, code: int, errno: int, detail: str | None = None
    ) -> bool:
        if operation.step is None:
            if self._back_off(errno):
                return False
            if self.ends_connection(errno):
                self.break_connection(code, errno)
            elif self._is_cut(operation):  # it took several calls, or goes on with an earlier cut
                self._mark_torn(operation, detail)
        return super()._failed_first(operation, code, errno, detail)

    def _failed_head(
        self, head: Operation, code: int, errno: int, detail: str | None = None
    ) -> None:
        if head.step is not None:
            self._fail(head, code, errno, detail)
        elif self._back_off(errno):
            return
        elif self.ends_connection(errno):
            self.break_connection(code, errno)
            assert self.broken is not None
            code, errno = self.broken  # of which a receive may have been told before
            self._fail(head, code, errno, detail)
            self._end_in_bulk(BulkEnd(code, errno, None))
        elif self._is_cut(head):
            self._mark_torn(head, detail)
            self._fail(head, code, errno, detail)
            self._tear()
        else:
            self._fail(head, code, errno, detail)

    def _blocked(self, head: Operation) -> None:
        pause = self.backoff
        super()._blocked(head)
        if head.address is not None and self.port.polls_send_to:
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

    def ends_connection(self, errno: int) -> bool:
        """Tell whether an error means that there is no connection any more."""
        is_connection = self.port.is_stream or self.port.has_one_receiver
        return is_connection and errno in CONNECTION_DEAD_ERRNOS

    def break_connection(self, code: int, errno: int) -> None:
        if self.broken is None:
            self.broken = code, errno
            self.gate |= BROKEN

    # -- torn streams -------------------------------------------------------------------------------------------------

    def _is_cut(self, operation: Operation) -> bool:
        return (
            self.port.is_stream
            and self.refuse_torn
            and operation.step is None
            and operation.message is not None
            and operation.is_started
            and operation.transferred < operation.message.size
        )

    def _mark_torn(self, operation: Operation, detail: str | None) -> None:
        self.torn = Cut(operation, operation.face, detail)
        self.gate |= TORN

    def _ends_behind_cut(self) -> tuple[BulkEnd, ...]:
        return (BulkEnd(CONNECTION_ABORTED, None, TORN_DETAIL, tears=True),)

    def _stop_behind_cut(self, operation: Operation, end: BulkEnd) -> None:
        owner = operation.owner
        self.refused = end.told
        self._abort(operation, end.code, end.detail)
        end.told, self.refused = owner, None

    def _tear(self) -> None:
        self._end_in_bulk(*self._ends_behind_cut())

    @trio.lowlevel.enable_ki_protection
    def resume(self, operation: Operation, owner: Owner) -> bool:
        """Begin the rest of the message that was cut; return whether it is pending, as `start` does."""
        if self.gate & STEP and not self._take_over():
            return self._post(operation, owner, self._resume_posted)
        self.gate |= STEP
        self.halted = False
        try:
            pending = self._take_rest(operation) and self._start(operation, owner)
        except BaseException:
            self._give_up(operation)
            raise
        finally:
            self._leave()
        if pending:
            self._tell()
        return pending

    def _take_rest(self, operation: Operation) -> bool:
        """Make the stream whole again, of which ``operation`` sends the rest of the cut message; or refuse it.

        Returns:
          Whether there is a rest to send.
        """
        torn, self.torn = self.torn, None
        if torn is None:
            operation.set_error(OPERATION_ABORTED, 0, _GIVEN_UP)
            return False
        self.gate &= ~TORN
        operation.continues = True
        if torn.operation is not operation:
            torn.operation.uncut()
        elif self.instruments.watching:
            self.instruments.started(operation, self)
        return True

    def _resume_posted(self, operation: Operation, owner: Owner) -> None:
        if self._take_rest(operation):
            self._start_posted(operation, owner)
        else:
            self._end_posted(operation, owner)

    def forget_torn(self) -> None:
        """Let the stream be written again; the operation that was cut is an ordinary idle one."""
        self.request(self._forget_torn)

    def _forget_torn(self) -> None:
        torn, self.torn = self.torn, None
        self.gate &= ~TORN
        if torn is not None:
            torn.operation.uncut()

    def _renew(self, port: Port, allowance: int, then: Callable[[], object]) -> None:
        super()._renew(port, allowance, partial(self._begin_anew, then))

    def _begin_anew(self, then: Callable[[], object]) -> None:
        self._forget_torn()
        self.broken = None
        self.gate = self.gate & ~(TORN | BROKEN) | UNCONNECTED
        then()

    def _close(self, then: Callable[[], object]) -> None:
        self._forget_torn()
        super()._close(then)
