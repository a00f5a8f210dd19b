"""Tracing by OpenTelemetry: what an operation is in the words of its conventions for spans and metrics.

Nothing imports this but `trio_send.otel`, because it needs an extra.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from opentelemetry import metrics, trace

from .._base.codes import SocketError
from .._version import __version__
from .instrument import Instrument, TracedOperation
from .logging_instrument import RECEIVES

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Span, Tracer, TracerProvider

_NAME: Final = "trio_send"

#: In seconds. OpenTelemetry's own are meant for milliseconds. The first one is for what ends on the spot.
_BOUNDARIES: Final = (0.0, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 50.0)


class OpenTelemetryInstrument(Instrument):
    """Tells OpenTelemetry of every operation, as spans and as metrics; pass an instance to `trio_send.add_instrument`.

    *Metrics.* ``trio_send.io`` counts the bytes that the kernel accepted and gave, with the attributes
    ``network.io.direction`` and ``trio_send.socket.type``. ``trio_send.operation.time_in_queue`` is a histogram of the
    seconds for which operations waited, 0 for those that ended on the spot, with ``trio_send.operation.name``, and with
    ``error.type`` for those that did not end well.

    *Spans.* One for each operation, from its start to its end. Its parent is the span in which it was started. It has
    an event ``queued`` if it had to wait. An operation that was pending before the instrument was added has none.

    Args:
      tracer_provider: where spans go; None stands for the global one.
      meter_provider: where metrics go; None stands for the global one.
      spans: whether there are spans. A span for each small send can cost many times as much as the send.
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        spans: bool = True,
    ) -> None:
        self._tracer: Tracer | None = (
            trace.get_tracer(_NAME, __version__, tracer_provider) if spans else None
        )
        #: The spans that have not ended. By weak references, because an instrument that is removed hears of no end.
        self._spans: WeakKeyDictionary[TracedOperation, Span] = WeakKeyDictionary()
        meter = metrics.get_meter(_NAME, __version__, meter_provider)
        self._io = meter.create_counter(
            "trio_send.io", "By", "Bytes that the kernel accepted from sends and gave to receives"
        )
        self._time_in_queue = meter.create_histogram(
            "trio_send.operation.time_in_queue",
            "s",
            "How long operations stood in the queue of their socket",
            explicit_bucket_boundaries_advisory=_BOUNDARIES,
        )

    def operation_started(self, operation: TracedOperation) -> None:
        """Begin a span."""
        if self._tracer is None:
            return
        attributes: dict[str, Any] = {
            "trio_send.socket.id": operation.socket_id,
            "trio_send.operation.size": operation.size,
        }
        self._spans[operation] = self._tracer.start_span(
            f"socket {_name(operation)}", attributes=attributes
        )

    def operation_queued(self, operation: TracedOperation, ahead: int) -> None:
        """Note it in the span."""
        span = self._spans.get(operation)
        if span is not None:
            span.add_event("queued", {"trio_send.operations_ahead": ahead})

    def bytes_accepted(self, operation: TracedOperation, count: int, total: int) -> None:
        """Count them."""
        self._count(operation, "transmit", count)

    def operation_completed(
        self,
        operation: TracedOperation,
        error: SocketError,
        count: int,
        queue_delay: float | None,
        detail: str | None,
    ) -> None:
        """Count, and end the span."""
        if operation.kind in RECEIVES:
            self._count(operation, "receive", count)
        if queue_delay is not None:
            attributes = {"trio_send.operation.name": _name(operation)}
            if error:
                attributes["error.type"] = error.name
            self._time_in_queue.record(queue_delay, attributes)
        span = self._spans.pop(operation, None)
        if span is None:
            return
        span.set_attribute("trio_send.operation.bytes_transferred", count)
        for name, value in _peer(operation.address):
            span.set_attribute(name, value)
        if error:
            span.set_attribute("error.type", error.name)
            if error is not SocketError.OPERATION_ABORTED:  # which is a stop, and nobody's fault
                span.set_status(trace.StatusCode.ERROR, detail or error.name)
        span.end()

    def _count(self, operation: TracedOperation, direction: str, count: int) -> None:
        kind = "stream" if operation.is_stream else "datagram"
        self._io.add(count, {"network.io.direction": direction, "trio_send.socket.type": kind})


def _name(operation: TracedOperation) -> str:
    return operation.kind.name.lower()


def _peer(address: Any) -> list[tuple[str, str | int]]:
    """Say whom an operation was about, in the words of the conventions."""
    if isinstance(address, bytes):
        address = address.decode("utf-8", "backslashreplace")
    if isinstance(address, str):
        return [("network.peer.address", address)] if address else []
    if isinstance(address, tuple):
        return [("network.peer.address", address[0]), ("network.peer.port", address[1])]
    return []
