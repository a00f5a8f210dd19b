"""All that the explorer uses of Trio and that Trio does not promise.

Cancelling needs nothing of it. What it is good for:

* ``trio._core._run._r`` and ``_ALLOW_DETERMINISTIC_SCHEDULING``: Trio mixes the tasks that are about to step by chance.
  A stand-in for its random numbers decides instead, and can end a run that nothing else ends.
* ``Task._next_send``: whether a task is about to be told that it was cancelled.
* ``CancelScope._cancel_status`` and ``_has_been_entered``: whether a scope is over, so that a cancel is in vain.
* ``Task._cancel_status`` and its ``_scope`` and ``_parent``: the scopes around a task, so that it can be told which
  cancel reaches it, and so that their shields can be taken away from a program that would not end.
* ``MockClock._virtual_base``, and ``GLOBAL_RUN_CONTEXT.runner`` with its ``_locals``, ``asyncgens``, ``instruments``
  and ``runq``: so that one call of `trio.run` is as good as new for the next run, and to ask quickly who is about
  to step.

Each is looked for before it is used, `what_is_lost` says what a release of Trio that has changed them takes away, and a
test for each supported release says so first.
"""

from __future__ import annotations

import functools
import math
import random
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs
import outcome
import trio
import trio._core._run as _run
import trio.testing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Puts tasks that are about to step into order.
Arrange: TypeAlias = "Callable[[list[trio.lowlevel.Task]], None]"

_ORDER_IS_LOST = (
    "the order of tasks is Trio's and varies from run to run: orders are not explored, a replay may differ, "
    "and a program that swallows every cancel is not ended"
)
_STRIKES_ARE_LOST = "where a cancel struck is not known: the places at which tasks stood when it came are told instead"
_SHIELDS_ARE_KEPT = (
    "a program that goes on behind a shield is ended in a way that leaves traces, or not at all"
)
_HOSTING_IS_LOST = "each world has a call of trio.run of its own: exploring them takes longer"
_ENDS_ARE_LOST = "scopes that are over are cancelled as well, in vain: there are more runs"

#: Trio's random numbers are those of a whole process, so one run at a time is explored.
_ONE_AT_A_TIME = threading.Lock()


class _StandIn(random.Random):
    """Decides the order of tasks in this thread; in others it is Trio's own chance."""

    def __init__(self, arrange: Arrange) -> None:
        super().__init__()
        self._arrange = arrange
        self._thread = threading.get_ident()

    def shuffle(self, x: Any, *rest: Any) -> None:
        if threading.get_ident() == self._thread:
            self._arrange(x)
        else:
            super().shuffle(x)


@contextmanager
def _swapped(arrange: Arrange) -> Iterator[None]:
    with _ONE_AT_A_TIME:
        kept = _run._r, _run._ALLOW_DETERMINISTIC_SCHEDULING
        namespace = vars(_run)
        namespace["_r"] = _StandIn(arrange)
        namespace["_ALLOW_DETERMINISTIC_SCHEDULING"] = True
        try:
            yield
        finally:
            namespace["_r"], namespace["_ALLOW_DETERMINISTIC_SCHEDULING"] = kept


@contextmanager
def scheduler(arrange: Arrange) -> Iterator[None]:
    """Have ``arrange`` put each batch of tasks into order, for the runs that this thread begins in the block.

    It is given a list that it may change, with the task that was made first in front. The *last* one of it steps first.
    What it raises ends the run at once, as `trio.TrioInternalError`. Where Trio has changed too much, nothing happens.
    """
    if decides_order():
        with _swapped(arrange):
            yield
    else:
        yield


def _fields(cls: type) -> set[str]:
    return {field.name for field in attrs.fields(cls)} if attrs.has(cls) else set()


@functools.cache
def decides_order() -> bool:
    """Tell whether `scheduler` works with this release of Trio."""
    loop = getattr(_run, "unrolled_run", None)
    used = set(getattr(getattr(loop, "__code__", None), "co_names", ()))
    return (
        isinstance(getattr(_run, "_r", None), random.Random)
        and {"_ALLOW_DETERMINISTIC_SCHEDULING", "_r", "shuffle"} <= used
    )


@functools.cache
def knows_strikes() -> bool:
    """Tell whether `pending_cancel` works with this release of Trio."""
    return "_next_send" in _fields(trio.lowlevel.Task)


@functools.cache
def knows_scopes() -> bool:
    """Tell whether `reaches` and `unshield` work with this release of Trio."""
    status = getattr(_run, "CancelStatus", None)
    return (
        "_cancel_status" in _fields(trio.lowlevel.Task)
        and isinstance(status, type)
        and {"_scope", "_parent"} <= _fields(status)
    )


@functools.cache
def _knows_ends() -> bool:
    return {"_cancel_status", "_has_been_entered"} <= _fields(trio.CancelScope)


@functools.cache
def can_host() -> bool:
    """Tell whether `begin_again` and `has_left_behind` work with this release of Trio."""
    runner = getattr(_run, "Runner", None)
    generators = getattr(_run, "AsyncGenerators", None)
    return (
        hasattr(_run, "GLOBAL_RUN_CONTEXT")
        and isinstance(runner, type)
        and {"_locals", "asyncgens", "instruments"} <= _fields(runner)
        and isinstance(generators, type)
        and "alive" in _fields(generators)
        and "_virtual_base" in vars(trio.testing.MockClock())
    )


def begin_again(clock: trio.testing.MockClock) -> None:
    """Set the clock of a run back to 0, and forget its variables, if that can be done."""
    if can_host():
        clock._virtual_base = 0.0
        _run.GLOBAL_RUN_CONTEXT.runner._locals.clear()


@functools.cache
def _knows_runnable() -> bool:
    runner = getattr(_run, "Runner", None)
    return (
        hasattr(_run, "GLOBAL_RUN_CONTEXT")
        and isinstance(runner, type)
        and "runq" in _fields(runner)
    )


def tasks_runnable() -> int:
    """How many tasks are about to step."""
    if _knows_runnable():
        # Asked for each time that Trio looks for events. All the statistics would take twenty times as long.
        return len(_run.GLOBAL_RUN_CONTEXT.runner.runq)
    return trio.lowlevel.current_statistics().tasks_runnable


def has_left_behind() -> bool:
    """Tell whether something is still to come in a run in which nobody but the caller's task steps any more."""
    runner = _run.GLOBAL_RUN_CONTEXT.runner
    statistics = trio.lowlevel.current_statistics()
    return bool(
        runner.asyncgens.alive
        or len(runner.instruments["_all"]) > 1
        or statistics.seconds_to_next_deadline < math.inf
        or statistics.run_sync_soon_queue_size
    )


def pending_cancel(task: trio.lowlevel.Task) -> trio.Cancelled | None:
    """What a task that is about to step gets raised, if it is `trio.Cancelled` and that can be known."""
    if knows_strikes():
        sent = task._next_send
        # `isinstance` takes a while, because it is an abstract class that this one derives from.
        if type(sent) is outcome.Error and isinstance(sent.error, trio.Cancelled):
            return sent.error
    return None


def reaches(scope: trio.CancelScope, task: trio.lowlevel.Task) -> bool:
    """Tell whether a task is inside a scope and no shield is between them, as far as that can be known."""
    status: Any = task._cancel_status if knows_scopes() else None
    while status is not None:
        if status._scope is scope:
            return True
        if status._scope.shield:
            break
        status = status._parent
    return False


def is_over(scope: object) -> bool:
    """Tell whether something is a cancel scope that was left, as far as that can be known."""
    return (
        isinstance(scope, trio.CancelScope)
        and _knows_ends()
        and scope._has_been_entered
        and scope._cancel_status is None
    )


def unshield(task: trio.lowlevel.Task) -> None:
    """Take the shields away from all scopes around a task, if that can be done."""
    if knows_scopes():
        status: Any = task._cancel_status
        while status is not None:
            status._scope.shield = False
            status = status._parent


def what_is_lost() -> tuple[str, ...]:
    """A sentence for each thing that this release of Trio does not let the explorer do."""
    return tuple(
        sentence
        for is_there, sentence in (
            (decides_order(), _ORDER_IS_LOST),
            (knows_strikes() and knows_scopes(), _STRIKES_ARE_LOST),
            (knows_scopes(), _SHIELDS_ARE_KEPT),
            (_knows_ends(), _ENDS_ARE_LOST),
            (can_host(), _HOSTING_IS_LOST),
        )
        if not is_there
    )
