"""A trace for the viewers of Chrome's trace events, such as Perfetto."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from .._tracing.chrome_events import ChromeEvents
from ._trace import ACCEPTED, CANCELLED, CLOSED, ENDED, QUEUED, TOLD, is_receive, require_whole

if TYPE_CHECKING:
    from ._trace import Trace


def to_chrome(trace: Trace) -> str:
    """Write a trace in Chrome's trace event format, for viewers such as Perfetto and ``chrome://tracing``.

    Each socket has rows of its own, and each operation is a bar from its start to its end, as with
    `trio_send.ChromeTrace`. The cancel of an initiator's scope is marked in the row of each socket that it has used.

    Args:
      trace: what happened.

    Returns:
      The JSON, the same for the same trace.

    Raises:
      ValueError: the trace does not fit together.
    """
    require_whole(trace)
    activations = {one.number: one for one in trace.activations}
    initiators = {one.number: one for one in trace.initiators}
    file = io.StringIO()
    events = ChromeEvents(file)
    for event in trace.events:
        events.time = event.time
        number = event.number
        if event.what == CLOSED:
            events.mark_socket(number, "closed", {})
            continue
        if event.what == CANCELLED:
            policy = {"initiator": number, "policy": initiators[number].policy}
            sockets = {one.socket for one in trace.activations if one.initiator == number}
            for socket in sorted(sockets):
                events.mark_socket(socket, "cancelled", policy)
            continue
        one = activations[number]
        if event.what == TOLD:
            events.mark_socket(one.socket, "raised", {"kind": one.kind, "number": number})
            continue
        if not events.has_begun(number):
            begun: dict[str, Any] = {"number": number, "size": one.size}
            if one.accepted_before:
                begun["accepted_before"] = one.accepted_before
            if one.initiator is not None:
                begun["initiator"] = one.initiator
            events.begin(number, one.socket, one.kind, begun)
        if event.what == QUEUED:
            events.mark(number, "queued", {"ahead": event.count})
        elif event.what == ACCEPTED:
            events.mark(number, "accepted", {"bytes": event.count})
        elif event.what == ENDED:
            counted = "bytes_received" if is_receive(one.kind) else "bytes_accepted"
            events.end(number, {"error": event.error, counted: event.count})
    events.close()
    return file.getvalue()
