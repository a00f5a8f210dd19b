"""The tape of a run: every decision that was made in it, each under a name of its own.

A run of a deterministic program is a function of its decisions: what the scenario chose, which task went first, what
the kernel answered, where a cancel struck. All of them are asked of one `Tape`, and every one of them has 0 as the
answer of a run in which nothing special happens. So a run is told in full by the decisions that are *not* 0, by name,
and all that an explorer does is one function of such a list:

* *exhaustive*: the run of an empty list, then for each decision that it made a list with that one more;
* *seeded*: a list that is drawn while the run goes on;
* *replay*: the list of a run that there was;
* *shrink*: the same list with less and less in it.

Names rather than positions, because a decision that is left out then changes the meaning of no other one.
"""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, final

import attrs

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence


class Source(Protocol):
    """Decides."""

    def __call__(self, key: str, kind: str, options: int, /) -> int:
        """Return a number from 0 to ``options - 1``."""

    def passes(self, kind: str, count: int) -> int:
        """Tell how many of the next ``count`` decisions of this kind are 0, whatever they are about.

        They are made with this, and need not be asked for nor kept.
        """


#: A decision as it is kept: what `Decision` is made of. A run makes so many that objects would be what it costs most.
Made: TypeAlias = "tuple[str, str, int, int]"

#: What may be decided, and by whom: the scenario itself, the order of tasks, a port, and the explorer that cancels,
#: between two steps or inside of what a port is asked.
PLAN = "plan"
ORDER = "order"
KERNEL = "kernel"
CANCEL = "cancel"
INSIDE = "inside"
KINDS = (PLAN, ORDER, KERNEL, CANCEL, INSIDE)


@final
@attrs.frozen
class Decision:
    """One decision of a run.

    Attributes:
      kind: ``"plan"``, ``"order"``, ``"kernel"``, ``"cancel"`` or ``"inside"``.
      name: what was decided. No other decision of the run that is of the same kind has this name.
      choice: the answer, from 0 on; 0 means that nothing special happens.
      options: how many answers there were.
    """

    kind: str
    name: str
    choice: int
    options: int

    @property
    def key(self) -> str:
        """The name by which `explore` takes the decision: its kind and its name."""
        return f"{self.kind} {self.name}"


@final
class Tape:
    """Where a run asks for its decisions, and where they are kept.

    Args:
      source: decides.
      limits: how many decisions of a kind may be other than 0; a kind that is missing here has no limit.
      skips_silent: whether nobody wants to know what comes of decisions about steps that touch nothing.

    Attributes:
      made: the decisions that were asked for, in order.
      silent: by their number, answers of decisions that would make no difference.
    """

    __slots__ = ("_asked", "_left", "_passes", "_source", "made", "silent", "skips_silent")

    def __init__(
        self, source: Source, limits: Mapping[str, int], *, skips_silent: bool = False
    ) -> None:
        self._source = source
        self._passes = source.passes
        self._left = dict(limits)
        self._asked: dict[str, int] = {}
        self.made: list[Made] = []
        self.silent: dict[int, set[int]] = {}
        self.skips_silent: bool = skips_silent

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """What was made, as objects."""
        return tuple(Decision(*made) for made in self.made)

    def is_spent(self, kind: str) -> bool:
        """Tell whether all further decisions of this kind are 0."""
        return self._left.get(kind) == 0

    def passes(self, kind: str, count: int) -> int:
        """Make up to ``count`` decisions of this kind as far as they are 0 and nobody wants to know of them.

        To make up their names would take longer than all else that there is to do then.

        Returns:
          How many were made.
        """
        return count if self._left.get(kind) == 0 else self._passes(kind, count)

    def choose(self, kind: str, name: str, options: int) -> int:
        """Return a number from 0 to ``options - 1``."""
        if options < 2 or self.is_spent(kind):
            return 0
        key = f"{kind} {name}"
        times = self._asked.get(key, 0) + 1
        self._asked[key] = times
        if times > 1:
            name = f"{name} ({times})"
            key = f"{kind} {name}"
        choice = self._source(key, kind, options)
        self.made.append((kind, name, choice, options))
        if choice and kind in self._left:
            self._left[kind] -= 1
        return choice


# Where decisions come from ----------------------------------------------------------------------


@final
class Listed:
    """Decides as a list says; whatever is not in it is 0.

    Attributes:
      unmet: the keys of the list that have not come up, or not with so many options.
    """

    __slots__ = ("_choices", "unmet")

    def __init__(self, choices: Mapping[str, int]) -> None:
        self._choices = choices
        self.unmet: set[str] = set(choices)

    def passes(self, kind: str, count: int) -> int:
        """Return 0: each decision is looked up by its name, and a search wants to know of all."""
        return 0

    def __call__(self, key: str, kind: str, options: int, /) -> int:
        choice = self._choices.get(key, 0)
        if choice >= options:
            return 0
        self.unmet.discard(key)
        return choice


@final
class Seeded:
    """Decides by chance, and the same for the same seed.

    Where a kind has a limit, something other than 0 must not always come at once, or every run would be over before it
    has begun. How long a run is nobody knows before it is over. So each seed draws for itself how rare it is, from
    every other time to one time in five hundred, and some seeds fit a run of any length.

    Args:
      seed: of the random numbers.
      limits: of the kinds that have one. Of the others all options are equally likely.
    """

    __slots__ = ("_odds", "_random", "_until")

    def __init__(self, seed: int, limits: Mapping[str, int]) -> None:
        # Only random() gives the same numbers in every version of Python.
        self._random = random.Random(seed).random
        self._odds = {kind: 0.5 * 2 ** (-8 * self._random()) for kind in sorted(limits)}
        #: How many decisions of a kind come before the next one that is not 0.
        self._until = {kind: self._draw_distance(odds) for kind, odds in self._odds.items()}

    def _draw_distance(self, odds: float) -> int:
        """Draw how long it takes until something happens that has these odds each time."""
        return int(math.log(1 - self._random()) / math.log(1 - odds))

    def passes(self, kind: str, count: int) -> int:
        """Tell how many of them are 0."""
        until = self._until.get(kind, 0)
        if until >= count:
            self._until[kind] = until - count
            return count
        if until:
            self._until[kind] = 0
        return until

    def __call__(self, key: str, kind: str, options: int, /) -> int:
        odds = self._odds.get(kind)
        if odds is None:
            return int(self._random() * options)
        if self.passes(kind, 1):
            return 0
        self._until[kind] = self._draw_distance(odds)
        return 1 + int(self._random() * (options - 1))


# What else could have been decided --------------------------------------------------------------


def choices_of(decisions: Sequence[Decision]) -> dict[str, int]:
    """The list of a run: its decisions that were not 0, by key."""
    return {decision.key: decision.choice for decision in decisions if decision.choice}


def alternatives(
    decisions: Sequence[Decision], silent: Mapping[int, Collection[int]] | None = None
) -> Iterator[tuple[dict[str, int], int]]:
    """The lists that differ from a run's in one decision more, behind all that are not 0 in it.

    Every combination of decisions has exactly one last decision that is not 0, so a search that begins with an empty
    list and follows the alternatives of each run meets each combination once. Late decisions come first: what begins
    with the same decisions is searched in one go.

    Args:
      decisions: those of the run.
      silent: answers to leave out, by the number of the decision.

    Returns:
      Each list, with the number of decisions that its run shares with this one.
    """
    choices = choices_of(decisions)
    first = 1 + max((i for i, decision in enumerate(decisions) if decision.choice), default=-1)
    for i in reversed(range(first, len(decisions))):
        left_out = (silent or {}).get(i, ())
        for choice in range(1, decisions[i].options):
            if choice in left_out:
                continue
            yield {**choices, decisions[i].key: choice}, i


def check_limits(limits: Mapping[str, Any]) -> dict[str, int]:
    """Return limits by kind without those that are None.

    Raises:
      TypeError: one is no whole number.
      ValueError: one is negative.
    """
    for kind, limit in limits.items():
        if limit is None:
            continue
        if not isinstance(limit, int):
            raise TypeError(f"the limit of {kind!r} must be a whole number or None, not {limit!r}")
        if limit < 0:
            raise ValueError(f"the limit of {kind!r} is {limit}, but must be 0 or more")
    return {kind: limit for kind, limit in limits.items() if limit is not None}
