"""``trio-send bench``: what a send costs, measured here and now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ... import open_initiator
from ..command import Command
from ..interruption import interrupted, interruptible
from ..output import say, say_paragraph, say_table
from .contenders import FLOOR, open_contenders
from .interleave import interleave, ratio, spread
from .link import KINDS, TITLES, capacity, level, on_one_core, open_link

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

#: Enough rounds for medians that agree from run to run within some percent, and a few seconds in all.
ROUNDS = 15

#: The bytes of one send: few, so that what is measured is the way to the kernel.
SIZE = 64

DESCRIPTION = f"""\
Measure what a send of {SIZE} bytes costs in processor time if the kernel takes it at once: through each face of the
library, through Trio's own, and through a bare loop of system calls, the floor, below which no Python program can be.
All take turns on one connection to a process that reads, over TCP and over a Unix socket. It takes some seconds;
on a machine that has other work to do the figures are higher, and the ratios nearly the same.
"""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: there is nothing to choose."""


async def measure(kind: str, core: int, rounds: int) -> dict[str, list[float]]:
    """Measure all ways to send on one kind of connection.

    Args:
      kind: the kind of connection.
      core: the processor core for the reader; -1 for any.
      rounds: how often each way is measured.

    Returns:
      Nanoseconds for each send, by way, one value per round.
    """
    async with open_link(kind, core=core) as link, open_initiator():
        with await link.connect() as sock, open_contenders(sock, bytes(SIZE)) as chunks:
            level(sock)
            return await interleave(
                chunks,
                rounds=rounds,
                burst=capacity(sock, SIZE),
                clean_up=lambda times: link.drain(times * SIZE),
            )


def _rows(measured: Mapping[str, Sequence[float]]) -> list[tuple[str, ...]]:
    """Return the cells of the table, one row for each way to send."""
    rows: list[tuple[str, ...]] = []
    for name, values in measured.items():
        to_floor = ratio(values, measured[FLOOR])
        rows.append(
            (
                name,
                f"{spread(values).median / 1000:.2f} us",
                f"{to_floor.median:.2f}",
                f"{to_floor.low:.2f}",
                f"{to_floor.high:.2f}",
            )
        )
    return rows


async def _run(options: argparse.Namespace) -> int:
    async with interruptible() as interruption:
        with on_one_core() as core:
            for kind in KINDS:
                measured = await measure(kind, core, ROUNDS)
                say(
                    f"{SIZE} bytes over {TITLES[kind]}, accepted at once; processor time for each send"
                )
                say()
                say_table(("way", "median", "x floor", "from", "to"), _rows(measured))
                say()
    if interruption.signal is not None:
        raise interrupted(interruption)
    say_paragraph(
        "The floor is a bare loop of system calls. What is awaited takes a trip through Trio's scheduler each time, "
        "the others do not. Ratios are medians over rounds in which all took turns; from and to are the quartiles. "
        "In a checkout, python -m benchmarks measures much more, other libraries too."
    )
    return 0


BENCH = Command("bench", "measure what a send costs", DESCRIPTION, _add_arguments, _run)
