"""The timeline of a command's operations, in a file for browsers."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from ..timeline import Recorder, to_html, to_svg
from .side_file import side_file

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator


def add_timeline_option(parser: argparse.ArgumentParser) -> None:
    """Let a command be asked for a timeline."""
    parser.add_argument(
        "--timeline",
        metavar="FILE",
        help="draw what happens to each operation to FILE: as a page with a slider if it ends with .html, else as SVG "
        "(default: no picture)",
    )


@asynccontextmanager
async def drawn(path: str | None, source: str | None, title: str) -> AsyncIterator[None]:
    """Draw what happens inside to a file, unless ``path`` is None.

    A picture that cannot be written stops no transfer. It is drawn however the block is left.

    Args:
      path: the file, which is replaced.
      source: the file that must not be, if there is one.
      title: what stands above the picture.

    Raises:
      Failure: there can be no such file.
    """
    if path is None:
        yield
        return
    async with side_file("the timeline", path, source) as file:
        with Recorder() as recorder:
            try:
                yield
            finally:
                draw = to_html if path.lower().endswith((".html", ".htm")) else to_svg
                file.write(draw(recorder.trace(), title=title))
