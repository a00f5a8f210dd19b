"""Where a call comes from, as far as Trio goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from collections.abc import Callable


def between_tasks() -> bool:
    """Tell whether this thread runs Trio but none of its tasks.

    So it is in a finaliser or a signal handler that strikes in Trio's own loop, and in what Trio calls from there. Trio
    may be in the middle of a change of its lists then, so nothing that wakes a task may be done.
    """
    return trio.lowlevel.in_trio_run() and not trio.lowlevel.in_trio_task()


#: What `trio.lowlevel.Task.custom_sleep_data` is set to before a task looks for the last time whether it has to wait
#: for a descriptor. Trio takes it off when it reschedules the task, so one that runs and has it is not asleep yet.
FALLS_ASLEEP: Final = object()


def nobody_may_be_woken() -> bool:
    """Tell whether no task that waits for a descriptor may be woken at this moment.

    That is so between tasks, and where the calling task itself has begun such a wait: Trio would strike it off its list
    of those that wait, and it would then sleep for ever.
    """
    if trio.lowlevel.in_trio_task():
        return trio.lowlevel.current_task().custom_sleep_data is FALLS_ASLEEP
    return trio.lowlevel.in_trio_run()


def put_off(action: Callable[[], object]) -> bool:
    """Have something done that wakes tasks as soon as Trio runs one, if none runs here.

    Returns:
      Whether that is so. If not, whoever calls may do it at once.
    """
    return between_tasks() and run_soon(action)


def run_soon(action: Callable[[], object]) -> bool:
    """Have something done as soon as Trio runs its next task; return False if it runs none any more."""
    try:
        trio.lowlevel.current_trio_token().run_sync_soon(action)
    # At the end of a run no task is left that could be woken. One that crashed closes its socket, which is an OSError.
    except (trio.RunFinishedError, OSError):
        return False
    return True
