"""What was measured, as rows that can be printed, drawn, written to a file and read again."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from trio_send._cli.bench.contenders import FLOOR
from trio_send._cli.bench.interleave import Spread, ratio, spread

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


#: The contenders that are ours; the first one in a row is the one that the row is about.
OURS = (
    "send_async",
    "begin_send",
    "await send",
    "queued",
    "buffer_list",
    "send_file",
    "receive",
    "trio_send",
    "beside it, own time",
)

#: What a peer is called in one row or the other, by what it is called in the summary and in the picture.
PEERS = {
    "trio send_all": ("trio send_all", "trio task each", "trio receive_some"),
    "trio.socket.send": ("trio.socket.send", "trio.socket.recv"),
    "anyio": ("anyio",),
    "asyncio": ("asyncio", "asyncio writelines"),
    "uvloop": ("uvloop", "uvloop writelines"),
}

#: Our face without the accelerator, where there is one.
IN_PYTHON = "in Python"


@dataclass(frozen=True)
class Goal:
    """What a ratio of two contenders must not exceed.

    Attributes:
      ours: the name of the one.
      base: the name of the other.
      limit: how much the one may cost, as a multiple of the other.
      bound: the name of the contender than which nothing in Python can be cheaper, if there is one.
    """

    ours: str
    base: str
    limit: float
    bound: str = ""

    def tell(self, value: float) -> str:
        """Return a ratio in the goal's words."""
        return f"{value:.2f}" if self.limit >= 0.5 else f"{1 / value:.1f} x"

    def __str__(self) -> str:
        where = f"{IN_PYTHON}, " if self.ours == IN_PYTHON else ""
        if self.limit >= 0.5:
            return f"{where}at most {self.limit:g} x {self.base}"
        return f"at least {1 / self.limit:.3g} x cheaper than {self.base}"


@dataclass(frozen=True)
class Verdict:
    """What became of a goal.

    Attributes:
      goal: the goal, in words.
      value: what was measured, in the goal's words.
      met: whether that is enough.
      bound: the best that is possible, in the goal's words; empty if that is not known.
    """

    goal: str
    value: str
    met: bool
    bound: str = ""


@dataclass
class Row:
    """One work on one kind of connection.

    Attributes:
      work: the name of the work.
      case: the kind of connection, or whatever else makes several rows of a work.
      unit: what `values` are in.
      values: what each contender costs each time, by name.
      ratios: the same as multiples of the floor; empty if there is none.
      verdicts: what became of the goals.
      note: what has to be known to read the row.
    """

    work: str
    case: str
    unit: str
    values: dict[str, Spread]
    ratios: dict[str, Spread] = field(default_factory=dict)
    verdicts: list[Verdict] = field(default_factory=list)
    note: str = ""

    @property
    def ours(self) -> str:
        """The name of the contender that the row is about."""
        return next(name for name in OURS if name in self.values)

    def peer(self, name: str) -> str | None:
        """Return what a peer is called in this row; None if it is not in it."""
        return next((alias for alias in PEERS[name] if alias in self.values), None)


def compare(
    work: str,
    case: str,
    measured: Mapping[str, Sequence[float]],
    goals: Sequence[Goal] = (),
    *,
    unit: str = "ns",
    note: str = "",
) -> Row:
    """Make a row of what was measured in the same rounds."""
    row = Row(work, case, unit, {name: spread(values) for name, values in measured.items()})
    row.note = note
    if FLOOR in measured:
        row.ratios = {name: ratio(values, measured[FLOOR]) for name, values in measured.items()}
    for goal in goals:
        if goal.ours in measured and goal.base in measured:
            value = ratio(measured[goal.ours], measured[goal.base]).median
            bound = ""
            if goal.bound in measured:
                bound = goal.tell(ratio(measured[goal.bound], measured[goal.base]).median)
            row.verdicts.append(Verdict(str(goal), goal.tell(value), value <= goal.limit, bound))
    return row


def limit(row: Row, goal: str, value: float, most: float, unit: str) -> None:
    """Add a verdict on an absolute value to a row."""
    row.verdicts.append(
        Verdict(f"{goal} at most {most:g} {unit}".strip(), f"{value:.3g} {unit}", value <= most)
    )


def to_json(rows: Sequence[Row], machine: Mapping[str, str]) -> str:
    """Return rows and what they were measured on as JSON."""
    return json.dumps({"machine": dict(machine), "rows": [asdict(row) for row in rows]}, indent=1)


def from_json(text: str) -> tuple[list[Row], dict[str, str]]:
    """Return what was given to `to_json`."""
    document = json.loads(text)
    return [_row(**row) for row in document["rows"]], document["machine"]


def _row(values: dict[str, Any], ratios: dict[str, Any], verdicts: list[Any], **rest: Any) -> Row:
    return Row(
        values={name: Spread(**value) for name, value in values.items()},
        ratios={name: Spread(**value) for name, value in ratios.items()},
        verdicts=[Verdict(**verdict) for verdict in verdicts],
        **rest,
    )
