"""The decorator that makes an exploration of a test."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, final

from ._explore import MOST_STEPS, explore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from ._case import Case
    from ._report import Report


@final
class ExplorationError(AssertionError):
    """A test that is run by `cancel_everywhere` has failed.

    Attributes:
      report: what was found and what was tried.
    """

    def __init__(self, message: str, report: Report) -> None:
        super().__init__(message)
        self.report = report


def cancel_everywhere(
    *,
    cancels: int = 1,
    orders: int = 0,
    limits: Mapping[str, int | None] | None = None,
    seeds: Iterable[int] | None = None,
    only: Mapping[str, int] | None = None,
    most_runs: int = 100_000,
    most_steps: int = MOST_STEPS,
    allow_differences: bool = False,
) -> Callable[[Callable[..., Awaitable[object]]], Callable[..., None]]:
    """Make a test of an async function that is run once for each place at which a cancel can strike it.

    The function has a parameter ``case``, which is a `Case`; all its others stay those of the test, for fixtures
    and parameters. The test itself is a plain function, so it needs no plugin, and none may run it inside of Trio:

    .. code-block:: python

       @cancel_everywhere()
       async def test_nothing_is_lost(case):
           queue = Queue()
           case.finally_(lambda: case.check(len(queue) == 1, "an item is lost"))
           queue.put("item")
           await queue.get_and_put_back()

    Fixtures are made once, before the first run: what a run changes has to be made inside of the function.

    Args:
      cancels: as for `explore`, like all that follow up to ``most_steps``.
      orders: see there.
      limits: see there.
      seeds: see there.
      only: see there. The message of a test that failed ends with a line to copy.
      most_runs: see there. The test fails if they were not enough.
      most_steps: see there.
      allow_differences: whether runs with the same decisions may differ, as they can with real sockets or threads. Then
        some places may be left out. If not, the test fails.

    Raises:
      TypeError: the function has no parameter ``case``.
      ExplorationError: raised by the test; its message is the report.
    """

    def decorate(function: Callable[..., Awaitable[object]]) -> Callable[..., None]:
        signature = inspect.signature(function)
        if "case" not in signature.parameters:
            raise TypeError(f"{function!r} must have a parameter case, which gets the Case")
        visible = signature.replace(
            parameters=[p for name, p in signature.parameters.items() if name != "case"],
            return_annotation=None,
        )

        @functools.wraps(function)
        def test(*args: Any, **kwargs: Any) -> None:
            __tracebackhide__ = True
            given = visible.bind(*args, **kwargs).arguments

            @functools.wraps(function)
            async def scenario(case: Case) -> None:
                # In the order of the parameters, wherever case stands among them.
                everything = {**given, "case": case}
                in_order = {n: everything[n] for n in signature.parameters if n in everything}
                bound = inspect.BoundArguments(signature, in_order)
                await function(*bound.args, **bound.kwargs)

            report = explore(
                scenario,
                cancels=cancels,
                orders=orders,
                limits=limits,
                seeds=seeds,
                only=only,
                most_runs=most_runs,
                most_steps=most_steps,
            )
            if report.findings:
                raise ExplorationError(f"something is wrong\n{report}", report)
            if report.unrepeatable and not allow_differences:
                raise ExplorationError(
                    f"runs with the same decisions differ, so places may be left out; "
                    f"allow_differences=True allows it\n{report}",
                    report,
                )
            if not report.exhausted and not report.unrepeatable and seeds is None and only is None:
                raise ExplorationError(
                    f"{most_runs} runs were not enough: allow more with most_runs, or leave less to decide\n{report}",
                    report,
                )

        # What a test framework looks at to find fixtures: it must not see `case`.
        test.__signature__ = visible  # type: ignore[attr-defined]
        return test

    return decorate
