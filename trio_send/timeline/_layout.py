"""What stands where in a picture, before anything is drawn: initiators as nested boxes, operations as lanes in them.

A lane fills from below with the share of its bytes that was accepted, so progress is seen without a number. One lane
for each socket says what its kernel did, which explains most of the waiting. An operation has a lane of its own and its
outcome stands in a column of its own, so no text can meet another; a number in a lane is left out where it would.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import attrs

from ._axis import Axis
from ._trace import (
    ACCEPTED,
    CANCELLED,
    CLOSED,
    ENDED,
    QUEUED,
    STARTED,
    TOLD,
    is_receive,
    require_whole,
)

if TYPE_CHECKING:
    from ._trace import Event, Trace, TracedActivation

#: How an operation can have ended, in one word for colours and marks.
DONE = "done"
STOPPED = "stopped"
FAILED = "failed"
PENDING = "pending"

#: Errors with which something stopped an operation that could have gone on.
_STOPS = frozenset({"OPERATION_ABORTED", "TIMED_OUT", "CONNECTION_ABORTED"})


@final
@attrs.frozen
class Share:
    """Which share of an operation's bytes was accepted, and since when."""

    place: float
    share: float
    count: int


@final
@attrs.frozen
class Lane:
    """One operation: when it began and ended, from 0 to 1, and how."""

    activation: TracedActivation
    start: float
    end: float
    state: str
    words: str
    shares: tuple[Share, ...]
    told: float | None


@final
@attrs.frozen
class Group:
    """An initiator with its lanes and the groups inside it, or the operations that tasks await."""

    title: str
    start: float
    end: float
    cancelled: float | None
    lanes: tuple[Lane, ...]
    inner: tuple[Group, ...]


@final
@attrs.frozen
class Kernel:
    """What the kernel did with one socket: bytes that it took, times in which it took none, and the close."""

    socket: int
    taken: tuple[tuple[float, int], ...]
    busy: tuple[tuple[float, float], ...]
    closed: float | None


@final
@attrs.frozen
class Layout:
    """All of a picture."""

    groups: tuple[Group, ...]
    kernels: tuple[Kernel, ...]
    ticks: tuple[tuple[float, float], ...]
    operations: int


def seconds(time: float) -> str:
    """A time in words, as short as it can be."""
    words = f"{time:.3f}" if time >= 0.1 else f"{time:.6f}"
    return f"{words.rstrip('0').rstrip('.')} s"


def _outcome(activation: TracedActivation, error: str, count: int) -> tuple[str, str]:
    of = f"{count} of {activation.size}"
    if is_receive(activation.kind):
        of = f"{count} bytes"
    if error == "SUCCESS":
        return DONE, f"done, {of}" if activation.size or count else "done"
    words = error.removeprefix("OPERATION_").lower().replace("_", " ")
    state = STOPPED if error in _STOPS else FAILED
    return state, f"{words}, {of}" if activation.size or count else words


def _lane(activation: TracedActivation, happened: list[tuple[float, Event]], last: float) -> Lane:
    start = happened[0][0]
    end = last
    state, words = PENDING, "pending"
    told = None
    total = activation.accepted_before
    shares = []
    if total and activation.size:
        shares.append(Share(start, total / activation.size, 0))
    for place, event in happened:
        if event.what == ACCEPTED:
            total += event.count
            share = min(1.0, total / activation.size) if activation.size else 1.0
            shares.append(Share(place, share, event.count))
        elif event.what == ENDED:
            end = place
            state, words = _outcome(activation, event.error, event.count)
            if is_receive(activation.kind) and event.count and activation.size:
                shares.append(Share(place, min(1.0, event.count / activation.size), event.count))
        elif event.what == TOLD:
            told = place
    return Lane(activation, start, end, state, words, tuple(shares), told)


def _kernels(trace: Trace, places: list[float], last: float) -> tuple[Kernel, ...]:
    activations = {one.number: one for one in trace.activations}
    taken: dict[int, list[tuple[float, int]]] = {}
    busy: dict[int, list[tuple[float, float]]] = {}
    closed: dict[int, float] = {}
    # Who waits in which queue, and since when nothing was taken.
    waiting: dict[int, set[int]] = {}
    since: dict[int, float] = {}
    left = {one.number: one.size - one.accepted_before for one in trace.activations}
    for place, event in zip(places, trace.events, strict=True):
        if event.what == CLOSED:
            closed[event.number] = place
        if event.what not in (QUEUED, ACCEPTED, ENDED):
            continue
        activation = activations[event.number]
        if is_receive(activation.kind) or not activation.size:
            continue
        socket = activation.socket
        line = waiting.setdefault(socket, set())
        if event.what == QUEUED:
            if not line:
                since[socket] = place
            line.add(event.number)
        else:
            if socket in since:
                busy.setdefault(socket, []).append((since.pop(socket), place))
            if event.what == ACCEPTED:
                taken.setdefault(socket, []).append((place, event.count))
                left[event.number] -= event.count
            if event.what == ENDED or left[event.number] <= 0:
                line.discard(event.number)
            if line:
                since[socket] = place
    for socket, start in since.items():
        busy.setdefault(socket, []).append((start, last))
    return tuple(
        Kernel(
            socket,
            tuple(taken.get(socket, ())),
            tuple((a, b) for a, b in busy.get(socket, ()) if b > a),
            closed.get(socket),
        )
        for socket in sorted(taken.keys() | busy.keys())
    )


def lay_out(trace: Trace) -> Layout:
    """Find out what stands where.

    Raises:
      ValueError: the trace does not fit together.
    """
    require_whole(trace)
    axis = Axis(trace.events)
    last = max(axis.places, default=0.0)
    happened: dict[int, list[tuple[float, Event]]] = {one.number: [] for one in trace.activations}
    cancelled: dict[int, float] = {}
    for place, event in zip(axis.places, trace.events, strict=True):
        if event.what == CANCELLED:
            cancelled[event.number] = place
        elif event.what in (STARTED, QUEUED, ACCEPTED, ENDED, TOLD):
            happened[event.number].append((place, event))
    lanes: dict[int | None, list[Lane]] = {}
    for activation in trace.activations:
        lane = _lane(activation, happened[activation.number], last)
        lanes.setdefault(activation.initiator, []).append(lane)

    def group(title: str, number: int | None) -> Group:
        own = lanes.get(number, [])
        inner = []
        if number is not None:
            inner = [
                group(_title(one.number, one.name, one.policy), one.number)
                for one in trace.initiators
                if one.parent == number
            ]
        spans = [(lane.start, max(lane.end, lane.told or 0.0)) for lane in own]
        spans += [(one.start, one.end) for one in inner]
        stop = None if number is None else cancelled.get(number)
        if stop is not None:
            spans.append((stop, stop))
        return Group(
            title,
            min((start for start, _ in spans), default=0.0),
            max((end for _, end in spans), default=last),
            stop,
            tuple(own),
            tuple(inner),
        )

    groups = [
        group(_title(one.number, one.name, one.policy), one.number)
        for one in trace.initiators
        if one.parent is None
    ]
    if None in lanes:
        groups.append(group("awaited by tasks", None))
    return Layout(
        tuple(groups),
        _kernels(trace, axis.places, last),
        tuple(axis.ticks),
        len(trace.activations),
    )


def _title(number: int, name: str, policy: str) -> str:
    # The name comes last, because it is what can be cut.
    return f"initiator {number}, {policy}{f', {name!r}' if name else ''}"
