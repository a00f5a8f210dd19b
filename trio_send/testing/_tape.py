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

import random
from typing import TYPE_CHECKING, Any, TypeAlias, final

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

#: Asked for a decision: its key, its kind and the number of its options.
Source: TypeAlias = "Callable[[str, str, int], int]"

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
    """

    __slots__ = ("_asked", "_left", "_source", "decisions")

    def __init__(self, source: Source, limits: Mapping[str, int]) -> None:
        self._source = source
        self._left = dict(limits)
        self._asked: dict[str, int] = {}
        self.decisions: list[Decision] = []

    def is_spent(self, kind: str) -> bool:
        """Tell whether all further decisions of this kind are 0."""
        return self._left.get(kind) == 0

    def choose(self, kind: str, name: str, options: int) -> int:
        """Return a number from 0 to ``options - 1``."""
        if options < 2 or self.is_spent(kind):
            return 0
        key = f"{kind} {name}"
        times = self._asked[key] = self._asked.get(key, 0) + 1
        if times > 1:
            name = f"{name} ({times})"
            key = f"{kind} {name}"
        choice = self._source(key, kind, options)
        self.decisions.append(Decision(kind, name, choice, options))
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

    def __call__(self, key: str, kind: str, options: int) -> int:
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

    __slots__ = ("_odds", "_random")

    def __init__(self, seed: int, limits: Mapping[str, int]) -> None:
        # Only random() gives the same numbers in every version of Python.
        self._random = random.Random(seed)
        self._odds = {kind: 0.5 * 2 ** (-8 * self._random.random()) for kind in sorted(limits)}

    def __call__(self, key: str, kind: str, options: int) -> int:
        odds = self._odds.get(kind)
        if odds is None:
            return int(self._random.random() * options)
        if self._random.random() >= odds:
            return 0
        return 1 + int(self._random.random() * (options - 1))


# What else could have been decided --------------------------------------------------------------


def choices_of(decisions: Sequence[Decision]) -> dict[str, int]:
    """The list of a run: its decisions that were not 0, by key."""
    return {decision.key: decision.choice for decision in decisions if decision.choice}


def alternatives(decisions: Sequence[Decision]) -> Iterator[tuple[dict[str, int], int]]:
    """The lists that differ from a run's in one decision more, behind all that are not 0 in it.

    Every combination of decisions has exactly one last decision that is not 0, so a search that begins with an empty
    list and follows the alternatives of each run meets each combination once. Late decisions come first: what begins
    with the same decisions is searched in one go.

    Returns:
      Each list, with the number of decisions that its run shares with this one.
    """
    choices = choices_of(decisions)
    first = 1 + max((i for i, decision in enumerate(decisions) if decision.choice), default=-1)
    for i in reversed(range(first, len(decisions))):
        for choice in range(1, decisions[i].options):
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
