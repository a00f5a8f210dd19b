"""Hold what OpenTelemetry is told to what happened, with its own SDK as the listener.

Modules: otel.
"""

from __future__ import annotations

import gc
import socket as stdlib_socket
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.helpers import scripted
from trio_send import (
    Socket,
    SocketAsyncEventArgs,
    SocketException,
    add_instrument,
    open_initiator,
    socketpair,
)
from trio_send.testing import Blocked

pytest.importorskip("opentelemetry.sdk", reason="needs the SDK of OpenTelemetry")

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from trio_send.otel import OpenTelemetryInstrument


class Listener:
    """An SDK that keeps what it is told.

    Attributes:
      instrument: what to add.
    """

    def __init__(self, *, spans: bool = True) -> None:
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        # Without a handler at exit, of which each test would leave one.
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.instrument = OpenTelemetryInstrument(
            tracer_provider=self.tracers,
            meter_provider=MeterProvider([self._reader], shutdown_on_exit=False),
            spans=spans,
        )

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        """Those that have ended."""
        return self._exporter.get_finished_spans()

    def metrics(self) -> dict[str, tuple[str, list[Any]]]:
        """The unit and the data points of each metric."""
        data = self._reader.get_metrics_data()
        found = {}
        for resource in data.resource_metrics if data else ():
            for scope in resource.scope_metrics:
                assert scope.scope.name == "trio_send"
                for metric in scope.metrics:
                    found[metric.name] = (metric.unit or "", list(metric.data.data_points))
        return found


async def test_a_send_that_waits_is_a_span(autojump_clock: MockClock) -> None:
    listener = Listener()
    socket, _ = scripted(4, Blocked(2.0), 6)
    tracer = listener.tracers.get_tracer("test")
    with add_instrument(listener.instrument):
        async with open_initiator():
            args = SocketAsyncEventArgs(b"." * 10)
            with tracer.start_as_current_span("request") as parent:
                socket.send_async(args)
            assert [span.name for span in listener.spans] == ["request"]
            await args.wait()
    request, span = listener.spans
    assert span.name == "socket send"
    assert span.parent is not None
    assert span.parent.span_id == parent.get_span_context().span_id
    assert [(event.name, dict(event.attributes or {})) for event in span.events] == [
        ("queued", {"trio_send.operations_ahead": 0})
    ]
    assert span.status.status_code is StatusCode.UNSET
    attributes = dict(span.attributes or {})
    assert attributes["trio_send.operation.size"] == 10
    assert attributes["trio_send.operation.bytes_transferred"] == 10
    assert "error.type" not in attributes
    assert request.name == "request"


async def test_a_failure_and_a_stop(autojump_clock: MockClock) -> None:
    listener = Listener()
    broken, _ = scripted("EPIPE")
    stopped, _ = scripted(4, Blocked())
    with add_instrument(listener.instrument):
        async with open_initiator():
            broken.try_begin_send(b"x")
            stopped.begin_send(b"." * 10).cancel("enough")
    failure, stop = listener.spans
    for span, name, count in ((failure, "SHUTDOWN", 0), (stop, "OPERATION_ABORTED", 4)):
        attributes = dict(span.attributes or {})
        assert attributes["error.type"] == name
        assert attributes["trio_send.operation.bytes_transferred"] == count
    assert failure.status.status_code is StatusCode.ERROR
    assert stop.status.status_code is StatusCode.UNSET
    stopped.close()


async def test_whom_it_was_about(tmp_path: Any) -> None:
    listener = Listener()
    path = str(tmp_path / "socket")
    families = [(stdlib_socket.AF_INET, ("127.0.0.1", 0))]
    if hasattr(stdlib_socket, "AF_UNIX"):
        families.append((stdlib_socket.AF_UNIX, path))  # type: ignore[arg-type]
    expected: list[dict[str, Any]] = []
    with add_instrument(listener.instrument):
        for family, address in families:
            async with Socket(family) as server, Socket(family) as client:
                server.bind(address)
                server.listen()
                where = server.local_end_point
                await client.connect(where)
                if isinstance(where, tuple):
                    expected.append(
                        {"network.peer.address": "127.0.0.1", "network.peer.port": where[1]}
                    )
                else:
                    expected.append({"network.peer.address": path})
    connects = [span for span in listener.spans if span.name == "socket connect"]
    told = [
        {name: value for name, value in (span.attributes or {}).items() if "peer" in name}
        for span in connects
    ]
    assert told == expected


async def test_bytes_are_counted_in_both_directions_and_by_kind() -> None:
    listener = Listener(spans=False)
    with add_instrument(listener.instrument):
        for kind in (stdlib_socket.SOCK_STREAM, stdlib_socket.SOCK_DGRAM):
            left, right = socketpair(type=kind)
            async with left, right:
                await left.send(b"abc")
                await left.send(b"de")
                for _ in range(2 if kind == stdlib_socket.SOCK_DGRAM else 1):
                    await right.receive(4)
    unit, points = listener.metrics()["trio_send.io"]
    assert unit == "By"
    counts = {
        (
            point.attributes["network.io.direction"],
            point.attributes["trio_send.socket.type"],
        ): point.value
        for point in points
    }
    assert counts == {
        ("transmit", "stream"): 5,
        ("receive", "stream"): 4,
        ("transmit", "datagram"): 5,
        ("receive", "datagram"): 5,
    }
    assert listener.spans == ()


async def test_the_time_in_the_queue(autojump_clock: MockClock) -> None:
    listener = Listener()
    socket, _ = scripted(10, 4, Blocked(2.0), 6, "ECONNRESET")
    with add_instrument(listener.instrument):
        await socket.send(b"." * 10)
        await socket.send(b"." * 10)
        with pytest.raises(SocketException):
            await socket.send(b"." * 10)
    unit, points = listener.metrics()["trio_send.operation.time_in_queue"]
    assert unit == "s"
    told = {tuple(sorted(point.attributes.items())): point for point in points}
    good = told[("trio_send.operation.name", "send"),]
    assert (good.count, good.sum, good.min, good.max) == (2, 2.0, 0.0, 2.0)
    # What ended on the spot is told from what waited.
    assert good.explicit_bounds[0] == 0.0
    assert good.bucket_counts[0] == 1
    assert good.explicit_bounds[1] < 0.01  # in seconds
    bad = told[("error.type", "CONNECTION_RESET"), ("trio_send.operation.name", "send")]
    assert bad.count == 1


async def test_what_was_pending_before_has_no_span_and_is_counted(
    autojump_clock: MockClock,
) -> None:
    listener = Listener()
    socket, port = scripted(4, Blocked(), 6)
    async with open_initiator():
        args = SocketAsyncEventArgs(b"." * 10)
        socket.send_async(args)
        await wait_all_tasks_blocked()
        with add_instrument(listener.instrument):
            port.unblock()
            await args.wait()
    assert listener.spans == ()
    metrics = listener.metrics()
    assert [point.value for point in metrics["trio_send.io"][1]] == [6]
    assert "trio_send.operation.time_in_queue" not in metrics


async def test_an_instrument_that_was_removed_keeps_no_span(autojump_clock: MockClock) -> None:
    listener = Listener()
    socket, port = scripted(4, Blocked(), 6)
    async with open_initiator():
        with add_instrument(listener.instrument):
            args = SocketAsyncEventArgs(b"." * 10)
            socket.send_async(args)
            await wait_all_tasks_blocked()
        assert len(listener.instrument._spans) == 1
        port.unblock()
        await args.wait()
    del args
    gc.collect()
    assert len(listener.instrument._spans) == 0
    assert listener.spans == ()


async def test_without_a_sdk_nothing_happens() -> None:
    socket, port = scripted()
    with add_instrument(OpenTelemetryInstrument()):
        await socket.send(b"hello")
        await trio.lowlevel.checkpoint()
    assert bytes(port.accepted) == b"hello"
