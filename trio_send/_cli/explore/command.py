"""``trio-send explore``: look for what breaks a promise, and run it again."""

from __future__ import annotations

import argparse
import os
import threading
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import active_children, get_context
from typing import TYPE_CHECKING, Any, Final

import trio

from ...testing import Report, explore
from ..command import Command
from ..failures import Failure, describe
from ..interruption import ignore_signals, interruptible, signals_held_back
from ..meter import Meter, keep_showing, meter
from ..output import say
from ..values import parse_count
from .compare import add_compare_parser, run_compare
from .findings import FINDING_ACTIONS, WORLDS, add_finding_parsers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping


#: As many seeds as take some seconds.
SEEDS: Final = range(1000)

DESCRIPTION = """\
Look for what breaks a promise of the library. Sockets whose kernel is played take bytes in part, late or not at all,
tasks step in another order, and scopes and operations are cancelled, each time somewhere else. What was sent is held to
the rules. What breaks one is told with the decisions that lead there, and can be run again.
"""


class _Options(argparse.Namespace):
    action: str
    world: str
    seeds: range | None
    cancels: int
    orders: int
    kernel: int | None
    inside: int
    full: bool
    jobs: int
    most_runs: int
    findings: str | None


def _parse_seeds(text: str) -> range:
    first, colon, last = text.partition(":")
    if colon and first.isdecimal() and last.isdecimal() and int(first) < int(last):
        return range(int(first), int(last))
    raise argparse.ArgumentTypeError(
        f"{text!r} is no range of seeds; write the first and the one behind the last, as in 0:1000"
    )


def _parse_number(text: str) -> int:
    if text.isdecimal() and len(text) < 10:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, from 0 on")


def _parse_positive(text: str) -> int:
    number = _parse_number(text)
    if number == 0:
        raise argparse.ArgumentTypeError("it must be at least 1")
    return number


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(metavar="ACTION", required=True, dest="action")
    run = actions.add_parser(
        "run", help="explore worlds", description="Explore worlds of one kind.", allow_abbrev=False
    )
    run.add_argument(
        "world",
        metavar="WORLD",
        nargs="?",
        choices=WORLDS,
        default="random",
        help="small or smallest, in which everything is tried in turn, or random, which is drawn (default: random)",
    )
    run.add_argument(
        "--seeds",
        metavar="A:B",
        type=_parse_seeds,
        help="draw a world for each number from A on and below B (default: 0:1000 of random; of the others everything "
        "is tried instead)",
    )
    for name, default, what in (
        ("cancels", 1, "cancels"),
        ("orders", 0, "steps out of turn"),
        ("inside", 0, "stops from inside of a system call"),
    ):
        run.add_argument(
            f"--{name}",
            metavar="N",
            type=_parse_number,
            default=default,
            help=f"how many {what} there may be in one run (default: %(default)s)",
        )
    run.add_argument(
        "--kernel",
        metavar="N",
        type=_parse_number,
        help="how many answers of the kernel may be out of the ordinary in one run (default: 1 if everything is tried, "
        "else no limit)",
    )
    run.add_argument(
        "--full",
        action="store_true",
        help="try also what differs in steps that touch nothing",
    )
    run.add_argument(
        "--jobs",
        metavar="N",
        type=parse_count,
        default=os.cpu_count() or 1,
        help="how many processes draw at once (default: one for each core, here %(default)s)",
    )
    run.add_argument(
        "--most-runs",
        metavar="N",
        type=_parse_positive,
        default=1_000_000,
        help="when to stop (default: after %(default)s runs)",
    )
    run.add_argument(
        "--findings",
        metavar="DIRECTORY",
        help="write a file for each finding to DIRECTORY (default: none)",
    )
    add_finding_parsers(actions)
    add_compare_parser(actions, _parse_seeds)


class _Progress:
    """How far an exploration is, and whether it has to stop.

    Attributes:
      runs: how many there were so far.
      stop: set if there are to be no more.
    """

    def __init__(self) -> None:
        self.runs = 0
        self.stop = threading.Event()

    def __call__(self, runs: int) -> bool:
        self.runs = runs
        return self.stop.is_set()


def _kill_processes() -> None:
    """Kill the processes that draw worlds.

    If one was killed, the executor asks the others to end with SIGTERM and waits for them. They ignore it.
    """
    for process in active_children():
        process.kill()


def _explore(options: _Options, seeds: range | None, progress: _Progress) -> Report:
    kernel = options.kernel
    if kernel is None and seeds is None:
        kernel = 1
    with ExitStack() as stack:
        executor = None
        if seeds is not None and options.jobs > 1:
            stack.enter_context(signals_held_back())
            # A forked process would have a copy of the run of Trio that goes on here.
            executor = stack.enter_context(
                ProcessPoolExecutor(
                    options.jobs, mp_context=get_context("spawn"), initializer=ignore_signals
                )
            )
        try:
            return explore(
                WORLDS[options.world],
                cancels=options.cancels,
                orders=options.orders,
                limits={"kernel": kernel, "inside": options.inside},
                seeds=seeds,
                most_runs=options.most_runs,
                full=options.full,
                executor=executor,
                progress=progress,
            )
        except BrokenExecutor:
            _kill_processes()
            raise Failure(
                "one of the processes that draw worlds was killed, and what they had found is lost; use --jobs 1"
            ) from None


async def _in_thread(function: Callable[[], Any], progress: _Progress, shown: Meter) -> Any:
    """Call a function that runs Trio itself, in a thread; a cancel asks it to stop and waits until it has."""

    async def ask() -> None:
        try:
            await trio.sleep_forever()
        finally:
            progress.stop.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        nursery.start_soon(keep_showing, shown, lambda: progress.runs)
        result = await trio.to_thread.run_sync(function)
        nursery.cancel_scope.cancel()
    return result


async def _run_worlds(options: _Options) -> int:
    seeds = options.seeds
    if seeds is None and options.world == "random":
        seeds = SEEDS
    progress = _Progress()
    total = None if seeds is None else min(len(seeds), options.most_runs)
    report: Report | None = None

    def work() -> None:
        nonlocal report
        report = _explore(options, seeds, progress)

    async with interruptible() as interruption:
        with meter("runs", total, str) as shown:
            await _in_thread(work, progress, shown)
    if report is None:
        raise Failure(f"stopped by {interruption.name}", interruption.status)
    say(str(report))
    if options.findings is not None:
        await trio.to_thread.run_sync(_save, report, options.findings)
    if interruption.signal is not None:
        raise Failure(
            f"stopped by {interruption.name} after {report.runs} runs", interruption.status
        )
    if report.findings:
        raise Failure(f"something is wrong in {report.broken_runs} of {report.runs} runs")
    return 0


def _save(report: Report, directory: str) -> None:
    try:
        os.makedirs(directory, exist_ok=True)
        for number, finding in enumerate(report.findings, 1):
            finding.save(os.path.join(directory, f"finding-{number}.json"))
    except OSError as error:
        raise Failure(f"findings cannot be written to {directory!r}: {describe(error)}") from None


async def _run(options: _Options) -> int:
    actions: Mapping[str, Callable[[Any], Awaitable[int]]] = {
        "run": _run_worlds,
        "compare": run_compare,
        **FINDING_ACTIONS,
    }
    return await actions[options.action](options)


EXPLORE = Command("explore", "look for what breaks a promise", DESCRIPTION, _add_arguments, _run)
