"""The format of Chrome's trace events, as the viewers take it, such as Perfetto.

Each event is one JSON object on a line of its own, in one JSON array. The operations that wait in one queue overlap in
time. So each is a *nestable asynchronous event*: a begin ``b``, an end ``e``, and instants ``n`` in between, tied
together by an id. A viewer gives each process a group of rows. Here each socket has one, so its number stands where the
format has the process and the thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Protocol

    class TextFile(Protocol):
        """What a trace is written to."""

        def write(self, text: str, /) -> object: ...


#: Events of one category and one id belong together.
_CATEGORY: Final = "trio_send"


class ChromeEvents:
    """Writes the events of sockets and their operations to a file.

    Args:
      file: a text file, open for writing.

    Attributes:
      time: when what is written next happens, in seconds since the trace began.
    """

    def __init__(self, file: TextFile) -> None:
        # Here, because whoever does not trace need not wait for its import.
        from json import dumps

        self._dumps: Callable[..., str] = dumps
        file.write("[")
        self.time = 0.0
        self._file: TextFile | None = file
        self._separator = "\n"
        self._sockets: set[int] = set()
        #: The operations whose bar has begun: the socket and the kind of each.
        self._open: dict[int, tuple[int, str]] = {}

    @property
    def is_closed(self) -> bool:
        """Whether nothing more is written."""
        return self._file is None

    def has_begun(self, number: int) -> bool:
        """Tell whether the bar of an operation has begun and has not ended."""
        return number in self._open

    def begin(self, number: int, socket: int, kind: str, what: Mapping[str, Any]) -> None:
        """Begin the bar of an operation."""
        self._write_of(number, socket, "b", kind, what)
        self._open[number] = socket, kind

    def mark(self, number: int, name: str, what: Mapping[str, Any]) -> None:
        """Mark a moment on the bar of an operation."""
        socket, _ = self._open[number]
        self._write_of(number, socket, "n", name, what)

    def end(self, number: int, what: Mapping[str, Any]) -> None:
        """End the bar of an operation."""
        socket, kind = self._open[number]
        self._write_of(number, socket, "e", kind, what)
        del self._open[number]

    def mark_socket(self, socket: int, name: str, what: Mapping[str, Any]) -> None:
        """Mark a moment in the row of a socket."""
        self._write(socket, ph="i", s="t", name=name, args=what)

    def close(self) -> None:
        """End the trace, and the bars of what is still pending; repeated calls are harmless."""
        if self._file is None:
            return
        try:
            for number in list(self._open):
                self.end(number, {"pending": True})
            self._file.write("\n]\n")
        finally:
            self._file = None

    def _write_of(
        self, number: int, socket: int, phase: str, name: str, what: Mapping[str, Any]
    ) -> None:
        # Local ids tie events within a process only, and so keep them in its group of rows.
        self._write(socket, ph=phase, name=name, id2={"local": str(number)}, args=what)

    def _write(self, socket: int, **event: Any) -> None:
        assert self._file is not None
        text = ""
        if socket not in self._sockets:
            self._sockets.add(socket)
            for name, what in (("process_name", f"socket {socket}"), ("thread_name", "events")):
                text += self._line(socket, ph="M", name=name, args={"name": what})
        self._file.write(text + self._line(socket, **event))

    def _line(self, socket: int, **event: Any) -> str:
        """Return an event as the next line of the array."""
        separator, self._separator = self._separator, ",\n"
        # The clock has far more digits than microseconds have any use for.
        event.update(cat=_CATEGORY, pid=socket, tid=socket, ts=round(self.time * 1e6, 3))
        return separator + self._dumps(event, separators=(",", ":"))
