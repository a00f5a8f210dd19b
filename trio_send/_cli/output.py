"""What a command prints: lines, complaints and tables."""

from __future__ import annotations

import os
import re
import sys
import textwrap
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

from .failures import FAILURE, Failure, describe

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_NUMBER = re.compile(r"[0-9.]+( [a-zA-Z]+)?")


class OutputLost(Failure):
    """End the command because nobody takes its output any more.

    Args:
      sentence: what to say of it; empty if the reader has just had enough, as ``head`` has.
    """


def write(stream: TextIO | None, text: str) -> None:
    """Write to a stream at once, and replace what it cannot show: file names may hold anything.

    Raises:
      OSError: that failed.
    """
    if stream is None:  # the process was started without it, and nobody misses anything
        return
    encoding = stream.encoding or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
    stream.flush()


def say(text: str = "") -> None:
    """Print a line on standard output, at once.

    Raises:
      OutputLost: that failed.
    """
    try:
        write(sys.stdout, f"{text}\n")
    except BrokenPipeError:
        _give_up_stdout()
        raise OutputLost("", FAILURE) from None
    except OSError as error:
        _give_up_stdout()
        raise OutputLost(f"standard output cannot be written: {describe(error)}") from None


def complain(text: str) -> None:
    """Print a line on standard error, if it can be printed."""
    with suppress(OSError):
        write(sys.stderr, f"{text}\n")


def finish() -> None:
    """Flush what others have printed, argparse for one, so that Python has nothing to complain of when it exits."""
    try:
        write(sys.stdout, "")
    except OSError:
        _give_up_stdout()


def _give_up_stdout() -> None:
    """Send what is still buffered nowhere; Python would complain of it when it exits."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, sys.stdout.fileno())
        finally:
            os.close(nowhere)


def is_terminal(stream: TextIO | None) -> bool:
    """Tell whether a person looks at the stream, on a terminal that can move its cursor."""
    try:
        return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"
    except ValueError:  # it is closed
        return False


def say_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table, with rich on a terminal if it is installed.

    Columns of numbers are aligned to the right.
    """
    numeric = [
        all(_NUMBER.fullmatch(row[column]) for row in rows) for column in range(len(headers))
    ]
    if is_terminal(sys.stdout) and _say_rich_table(headers, rows, numeric):
        return
    for line in plain_table(headers, rows, numeric):
        say(line)


def plain_table(
    headers: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[bool]
) -> Iterator[str]:
    """Yield the lines of a table."""
    widths = [max(len(row[column]) for row in (headers, *rows)) for column in range(len(headers))]
    for row in (headers, ["-" * width for width in widths], *rows):
        cells = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ]
        yield "  ".join(cells).rstrip()


def _say_rich_table(
    headers: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[bool]
) -> bool:
    try:
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        return False
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for header, right in zip(headers, numeric, strict=True):
        table.add_column(Text(header), justify="right" if right else "left")
    for row in rows:
        table.add_row(*map(Text, row))
    console = Console(highlight=False)
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().strip("\n").split("\n"):
        say(line)
    return True


def say_paragraph(text: str) -> None:
    """Print a text in lines of a readable length."""
    say(textwrap.fill(text, 88, break_long_words=False, break_on_hyphens=False))
