"""`record`: keep a trace of a run that there is."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, final

import trio

from .. import (
    InvalidOperationError,
    SocketError,
    TracedOperation,
    add_instrument,
    current_initiator,
)
from ..abc import Instrument
from ._trace import (
    ACCEPTED,
    CANCELLED,
    CLOSED,
    ENDED,
    QUEUED,
    STARTED,
    TOLD,
    Event,
    Trace,
    TracedActivation,
    TracedInitiator,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Any

    from typing_extensions import Self


class _Batches(trio.abc.Instrument):
    """Counts the rounds of Trio's scheduler."""

    def __init__(self) -> None:
        self.count = 0

    def before_io_wait(self, timeout: float) -> None:
        self.count += 1


def _scopes_around(task: trio.lowlevel.Task) -> Iterator[trio.CancelScope]:
    """The scopes of the nurseries that a task is in, from the inside out."""
    inner: trio.Nursery | None = None
    current: trio.lowlevel.Task | None = task
    while current is not None:
        nurseries = current.child_nurseries
        if inner is not None:
            nurseries = nurseries[: nurseries.index(inner) + 1]
        for nursery in reversed(nurseries):
            yield nursery.cancel_scope
        inner = current.parent_nursery
        current = None if inner is None else inner.parent_task


def _scope_of(initiator: Any) -> trio.CancelScope | None:
    """The scope of an initiator; that of a thread has none."""
    scope: trio.CancelScope | None = getattr(initiator, "cancel_scope", None)
    return scope


@final
class Recorder(Instrument):
    """Keeps what happens to all sockets of the current run, to be drawn.

    Use it as a context manager, inside of `trio.run`:

    .. code-block:: python

       async def main():
           with trio_send.timeline.Recorder() as recorder:
               ...
           print(trio_send.timeline.to_text(recorder.trace()))

       trio.run(main)

    Whom an operation belongs to is found out when it is started; one that nobody is told of is awaited by a task.
    """

    def __init__(self) -> None:
        self._batches = _Batches()
        self._stack = ExitStack()
        self._origin: float | None = None
        self._events: list[Event] = []
        self._activations: dict[int, TracedActivation] = {}
        self._initiators: list[Any] = []
        self._around: list[list[trio.CancelScope]] = []
        self._cancelled: set[int] = set()
        #: Those that have waited, of which it is not known yet whether anybody is told.
        self._untold: set[int] = set()

    def __enter__(self) -> Self:
        self._stack.enter_context(add_instrument(self))
        trio.lowlevel.add_instrument(self._batches)
        self._stack.callback(trio.lowlevel.remove_instrument, self._batches)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def trace(self) -> Trace:
        """Return what has happened so far."""
        ended = {event.number for event in self._events if event.what == ENDED}
        awaited = self._untold & ended
        numbers = {id(_scope_of(one)): i for i, one in enumerate(self._initiators, 1)}
        initiators = []
        for i, one in enumerate(self._initiators, 1):
            around = (numbers.get(id(scope)) for scope in self._around[i - 1])
            parent = next((number for number in around if number not in (None, i)), None)
            initiators.append(TracedInitiator(i, one.name or "", one.on_exit.name, parent))
        activations = []
        for activation in self._activations.values():
            if activation.number in awaited:
                activation = TracedActivation(
                    activation.number,
                    activation.socket,
                    activation.kind,
                    activation.size,
                    activation.accepted_before,
                )
            activations.append(activation)
        return Trace(tuple(initiators), tuple(activations), tuple(self._events))

    # What is told ---------------------------------------------------------------------------------

    def operation_started(self, operation: TracedOperation) -> None:
        """Keep it."""
        self._meet(operation)
        self._note(STARTED, operation.number)

    def operation_queued(self, operation: TracedOperation, ahead: int) -> None:
        """Keep it."""
        self._meet(operation)
        self._untold.add(operation.number)
        self._note(QUEUED, operation.number, ahead)

    def bytes_accepted(self, operation: TracedOperation, count: int, total: int) -> None:
        """Keep it."""
        self._meet(operation)
        self._note(ACCEPTED, operation.number, count)

    def operation_completed(
        self,
        operation: TracedOperation,
        error: SocketError,
        count: int,
        queue_delay: float | None,
        detail: str | None,
    ) -> None:
        """Keep it."""
        self._meet(operation)
        self._note(ENDED, operation.number, count, error.name)

    def event_raised(self, operation: TracedOperation) -> None:
        """Keep it."""
        self._meet(operation)
        self._untold.discard(operation.number)
        self._note(TOLD, operation.number)

    def socket_closed(self, socket_id: int, reset: bool) -> None:
        """Keep it."""
        self._note(CLOSED, socket_id)

    # How ------------------------------------------------------------------------------------------

    def _note(self, what: str, number: int, count: int = 0, error: str = "") -> None:
        now = trio.current_time()
        if self._origin is None:
            self._origin = now
        time = now - self._origin
        batch = self._batches.count
        for i, initiator in enumerate(self._initiators, 1):
            scope = _scope_of(initiator)
            if i not in self._cancelled and scope is not None and scope.cancel_called:
                self._cancelled.add(i)
                self._events.append(Event(time, batch, CANCELLED, i))
        self._events.append(Event(time, batch, what, number, count, error))

    def _meet(self, operation: TracedOperation) -> None:
        """Take note of an operation when it is first told of."""
        if operation.number in self._activations:
            return
        self._activations[operation.number] = TracedActivation(
            number=operation.number,
            socket=operation.socket_id,
            kind=operation.kind.name.lower(),
            size=operation.size,
            accepted_before=operation.accepted_before,
            initiator=None if operation.operation is None else self._owner(),
        )

    def _owner(self) -> int | None:
        try:
            initiator: Any = current_initiator()
        except (InvalidOperationError, RuntimeError):
            return None
        if initiator not in self._initiators:
            self._initiators.append(initiator)
            try:
                around = list(_scopes_around(trio.lowlevel.current_task()))
            except RuntimeError:
                around = []  # a start that another thread has handed over
            self._around.append(around)
        return 1 + self._initiators.index(initiator)
