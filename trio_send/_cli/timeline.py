"""The timeline of a command's operations, in a file for browsers."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from ..timeline import Recorder, Trace, to_chrome, to_html, to_svg, to_text
from .side_file import side_file

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator


#: How the name of a file says what is written to it.
FORMATS: Final = (
    "as a page with a slider if it ends with .html, as text if with .txt, as events for Chrome's trace viewers if with "
    ".json, else as SVG"
)


def add_timeline_option(parser: argparse.ArgumentParser) -> None:
    """Let a command be asked for a timeline."""
    parser.add_argument(
        "--timeline",
        metavar="FILE",
        help=f"draw what happens to each operation to FILE, {FORMATS} (default: no picture)",
    )


def draw(trace: Trace, path: str, title: str) -> str:
    """Return a trace in the format that the name of its file asks for, as `FORMATS` says."""
    name = path.lower()
    if name.endswith((".html", ".htm")):
        return to_html(trace, title=title)
    if name.endswith(".json"):
        return to_chrome(trace)
    if name.endswith(".txt"):
        return f"{title}\n\n{to_text(trace)}\n"
    return to_svg(trace, title=title)


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
                file.write(draw(recorder.trace(), path, title))
