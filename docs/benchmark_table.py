"""Directives that show what was measured as tables, from the file that ``python -m benchmarks --json`` writes.

``.. sends-measured::`` compares sends, as multiples of a bare loop of system calls; ``.. others-measured::`` has what
cannot be compared with such a loop; ``.. goals-measured::`` says what became of each goal.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.records import OURS, PEERS, Row, from_json  # noqa: E402
from benchmarks.table import show  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sphinx.application import Sphinx


def table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> nodes.table:
    """A table whose first column has names, and all others numbers."""

    def row(cells: Sequence[str]) -> nodes.row:
        return nodes.row("", *(nodes.entry("", nodes.paragraph("", cell)) for cell in cells))

    group = nodes.tgroup("", *(nodes.colspec(colwidth=1) for _ in header), cols=len(header))
    group += nodes.thead("", row(header))
    group += nodes.tbody("", *map(row, lines))
    return nodes.table("", group, classes=["measured"])


def peers(row: Row) -> dict[str, str]:
    """What each peer is called in a row, without those that are not in it."""
    named = {name: row.peer(name) for name in PEERS}
    return {name: there for name, there in named.items() if there is not None}


def used(rows: Sequence[Row]) -> list[str]:
    """The peers of any of these rows."""
    return [name for name in PEERS if any(name in peers(row) for row in rows)]


def title(row: Row) -> str:
    return f"{row.work}, {row.case}" if row.case else row.work


class Measured(SphinxDirective):
    """What both directives have in common."""

    def rows(self) -> list[Row]:
        file = Path(self.env.srcdir, "performance.json")
        self.env.note_dependency(str(file))
        return from_json(file.read_text("utf-8"))[0]


class SendsMeasured(Measured):
    """``.. sends-measured::``"""

    def run(self) -> list[nodes.Node]:
        rows = [row for row in self.rows() if row.ratios]
        names = used(rows)
        lines = []
        for row in rows:
            theirs = peers(row)
            multiples = [row.ratios.get(theirs.get(name, "")) for name in names]
            lines.append(
                (
                    title(row),
                    show(row.values[row.ours].median, row.unit),
                    f"{row.ratios[row.ours].median:.2f}",
                    *(
                        "" if multiple is None else f"{multiple.median:.2f}"
                        for multiple in multiples
                    ),
                )
            )
        return [table(("", "one send", "trio_send", *names), lines)]


class OthersMeasured(Measured):
    """``.. others-measured::``"""

    def run(self) -> list[nodes.Node]:
        rows = [
            row for row in self.rows() if not row.ratios and not row.values.keys().isdisjoint(OURS)
        ]
        names = used(rows)
        lines = []
        for row in rows:
            theirs = peers(row)
            values = [row.values.get(theirs.get(name, "")) for name in names]
            lines.append(
                (
                    title(row),
                    show(row.values[row.ours].median, row.unit),
                    *("" if value is None else show(value.median, row.unit) for value in values),
                )
            )
        return [table(("", "trio_send", *names), lines)]


class GoalsMeasured(Measured):
    """``.. goals-measured::``"""

    def run(self) -> list[nodes.Node]:
        lines = [
            (
                title(row),
                verdict.goal,
                verdict.value,
                "met" if verdict.met else "missed",
                verdict.bound,
            )
            for row in self.rows()
            for verdict in row.verdicts
        ]
        return [table(("", "goal", "reached", "", "best possible"), lines)]


def setup(app: Sphinx) -> None:
    app.add_directive("sends-measured", SendsMeasured)
    app.add_directive("others-measured", OthersMeasured)
    app.add_directive("goals-measured", GoalsMeasured)
