"""The axis of a picture: steps rather than seconds.

In a true scale most of what matters is one pixel wide: a send takes microseconds, and then nothing happens for a
second. So every round of the scheduler in which something happened gets the same step, a step is wider where time has
passed, and what happened in one round stands side by side in it.
"""

from __future__ import annotations

from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._trace import Event

#: How much wider a step is where time has passed, and how much of a step the events of a round take.
GAP = 1.6
SHARE = 0.8

#: From how many seconds on time has passed at all, and how many times longer than usual it has to be.
MOMENT = 0.001
LONG = 5


@final
class Axis:
    """Where each event of a trace stands, from 0 to 1.

    Attributes:
      places: of each event, in order.
      ticks: where time has passed: the place, and the seconds since the trace began.
    """

    def __init__(self, events: Sequence[Event]) -> None:
        rounds: list[tuple[int, float]] = []  # the batch, and when it was
        sizes: list[int] = []
        slots: list[tuple[int, int]] = []
        for event in events:
            if not rounds or rounds[-1][0] != event.batch:
                rounds.append((event.batch, event.time))
                sizes.append(0)
            slots.append((len(rounds) - 1, sizes[-1]))
            sizes[-1] += 1
        waits = [after[1] - before[1] for before, after in pairwise(rounds)]
        long = max(MOMENT, LONG * median(waits)) if waits else MOMENT
        if waits and max(waits) <= long:
            # They are all alike.
            long = MOMENT
        positions = [0.0]
        steps = [0.0]
        for wait in waits:
            has_passed = wait >= long
            positions.append(positions[-1] + (GAP if has_passed else 1.0))
            if has_passed:
                steps.append(positions[-1])
        span = positions[-1] + 1
        time_at = {position: time for position, (_, time) in zip(positions, rounds, strict=False)}
        self.places = [
            (positions[number] + SHARE * slot / sizes[number]) / span for number, slot in slots
        ]
        self.ticks = [(position / span, time_at[position]) for position in steps] if rounds else []
