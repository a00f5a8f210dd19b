"""``python -m benchmarks``: measure all works, or those that are named."""

from __future__ import annotations

import argparse
import gc
import os
import platform
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import trio

import trio_send
from trio_send._cli.bench.interleave import CHUNK_NS
from trio_send._cli.bench.link import on_one_core

from . import (
    backpressure,
    crowd,
    files,
    growth,
    importing,
    lateness,
    memory,
    programs,
    queues,
    receiving,
    synchronous,
)
from .descriptors import raise_limit
from .growth_picture import draw_growth
from .picture import draw
from .records import Row, from_json, to_json
from .table import lines, missed, prices, summary
from .works import Scale, Work

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOMS = (
    synchronous,
    backpressure,
    receiving,
    files,
    queues,
    crowd,
    programs,
    memory,
    lateness,
    importing,
    growth,
)
WORKS: dict[str, Work] = {work.name: work for room in ROOMS for work in room.WORKS}


def machine() -> dict[str, str]:
    """Say what the figures were measured on."""
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.release()}",
        "cores": str(os.cpu_count()),
        "trio": trio.__version__,
        "trio_send": trio_send.__version__,
        "accelerator": "yes" if trio_send.__accelerated__ else "no",
    }


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("works", metavar="WORK", nargs="*", help="what to measure (default: all)")
    parser.add_argument("--list", action="store_true", help="list the works and end")
    parser.add_argument("--quick", action="store_true", help="measure roughly, in under a minute")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write what was measured")
    parser.add_argument(
        "--picture", metavar="FILE", type=Path, help="draw what was measured, as SVG or PNG"
    )
    parser.add_argument(
        "--growth", metavar="FILE", type=Path, help="draw how the price of pending sends grows"
    )
    parser.add_argument(
        "--from",
        metavar="FILE",
        type=Path,
        dest="source",
        help="show what --json wrote, measure nothing",
    )
    options = parser.parse_args(argv)
    for name in options.works:
        if name not in WORKS:
            parser.error(f"there is no work {name!r}; the works are {', '.join(WORKS)}")
    if (options.picture or options.growth) and find_spec("matplotlib") is None:
        parser.error("to draw needs matplotlib; pip install --group bench")
    return options


async def measure(works: Sequence[Work], scale: Scale) -> list[Row]:
    """Measure works one after the other."""
    rows = []
    for work in works:
        began = time.perf_counter()
        print(f"{work.name} ...", end="", file=sys.stderr, flush=True)
        rows += await work.measure(scale)
        print(f" {time.perf_counter() - began:.1f} s", file=sys.stderr)
    return rows


def run(works: Sequence[Work], *, quick: bool) -> list[Row]:
    """Measure works in a run of Trio of their own."""
    raise_limit()
    gc.freeze()  # or each collection would go through all modules, whosever turn it is
    with on_one_core() as core:
        if quick:
            scale = Scale(rounds=11, chunk_ns=CHUNK_NS // 2, share=0.1, core=core)
        else:
            scale = Scale(rounds=40, chunk_ns=CHUNK_NS, share=1, core=core)
        return trio.run(measure, works, scale)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write and draw what the command line asks for."""
    options = parse(argv)
    if options.list:
        for work in WORKS.values():
            print(f"{work.name:20} {work.title}")
        return 0
    works = [WORKS[name] for name in options.works] or list(WORKS.values())
    if options.source is None:
        rows, where = run(works, quick=options.quick), machine()
    else:
        rows, where = from_json(options.source.read_text("utf-8"))
        rows = [row for row in rows if row.work in {work.name for work in works}]
    titles = {work.name: work.title for work in works}
    print(", ".join(f"{name} {value}" for name, value in where.items()), end="\n\n")
    print(*summary([row for row in rows if row.verdicts]), "", sep="\n")
    print(*missed(rows), "", *prices(rows), sep="\n")
    print(*lines(rows, titles), sep="\n")
    if options.json is not None:
        options.json.write_text(to_json(rows, where) + "\n", "utf-8")
    if options.picture is not None:
        draw(rows, titles, where, options.picture)
    if options.growth is not None:
        draw_growth(rows, options.growth)
    return 0


if __name__ == "__main__":
    sys.exit(main())
