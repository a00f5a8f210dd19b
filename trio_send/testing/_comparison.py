"""The exit policies beside one another: what each leaves behind of the same work."""

from __future__ import annotations

from functools import partial
from statistics import mean
from typing import TYPE_CHECKING, Final, final

import attrs
import trio
import trio.testing

from ..timeline import Event, Trace, TracedActivation, TracedInitiator
from . import _trio_private
from ._contenders import CONTENDERS, SUCCESS, Scene, Workload
from ._rules import RULES

if TYPE_CHECKING:
    from collections.abc import Iterable

#: How many values a byte has: each byte that is sent needs one of its own.
VALUES: Final = 256


@final
@attrs.frozen
class Share:
    """A figure over many runs.

    Attributes:
      mean: the mean.
      most: the largest.
    """

    mean: float
    most: float


@final
@attrs.frozen
class Compared:
    """What a way to send has left behind.

    Attributes:
      name: the policy, or what there is instead of one.
      runs: in how many runs.
      late: the bytes that were accepted after the stop.
      seconds: the time from the stop to the end of whoever has sent.
      unsent: the bytes that were never accepted.
      duplicated: the bytes that the peer gets twice if every message is sent again that is not known to be complete.
      broken: the rules that were broken, and in how many runs each.
    """

    name: str
    runs: int
    late: Share
    seconds: Share
    unsent: Share
    duplicated: Share
    broken: dict[str, int]


@final
@attrs.frozen
class Comparison:
    """What `compare` returns.

    Attributes:
      rows: one for each way to send.
      shapes: what happened in the first run, side by side, for `trio_send.timeline.to_svg` to draw.
    """

    rows: tuple[Compared, ...]
    shapes: Trace


def compare(
    seeds: Iterable[int] = range(50),
    *,
    messages: int = 12,
    size: int = 8,
    room: int = 16,
    stop: float = 2.5,
    grace: float = 2.0,
) -> Comparison:
    """Send the same messages under each exit policy and without the library, stop that, and say what is left.

    The kernel is played: in each second of virtual time it gets room for some bytes, which are drawn for each seed, the
    same for all ways to send. When the first sends are stopped another message of a byte is sent behind them.

    Beside the policies stand Trio's own `trio.abc.SendStream.send_all`, which is cancelled, and two controls with
    faults. In one, a cancel is raised once and lost in the middle of a message. In the other, sends go on when their
    sender has left.

    Args:
      seeds: a run for each.
      messages: how many there are.
      size: how many bytes each has.
      room: for how many bytes at most the kernel gets room in a second.
      stop: after how many seconds whoever sends is stopped.
      grace: how many seconds DRAIN and FINISH_STARTED give.

    Raises:
      ValueError: there are no seeds, or not a message of a byte, or so many bytes that not each can have a value of its
        own; ``room`` is less than 1.
      RuntimeError: called from inside Trio.
    """
    seeds = tuple(seeds)
    if not seeds:
        raise ValueError("seeds is empty, so there is nothing to compare")
    if messages < 1 or size < 1 or messages * size >= VALUES:
        raise ValueError(
            f"messages is {messages} and size is {size}, but there must be from 1 to {VALUES - 1} bytes in all, "
            "because each byte has a value of its own"
        )
    if room < 1:
        raise ValueError(f"room is {room}, but a kernel that never has room for 1 byte takes none")
    if trio.lowlevel.in_trio_run():
        raise RuntimeError("compare calls trio.run, so it cannot be used from inside Trio")
    work = Workload(messages, size, room, stop, grace)
    rows = []
    shapes = []
    for name in CONTENDERS:
        scenes = [_run(name, work, seed) for seed in seeds]
        rows.append(_row(name, scenes))
        shapes.append((name, scenes[0].trace))
    return Comparison(tuple(rows), _side_by_side(shapes))


def _run(name: str, work: Workload, seed: int) -> Scene:
    scene = Scene(work, seed)
    clock = trio.testing.MockClock(autojump_threshold=0)
    with _trio_private.scheduler(lambda batch: batch.reverse()):
        trio.run(partial(CONTENDERS[name], scene), clock=clock)
    return scene


def _row(name: str, scenes: list[Scene]) -> Compared:
    late: list[float] = []
    seconds: list[float] = []
    unsent: list[float] = []
    duplicated: list[float] = []
    broken: dict[str, int] = {}
    for scene in scenes:
        record, work = scene.record, scene.work
        sends = [sent for sent in record.sends if sent.initiator is not None]
        accepted = {sent.number: list(record.accepted(sent)) for sent in sends}
        stop, since = scene.stopped
        late.append(sum(moment > stop for took in accepted.values() for moment, _ in took))
        left = record.initiators[0].left
        assert left is not None
        seconds.append(left[1] - since)
        unsent.append(work.messages * work.size - sum(map(len, accepted.values())))
        duplicated.append(
            sum(len(accepted[sent.number]) for sent in sends if sent.error != SUCCESS)
        )
        for rule in RULES:
            if any(True for _ in rule(record)):
                broken[rule.__name__] = broken.get(rule.__name__, 0) + 1
    return Compared(
        name=name,
        runs=len(scenes),
        late=_share(late),
        seconds=_share(seconds),
        unsent=_share(unsent),
        duplicated=_share(duplicated),
        broken=broken,
    )


def _share(values: list[float]) -> Share:
    return Share(mean(values), max(values))


def _side_by_side(traces: list[tuple[str, Trace]]) -> Trace:
    """Put traces that began at the same time into one; what came at one time in each stays in order."""
    initiators = []
    activations: list[TracedActivation] = []
    events: list[tuple[float, int, int, Event]] = []
    for row, (name, trace) in enumerate(traces, 1):
        initiators.append(TracedInitiator(row, "", name))
        numbers = {}
        for one in trace.activations:
            number = numbers[one.number] = len(activations) + 1
            activations.append(TracedActivation(number, row, one.kind, one.size, initiator=row))
        rounds: dict[float, list[int]] = {}
        for event in trace.events:
            now = rounds.setdefault(event.time, [])
            if event.batch not in now:
                now.append(event.batch)
            if event.what == "cancelled":
                number = row
            elif event.number in numbers and event.what != "closed":
                number = numbers[event.number]
            else:
                continue
            place = event.time, now.index(event.batch), row
            events.append((*place, attrs.evolve(event, number=number)))
    events.sort(key=lambda each: each[:3])
    batches = {key: i for i, key in enumerate(sorted({each[:2] for each in events}))}
    return Trace(
        tuple(initiators),
        tuple(activations),
        tuple(attrs.evolve(each[3], batch=batches[each[:2]]) for each in events),
    )
