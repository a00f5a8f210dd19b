"""What those are told who watch the operations of one run: `Instrument`, and an operation as it sees it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, final

import attrs

if TYPE_CHECKING:
    import weakref
    from typing import Protocol

    from .._base.codes import SocketAsyncOperation, SocketError
    from .._messages.buffers import Message

    class SeenStep(Protocol):
        """What an attempt of an operation does that is no send, as far as instruments see it."""

        @property
        def address(self) -> Any: ...
        @property
        def data(self) -> bytes: ...

    class SeenOperation(Protocol):
        """An operation, as far as instruments see it."""

        trace: TracedOperation | None

        @property
        def face(self) -> Any: ...
        @property
        def kind(self) -> SocketAsyncOperation: ...
        @property
        def message(self) -> Message | None: ...
        @property
        def step(self) -> SeenStep | None: ...
        @property
        def address(self) -> Any: ...
        @property
        def transferred(self) -> int: ...
        @property
        def code(self) -> int: ...
        @property
        def detail(self) -> str | None: ...


logger: Final = logging.getLogger("trio_send")


@final
@attrs.define(eq=False)
class TracedOperation:
    """One activation of an operation, as instruments see it: the same object in each of its events, to be read only."""

    #: The running number of the operation among all that were watched in this run; a restart gets another.
    number: int
    #: The running number of the socket in this run.
    socket_id: int
    #: What is done.
    kind: SocketAsyncOperation
    #: How many bytes the message has, or there is room for; 0 where there is no message.
    size: int
    #: How many bytes of the message were accepted before its first event: by the operation that it resumes, or before
    #: anybody watched. Together with those of `Instrument.bytes_accepted` they make up the count.
    accepted_before: int
    #: Whether the socket is a stream; else what it carries are datagrams.
    is_stream: bool
    #: Where a connect or a datagram goes to, or whom an accept has accepted; None if there is nothing to tell.
    address: Any
    _operation: weakref.ref[SeenOperation]
    _face: weakref.ref[Any] | None
    #: During which time of watching it began. A number from an earlier one is about another activation.
    _period: object
    _queued_at: float | None = None
    #: How many datagrams were accepted or received, known when it has ended; always 0 on a stream.
    datagrams: int = 0

    @property
    def operation(self) -> Any:
        """The args or result; None for one that is awaited, which nobody holds, or when it is gone or in use anew."""
        operation = self._operation()
        if operation is None or operation.trace is not self or self._face is None:
            return None
        return self._face()

    def peek(self, start: int, count: int) -> bytes:
        """Return a copy of a few bytes of the message.

        Only while a hook tells of them are they known to be still in the buffers: `Instrument.bytes_accepted` of what
        was sent, `Instrument.operation_completed` of what was received.

        Args:
          start: where in the message to begin, in bytes.
          count: how many bytes at most.

        Returns:
          The bytes; none if a buffer became shorter or cannot be read any more.
        """
        operation = self._operation()
        if operation is None or operation.trace is not self:
            return b""
        if operation.message is None:
            return b"" if operation.step is None else operation.step.data[start : start + count]
        return operation.message.peek(start, count)


class Instrument:
    """Override what you want to be told, and pass an instance to `trio_send.add_instrument`.

    Hooks are called in the order in which things happened, at the end of the synchronous step in which they did. They
    must be quick, and must only watch: what starts, stops or closes something belongs elsewhere. One that raises is
    logged, and its instrument is removed; no count and no completion is lost by it.

    Source: the two pages' network tracing, and `trio.abc.Instrument`.
    """

    def operation_started(self, operation: TracedOperation) -> None:
        """Take note that an operation was started; a start that was refused with an exception never was one.

        Args:
          operation: what.
        """

    def operation_queued(self, operation: TracedOperation, ahead: int) -> None:
        """Take note that an operation joined its queue, because its first attempt did not end it or others wait.

        Args:
          operation: what.
          ahead: how many stand in front of it.
        """

    def bytes_accepted(self, operation: TracedOperation, count: int, total: int) -> None:
        """Take note that the kernel accepted bytes of a send.

        Args:
          operation: what.
          count: how many bytes just now.
          total: how many bytes of the message so far; those are the first ones.
        """

    def operation_completed(
        self,
        operation: TracedOperation,
        error: SocketError,
        count: int,
        queue_delay: float | None,
        detail: str | None,
    ) -> None:
        """Take note that an operation has ended, one way or another.

        Args:
          operation: what.
          error: how; SUCCESS, OPERATION_ABORTED for a stop, or what went wrong.
          count: how many bytes were accepted, or received.
          queue_delay: for how many seconds it stood in its queue, by Trio's clock; 0 if it ended on the spot, None if
            it joined the queue before anybody watched.
          detail: what else there is to say of an error, for people.
        """

    def event_raised(self, operation: TracedOperation) -> None:
        """Take note that whoever waits for an operation is about to be told, and handlers about to be called.

        Told once for each operation that the start answered "pending", and each whose callback is called. Not for
        operations that are awaited: these have no event.

        Args:
          operation: what.
        """

    def socket_closed(self, socket_id: int, reset: bool) -> None:
        """Take note that a socket was closed, after its pending operations have ended.

        Args:
          socket_id: the number of the socket, as in `TracedOperation`.
          reset: whether the peer was told by a reset.
        """
