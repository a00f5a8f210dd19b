"""Who watches the operations of one run, and what they are told; nothing to pay when nobody does.

Each call of `trio.run` has one `Instruments`. A socket is given it when it is first used in the run, so that whatever
happens to an operation finds out by one look whether anybody wants to know.

*The synchronous path has no look at all.* While somebody watches, every open initiator keeps its real budget elsewhere
and shows an empty one, and an empty budget is one of the things for which `send_async` leaves its fast path anyhow. The
other ways through the code look at ``instruments.watching``.

*What happened is noted at once and told at the end of the step.* A step is one protected, synchronous function, such as
a drain. In its middle a queue is not fit to be seen: bytes may be accepted and not yet accounted for, so a hook that
cancels or closes something would make counts wrong. At its end everything is as any caller may find it. Nothing else
runs between the two, so the order of the hooks is the order of the events, and buffers still hold what was sent.
"""

from __future__ import annotations

import weakref
from collections import deque
from contextlib import AbstractContextManager
from itertools import count as count_up
from typing import TYPE_CHECKING, Any, Final, final

import trio

from .._base.codes import SocketAsyncOperation, SocketError
from .._base.errors import InvalidOperationError
from .._messages.datagrams import Datagrams
from .._messages.packets import Packets
from .instrument import Instrument, TracedOperation, logger

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Protocol

    from .._kernel.port import Port
    from .instrument import SeenOperation

    class Watched(Protocol):
        """An initiator, as far as instruments go."""

        def set_watched(self, watched: bool) -> None: ...

    class SeenQueue(Protocol):
        """A queue, as far as instruments go."""

        @property
        def port(self) -> Port: ...
        @property
        def socket_id(self) -> int: ...
        @property
        def length(self) -> int: ...


_NONE: Final = SocketAsyncOperation.NONE

#: The kinds whose message is theirs. Args may hold one that an accept has nothing to do with.
_WITH_BYTES: Final = frozenset(SocketAsyncOperation) - {
    SocketAsyncOperation.NONE,
    SocketAsyncOperation.ACCEPT,
    SocketAsyncOperation.DISCONNECT,
}


@final
class Instruments:
    """The instruments of one run.

    Attributes:
      watching: who watches. Empty means that nothing may be noted.
    """

    __slots__ = (
        "_notes",
        "_operations",
        "_initiators",
        "_period",
        "_sockets",
        "_telling",
        "watching",
    )

    def __init__(self) -> None:
        self.watching: tuple[Instrument, ...] = ()
        #: The open initiators of the run.
        self._initiators: set[Watched] = set()
        #: What happened and has yet to be told.
        self._notes: deque[tuple[str, tuple[Any, ...]]] = deque()
        self._telling = False
        self._period: object = None
        self._operations = count_up(1)
        self._sockets = count_up(1)

    # -- who watches whom ---------------------------------------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    def add(self, instrument: Instrument) -> None:
        """Let an instrument watch; harmless if it does."""
        if any(each is instrument for each in self.watching):
            return
        if not self.watching:
            self._period = object()
            for initiator in self._initiators:
                initiator.set_watched(True)
        self.watching = (*self.watching, instrument)

    @trio.lowlevel.enable_ki_protection
    def remove(self, instrument: Instrument) -> bool:
        """Let an instrument watch no more; return whether it did."""
        others = tuple(each for each in self.watching if each is not instrument)
        if others == self.watching:
            return False
        self.watching = others
        if not self.watching:
            self._notes.clear()
            for initiator in self._initiators:
                initiator.set_watched(False)
        return True

    def enter(self, initiator: Watched) -> None:
        """Take note of an initiator that was opened."""
        self._initiators.add(initiator)
        if self.watching:
            initiator.set_watched(True)

    def leave(self, initiator: Watched) -> None:
        """Forget an initiator that has exited."""
        self._initiators.discard(initiator)

    def number_socket(self) -> int:
        """Return the number of the next socket."""
        return next(self._sockets)

    # -- what happens; to be called only while somebody watches -------------------------------------------------------

    def _trace(
        self, operation: SeenOperation, queue: SeenQueue, just_now: int = 0
    ) -> TracedOperation:
        trace: TracedOperation | None = operation.trace
        if trace is None or trace._period is not self._period:
            return self._begin(operation, queue, operation.transferred - just_now)
        return trace

    def _begin(self, operation: SeenOperation, queue: SeenQueue, before: int) -> TracedOperation:
        message, step, kind = operation.message, operation.step, operation.kind
        operation.trace = trace = TracedOperation(
            number=next(self._operations),
            socket_id=queue.socket_id,
            kind=kind,
            size=message.size if message is not None and kind in _WITH_BYTES else 0,
            accepted_before=before,
            is_stream=queue.port.is_stream,
            address=operation.address if step is None else step.address,
            operation=weakref.ref(operation),
            face=None if operation.face is None else weakref.ref(operation.face),
            period=self._period,
        )
        return trace

    def started(self, operation: SeenOperation, queue: SeenQueue) -> None:
        """Note a start that passed its checks."""
        if operation.kind != _NONE:
            trace = self._begin(operation, queue, operation.transferred)
            self._notes.append(("operation_started", (trace,)))

    def queued(self, operation: SeenOperation, queue: SeenQueue) -> None:
        """Note that an operation is the last of a queue."""
        if operation.kind != _NONE:
            trace = self._trace(operation, queue)
            trace._queued_at = trio.current_time()
            self._notes.append(("operation_queued", (trace, queue.length - 1)))

    def accepted(self, operation: SeenOperation, queue: SeenQueue, count: int) -> None:
        """Note bytes that the operation's count holds already."""
        arguments = (self._trace(operation, queue, count), count, operation.transferred)
        self._notes.append(("bytes_accepted", arguments))

    def completed(
        self, operation: SeenOperation, queue: SeenQueue, *, on_the_spot: bool = False
    ) -> None:
        """Note that an operation has ended."""
        if operation.kind == _NONE:
            return
        trace = self._trace(operation, queue)
        delay: float | None = None
        if on_the_spot:
            delay = 0.0
        elif trace._queued_at is not None:
            delay = trio.current_time() - trace._queued_at
        if operation.step is not None:
            trace.address = operation.step.address
        if trace.kind is SocketAsyncOperation.SEND_PACKETS and operation.message is not None:
            # A file may have ended before the length that it claimed.
            trace.size = operation.message.size
        error = SocketError(operation.code)
        is_connect = trace.kind is SocketAsyncOperation.CONNECT
        if not trace.is_stream and trace.kind in _WITH_BYTES and (trace.size or not is_connect):
            batch = operation.message
            trace.datagrams = (
                batch.sent if isinstance(batch, (Datagrams, Packets)) else int(not error)
            )
        arguments = (trace, error, operation.transferred, delay, operation.detail)
        self._notes.append(("operation_completed", arguments))

    def ended_on_the_spot(self, operation: SeenOperation, queue: SeenQueue) -> None:
        """Note and tell that the first attempt has ended an operation, or that none was made."""
        self.completed(operation, queue, on_the_spot=True)
        self.tell()

    def raising(self, operation: SeenOperation) -> None:
        """Tell that an operation's owner is being told."""
        trace = operation.trace
        if trace is not None and trace._period is self._period:
            self._notes.append(("event_raised", (trace,)))
            self.tell()

    def closed(self, socket_id: int, reset: bool) -> None:
        """Tell that a socket was closed, unless that happens after the end of the run."""
        if trio.lowlevel.in_trio_run() and current_instruments() is self:
            self._notes.append(("socket_closed", (socket_id, reset)))
            self.tell()

    # -- telling ------------------------------------------------------------------------------------------------------

    def tell(self) -> None:
        """Call the hooks for all that was noted; the end of a step."""
        # Somebody may do something in the middle of it, such as a hook; what came of that is told in its turn.
        while self._notes and not self._telling:
            self._telling = True
            try:
                self._tell_all()
            finally:
                self._telling = False

    def _tell_all(self) -> None:
        while True:
            try:
                hook, arguments = self._notes.popleft()
            except IndexError:
                return
            for instrument in self.watching:
                try:
                    getattr(instrument, hook)(*arguments)
                except BaseException:
                    self.remove(instrument)
                    logger.exception(
                        "The instrument %r raised in its hook %s and was removed; no count and no completion is "
                        "lost by that.",
                        instrument,
                        hook,
                    )


#: Where nobody can watch: the instruments of a socket that was not used in any run yet.
NOBODY: Final = Instruments()

_instruments: Final[trio.lowlevel.RunVar[Instruments]] = trio.lowlevel.RunVar(
    "trio_send.instruments"
)


def current_instruments() -> Instruments:
    """Return the instruments of the current run.

    Raises:
      RuntimeError: there is no run.
    """
    try:
        return _instruments.get()
    except LookupError:
        instruments = Instruments()
        _instruments.set(instruments)
        return instruments


def _require_instruments() -> Instruments:
    if not trio.lowlevel.in_trio_run():
        raise InvalidOperationError(
            "an instrument watches one call of trio.run(); add and remove it from inside that"
        )
    return current_instruments()


@final
class _Registration(AbstractContextManager["Instrument"]):
    """What `add_instrument` returns."""

    __slots__ = ("_instrument", "_instruments")

    def __init__(self, instruments: Instruments, instrument: Instrument) -> None:
        self._instruments = instruments
        self._instrument = instrument

    def __enter__(self) -> Instrument:
        return self._instrument

    @trio.lowlevel.enable_ki_protection
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._instruments.remove(self._instrument)


def add_instrument(instrument: Instrument) -> AbstractContextManager[Instrument]:
    """Let an instrument watch the operations of all sockets in the current call of `trio.run`.

    What is pending already is seen from then on. While at least one instrument watches, `Socket.send_async` leaves its
    fast path; otherwise tracing costs nothing there.

    Args:
      instrument: what to call. Adding one twice is harmless.

    Returns:
      A context manager that gives the instrument, and removes it at its end; or ignore it.

    Raises:
      TypeError: ``instrument`` is something else.
      InvalidOperationError: there is no run here.

    **Checkpoints**: never.

    **Threads**: only from inside Trio.
    """
    if not isinstance(instrument, Instrument):
        raise TypeError(
            f"instrument must be a trio_send.abc.Instrument, not {type(instrument).__name__}"
        )
    instruments = _require_instruments()
    instruments.add(instrument)
    return _Registration(instruments, instrument)


def remove_instrument(instrument: Instrument) -> None:
    """Let an instrument watch no more.

    Args:
      instrument: one that was added in the current call of `trio.run`.

    Raises:
      KeyError: it does not watch; it may have been removed because it raised.
      InvalidOperationError: there is no run here.

    **Checkpoints**: never.

    **Threads**: only from inside Trio.
    """
    if not _require_instruments().remove(instrument):
        raise KeyError(instrument)
