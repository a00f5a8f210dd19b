"""Tracing as a picture: a file for the viewers of Chrome's trace events, such as Perfetto."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from .chrome_events import ChromeEvents
from .instrument import Instrument, TracedOperation
from .logging_instrument import RECEIVES

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from .._base.codes import SocketError
    from .chrome_events import TextFile


class ChromeTrace(Instrument):
    """Writes every event to a file that trace viewers show, such as Perfetto and ``chrome://tracing``.

    Each socket has rows of its own, and each operation is a bar from its start to its end, with marks for the moments
    at which it joined the queue and at which bytes were accepted. The time is Trio's, and begins with the first event.

    Use it as a context manager, or call `close` in the end, so that the file is whole; viewers also take one that is
    not. What is written is not flushed before the file does so by itself, or is closed by who has opened it.

    Args:
      file: a text file, open for writing. One trace for each, and for each call of `trio.run`.

    Raises:
      TypeError: ``file`` is no text file that can be written.
      OSError: it cannot be written.

    Source: the trace event format of Chrome, its JSON array form.
    """

    def __init__(self, file: TextFile) -> None:
        try:
            self._events = ChromeEvents(file)
        except (AttributeError, TypeError):
            raise TypeError(
                f"file must be a text file, open for writing, such as open(path, 'w'), not {file!r}"
            ) from None
        #: The time of the first event.
        self._origin: float | None = None

    def __enter__(self) -> Self:
        return self

    @trio.lowlevel.enable_ki_protection
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @trio.lowlevel.enable_ki_protection
    def close(self) -> None:
        """End the trace, and the bars of what is still pending; the file stays open.

        What happens later is not written. Repeated calls are harmless.

        Raises:
          OSError: the file cannot be written.

        **Threads**: the one that runs Trio.
        """
        self._events.close()

    def operation_started(self, operation: TracedOperation) -> None:
        """Begin its bar."""
        self._begin(operation)

    def operation_queued(self, operation: TracedOperation, ahead: int) -> None:
        """Mark it on the bar."""
        self._mark("queued", operation, {"ahead": ahead})

    def bytes_accepted(self, operation: TracedOperation, count: int, total: int) -> None:
        """Mark it on the bar."""
        self._mark("accepted", operation, {"bytes": count, "total": total})

    def operation_completed(
        self,
        operation: TracedOperation,
        error: SocketError,
        count: int,
        queue_delay: float | None,
        detail: str | None,
    ) -> None:
        """End its bar."""
        if not self._begin(operation):
            return
        what: dict[str, Any] = {"error": error.name}
        what["bytes_received" if operation.kind in RECEIVES else "bytes_accepted"] = count
        if operation.address is not None:
            what["address"] = repr(operation.address)
        if detail is not None:
            what["detail"] = detail
        self._events.end(operation.number, what)

    def event_raised(self, operation: TracedOperation) -> None:
        """Mark it in the row of the socket, because the bar has ended."""
        what = {"kind": operation.kind.name.lower(), "number": operation.number}
        if self._is_at_work():
            self._events.mark_socket(operation.socket_id, "raised", what)

    def socket_closed(self, socket_id: int, reset: bool) -> None:
        """Mark it in the row of the socket."""
        if self._is_at_work():
            self._events.mark_socket(socket_id, "closed", {"reset": reset})

    # -- writing ------------------------------------------------------------------------------------------------------

    def _is_at_work(self) -> bool:
        """Look at the clock for what is written next; return whether anything is."""
        if self._events.is_closed:
            return False
        now = trio.current_time()
        if self._origin is None:
            self._origin = now
        self._events.time = now - self._origin
        return True

    def _begin(self, operation: TracedOperation) -> bool:
        """Begin the bar of an operation, unless it has begun; what was pending before anybody watched begins late.

        Returns:
          Whether anything is written.
        """
        if not self._is_at_work():
            return False
        if not self._events.has_begun(operation.number):
            what: dict[str, Any] = {"number": operation.number, "size": operation.size}
            if operation.accepted_before:
                what["accepted_before"] = operation.accepted_before
            if operation.address is not None:
                what["address"] = repr(operation.address)
            kind = operation.kind.name.lower()
            self._events.begin(operation.number, operation.socket_id, kind, what)
        return True

    def _mark(self, name: str, operation: TracedOperation, what: dict[str, Any]) -> None:
        if self._begin(operation):
            self._events.mark(operation.number, name, what)
