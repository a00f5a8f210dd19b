"""Where a call comes from, as far as Trio goes."""

from __future__ import annotations

import trio


def between_tasks() -> bool:
    """Tell whether this thread runs Trio but none of its tasks.

    So it is in a finaliser or a signal handler that strikes in Trio's own loop, and in what Trio calls from there. Trio
    may be in the middle of a change of its lists then, so nothing that wakes a task may be done.
    """
    return trio.lowlevel.in_trio_run() and not trio.lowlevel.in_trio_task()
