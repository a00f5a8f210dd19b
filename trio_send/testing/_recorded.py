"""What happened to the operations in the run of a finding, to be drawn."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, final

import attrs

from ..timeline import Recorder, Trace
from ._explore import MOST_STEPS, Replay, replay
from ._watcher import name_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ._case import Case
    from ._findings import Finding


@final
@attrs.frozen
class Recorded:
    """A finding that was run again while somebody kept a record.

    Attributes:
      trace: what happened to its operations.
      replay: what came of running it again. While somebody keeps a record sends leave their fast path, so it may be
        that the finding is not found again, or not in the same run.
    """

    trace: Trace
    replay: Replay


def record(
    scenario: Callable[[Case], Awaitable[object]],
    finding: Finding,
    *,
    most_steps: int = MOST_STEPS,
) -> Recorded:
    """Run a finding again, and keep what happens to its operations for `trio_send.timeline` to draw.

    Args:
      scenario: the async function that it was found in.
      finding: what was found.
      most_steps: as for `explore`.
    """
    traces: list[Trace] = []

    @functools.wraps(scenario)
    async def recorded(case: Case) -> None:
        with Recorder() as recorder:
            try:
                await scenario(case)
            finally:
                traces.append(recorder.trace())

    # Decisions are named after it; a partial function has no name of its own.
    recorded.__name__ = name_of(scenario)
    again = replay(recorded, finding, most_steps=most_steps)
    return Recorded(traces[0], again)
