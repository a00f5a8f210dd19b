"""Network tracing as a log: one line for each event, and on request the bytes themselves."""

from __future__ import annotations

import logging
import operator
from typing import TYPE_CHECKING, Final

from .._base.checks import counted
from .._base.codes import SocketAsyncOperation, SocketError
from .instrument import Instrument, TracedOperation, logger

if TYPE_CHECKING:
    from collections.abc import Iterator

#: How many bytes one line of a dump shows.
LINE: Final = 16

#: .NET Framework's ``maxdatasize`` (F276).
MAX_DATA_SIZE: Final = 1024

#: Kinds whose count is of received bytes.
RECEIVES: Final = frozenset(
    (
        SocketAsyncOperation.RECEIVE,
        SocketAsyncOperation.RECEIVE_FROM,
        SocketAsyncOperation.RECEIVE_MESSAGE_FROM,
    )
)


class LoggingInstrument(Instrument):
    """Writes every event to the logger ``trio_send``, one line for each.

    What goes as it should is logged at DEBUG; an operation that was stopped, at INFO; one that failed, at WARNING.

    Args:
      hex_dump: whether to show the bytes too, at DEBUG, as hexadecimal numbers and as ASCII, 16 on a line. Those of a
        send are shown when the kernel accepts them, so that what is shown is what went, and not what the buffer holds
        later; those of a receive when it has ended. Mind that whoever reads the log then reads the data.
      max_data_size: how many bytes to show at most for one event, 1,024 by default; no more are copied.

    Raises:
      TypeError: ``max_data_size`` is no whole number.
      ValueError: ``max_data_size`` is negative.

    Source: the two pages' network tracing; facts F274 to F276 and F279.
    """

    def __init__(self, *, hex_dump: bool = False, max_data_size: int = MAX_DATA_SIZE) -> None:
        self._hex_dump = hex_dump
        try:
            self._max_data_size = operator.index(max_data_size)
        except TypeError:
            raise TypeError(
                f"max_data_size must be a whole number of bytes, not {max_data_size!r}"
            ) from None
        if self._max_data_size < 0:
            raise ValueError(
                f"max_data_size is {max_data_size}, but must be a number of bytes from 0 on"
            )

    def operation_started(self, operation: TracedOperation) -> None:
        """Log it."""
        if logger.isEnabledFor(logging.DEBUG):
            address = "" if operation.address is None else f" to {operation.address!r}"
            size = f", {counted(operation.size, 'byte')}" if operation.size or not address else ""
            before = operation.accepted_before
            resumed = f", going on behind byte {before}" if before else ""
            self._debug(operation, f"started{address}{size}{resumed}")

    def operation_queued(self, operation: TracedOperation, ahead: int) -> None:
        """Log it."""
        self._debug(operation, f"has to wait, {ahead} ahead of it")

    def bytes_accepted(self, operation: TracedOperation, count: int, total: int) -> None:
        """Log it."""
        if logger.isEnabledFor(logging.DEBUG):
            self._debug(
                operation, f"{counted(count, 'byte')} accepted, {total} of {operation.size}"
            )
            if self._hex_dump:
                self._dump(operation, total - count, count)

    def operation_completed(
        self,
        operation: TracedOperation,
        error: SocketError,
        count: int,
        queue_delay: float | None,
        detail: str | None,
    ) -> None:
        """Log it."""
        level = logging.DEBUG
        if error:
            level = logging.INFO if error == SocketError.OPERATION_ABORTED else logging.WARNING
        if not logger.isEnabledFor(level):
            return
        how = f"ended with {error.name}" if error else "completed"
        if operation.kind in RECEIVES:
            how += f", {counted(count, 'byte')} received"
        elif operation.size or count:
            how += f", {count} of {counted(operation.size, 'byte')} accepted"
        if operation.kind is SocketAsyncOperation.ACCEPT and operation.address is not None:
            how += f", {operation.address!r}"
        if queue_delay:
            how += f", after {queue_delay:.6f} s in the queue"
        why = "" if detail is None else f": {detail}"
        logger.log(level, "%s %s%s", _name(operation), how, why)
        if self._hex_dump and operation.kind in RECEIVES and not error:
            self._dump(operation, 0, count)

    def event_raised(self, operation: TracedOperation) -> None:
        """Log it."""
        self._debug(operation, "is told of")

    def socket_closed(self, socket_id: int, reset: bool) -> None:
        """Log it."""
        logger.debug("socket %d: closed%s", socket_id, " with a reset" if reset else "")

    def _debug(self, operation: TracedOperation, what: str) -> None:
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("%s %s", _name(operation), what)

    def _dump(self, operation: TracedOperation, start: int, count: int) -> None:
        """Show bytes of an event, from ``start`` in the message on."""
        shown = min(count, self._max_data_size)
        data = operation.peek(start, shown)
        name = _name(operation)
        for line in dump_lines(data, start):
            logger.debug("%s   %s", name, line)
        if len(data) < shown:
            logger.debug("%s   the buffer was changed, so the other bytes cannot be shown", name)
        elif shown < count:
            logger.debug("%s   and %d bytes more", name, count - shown)


def _name(operation: TracedOperation) -> str:
    kind = operation.kind.name.lower().replace("_", " ")
    return f"socket {operation.socket_id}: {kind} {operation.number}"


def dump_lines(data: bytes, start: int) -> Iterator[str]:
    """Return the lines of a dump; all that is not printable ASCII shows as a dot.

    Args:
      data: what to show.
      start: the number of its first byte.
    """
    for offset in range(0, len(data), LINE):
        part = data[offset : offset + LINE]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        yield f"{start + offset:08x}: {part.hex(' '):<{3 * LINE - 1}}  {text}"
