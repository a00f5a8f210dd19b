"""Run a scenario again and again, and each time have something else happen."""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from itertools import chain, islice
from typing import TYPE_CHECKING, TypeAlias, final

import attrs

from . import _trio_private
from ._report import Ledger, Report
from ._runner import run_each, run_once
from ._tape import (
    CANCEL,
    INSIDE,
    KERNEL,
    ORDER,
    PLAN,
    Decision,
    Listed,
    Seeded,
    Tape,
    alternatives,
    check_limits,
    choices_of,
)
from ._watcher import name_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
    from concurrent.futures import Executor, Future

    from ._case import Broken, Case
    from ._findings import Finding
    from ._watcher import Run, Scenario

#: How many seeds an executor is given at once, and how many such shares at most are under way.
SHARD = 50
SHARDS = 64

#: How many runs there are at most, and for how many seconds, before somebody is told of them.
LARGEST_ROUND = 64
LONGEST_ROUND = 0.1

#: Told of a run.
Take: TypeAlias = "Callable[[Run], object]"

#: Told how many runs there were; returns whether that is enough.
Tell: TypeAlias = "Callable[[int], object]"

#: How many steps of tasks a program may take in one run before it is held not to end.
MOST_STEPS = 10_000


@final
class Explorer:
    """One scenario, its limits, and the one function that everything goes through."""

    def __init__(self, scenario: Scenario, limits: Mapping[str, int], most_steps: int) -> None:
        self.scenario = scenario
        self.limits = limits
        self.most_steps = most_steps

    def run(self, choices: Mapping[str, int]) -> tuple[Run, set[str]]:
        """Run once with the decisions of a list; return also those of them that did not come up."""
        source = Listed(choices)
        run = run_once(self.scenario, Tape(source, self.limits), most_steps=self.most_steps)
        return run, source.unmet

    def run_each(
        self, tapes: Iterator[Tape], ledger: Ledger, tell: Tell | None, take: Take | None = None
    ) -> None:
        """Run once for each tape, and count the runs, until whoever is told says that it is enough."""
        rounds, seconds = (sys.maxsize, math.inf) if tell is None else (1, LONGEST_ROUND)
        following: Tape | None = None
        while True:
            most = ledger.runs + rounds
            until = time.monotonic() + seconds
            # Whoever is told is not told inside of Trio, so the runs come in rounds.
            is_round_over = False

            def count(run: Run, most: int = most, until: float = until) -> bool:
                nonlocal is_round_over
                ledger.add(run)
                if take is not None:
                    take(run)
                is_round_over = ledger.runs >= most or time.monotonic() > until
                return is_round_over

            rest = tapes if following is None else chain([following], tapes)
            run_each(self.scenario, rest, count, most_steps=self.most_steps)
            following = next(tapes, None) if is_round_over else None
            if (tell is not None and tell(ledger.runs)) or following is None:
                return
            rounds = min(2 * rounds, LARGEST_ROUND)

    def draw(self, ledger: Ledger, seeds: Iterable[int], tell: Tell | None = None) -> None:
        """Run once for each seed."""
        tapes = (Tape(Seeded(seed, self.limits), self.limits) for seed in seeds)
        self.run_each(tapes, ledger, tell)

    def draw_shard(self, seeds: Iterable[int]) -> Ledger:
        """Run once for each seed; what is returned can go to another process."""
        ledger = Ledger(name_of(self.scenario), self.limits)
        self.draw(ledger, seeds)
        return ledger

    def shard(self, ledger: Ledger, seeds: Iterable[int], executor: Executor, tell: Tell) -> None:
        """Have an executor run once for each seed, and count the runs in the order of the seeds."""
        rest = iter(seeds)
        waiting: deque[Future[Ledger]] = deque()
        try:
            while True:
                while len(waiting) < SHARDS and (shard := list(islice(rest, SHARD))):
                    waiting.append(executor.submit(self.draw_shard, shard))
                if not waiting:
                    return
                ledger.merge(waiting.popleft().result())
                if tell(ledger.runs):
                    return
        finally:
            for future in waiting:
                future.cancel()

    def search(
        self, ledger: Ledger, most_runs: int, tell: Tell | None, *, full: bool = False
    ) -> None:
        """Run every list of decisions within the limits, depth first."""
        runs: list[Run] = []
        lists = self._lists(ledger, most_runs, runs, skips_silent=not full)
        self.run_each(lists, ledger, tell, runs.append)

    def _lists(
        self, ledger: Ledger, most_runs: int, runs: list[Run], *, skips_silent: bool
    ) -> Iterator[Tape]:
        """Yield a tape for each list; ``runs`` has its run when the next one is asked for."""
        yield Tape(Listed({}), self.limits, skips_silent=skips_silent)
        run = runs.pop()
        # A run that does not end has no end of alternatives either.
        is_cut = run.is_endless
        stack = [] if is_cut else [(run.decisions, alternatives(run.decisions, run.silent))]
        while stack:
            before, rest = stack[-1]
            following = next(rest, None)
            if following is None:
                stack.pop()
                continue
            if ledger.runs >= most_runs:
                return
            choices, shared = following
            source = Listed(choices)
            yield Tape(source, self.limits, skips_silent=skips_silent)
            run = runs.pop()
            if _trio_private.decides_order():
                difference = _difference(before, run.decisions, shared)
            else:
                # Steps come in an order of Trio's own, so there is no beginning to compare.
                unmet = source.unmet
                difference = f"{min(unmet)!r} did not come up" if unmet else None
            if difference is not None:
                ledger.unrepeatable.append(difference)
            elif run.is_endless:
                is_cut = True
            else:
                stack.append((run.decisions, alternatives(run.decisions, run.silent)))
        ledger.exhausted = not is_cut and not ledger.unrepeatable


def _go_on(runs: int) -> bool:
    return False


def _difference(before: Sequence[Decision], after: Sequence[Decision], shared: int) -> str | None:
    """In what two runs differ that had to make the same first decisions, and the next one as well."""
    for old, new in zip(before[: shared + 1], after, strict=False):
        if (old.key, old.options) != (new.key, new.options):
            return f"{old.key!r} was to be decided, but what came up was {new.key!r}"
    if len(after) <= shared:
        return f"{before[len(after)].key!r} was to be decided, but the run was over"
    return None


def explore(
    scenario: Callable[[Case], Awaitable[object]],
    *,
    cancels: int = 1,
    orders: int = 0,
    limits: Mapping[str, int | None] | None = None,
    seeds: Iterable[int] | None = None,
    only: Mapping[str, int] | None = None,
    most_runs: int = 100_000,
    most_steps: int = MOST_STEPS,
    full: bool = False,
    executor: Executor | None = None,
    progress: Callable[[int], object] | None = None,
) -> Report:
    """Run an async function once for each place at which a cancel can strike it.

    Each run is a call of `trio.run` of its own, or for a `World` as good as one, under a virtual clock that jumps ahead
    when all tasks wait. The first one is undisturbed. In the others something is cancelled before some step of some
    task, or while all tasks wait: the whole scenario, or what it named with `Case.cancellable`. Within a step nobody
    else can cancel a task of Trio, so that is every place there is.

    A run is wrong if a `Case.check` fails, if an exception leaves the scenario, if it waits for ever or does not end. A
    loop without a checkpoint is ended after 5 seconds of processor time, by an exception, on CPython alone.

    Args:
      scenario: the async function. It is called with a `Case`, and makes anew whatever it changes.
      cancels: how many cancels there may be in one run.
      orders: how many times in one run a task may step before those whose turn it is.
      limits: the same for other kinds of decisions: ``"plan"`` and ``"kernel"``, which have no limit if nothing is
        said, and ``"inside"``, the stops that come from inside of a system call, of which there are none then.
      seeds: instead of everything in turn, one run by chance for each of these numbers, which are the same each time.
      only: just one run, with these decisions and no others. A finding tells its own as `Finding.choices`. The run is
        repeated, and differences are told as ``Report.unrepeatable``.
      most_runs: after how many runs to stop.
      most_steps: after how many steps of its tasks a program is held not to end.
      full: whether to try everything in a world. If not, there is no run of its own for a cancel that differs from
        another one only in steps between them that have touched nothing, nor for an order that lets such a step come
        first: no port was asked, no call made, no event told, and whatever can be read of sockets, operations and
        initiators is the same. What the steps of another program touch is not known, so there it makes no difference.
      executor: runs ``seeds``, many at a time, such as a `concurrent.futures.ProcessPoolExecutor`. Then the scenario
        has to be a function of a module, or a `functools.partial` of one. The report is the same as without.
      progress: called with the number of runs so far, again and again, outside of Trio. If what it returns is true,
        that is the end, and the report is about what was done.

    Returns:
      What was found, and what was tried.

    Raises:
      TypeError: a limit is no whole number.
      ValueError: a limit is negative, a decision of ``only`` did not come up, there are both ``seeds`` and ``only``, or
        there is an ``executor`` without ``seeds``.
      RuntimeError: called from inside Trio.
    """
    limits = limits or {}
    if unknown := sorted(set(limits) - {PLAN, KERNEL, INSIDE}):
        raise ValueError(
            f"limits has {unknown[0]!r}, but there are just {PLAN!r}, {KERNEL!r} and {INSIDE!r}"
        )
    bounds = check_limits({CANCEL: cancels, ORDER: orders, INSIDE: 0, **limits})
    if seeds is not None and only is not None:
        raise ValueError("seeds and only cannot both be given: only is one run that is known")
    if executor is not None and seeds is None:
        raise ValueError("executor runs seeds, but none are given")
    if only is not None:
        # The decisions are known, so nothing is left to limit.
        bounds = {}
    explorer = Explorer(scenario, bounds, most_steps)
    ledger = Ledger(name_of(scenario), bounds)
    if only is not None:
        run, unmet = explorer.run(only)
        if unmet:
            raise ValueError(f"only has {min(unmet)!r}, which did not come up in the run")
        ledger.add(run)
        again, _ = explorer.run(only)
        if again.trace != run.trace:
            ledger.unrepeatable.append("two runs with the same decisions were not the same")
    elif seeds is not None:
        seeds = islice(seeds, most_runs)
        if executor is not None:
            explorer.shard(ledger, seeds, executor, progress or _go_on)
        else:
            explorer.draw(ledger, seeds, progress)
    else:
        explorer.search(ledger, most_runs, progress, full=full)
    return ledger.report()


# What can be done with a finding --------------------------------------------------------------


@final
@attrs.frozen
class Replay:
    """What came of running a finding again.

    Attributes:
      sentences: what was wrong this time.
      is_found_again: whether the finding's own check was among it.
      is_same: whether the run was the finding's, step for step.
      is_repeatable: whether two runs were the same, step for step.
      unmet: the finding's decisions that did not come up.
    """

    sentences: tuple[str, ...]
    is_found_again: bool
    is_same: bool
    is_repeatable: bool
    unmet: tuple[str, ...]


def _shown(run: Run, finding: Finding) -> Broken | None:
    """What a finding is about, as a run shows it; None if it does not."""
    for broken in run.broken:
        if broken.place == finding.checked and (
            broken.place is not None or broken.sentence == finding.sentence
        ):
            return broken
    return None


def replay(
    scenario: Callable[[Case], Awaitable[object]],
    finding: Finding,
    *,
    most_steps: int = MOST_STEPS,
) -> Replay:
    """Run a finding again, twice, and compare.

    Args:
      scenario: the async function that it was found in.
      finding: what was found.
      most_steps: as for `explore`.
    """
    explorer = Explorer(scenario, finding.limits, most_steps)
    run, unmet = explorer.run(finding.choices)
    again, _ = explorer.run(finding.choices)
    return Replay(
        sentences=tuple(broken.sentence for broken in run.broken),
        is_found_again=_shown(run, finding) is not None,
        is_same=run.trace == finding.trace,
        is_repeatable=run.trace == again.trace,
        unmet=tuple(sorted(unmet)),
    )


def _smaller(choices: dict[str, int]) -> Iterator[dict[str, int]]:
    """Lists with less in them: without half of it, a quarter and so on, then with lower numbers."""
    keys = list(choices)
    size = len(keys)
    while size:
        for i in range(0, len(keys), size):
            yield {key: choices[key] for key in keys[:i] + keys[i + size :]}
        size //= 2
    for key in keys:
        for choice in range(1, choices[key]):
            yield {**choices, key: choice}


def shrink(
    scenario: Callable[[Case], Awaitable[object]],
    finding: Finding,
    *,
    most_runs: int = 1000,
    most_steps: int = MOST_STEPS,
) -> Finding:
    """Find a smaller run that shows the same.

    Decisions are left out, which leaves all others as they are, and lower numbers are tried, until nothing more can go.

    Args:
      scenario: the async function that it was found in.
      finding: what was found.
      most_runs: after how many runs to stop, with the smallest one so far.
      most_steps: as for `explore`.

    Raises:
      ValueError: the finding is not found again.
    """
    explorer = Explorer(scenario, finding.limits, most_steps)
    best, _ = explorer.run(finding.choices)
    shown = _shown(best, finding)
    if shown is None:
        raise ValueError(f"{finding.sentence!r} is not found again, so there is nothing to shrink")
    runs = 1
    rest = _smaller(choices_of(best.decisions))
    while runs < most_runs and (choices := next(rest, None)) is not None:
        run, _ = explorer.run(choices)
        runs += 1
        broken = _shown(run, finding)
        if broken is not None:
            best, shown = run, broken
            rest = _smaller(choices)
    return attrs.evolve(
        finding,
        sentence=shown.sentence,
        details=shown.details,
        asked=best.asked,
        struck=tuple(sorted(best.struck, key=lambda place: place not in finding.struck[:1])),
        decisions=best.chosen(),
        steps=best.steps,
        trace=best.trace,
        runs=1,
        of_runs=runs,
    )
