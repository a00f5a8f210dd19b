"""``trio-send explore compare``: what each exit policy leaves behind of the same work."""

from __future__ import annotations

import argparse
import csv
import io
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import trio

from ...testing import compare
from ..output import say, say_table
from ..timeline import FORMATS, draw
from .findings import write_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...testing import Compared, Share

SEEDS: Final = range(50)

TITLE: Final = "The same messages, stopped after 2.5 s"

HEADERS: Final = (
    "stopped by",
    "bytes after the stop",
    "seconds to the end",
    "bytes unsent",
    "bytes duplicated",
    "rules broken",
)


class CompareOptions(argparse.Namespace):
    seeds: range
    csv: str | None
    picture: str | None


def add_compare_parser(actions: Any, parse_seeds: Callable[[str], range]) -> None:
    """Add the action that compares policies."""
    parser = actions.add_parser(
        "compare",
        help="compare the exit policies",
        description="Send the same messages under each exit policy, with Trio's own send_all, and with two controls "
        "that have faults; stop that, and tell what is left. Bytes and seconds are means, with the most in brackets. "
        "Duplicated are the bytes that the peer gets twice if each message is sent again that is not known to be "
        "complete.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--seeds",
        metavar="A:B",
        type=parse_seeds,
        default=SEEDS,
        help="draw a kernel for each number from A on and below B (default: 0:50)",
    )
    parser.add_argument(
        "--csv", metavar="FILE", help="write the table to FILE as well (default: to none)"
    )
    parser.add_argument(
        "--picture",
        metavar="FILE",
        help=f"draw the first run of each, side by side, to FILE, {FORMATS} (default: to none)",
    )


def _figure(share: Share) -> str:
    return f"{share.mean:.1f} ({share.most:g})"


def _broken(row: Compared) -> str:
    return ", ".join(f"{rule} in {runs}" for rule, runs in row.broken.items()) or "none"


def _table(rows: tuple[Compared, ...]) -> str:
    """The table as CSV: of each figure the mean and the most."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    names = ("after stop", "seconds", "unsent", "duplicated")
    figures = [f"{name} {kind}" for name in names for kind in ("mean", "most")]
    writer.writerow(["stopped by", "runs", *figures, "rules broken"])
    for row in rows:
        shares = (row.late, row.seconds, row.unsent, row.duplicated)
        numbers = [f"{value:g}" for share in shares for value in (share.mean, share.most)]
        broken = "; ".join(f"{rule} {runs}" for rule, runs in row.broken.items())
        writer.writerow([row.name, row.runs, *numbers, broken])
    return file.getvalue()


async def run_compare(options: CompareOptions) -> int:
    """Compare, and write what was asked for."""
    compared = await trio.to_thread.run_sync(partial(compare, options.seeds))
    say_table(
        HEADERS,
        [
            (
                row.name,
                _figure(row.late),
                _figure(row.seconds),
                _figure(row.unsent),
                _figure(row.duplicated),
                _broken(row),
            )
            for row in compared.rows
        ],
    )
    say(f"\n{len(options.seeds)} runs of each; in brackets the most in one run.")
    if options.csv is not None:
        await trio.to_thread.run_sync(write_file, options.csv, _table(compared.rows))
    if options.picture is not None:
        picture = draw(compared.shapes, options.picture, TITLE)
        await trio.to_thread.run_sync(write_file, options.picture, picture)
    return 0
