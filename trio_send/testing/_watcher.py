"""Who watches one run of a scenario: notes every step of it, and strikes where the tape says so.

It is told before each step of each task, and when all tasks wait; there a cancel may strike, and there it is noted who
stands where. It also decides who steps first, and ends what does not end by itself.
"""

from __future__ import annotations

import functools
import hashlib
import math
import re
import threading
import time
from typing import TYPE_CHECKING, TypeAlias, final

import attrs
import trio
import trio.testing

from . import _trio_private
from ._case import Broken, Case, Target, broken_in, describe_exception
from ._hangs import is_watch
from ._places import Place, is_own, line_of, place_of_task
from ._tape import CANCEL, ORDER, PLAN, Decision, Made, Tape

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping

#: What is explored.
Scenario: TypeAlias = "Callable[[Case], Awaitable[object]]"

#: After so many rounds of the scheduler in a row in which nobody steps, nobody is about to: the clock has had its turn
#: to jump, and whoever waits for all others to be blocked was woken.
IDLE_ROUNDS = 5

#: How many seconds of real time a run may stand still if somebody outside may still wake it: a thread, or a kernel.
PATIENCE = 5.0

#: How many steps a program that would not end may take after each attempt to end it.
LAST_STEPS = 1000


class Abandoned(BaseException):
    """Raised in the scheduler: nothing else ends a program that swallows every cancel."""


@final
@attrs.frozen
class Run:
    """What one run of a scenario was.

    Attributes:
      made: the decisions that were asked for, in order; all others were 0.
      broken: what was wrong, in order.
      asked: what was cancelled and before which step, in words, in order.
      struck: the places at which a task got `trio.Cancelled` from a cancel of the explorer, each once.
      visited: the places at which tasks stood, each once.
      steps: how many steps tasks took.
      is_endless: whether there was an end to them only because there were too many.
      trace: a hash of every step, cancel and fault, in order.
      behaviour: a hash of what each task did by itself and of the faults; other orders may give the same.
      silent: by the number of a decision, answers that would make no difference.
    """

    made: tuple[Made, ...]
    broken: tuple[Broken, ...]
    asked: tuple[str, ...]
    struck: tuple[Place, ...]
    visited: tuple[Place, ...]
    steps: int
    is_endless: bool
    trace: str
    behaviour: str
    silent: Mapping[int, Collection[int]]

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """Those that were asked for, in order; all others were 0."""
        return tuple(Decision(*made) for made in self.made)

    def chosen(self) -> tuple[Decision, ...]:
        """Those that were not 0, in order."""
        return tuple(Decision(*made) for made in self.made if made[2])

    def plan(self) -> tuple[Made, ...]:
        """What the scenario chose, as far as it was not 0."""
        return tuple(made for made in self.made if made[2] and made[0] == PLAN)


def name_of(scenario: object) -> str:
    """What a scenario is called in reports."""
    while isinstance(scenario, functools.partial):
        scenario = scenario.func
    return str(getattr(scenario, "__name__", type(scenario).__name__))


@final
class Watcher:
    """Watches one run.

    Args:
      scenario: the async function.
      tape: makes the decisions and keeps them.
      most_steps: after how many steps of tasks the program is held not to end.
      living: all tasks that there are, which somebody else keeps.
      beginning: where the scenario begins, if that is known.
      tell: called when the scenario has ended.

    Attributes:
      case: what the scenario is given.
      is_over: whether the scenario has ended. Tasks may still step.
      error: what the explorer itself could not do; the run means nothing then.
      is_hung: whether a step did not end, and was ended by force; what comes of it then means nothing.
      interruption: what is no `Exception` and left the scenario, such as `KeyboardInterrupt`.
    """

    def __init__(
        self,
        scenario: Scenario,
        tape: Tape,
        most_steps: int,
        living: Iterable[trio.lowlevel.Task],
        beginning: Place | None,
        tell: Callable[[], object],
    ) -> None:
        self.case = Case(tape)
        self.is_over = False
        self.error: BaseException | None = None
        self.interruption: BaseException | None = None
        self._scenario = scenario
        self._tape = tape
        self._limit = self._most_steps = most_steps
        self._living = living
        self._tell = tell
        self._scope = trio.CancelScope()
        self._beginning = beginning
        self._steps = 0
        self.is_hung = False
        self._at_hang: tuple[list[Broken], list[str], dict[str, list[str]]] | None = None
        self._is_endless = False
        self._asked: list[str] = []
        self._cancelled: list[object] = []
        #: Places by what they are in words, because making a number of a string is cheaper than of a place.
        self._struck: dict[str, Place] = {}
        self._visited: dict[str, Place] = {}
        self._trace: list[str] = []
        self._history: dict[str, list[str]] = {}
        #: What each task is called that belongs to the program, and how many steps it has taken.
        self._labels: dict[trio.lowlevel.Task, str] = {}
        self._taken: dict[trio.lowlevel.Task, int] = {}
        self._names: dict[str, int] = {}
        self._idle = 0
        self._idle_since = 0.0
        self._pauses = 0
        self._stops = 0
        #: What the world was like when a cancel was last decided on, and before the latest step.
        self._decided_at: object = None
        self._before: object = None
        self._stepping: trio.lowlevel.Task | None = None
        #: For each task of a batch, the decisions of its order and the answers by which it would have gone first.
        self._order: dict[trio.lowlevel.Task, list[tuple[int, int]]] = {}
        self.case._targets.append(Target(name_of(scenario), self._scope.cancel, self._scope))

    async def main(self) -> None:
        """Run the scenario."""
        try:
            with self._scope:
                await self._scenario(self.case)
        except Exception as error:
            broken_in(self.case).extend(describe_exception(error))
        except trio.Cancelled:
            raise  # a Ctrl-C in the task that waits for this one ends both
        except BaseException as error:
            self.interruption = error
        finally:
            self.is_over = True
            self._tell()

    def finish(self) -> Run:
        """Return what the run was; to be called when it is over."""
        case = self.case
        if self._at_hang is not None:
            broken_in(case)[:], self._trace, self._history = self._at_hang
        faults = [f"stopped {words}" for words in case._asked]
        faults += [f"broken {broken.sentence} {broken.place}" for broken in broken_in(case)]
        by_task: list[str] = []
        for label, lines in sorted(self._history.items()):
            by_task.append(label)
            by_task += lines
        return Run(
            made=tuple(self._tape.made),
            broken=tuple(broken_in(case)),
            asked=tuple(self._asked + case._asked),
            struck=tuple(self._struck.values()),
            visited=tuple(self._visited.values()),
            steps=self._steps,
            is_endless=self._is_endless,
            trace=_digest(self._trace, faults),
            behaviour=_digest(by_task, faults),
            silent=self._tape.silent,
        )

    # Told by Trio ---------------------------------------------------------------------------------

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        """Give a task a name if it is one of the program."""
        code = getattr(task.coro, "cr_code", None)
        if task.name.startswith("<") and code is not None and not is_own(code):
            return  # one of Trio's own
        if self._names:
            # An object without a name is told with its address, which is another one in each run.
            name = task.name
            if " at 0x" in name:
                name = re.sub(r" at 0x[0-9a-fA-F]+", "", name)
            name = name.rpartition(".")[2]
        else:
            name = name_of(self._scenario)
        number = self._names[name] = self._names.get(name, 0) + 1
        label = name if number == 1 else f"{name}#{number}"
        self._labels[task] = label
        self._taken[task] = 0
        self._history[label] = []

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        """Forget where a task stands."""
        self._taken.pop(task, None)

    def before_pause(self) -> None:
        """Perhaps cancel something while all tasks wait; find out whether they do so for ever."""
        if self._tape.skips_silent:
            self._see_step()
        self._idle += 1
        # A deadline that is next takes two rounds: one for the clock to jump, and one to notice. One pause is enough.
        if self._idle == 1:
            if self._may_cancel() and not _trio_private.tasks_runnable():
                self._pauses += 1
                self._perhaps_cancel("in pause", self._pauses, ", when all tasks wait")
        elif self._idle > IDLE_ROUNDS and self._is_stuck():
            self._stop(
                "the program waits for ever: no deadline is set, and nothing is left to wake it"
            )

    def before_step(self, task: trio.lowlevel.Task) -> None:
        """Take note of a step, and perhaps cancel something before it."""
        self._idle = 0
        label = self._labels.get(task)
        if label is None:
            return
        step = self._taken[task] = self._taken[task] + 1
        self._steps += 1
        if not self.is_over and (not self._tape.skips_silent or self._has_changed(task)):
            self._perhaps_cancel("before step", step, f" of {label}")
        if self._stops > 1:
            _trio_private.unshield(task)
        place = place_of_task(task) or self._beginning
        line = ""
        if place is not None:
            line = line_of(place)
            if step > 1:
                self._visited[line] = place
            if self._cancelled and not self._stops and self._is_struck(task):
                self._struck[line] = place
                line = f"{line}: cancelled"
        self._trace += (label, line)
        self._history[label].append(line)
        if self._steps > self._most_steps:
            self._is_endless = True
            self._stop(f"the program does not end: it takes more than {self._limit} steps")

    @property
    def step(self) -> object:
        """Something that is equal for as long as a step goes on; None while all tasks wait."""
        return None if self._idle else (self, self._steps)

    def hangs(self, place: Place | None) -> None:
        """Take note that a step does not end, before it is ended by force; called from another thread."""
        if not self.is_hung:
            self.is_hung = self._is_endless = self.is_over = True
            details = "" if place is None else f"it is at {place.in_words}"
            broken_in(self.case).append(
                Broken("a step of the program does not end: it has no checkpoint", None, details)
            )
            # Whatever comes of its end has nothing to say.
            self._at_hang = (
                list(broken_in(self.case)),
                list(self._trace),
                {label: list(lines) for label, lines in self._history.items()},
            )

    def arrange(self, batch: list[trio.lowlevel.Task]) -> None:
        """Put tasks that are about to step into the order in which they do, the last one first."""
        if self._stops > 2:
            raise Abandoned
        if self._tape.skips_silent:
            self._see_step()
            self._order.clear()
        if len(batch) > 1:
            labels = self._labels
            ours = [task for task in batch if task in labels]
            order = [task for task in batch if task not in labels]
            while ours:
                first = ours[0]
                choice = 0
                if len(ours) > 1 and not self.is_over and not self._tape.passes(ORDER, 1):
                    words = f"instead of step {self._taken[first] + 1} of {labels[first]}"
                    choice = self._tape.choose(ORDER, words, len(ours))
                    if self._tape.skips_silent and not choice:
                        number = len(self._tape.made) - 1
                        for answer, task in enumerate(ours):
                            self._order.setdefault(task, []).append((number, answer))
                order.append(ours.pop(choice))
            order.reverse()
            batch[:] = order

    def fail(self, error: BaseException) -> None:
        """End the run, because the explorer itself cannot go on."""
        self.error = error
        self._scope.cancel()

    # What is done then ----------------------------------------------------------------------------

    def _see_step(self) -> object:
        """Find out whether the latest step has touched anything; return what the world is like."""
        look = self.case._look
        if look is None:
            self._stepping = None
            return None
        now = (trio.current_time(), len(self._labels), len(self._taken), look())
        if self._stepping is not None and now == self._before:
            for number, answer in self._order.get(self._stepping, ()):
                self._tape.silent.setdefault(number, set()).add(answer)
        self._stepping = None
        return now

    def _has_changed(self, task: trio.lowlevel.Task) -> bool:
        """Tell whether anything was touched since a cancel was last decided on.

        If not, a cancel here does what one there does: the steps in between have only waited in another place.
        """
        now = self._see_step()
        self._before, self._stepping = now, task
        if now is not None and now == self._decided_at:
            return False
        self._decided_at = now
        return True

    def _may_cancel(self) -> bool:
        return not self.is_over and not self._tape.is_spent(CANCEL)

    def _perhaps_cancel(self, when: str, number: int, rest: str) -> None:
        for target in self.case._strikes(CANCEL):
            words = f"{target.name} {when} {number}{rest}"
            if self._tape.choose(CANCEL, words, 2):
                self._cancelled.append(target.thing)
                self._asked.append(words)
                self._trace.append(f"cancel {words}")
                if not _trio_private.knows_strikes():
                    standing = self._standing().values()
                    self._struck.update({line_of(place): place for place in standing})
                self.case._cancel(target)

    def _is_struck(self, task: trio.lowlevel.Task) -> bool:
        """Tell whether a task is about to get `trio.Cancelled` from what was cancelled here."""
        cancel = _trio_private.pending_cancel(task)
        if cancel is None:
            return False
        for thing in self._cancelled:
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
                places[self._labels[task]] = place
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
            if thread is not here
            and not thread.name.startswith("Trio thread")
            and not is_watch(thread)
        ]
        if waiting <= 1 and not others and not trio.testing.active_thread_count():
            return True
        return now - self._idle_since > PATIENCE

    def _stop(self, sentence: str) -> None:
        """End a run that does not end by itself: with a cancel, then without its shields, then by force."""
        self._stops += 1
        self._most_steps = self._steps + LAST_STEPS
        self._idle = 0
        if self._stops == 1:
            standing = "; ".join(
                f"{label} at {place.in_words}" for label, place in self._standing().items()
            )
            broken_in(self.case).append(Broken(sentence, None, standing))
            self.is_over = True
            self._scope.cancel()
        elif self._stops == 2:
            for task in self._living:
                _trio_private.unshield(task)


def _digest(lines: list[str], faults: list[str]) -> str:
    return hashlib.sha256("\n".join(lines + faults).encode()).hexdigest()[:32]
