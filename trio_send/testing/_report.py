"""What an exploration has found, in numbers and in words."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, final

import attrs

from . import _trio_private
from ._findings import Finding, program_versions
from ._tape import INSIDE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._case import Broken
    from ._places import Place
    from ._watcher import Run

#: How many runs with something wrong are looked at to tell findings apart. All are counted.
KEPT = 10_000


@final
@attrs.frozen
class PlaceCount:
    """How often a place was struck, in runs.

    Attributes:
      place: the place.
      visited: in how many runs a task stood there.
      struck: in how many a task got `trio.Cancelled` there from the explorer; 0 also if every scope around it shields.
      broken: in how many of those something was wrong.
    """

    place: Place
    visited: int
    struck: int
    broken: int


@final
@attrs.frozen
class Report:
    """What `explore` returns; as a string it is written for people.

    Attributes:
      scenario: the name of the scenario.
      runs: how many runs there were.
      broken_runs: in how many of them something was wrong.
      traces: how many of them differ in what some task did by itself, or in what was wrong.
      limits: how many decisions of each kind could be other than 0 in one run. A kind without a limit is missing.
      exhausted: whether everything within the limits was tried.
      plans: how many different choices the scenario got from `Case.choose`, taken together.
      findings: what was wrong, each kind of it once, with a run that shows it.
      places: where tasks stood, and how often a cancel struck there.
      unrepeatable: runs that did not begin as another run with the same decisions did, a sentence for each. So
        something that the explorer does not decide has a say in the program: a clock, a kernel, a thread, an address.
      lost: what the release of Trio at hand does not let the explorer do, a sentence for each.
    """

    scenario: str
    runs: int
    broken_runs: int
    traces: int
    limits: Mapping[str, int]
    exhausted: bool
    plans: int
    findings: tuple[Finding, ...]
    places: tuple[PlaceCount, ...]
    unrepeatable: tuple[str, ...]
    lost: tuple[str, ...]

    @property
    def never_struck(self) -> tuple[Place, ...]:
        """The places at which tasks stood and no cancel ever struck."""
        return tuple(count.place for count in self.places if not count.struck)

    def __str__(self) -> str:
        limits = ", ".join(
            f"{limit} of kind {kind}"
            for kind, limit in self.limits.items()
            if limit or kind != INSIDE  # which nobody expects
        )
        lines = [
            f"{self.scenario}: {self.runs} runs of {self.plans} plans, {self.traces} of them different, "
            f"{'exhausted' if self.exhausted else 'not exhausted'}",
            f"decisions in one run: {f'at most {limits}' if limits else 'without a limit'}",
            f"something is wrong in {self.broken_runs} runs, findings: {len(self.findings)}",
        ]
        for number, finding in enumerate(self.findings, 1):
            first, *more = finding.in_words
            lines += [f"{number}. {first}", *(f"   {line}" for line in more)]
        if self.places:
            lines.append(
                "runs in which a task stood at a place / was cancelled there / and it broke:"
            )
            width = max(len(count.place.in_words) for count in self.places)
            lines += [
                f"   {count.place.in_words:<{width}} {count.visited:>6} {count.struck:>6} {count.broken:>6}"
                for count in self.places
            ]
        lines += [f"not repeatable: {sentence}" for sentence in self.unrepeatable]
        lines += [f"with this release of Trio: {sentence}" for sentence in self.lost]
        return "\n".join(lines)


@final
class Ledger:
    """Adds up runs to a report.

    Args:
      scenario: the name of the scenario.
      limits: by kind of decision.
    """

    def __init__(self, scenario: str, limits: Mapping[str, int]) -> None:
        self.scenario = scenario
        self.limits = limits
        self.runs = 0
        self.exhausted = False
        self.unrepeatable: list[str] = []
        self._broken: list[Run] = []
        self._broken_runs = 0
        self._traces: set[str] = set()
        self._plans: set[bytes] = set()
        self._visited: dict[Place, int] = {}
        self._struck: dict[Place, int] = {}
        self._broke: dict[Place, int] = {}

    def add(self, run: Run) -> None:
        """Count a run."""
        self.runs += 1
        self._traces.add(run.behaviour)
        # Of a million of them nothing more can be kept.
        self._plans.add(hashlib.sha256(repr(run.plan()).encode()).digest()[:16])
        for counts, places in ((self._visited, run.visited), (self._struck, run.struck)):
            for place in places:
                counts[place] = counts.get(place, 0) + 1
        if run.broken:
            self._broken_runs += 1
            for place in run.struck:
                self._broke[place] = self._broke.get(place, 0) + 1
            if len(self._broken) < KEPT:
                self._broken.append(run)

    def merge(self, other: Ledger) -> None:
        """Count the runs of another ledger, which come behind those of this one."""
        self.runs += other.runs
        self.unrepeatable += other.unrepeatable
        self._broken_runs += other._broken_runs
        self._broken += other._broken[: KEPT - len(self._broken)]
        self._traces |= other._traces
        self._plans |= other._plans
        for mine, theirs in (
            (self._visited, other._visited),
            (self._struck, other._struck),
            (self._broke, other._broke),
        ):
            for place, count in theirs.items():
                mine[place] = mine.get(place, 0) + count

    def _suspects(self, run: Run) -> tuple[Place, ...]:
        """The places that a run's cancel struck, first the one whose cancel breaks something most reliably.

        A cancel of a scope strikes many tasks at once. Where one of them broke something, those at the other places did
        not in most other runs. Among equals it is the place that accounts for the most.
        """
        return tuple(
            sorted(
                run.struck,
                key=lambda place: (
                    -self._broke[place] / self._struck[place],
                    -self._struck[place],
                    place,
                ),
            )
        )

    def _findings(self) -> tuple[Finding, ...]:
        kinds: dict[tuple[str | Place, Place | None], list[tuple[Run, Broken]]] = {}
        for run in self._broken:
            suspects = self._suspects(run)
            culprit = suspects[0] if suspects else None
            # A check may put figures into its sentence: where it stands tells it from others.
            first: dict[str | Place, Broken] = {}
            for broken in run.broken:
                first.setdefault(broken.place or broken.sentence, broken)
            for key, broken in first.items():
                kinds.setdefault((key, culprit), []).append((run, broken))
        findings = []
        for shown in kinds.values():
            run, broken = min(
                shown,
                key=lambda pair: (
                    len(pair[0].chosen()),
                    len(pair[0].struck),
                    pair[0].steps,
                ),
            )
            findings.append(
                Finding(
                    scenario=self.scenario,
                    sentence=broken.sentence,
                    details=broken.details,
                    checked=broken.place,
                    asked=run.asked,
                    struck=self._suspects(run),
                    runs=len(shown),
                    of_runs=self.runs,
                    limits=dict(self.limits),
                    decisions=run.chosen(),
                    steps=run.steps,
                    trace=run.trace,
                    versions=program_versions(),
                )
            )
        return tuple(sorted(findings, key=lambda finding: (-finding.runs, finding.sentence)))

    def report(self) -> Report:
        """Return what was counted so far."""
        return Report(
            scenario=self.scenario,
            runs=self.runs,
            broken_runs=self._broken_runs,
            traces=len(self._traces),
            limits=dict(self.limits),
            exhausted=self.exhausted,
            plans=len(self._plans),
            findings=self._findings(),
            places=tuple(
                PlaceCount(place, visited, self._struck.get(place, 0), self._broke.get(place, 0))
                for place, visited in sorted(self._visited.items())
            ),
            unrepeatable=tuple(self.unrepeatable),
            lost=_trio_private.what_is_lost(),
        )
