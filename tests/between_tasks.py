"""Run something where Trio runs but none of its tasks does, as a finaliser or a signal handler may."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import trio

from trio_send._base.run_state import FALLS_ASLEEP


class _Loop(trio.abc.Instrument):
    """Does something once, in Trio's own loop.

    Args:
      action: what to do.
      quiet: for how many seconds nothing else may be due then.
    """

    def __init__(self, action: Callable[[], object], quiet: float = 0.0) -> None:
        self._quiet = quiet
        self.action: Callable[[], object] | None = action
        self.error: BaseException | None = None

    def before_io_wait(self, timeout: float) -> None:
        if self.action is None or timeout < self._quiet:
            return
        action, self.action = self.action, None
        try:
            action()
        except BaseException as error:  # Trio would report it and go on
            self.error = error


async def _run(loop: _Loop, wait: Callable[[], Awaitable[object]]) -> None:
    trio.lowlevel.add_instrument(loop)
    try:
        await wait()
    finally:
        trio.lowlevel.remove_instrument(loop)
    assert loop.action is None, "nothing was done"
    if loop.error is not None:
        raise loop.error


async def do_between_tasks(action: Callable[[], object]) -> None:
    """Do something in Trio's loop; raise what it raises.

    What it makes happen has not happened yet when this returns.
    """
    loop = _Loop(action)

    async def wait() -> None:
        while loop.action is not None:
            await trio.lowlevel.checkpoint()

    await _run(loop, wait)


async def do_between_tasks_and_wait(
    action: Callable[[], object], wait: Callable[[], Awaitable[object]]
) -> None:
    """Do something in Trio's loop while one waits for what comes of it; raise what it raises.

    It is done where Trio is about to wait and has settled for how long, and where nothing else is due that would hide
    that nobody was woken.
    """
    with trio.fail_after(5):
        await _run(_Loop(action, quiet=1.0), wait)


@contextmanager
def falling_asleep() -> Iterator[None]:
    """Have the calling task seem to have begun to wait for a descriptor."""
    task = trio.lowlevel.current_task()
    task.custom_sleep_data = FALLS_ASLEEP
    try:
        yield
    finally:
        task.custom_sleep_data = None


class _End(trio.abc.Instrument):
    """Does something when a run is over."""

    def __init__(self, action: Callable[[], object]) -> None:
        self._action = action

    def after_run(self) -> None:
        self._action()


def do_at_the_end(action: Callable[[], object]) -> None:
    """Do something at the end of this run of Trio: no task is left, and none can be woken any more."""
    trio.lowlevel.add_instrument(_End(action))
