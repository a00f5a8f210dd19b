"""What ``trio-send explore`` does with a finding: run it again, make it smaller, draw it."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import trio

from ...testing import Finding, random_world, record, replay, shrink, small_world, smallest_world
from ..failures import FAILURE, Failure, describe
from ..output import complain, say
from ..timeline import FORMATS, draw

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from ...testing import Case

WORLDS: Final[Mapping[str, Callable[[Case], Awaitable[object]]]] = {
    "small": small_world,
    "smallest": smallest_world,
    "random": random_world,
}
SCENARIOS: Final = {world.__name__: world for world in WORLDS.values()}


class FindingOptions(argparse.Namespace):
    file: str
    output: str | None


def add_finding_parsers(actions: Any) -> None:
    """Add the actions that take a finding."""
    again = actions.add_parser(
        "replay",
        help="run a finding again",
        description="Run a finding again, twice, and say whether it is still found and all runs were the same.",
        allow_abbrev=False,
    )
    smaller = actions.add_parser(
        "shrink",
        help="make a finding smaller",
        description="Leave out of a finding what is not needed for it.",
        allow_abbrev=False,
    )
    picture = actions.add_parser(
        "show",
        help="draw a finding",
        description="Run a finding again, and draw what happened to each operation.",
        allow_abbrev=False,
    )
    for parser in (again, smaller, picture):
        parser.add_argument("file", metavar="FILE", help="what `run` has written")
    smaller.add_argument(
        "output", metavar="OUTPUT", nargs="?", help="where to write it (default: to FILE itself)"
    )
    picture.add_argument(
        "output",
        metavar="OUTPUT",
        nargs="?",
        help=f"the file to draw to, {FORMATS} (default: text, on standard output)",
    )


def load(path: str) -> tuple[Finding, Callable[[Case], Awaitable[object]]]:
    try:
        finding = Finding.load(path)
    except OSError as error:
        raise Failure(f"{path!r} cannot be read: {describe(error)}") from None
    except ValueError as error:
        raise Failure(str(error)) from None
    if finding.scenario not in SCENARIOS:
        raise Failure(
            f"{path!r} was found in {finding.scenario!r}, which is not one of {', '.join(SCENARIOS)}; "
            "use trio_send.testing.replay in Python"
        )
    return finding, SCENARIOS[finding.scenario]


def write_file(path: str, text: str) -> None:
    """Write a file of text.

    Raises:
      Failure: that failed.
    """
    try:
        Path(path).write_text(text, "utf-8")
    except OSError as error:
        raise Failure(f"{path!r} cannot be written: {describe(error)}") from None


async def _replay(options: FindingOptions) -> int:
    finding, world = await trio.to_thread.run_sync(load, options.file)
    again = await trio.to_thread.run_sync(replay, world, finding)
    for sentence in again.sentences:
        say(sentence)
    if not again.is_found_again:
        raise Failure(f"it is not found again: {finding.sentence}", FAILURE)
    if not again.is_repeatable:
        raise Failure("it is found again, but two runs of it were not the same")
    if not again.is_same:
        versions = ", ".join(f"{name} {version}" for name, version in finding.versions.items())
        raise Failure(
            f"it is found again, but the run is not the one that was found with {versions}"
        )
    say("It is found again, and all runs are the same, step for step.")
    return 0


async def _shrink(options: FindingOptions) -> int:
    finding, world = await trio.to_thread.run_sync(load, options.file)
    output = options.output or options.file
    try:
        small = await trio.to_thread.run_sync(partial(shrink, world, finding))
    except ValueError as error:
        raise Failure(str(error)) from None
    try:
        await trio.to_thread.run_sync(small.save, output)
    except OSError as error:
        raise Failure(f"{output!r} cannot be written: {describe(error)}") from None
    say("\n".join(small.in_words))
    before, after = len(finding.decisions), len(small.decisions)
    say(f"{before} decisions before, {after} now, after {small.of_runs} runs")
    return 0


async def _show(options: FindingOptions) -> int:
    finding, world = await trio.to_thread.run_sync(load, options.file)
    recorded = await trio.to_thread.run_sync(record, world, finding)
    again = recorded.replay
    if not again.is_found_again:
        complain(
            "trio-send explore: with somebody who looks on it is not found again; what is drawn is what happens then"
        )
    elif not again.is_same:
        complain("trio-send explore: what is drawn is not the run that was found, step for step")
    title = "; ".join([finding.sentence, *(f"cancel of {words}" for words in finding.asked)])
    picture = draw(recorded.trace, options.output or ".txt", title)
    if options.output is None:
        say(picture.rstrip("\n"))
        return 0
    await trio.to_thread.run_sync(write_file, options.output, picture)
    return 0


FINDING_ACTIONS: Final[Mapping[str, Callable[[Any], Awaitable[int]]]] = {
    "replay": _replay,
    "shrink": _shrink,
    "show": _show,
}
