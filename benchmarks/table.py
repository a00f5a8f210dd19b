"""What was measured, as a table of plain text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_send._cli.bench.contenders import FLOOR
from trio_send._cli.output import plain_table

from .records import PEERS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from .records import Row, Verdict


def show(value: float, unit: str) -> str:
    """Show a value with its unit, in three digits."""
    if unit == "ns" and value >= 1e6:
        return f"{value / 1e6:.3g} ms"
    if unit == "ns" and value >= 1e3:
        return f"{value / 1e3:.3g} us"
    if value >= 100:
        return f"{value:,.0f} {unit}"
    return f"{value:.3g} {unit}"


def lines(rows: Sequence[Row], titles: Mapping[str, str]) -> Iterator[str]:
    """Yield the lines: for each row of each work its contenders, then what became of its goals."""
    for row in rows:
        case = f", {row.case}" if row.case else ""
        yield f"{row.work}{case}: {titles.get(row.work, '')}".rstrip(": ")
        cells = []
        for name, value in row.values.items():
            ratio = row.ratios.get(name)
            cells.append(
                (
                    f"  {name}",
                    show(value.median, row.unit),
                    f"{show(value.low, row.unit)} .. {show(value.high, row.unit)}",
                    "" if ratio is None or name == FLOOR else f"{ratio.median:.2f}",
                    ""
                    if ratio is None or name == FLOOR
                    else f"{ratio.low:.2f} .. {ratio.high:.2f}",
                )
            )
        headers = ("  ", "median", "quartiles", "x floor", "quartiles")
        yield from plain_table(headers, cells, (False, True, True, True, True))
        for verdict in row.verdicts:
            met = "met" if verdict.met else "NOT MET"
            bound = f"; the best possible is {verdict.bound}" if verdict.bound else ""
            yield f"  goal {met}: {verdict.goal}; measured {verdict.value}{bound}"
        if row.note:
            yield f"  note: {row.note}"
        yield ""


def _goals(verdicts: Sequence[Verdict]) -> str:
    """Say how many goals were met."""
    return f"{sum(verdict.met for verdict in verdicts)} of {len(verdicts)} met"


def summary(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the lines of one table of all rows: ours and each peer, as multiples of the floor where there is one."""
    cells = []
    for row in rows:
        ours = row.values[row.ours]
        ratio = row.ratios.get(row.ours)
        peers = []
        for peer in PEERS:
            name = row.peer(peer)
            if name is None:
                peers.append("")
            elif name in row.ratios:
                peers.append(f"{row.ratios[name].median:.2f}")
            else:
                peers.append(show(row.values[name].median, row.unit))
        cells.append(
            (
                row.work,
                row.case,
                show(ours.median, row.unit),
                show(row.values[FLOOR].median, row.unit) if FLOOR in row.values else "",
                "" if ratio is None else f"{ratio.median:.2f}",
                "" if ratio is None else f"{ratio.low:.2f} .. {ratio.high:.2f}",
                *peers,
                _goals(row.verdicts),
            )
        )
    headers = ("work", "on", "ours", "floor", "x floor", "quartiles", *PEERS, "goals")
    right = (False, False, *[True] * (len(headers) - 3), False)
    yield from plain_table(headers, cells, right)


def missed(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the lines of a table of the goals that were not met."""
    cells = [
        (row.work, row.case, verdict.value, verdict.bound, verdict.goal)
        for row in rows
        for verdict in row.verdicts
        if not verdict.met
    ]
    if cells:
        headers = ("missed", "on", "measured", "best possible", "goal")
        yield from plain_table(headers, cells, (False, False, True, True, False))
    else:
        yield "All goals were met."


def prices(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the lines of a table of the rows that have neither goals nor a floor, which all have the same columns."""
    plain = [row for row in rows if not row.verdicts and not row.ratios]
    if not plain:
        return
    columns = list(plain[0].values)
    cells = [
        (row.case, *(show(row.values[name].median, row.unit) for name in columns)) for row in plain
    ]
    yield from plain_table(("pending at once", *columns), cells, (False, *[True] * len(columns)))
    yield ""
