"""One run of a scenario: its decisions are asked of a tape, its clock is virtual, its end is certain.

Everything that is explored goes through `run_once`. An instrument of Trio is told before each step of each task, and
when all tasks wait; there a cancel may strike, and there it is noted who stands where. An exception would only disable
an instrument, so none leaves it: what is wrong is kept until the run is over.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import math
import re
import sys
import threading
import time
from typing import TYPE_CHECKING, TypeAlias, final

import attrs
import trio
import trio.testing

from . import _trio_private
from ._case import Broken, Case, Target, describe_exception
from ._places import Place, is_own, place_of_function, place_of_task
from ._tape import CANCEL, ORDER, Decision, Tape

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

#: What is explored.
Scenario: TypeAlias = "Callable[[Case], Awaitable[object]]"

#: After so many rounds of the scheduler in a row in which nobody steps, nobody is about to: the clock has had its turn
#: to jump, and whoever waits for all others to be blocked was woken.
IDLE_ROUNDS = 5

#: How many seconds of real time a run may stand still if somebody outside may still wake it: a thread, or a kernel.
PATIENCE = 5.0

#: How many steps a program that would not end may take after each attempt to end it.
LAST_STEPS = 1000


class _Abandoned(BaseException):
    """Raised in the scheduler: nothing else ends a program that swallows every cancel."""


#: Tasks of runs that were ended by force, which must outlive everything.
_ABANDONED: list[trio.lowlevel.Task] = []
if sys.implementation.name == "cpython":
    # What only a module refers to is thrown away when the interpreter ends.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(_ABANDONED))


@final
@attrs.frozen
class Run:
    """What one run of a scenario was.

    Attributes:
      decisions: all that were made, in order.
      broken: what was wrong, in order.
      asked: what was cancelled and before which step, in words, in order.
      struck: the places at which a task got `trio.Cancelled` from a cancel of the explorer, each once.
      visited: the places at which tasks stood, each once.
      steps: how many steps tasks took.
      is_endless: whether there was an end to them only because there were too many.
      trace: a hash of every step, cancel and fault, in order.
      behaviour: a hash of what each task did by itself and of the faults; other orders may give the same.
    """

    decisions: tuple[Decision, ...]
    broken: tuple[Broken, ...]
    asked: tuple[str, ...]
    struck: tuple[Place, ...]
    visited: tuple[Place, ...]
    steps: int
    is_endless: bool
    trace: str
    behaviour: str


def name_of(scenario: object) -> str:
    """What a scenario is called in reports."""
    while isinstance(scenario, functools.partial):
        scenario = scenario.func
    return str(getattr(scenario, "__name__", type(scenario).__name__))


@final
class _Watcher(trio.abc.Instrument):
    """Notes every step of a run, and strikes where the tape says so."""

    def __init__(self, scenario: Scenario, tape: Tape, case: Case, most_steps: int) -> None:
        self.scenario = scenario
        self.tape = tape
        self.case = case
        self.scope = trio.CancelScope()
        self.labels: dict[trio.lowlevel.Task, str] = {}
        self.steps = 0
        self.asked: list[str] = []
        self.cancelled: list[object] = []
        self.struck: dict[Place, None] = {}
        self.visited: dict[Place, None] = {}
        self.trace: list[str] = []
        self.history: dict[str, list[str]] = {}
        self.is_over = False
        self.error: BaseException | None = None
        self._beginning = place_of_function(scenario)
        self._names: dict[str, int] = {}
        self._taken: dict[trio.lowlevel.Task, int] = {}
        self._limit = self._most_steps = most_steps
        self._idle = 0
        self._idle_since = 0.0
        self._pauses = 0
        self.is_endless = False
        self._stops = 0
        self._living: dict[trio.lowlevel.Task, None] = {}

    async def main(self) -> None:
        try:
            with self.scope:
                await self.scenario(self.case)
        finally:
            self.is_over = True

    # Told by Trio ---------------------------------------------------------------------------------

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        self._living[task] = None
        code = getattr(task.coro, "cr_code", None)
        if task.name.startswith("<") and code is not None and not is_own(code):
            return  # one of Trio's own
        if self._names:
            # An object without a name is told with its address, which is another one in each run.
            name = re.sub(r" at 0x[0-9a-fA-F]+", "", task.name).rpartition(".")[2]
        else:
            name = name_of(self.scenario)
        number = self._names[name] = self._names.get(name, 0) + 1
        label = name if number == 1 else f"{name}#{number}"
        self.labels[task] = label
        self._taken[task] = 0
        self.history[label] = []

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        del self._living[task]
        self._taken.pop(task, None)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._guarded(self._before_step, task)

    def before_io_wait(self, timeout: float) -> None:
        self._guarded(self._before_pause)

    # What is done then ----------------------------------------------------------------------------

    def _guarded(self, function: Callable[..., None], *args: object) -> None:
        if self.error is None:
            try:
                function(*args)
            except BaseException as error:
                self.error = error
                self.scope.cancel()

    def _before_pause(self) -> None:
        self._idle += 1
        # A deadline that is next takes two rounds: one for the clock to jump, and one to notice. One pause is enough.
        if self._idle == 1 and self._may_cancel():
            if not trio.lowlevel.current_statistics().tasks_runnable:
                self._pauses += 1
                self._perhaps_cancel(f"in pause {self._pauses}, when all tasks wait")
        elif self._idle > IDLE_ROUNDS and self._is_stuck():
            self._stop(
                "the program waits for ever: no deadline is set, and nothing is left to wake it"
            )

    def _may_cancel(self) -> bool:
        return not self.is_over and not self.tape.is_spent(CANCEL)

    def _before_step(self, task: trio.lowlevel.Task) -> None:
        self._idle = 0
        label = self.labels.get(task)
        if label is None:
            return
        step = self._taken[task] = self._taken[task] + 1
        self.steps += 1
        if self._may_cancel():
            self._perhaps_cancel(f"before step {step} of {label}")
        if self._stops > 1:
            _trio_private.unshield(task)
        place = place_of_task(task) or self._beginning
        line = "" if place is None else place.in_words
        if place is not None:
            if step > 1:
                self.visited[place] = None
            if self.cancelled and not self._stops and self._is_struck(task):
                self.struck[place] = None
                line = f"{line}: cancelled"
        self.trace.append(f"{label} {line}")
        self.history[label].append(line)
        if self.steps > self._most_steps:
            self.is_endless = True
            self._stop(f"the program does not end: it takes more than {self._limit} steps")

    def _perhaps_cancel(self, when: str) -> None:
        for target in [target for target in self.case._targets if not target.is_over()]:
            words = f"{target.name} {when}"
            if self.tape.choose(CANCEL, words, 2):
                self.cancelled.append(target.thing)
                self.asked.append(words)
                self.trace.append(f"cancel {words}")
                if not _trio_private.knows_strikes():
                    self.struck.update(dict.fromkeys(self._standing().values()))
                target.cancel()

    def _is_struck(self, task: trio.lowlevel.Task) -> bool:
        """Tell whether a task is about to get `trio.Cancelled` from what was cancelled here."""
        cancel = _trio_private.pending_cancel(task)
        if cancel is None:
            return False
        for thing in self.cancelled:
            if not isinstance(thing, trio.CancelScope):
                # It may have cancelled anything, but it has nothing to do with a time that is over.
                if cancel.source != "deadline":
                    return True
            elif _trio_private.reaches(thing, task):
                return True
        return False

    def _standing(self) -> dict[str, Place]:
        """Where each task stands that has taken a step and has not ended."""
        places = {}
        for task, taken in self._taken.items():
            place = place_of_task(task) if taken else None
            if place is not None:
                places[self.labels[task]] = place
        return places

    def _is_stuck(self) -> bool:
        statistics = trio.lowlevel.current_statistics()
        if statistics.seconds_to_next_deadline < math.inf or statistics.run_sync_soon_queue_size:
            return False
        now = time.monotonic()
        if self._idle == IDLE_ROUNDS + 1:
            self._idle_since = now
        waiting = sum(
            value
            for name in dir(statistics.io_statistics)
            if name.startswith("tasks_waiting")
            and isinstance(value := getattr(statistics.io_statistics, name), int)
        )
        # Trio itself waits for one descriptor, by which other threads wake it, and keeps threads that have nothing to
        # do.
        here = threading.current_thread()
        others = [
            thread
            for thread in threading.enumerate()
            if thread is not here and not thread.name.startswith("Trio thread")
        ]
        if waiting <= 1 and not others and not trio.testing.active_thread_count():
            return True
        return now - self._idle_since > PATIENCE

    def _stop(self, sentence: str) -> None:
        """End a run that does not end by itself: with a cancel, then without its shields, then by force."""
        self._stops += 1
        self._most_steps = self.steps + LAST_STEPS
        self._idle = 0
        if self._stops == 1:
            standing = "; ".join(
                f"{label} at {place.in_words}" for label, place in self._standing().items()
            )
            self.case._broken.append(Broken(sentence, None, standing))
            self.is_over = True
            self.scope.cancel()
        elif self._stops == 2:
            for task in self._living:
                _trio_private.unshield(task)

    def arrange(self, batch: list[trio.lowlevel.Task]) -> None:
        """Put tasks that are about to step into the order in which they do, the last one first."""
        if self._stops > 2:
            raise _Abandoned
        if len(batch) > 1:
            ours = [task for task in batch if task in self.labels]
            order = [task for task in batch if task not in self.labels]
            while ours:
                first = ours[0]
                choice = 0
                if len(ours) > 1 and not self.is_over and not self.tape.is_spent(ORDER):
                    words = f"instead of step {self._taken[first] + 1} of {self.labels[first]}"
                    choice = self.tape.choose(ORDER, words, len(ours))
                order.append(ours.pop(choice))
            batch[:] = reversed(order)

    def abandon(self) -> None:
        """Keep what a run that was ended by force has left behind.

        To throw a coroutine away is to raise an exception in it. One that swallows whatever is raised, in a loop, would
        go on within that call, for ever, without a step.
        """
        _ABANDONED.extend(self._living)


def _digest(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]


def run_once(scenario: Scenario, tape: Tape, *, most_steps: int) -> Run:
    """Run a scenario once, in a call of `trio.run` of its own.

    Args:
      scenario: the async function to run.
      tape: makes the decisions and keeps them.
      most_steps: after how many steps of tasks the program is held not to end.

    Raises:
      RuntimeError: called from inside Trio.
      BaseException: what is not an `Exception` and left the scenario, such as `KeyboardInterrupt`.
    """
    if trio.lowlevel.in_trio_run():
        raise RuntimeError("an explorer calls trio.run, so it cannot be used from inside Trio")
    case = Case(tape)
    watcher = _Watcher(scenario, tape, case, most_steps)
    case._targets.append(Target(name_of(scenario), watcher.scope.cancel, watcher.scope))
    clock = trio.testing.MockClock(autojump_threshold=0)
    try:
        with _trio_private.scheduler(watcher.arrange):
            trio.run(watcher.main, clock=clock, instruments=[watcher])
    except trio.TrioInternalError as error:
        if not isinstance(error.__cause__, _Abandoned):
            raise
        watcher.abandon()
    except Exception as error:
        case._broken += describe_exception(error)
    if watcher.error is not None:
        raise watcher.error
    for function in case._last:
        try:
            function()
        except Exception as error:
            case._broken += describe_exception(error)
    faults = [f"stopped {words}" for words in case._asked]
    faults += [f"broken {broken.sentence} {broken.place}" for broken in case._broken]
    by_task: list[str] = []
    for label, lines in sorted(watcher.history.items()):
        by_task += [label, *lines]
    return Run(
        decisions=tuple(tape.decisions),
        broken=tuple(case._broken),
        asked=tuple(watcher.asked + case._asked),
        struck=tuple(watcher.struck),
        visited=tuple(watcher.visited),
        steps=watcher.steps,
        is_endless=watcher.is_endless,
        trace=_digest([*watcher.trace, *faults]),
        behaviour=_digest([*by_task, *faults]),
    )
