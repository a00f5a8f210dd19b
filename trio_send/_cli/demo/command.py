"""``trio-send demo``: both ends of a connection in one terminal, with nothing to prepare."""

from __future__ import annotations

import argparse
import random
import tempfile
from pathlib import Path

import trio

from ..command import Command
from ..failures import Failure
from ..interruption import interrupted, interruptible
from ..output import say
from ..timeline import add_timeline_option, drawn
from ..trace import add_trace_option, traced
from ..transfer.source import STANDARD_INPUT
from .exit_policies import show_leaving
from .three_faces import show_three_faces

GENERATED_SIZE = 4 * 1024 * 1024

DESCRIPTION = """\
Show in a few seconds what the library does, with both ends of a connection in this one process: a file goes through
each of the three faces to a slow reader, and then an initiator is left while sends are pending. The status is 0 if
every count and every SHA-256 agrees.
"""


class _Options(argparse.Namespace):
    file: str | None
    trace: str | None
    timeline: str | None


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", metavar="FILE", nargs="?", help="what to send (default: a generated file of 4 MiB)"
    )
    add_trace_option(parser)
    add_timeline_option(parser)


def _generate(path: Path) -> None:
    path.write_bytes(random.Random(1).randbytes(GENERATED_SIZE))


async def _show(file: str | None) -> bool:
    if file is not None:
        if file == STANDARD_INPUT:
            raise Failure(
                "the demonstration reads its file several times, so it cannot be standard input"
            )
        agreed = await show_three_faces(file, repr(file))
    else:
        with tempfile.TemporaryDirectory(prefix="trio-send-") as directory:
            path = Path(directory) / "generated"
            await trio.to_thread.run_sync(_generate, path)
            agreed = await show_three_faces(str(path), "A generated file")
    say()
    return await show_leaving() and agreed


async def _run(options: _Options) -> int:
    agreed = False
    async with interruptible() as interruption:
        async with (
            traced(options.trace, options.file),
            drawn(options.timeline, options.file, "trio-send demo"),
        ):
            agreed = await _show(options.file)
    if interruption.signal is not None:
        raise interrupted(interruption)
    say()
    if not agreed:
        raise Failure("the counts do not agree, which is a fault of this library")
    say("Every count and every SHA-256 agrees.")
    return 0


DEMO = Command(
    "demo", "show in one terminal what the library does", DESCRIPTION, _add_arguments, _run
)
