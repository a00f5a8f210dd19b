"""The trace of a command's operations, in a file for trace viewers."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from .. import ChromeTrace, add_instrument
from .side_file import side_file

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator


def add_trace_option(parser: argparse.ArgumentParser) -> None:
    """Let a command be asked for a trace."""
    parser.add_argument(
        "--trace",
        metavar="FILE",
        help="write what happens to each operation to FILE, for Perfetto and other trace viewers (default: no trace)",
    )


@asynccontextmanager
async def traced(path: str | None, source: str | None) -> AsyncIterator[None]:
    """Write what happens inside to a file, unless ``path`` is None.

    A trace that cannot be written to its end stops no transfer.

    Args:
      path: the file, which is replaced.
      source: the file that must not be, if there is one.

    Raises:
      Failure: there can be no such file.
    """
    if path is None:
        yield
        return
    async with side_file("the trace", path, source) as file:
        with ChromeTrace(file) as trace, add_instrument(trace):
            yield
