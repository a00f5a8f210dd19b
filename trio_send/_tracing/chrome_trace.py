"""Tracing as a picture: a file for the viewers of Chrome's trace events, such as Perfetto.

Each event is one JSON object on a line of its own, in one JSON array. The operations that wait in one queue overlap in
time. So each is a *nestable asynchronous event*: a begin ``b``, an end ``e``, and instants ``n`` in between, tied
together by an id. A viewer gives each process a group of rows. Here each socket has one, so its number stands where the
format has the process and the thread.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import trio

from .instrument import Instrument, TracedOperation
from .logging_instrument import RECEIVES

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Protocol

    from typing_extensions import Self

    from .._base.codes import SocketError

    class _TextFile(Protocol):
        """What a trace is written to."""

        def write(self, text: str, /) -> object: ...


#: Events of one category and one id belong together.
_CATEGORY: Final = "trio_send"


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

    def __init__(self, file: _TextFile) -> None:
        try:
            file.write("[")
        except (AttributeError, TypeError):
            raise TypeError(
                f"file must be a text file, open for writing, such as open(path, 'w'), not {file!r}"
            ) from None
        self._file: _TextFile | None = file
        self._separator = "\n"
        #: The time of the first event, and how many microseconds after it the latest one was.
        self._origin: float | None = None
        self._latest = 0.0
        self._sockets: set[int] = set()
        #: The operations whose bar has begun.
        self._open: dict[int, TracedOperation] = {}

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
        file, self._file = self._file, None
        if file is None:
            return
        lines = [
            self._line("e", operation.kind.name.lower(), operation, {"pending": True})
            for operation in self._open.values()
        ]
        self._open.clear()
        file.write("".join(lines) + "\n]\n")

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
        self._begin(operation)
        what: dict[str, Any] = {"error": error.name}
        what["bytes_received" if operation.kind in RECEIVES else "bytes_accepted"] = count
        if operation.address is not None:
            what["address"] = repr(operation.address)
        if detail is not None:
            what["detail"] = detail
        self._write("e", operation.kind.name.lower(), operation, what)
        self._open.pop(operation.number, None)

    def event_raised(self, operation: TracedOperation) -> None:
        """Mark it in the row of the socket, for the bar has ended."""
        what = {"kind": operation.kind.name.lower(), "number": operation.number}
        self._write_instant("raised", operation.socket_id, what)

    def socket_closed(self, socket_id: int, reset: bool) -> None:
        """Mark it in the row of the socket."""
        self._write_instant("closed", socket_id, {"reset": reset})

    # -- writing ------------------------------------------------------------------------------------------------------

    def _begin(self, operation: TracedOperation) -> None:
        """Begin the bar of an operation, unless it has begun; what was pending before anybody watched begins late."""
        if self._file is None or operation.number in self._open:
            return
        what: dict[str, Any] = {"number": operation.number, "size": operation.size}
        if operation.accepted_before:
            what["accepted_before"] = operation.accepted_before
        if operation.address is not None:
            what["address"] = repr(operation.address)
        self._write("b", operation.kind.name.lower(), operation, what)
        self._open[operation.number] = operation

    def _mark(self, name: str, operation: TracedOperation, what: dict[str, Any]) -> None:
        self._begin(operation)
        self._write("n", name, operation, what)

    def _write(
        self, phase: str, name: str, operation: TracedOperation, what: dict[str, Any]
    ) -> None:
        if self._file is not None:
            self._look_at_clock(operation.socket_id)
            self._file.write(self._line(phase, name, operation, what))

    def _write_instant(self, name: str, socket_id: int, what: dict[str, Any]) -> None:
        if self._file is not None:
            self._look_at_clock(socket_id)
            self._file.write(self._json(ph="i", s="t", name=name, socket_id=socket_id, args=what))

    def _look_at_clock(self, socket_id: int) -> None:
        """Take note of the time, and introduce the socket if this is the first event of it."""
        now = trio.current_time()
        if self._origin is None:
            self._origin = now
        # The clock has far more digits than microseconds have any use for.
        self._latest = round((now - self._origin) * 1e6, 3)
        if socket_id not in self._sockets:
            self._sockets.add(socket_id)
            assert self._file is not None
            for name, what in (
                ("process_name", f"socket {socket_id}"),
                ("thread_name", "events"),
            ):
                self._file.write(
                    self._json(ph="M", name=name, socket_id=socket_id, args={"name": what})
                )

    def _line(self, phase: str, name: str, operation: TracedOperation, what: dict[str, Any]) -> str:
        # Local ids tie events within a process only, and so keep them in its group of rows.
        tie = {"local": str(operation.number)}
        return self._json(ph=phase, name=name, id2=tie, socket_id=operation.socket_id, args=what)

    def _json(self, *, socket_id: int, **event: Any) -> str:
        """Return an event as the next line of the array."""
        separator, self._separator = self._separator, ",\n"
        event.update(cat=_CATEGORY, pid=socket_id, tid=socket_id, ts=self._latest)
        return separator + json.dumps(event, separators=(",", ":"))
