"""What a scenario is given: its checks, its choices, and what may be cancelled in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar, final

import attrs

from . import _trio_private
from ._places import Place, place_of_caller, place_of_exception
from ._tape import INSIDE, KERNEL, PLAN, Tape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


class _HasCancel(Protocol):
    def cancel(self) -> object: ...


T = TypeVar("T", bound="_HasCancel | Callable[[], object]")


@final
@attrs.frozen
class Broken:
    """Something that a run showed to be wrong.

    Attributes:
      sentence: what.
      place: where the program said so, or None if it is the explorer that says it.
      details: what else there is to say, which may be different in each run.
    """

    sentence: str
    place: Place | None
    details: str = ""


@attrs.define
class Target:
    """Something that may be cancelled."""

    name: str
    cancel: Callable[[], object]
    thing: object

    def is_over(self) -> bool:
        """Tell whether a cancel would be in vain, as far as that can be known."""
        return bool(getattr(self.thing, "cancel_called", False)) or _trio_private.is_over(
            self.thing
        )


@final
class Case:
    """One run of a scenario, which gets this as its argument.

    All methods may be called from any task of the scenario and never wait.
    """

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._targets: list[Target] = []
        self._broken: list[Broken] = []
        self._asked: list[str] = []
        self._is_inside = False
        #: Whether it is a world, which leaves nothing behind that another run could find.
        self._is_world = False
        #: Looks at all of a world that a step can change; None if it is not known what that is.
        self._look: Callable[[], object] | None = None
        #: How often a port was asked something.
        self._touches = 0
        self._last: list[Callable[[], object]] = []

    def check(self, condition: object, sentence: str) -> None:
        """Note that something is wrong unless a condition holds; the run goes on.

        Args:
          condition: what has to be true.
          sentence: what is wrong if it is not.
        """
        if not condition:
            self._broken.append(Broken(str(sentence), place_of_caller()))

    def _say(self, sentence: str, rule: str) -> None:
        """Note that a rule is broken."""
        self._broken.append(Broken(sentence, Place(rule, 0, "rules")))

    def _inside(self, when: str) -> None:
        """Perhaps stop something here, in the middle of a step."""
        for target in self._strikes(INSIDE):
            if self._tape.choose(INSIDE, f"{target.name} when {when}", 2):
                self._asked.append(f"{target.name} when {when}")
                self._is_inside = True
                self._cancel(target)
                self._is_inside = False

    def _strikes(self, kind: str) -> Iterable[Target]:
        """Return everything that may be cancelled, as far as it takes a decision."""
        # Asked before each step, and mostly there is nothing.
        first = self._tape.passes(kind, len(self._targets))
        return self._strikes_from(kind, first) if first < len(self._targets) else ()

    def _strikes_from(self, kind: str, first: int) -> Iterator[Target]:
        i = first
        targets = list(self._targets)
        while i < len(targets):
            if not targets[i].is_over():
                yield targets[i]
            i += 1
            i += self._tape.passes(kind, len(targets) - i)

    def _cancel(self, target: Target) -> None:
        try:
            target.cancel()
        except Exception as error:
            self._broken += describe_exception(error)

    def finally_(self, function: Callable[[], object], /) -> None:
        """Have a function called when the run is over, however it ended.

        It is called outside of Trio, after the functions that were handed over before it. What it raises is wrong as if
        the scenario had raised it.

        Args:
          function: a synchronous function without arguments, which will look at what is left with `check`.
        """
        if not callable(function):
            raise TypeError(f"function must be callable without arguments, not {function!r}")
        self._last.append(function)

    def cancellable(self, target: T, name: str | None = None) -> T:
        """Have something cancelled, by itself, before every step from here on.

        The scenario as a whole is cancelled in any case. A part of it is worth naming if the rest has to go on after
        its cancel:

        .. code-block:: python

           async def scenario(case):
               sender, receiver = trio.open_memory_channel(1)
               with case.cancellable(trio.CancelScope()):
                   await receiver.receive()
               await sender.send("the channel still works")

           explore(scenario)

        Args:
          target: a `trio.CancelScope` or anything else with a method ``cancel``, or a function that cancels. It is
            called in the middle of the run, between two steps of tasks, and what it raises is a finding. If it has an
            attribute ``cancel_called`` that is true, it is left alone.
          name: what the report calls it; by default scope, scope 2 and so on.

        Returns:
          ``target``.
        """
        cancel: Any = getattr(target, "cancel", target)
        if not callable(cancel):
            raise TypeError(f"target must have a method cancel or be a function, not {target!r}")
        if name is None:
            # The scenario itself is the first.
            number = len(self._targets)
            name = "scope" if number == 1 else f"scope {number}"
        self._targets.append(Target(name, cancel, target))
        return target

    def choose(self, options: int, name: str = "choice", *, kind: str = PLAN) -> int:
        """Return a number that the explorer chooses; another run gets another one.

        Args:
          options: how many numbers there are to choose from.
          name: what is chosen, for the report.
          kind: ``"plan"``, or ``"kernel"`` for what stands for an answer of the system, which has a limit of its own.

        Returns:
          A number from 0 to ``options - 1``. 0 should be the one with which nothing special happens.
        """
        if kind not in (PLAN, KERNEL):
            raise ValueError(f"kind is {kind!r}, but must be {PLAN!r} or {KERNEL!r}")
        if not isinstance(options, int):
            raise TypeError(f"options must be a whole number, not {options!r}")
        if options < 1:
            raise ValueError(f"options is {options}, but there must be at least 1 to choose from")
        return self._tape.choose(kind, name, options)


def describe_exception(error: BaseException) -> list[Broken]:
    """What an exception that left a scenario says is wrong, one for each in a group."""
    inner = getattr(error, "exceptions", None)
    if isinstance(inner, tuple):
        return [broken for one in inner for broken in describe_exception(one)]
    words = str(error)
    if not isinstance(error, AssertionError):
        words = f"{type(error).__name__}: {words}" if words else type(error).__name__
    return [Broken(words or "an assertion failed", place_of_exception(error))]


def broken_in(case: Case) -> list[Broken]:
    """Return what is wrong in a run so far, to be read and added to."""
    return case._broken
