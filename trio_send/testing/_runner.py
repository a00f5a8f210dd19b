"""Runs of a scenario: decisions are asked of a tape, the clock is virtual, an end is certain.

Everything that is explored goes through `run_each`. Each run is a call of `trio.run` of its own, or, if the one before
was of a world and has left nothing behind, the next one in the same call. To begin and to end a call of `trio.run`
takes about as long as a small world does.

A run that is hosted like this is step for step what it would be by itself: the clock is set back, variables of the run
are forgotten, and what has served the one before has ended. Where a release of Trio does not let that be done, or where
a program leaves a task, a deadline or an asynchronous generator behind, the next one has a call of its own.
"""

from __future__ import annotations

import ctypes
import sys
from typing import TYPE_CHECKING, final

import trio
import trio.testing

from . import _trio_private
from ._case import broken_in, describe_exception
from ._hangs import watched
from ._places import place_of_function
from ._watcher import Abandoned, Run, Scenario, Watcher

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ._places import Place
    from ._tape import Tape

#: How many rounds of the scheduler what has served a world may take to end when the world has.
LAST_ROUNDS = 4

#: Tasks of runs that were ended by force, which must outlive everything.
_ABANDONED: list[trio.lowlevel.Task] = []
if sys.implementation.name == "cpython":
    # What only a module refers to is thrown away when the interpreter ends.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(_ABANDONED))


@final
class _Host(trio.abc.Instrument):
    """Runs one tape after the other.

    Args:
      scenario: the async function to run.
      tapes: for each run.
      take: told of each run; returns whether that is enough.
      most_steps: after how many steps of tasks a run is held not to end.
    """

    def __init__(
        self,
        scenario: Scenario,
        tapes: Iterator[Tape],
        take: Callable[[Run], object],
        most_steps: int,
    ) -> None:
        self._scenario = scenario
        self._beginning = place_of_function(scenario)
        self._tapes = tapes
        self._tape = next(tapes, None)
        self._take = take
        self._most_steps = most_steps
        self._watcher: Watcher | None = None
        self._living: dict[trio.lowlevel.Task, None] = {}
        self._own_tasks = 0

    @property
    def has_more(self) -> bool:
        """Whether there is something to run."""
        return self._tape is not None

    @property
    def step(self) -> object:
        """Something that is equal for as long as a step goes on; None while there is none."""
        return None if self._watcher is None else self._watcher.step

    def hangs(self, place: Place | None) -> None:
        """Take note that the current step does not end; called from another thread."""
        if self._watcher is not None:
            self._watcher.hangs(place)

    def run_some(self) -> None:
        """Run as many as one call of `trio.run` can host."""
        self._living.clear()
        clock = trio.testing.MockClock(autojump_threshold=0)
        try:
            with _trio_private.scheduler(self._arrange), watched(self):
                trio.run(self._main, clock, clock=clock, instruments=[self])
        except trio.TrioInternalError as error:
            if not isinstance(error.__cause__, Abandoned):
                # A program can make Trio fail, as with a callback that raises. Its tasks stay where they are.
                if self._watcher is None:
                    raise
                if not self._watcher.is_hung:
                    broken_in(self._watcher.case).extend(
                        describe_exception(error.__cause__ or error)
                    )
            # To throw a coroutine away is to raise an exception in it. One that swallows whatever is raised, in a
            # loop, would go on within that call, for ever, without a step.
            _ABANDONED.extend(self._living)
        except BaseException:
            # What was raised in a step that did not end may come out anywhere.
            if self._watcher is None or not self._watcher.is_hung:
                raise
            _ABANDONED.extend(self._living)
        watcher, self._watcher = self._watcher, None
        if watcher is None:
            return
        for failure in (watcher.error, watcher.interruption):
            if failure is not None and not watcher.is_hung:
                raise failure
        for function in watcher.case._last:
            try:
                function()
            except Exception as error:
                broken_in(watcher.case).extend(describe_exception(error))
        self._is_over(watcher)

    def _is_over(self, watcher: Watcher) -> None:
        enough = self._take(watcher.finish())
        self._tape = None if enough else next(self._tapes, None)

    async def _main(self, clock: trio.testing.MockClock) -> None:
        self._own_tasks = len(self._living)
        try:
            async with trio.open_nursery() as nursery:
                await self._run_worlds(nursery, clock)
        except BaseExceptionGroup as interrupted:
            # Nothing but Ctrl-C gets here, and whoever has pressed it need not know of the nursery.
            raise KeyboardInterrupt from interrupted

    async def _run_worlds(self, nursery: trio.Nursery, clock: trio.testing.MockClock) -> None:
        while self._tape is not None:
            _trio_private.begin_again(clock)
            over = trio.Event()
            watcher = self._watcher = Watcher(
                self._scenario,
                self._tape,
                self._most_steps,
                self._living,
                self._beginning,
                over.set,
            )
            nursery.start_soon(watcher.main)
            await over.wait()
            if not await self._is_as_before(watcher):
                return
            self._watcher = None
            self._is_over(watcher)

    async def _is_as_before(self, watcher: Watcher) -> bool:
        """Tell whether a run has left nothing behind, so that the next one can be hosted as well."""
        case = watcher.case
        if (
            not case._is_world
            or case._last
            or watcher.error is not None
            or watcher.interruption is not None
            or watcher.is_hung
            or not _trio_private.can_host()
        ):
            return False
        for _ in range(LAST_ROUNDS):
            if len(self._living) == self._own_tasks:
                break
            await trio.lowlevel.checkpoint()
        return len(self._living) == self._own_tasks and not _trio_private.has_left_behind()

    # Told by Trio; an exception would only disable an instrument, so none leaves it --------------------------------

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        self._living[task] = None
        if self._watcher is not None:
            self._watcher.task_spawned(task)

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        del self._living[task]
        if self._watcher is not None:
            self._watcher.task_exited(task)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        watcher = self._watcher
        if watcher is not None and watcher.error is None:
            try:
                watcher.before_step(task)
            except BaseException as error:
                watcher.fail(error)

    def before_io_wait(self, timeout: float) -> None:
        watcher = self._watcher
        if watcher is not None and watcher.error is None:
            try:
                watcher.before_pause()
            except BaseException as error:
                watcher.fail(error)

    def _arrange(self, batch: list[trio.lowlevel.Task]) -> None:
        if self._watcher is not None:
            self._watcher.arrange(batch)


def run_each(
    scenario: Scenario,
    tapes: Iterator[Tape],
    take: Callable[[Run], object],
    *,
    most_steps: int,
) -> None:
    """Run a scenario once for each tape.

    Args:
      scenario: the async function to run.
      tapes: make the decisions and keep them. The next one is asked for when the run before was taken.
      take: told of each run when it is over; if what it returns is true, that was the last one.
      most_steps: after how many steps of tasks the program is held not to end.

    Raises:
      RuntimeError: called from inside Trio.
      BaseException: what is not an `Exception` and left the scenario, such as `KeyboardInterrupt`.
    """
    if trio.lowlevel.in_trio_run():
        raise RuntimeError("an explorer calls trio.run, so it cannot be used from inside Trio")
    host = _Host(scenario, tapes, take, most_steps)
    while host.has_more:
        host.run_some()


def run_once(scenario: Scenario, tape: Tape, *, most_steps: int) -> Run:
    """Run a scenario once; see `run_each`."""
    runs: list[Run] = []
    run_each(scenario, iter([tape]), runs.append, most_steps=most_steps)
    return runs[0]
