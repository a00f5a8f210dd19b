"""Measure several ways to do the same thing side by side, and sum up what was measured.

A send of 64 bytes over a loopback connection costs 0.6 or 1.4 microseconds, by the luck of the process, and the
machine is faster in one second than in the next. So what is compared is measured in chunks of a few milliseconds that
take turns on one connection in one process, and each chunk is divided by the chunk of the floor from the same round.
What is told is the median of these ratios, and the quartiles as the spread. The order changes from round to round: a
chunk finds the caches, and the kernel's free memory, as the one before has left them.
"""

from __future__ import annotations

import random
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence


#: The nanoseconds of processor time that a chunk should take: many times what looking at the clock does.
CHUNK_NS = 4_000_000


@dataclass(frozen=True)
class Spread:
    """Several values of the same quantity, summed up.

    Attributes:
      median: the middle one.
      low: the lower quartile.
      high: the upper quartile.
    """

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def spread(values: Iterable[float]) -> Spread:
    """Sum up at least one value."""
    ordered = sorted(values)
    if len(ordered) == 1:
        return Spread(ordered[0], ordered[0], ordered[0])
    low, median, high = statistics.quantiles(ordered, n=4, method="inclusive")
    return Spread(median, low, high)


def ratio(values: Sequence[float], base: Sequence[float]) -> Spread:
    """Sum up the ratios of values that were measured in the same rounds."""
    return spread(value / below for value, below in zip(values, base, strict=True))


async def interleave(
    chunks: Mapping[str, Callable[[int], Awaitable[int]]],
    *,
    rounds: int,
    burst: int,
    clean_up: Callable[[int], Awaitable[object]],
    chunk_ns: int = CHUNK_NS,
) -> dict[str, list[float]]:
    """Measure chunks in turn.

    Args:
      chunks: what to measure, by name: each does something so many times and returns the nanoseconds that took.
      rounds: how often each is measured.
      burst: how many times at most it may be done before it must be cleaned up.
      clean_up: called behind each burst, with how many times it was done; not measured.
      chunk_ns: how long a chunk should take, in one burst or several.

    Returns:
      The nanoseconds for each time, by name, one value per round.
    """

    async def measure(name: str, times: int) -> float:
        took = 0
        for done in range(0, times, burst):
            now = min(burst, times - done)
            took += await chunks[name](now)
            await clean_up(now)
        return took / times

    times = {}
    for name in chunks:
        trial = min(burst, 50)
        await measure(name, trial)  # warms up
        times[name] = max(1, round(chunk_ns / max(await measure(name, trial), 1)))
    measured: dict[str, list[float]] = {name: [] for name in chunks}
    order = list(chunks)
    shuffle = random.Random(rounds).shuffle
    for _ in range(rounds):
        shuffle(order)
        for name in order:
            measured[name].append(await measure(name, times[name]))
    return measured
