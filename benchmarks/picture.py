"""The picture: for each row, ours and each peer as multiples of the floor."""

from __future__ import annotations

import io
import textwrap
from typing import TYPE_CHECKING, Any

from .records import PEERS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from .records import Row

#: Inches. The documentation shows it 742 pixels wide, which are these inches on a screen.
WIDTH = 7.73
ROW_HEIGHT = 0.27
MARGIN = 1.5

OURS = "trio_send"

#: Marker and colour of each, told apart without colour as well.
LOOKS: dict[str, tuple[str, str]] = {
    OURS: ("D", "#0b5fad"),
    "trio send_all": ("o", "#d1495b"),
    "trio.socket.send": ("v", "#e58f65"),
    "anyio": ("^", "#8d6a9f"),
    "asyncio": ("s", "#66a182"),
    "uvloop": ("P", "#2e4057"),
}

#: What is black or nearly so where the page is light, and what it is where the page is dark.
DARK = {
    "#ffffff": "#14191f",
    "#000000": "#e6edf3",
    "#222222": "#e6edf3",
    "#777777": "#9fb0bf",
    "#dddddd": "#27313b",
    "#eeeeee": "#27313b",
    "#0b5fad": "#58a6ff",
    "#2e4057": "#9db4d3",
    "#8d6a9f": "#c09ad6",
}


def labels(rows: Sequence[Row], titles: Mapping[str, str]) -> list[str]:
    """Return what stands beside each row: the work where it begins, and the kind of connection."""
    made = []
    for index, row in enumerate(rows):
        begins = index == 0 or rows[index - 1].work != row.work
        title = f"{titles.get(row.work, row.work)}:   " if begins else ""
        made.append(f"{title}{row.case}")
    return made


def draw(
    rows: Sequence[Row], titles: Mapping[str, str], machine: Mapping[str, str], path: Path
) -> None:
    """Draw all rows that have a floor, and write the picture in the format that the name of the file asks for.

    Raises:
      ModuleNotFoundError: matplotlib is not installed.
    """
    plt = pyplot()
    shown = [row for row in rows if row.ratios]
    figure, axes = plt.subplots(
        figsize=(WIDTH, MARGIN + ROW_HEIGHT * len(shown)), layout="constrained"
    )
    _draw_rows(axes, shown)
    axes.set_yticks(range(len(shown)), labels(shown, titles), fontsize=8)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xscale("log")
    axes.set_xticks(*zip(*[(x, f"{x:g}") for x in _ticks(shown)], strict=True), fontsize=8)
    axes.minorticks_off()
    axes.set_xlabel("processor time, x a bare loop of system calls (the floor)", fontsize=9)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
    figure.legend(
        loc="outside upper center",
        ncols=len(LOOKS) + 1,
        fontsize=8,
        frameon=False,
        handletextpad=0.2,
        columnspacing=1,
    )
    where = ", ".join(f"{name} {value}" for name, value in machine.items() if name != "cores")
    axes.set_title("\n".join(textwrap.wrap(where, 70)), fontsize=7, color="#777777")
    save(figure, path)
    plt.close(figure)


def pyplot() -> Any:
    """Return matplotlib's plotting, set up so that the same figures make the same file.

    Raises:
      ModuleNotFoundError: matplotlib is not installed.
    """
    import matplotlib as mpl

    mpl.use("svg")
    import matplotlib.pyplot as plt

    mpl.rcParams["svg.hashsalt"] = "trio_send"
    return plt


def save(figure: Any, path: Path) -> None:
    """Write a picture in the format that the name of the file asks for."""
    if path.suffix == ".svg":
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
        path.write_text(for_light_and_dark(text.getvalue()), "utf-8")
    else:
        figure.savefig(path)


def for_light_and_dark(svg: str) -> str:
    """Give a picture of matplotlib's other colours where the reader's page is dark."""
    rules = [f"svg {{ fill: {DARK['#000000']} }}"]  # letters have no colour of their own
    for colour, dark in DARK.items():
        rules += [
            f'[style*="{what}: {colour}"] {{ {what}: {dark} !important }}'
            for what in ("fill", "stroke")
        ]
    style = f"@media (prefers-color-scheme: dark) {{ {' '.join(rules)} }}"
    return svg.replace("</style>", f"\n{style}\n</style>", 1)


def _ticks(rows: Sequence[Row]) -> list[float]:
    """Return round numbers around all ratios."""
    values = [ratio.median for row in rows for ratio in row.ratios.values()]
    ticks = [m * 10.0**e for e in range(-3, 4) for m in (1, 2, 5)]
    inside = [tick for tick in ticks if min(values) / 1.5 <= tick <= max(values) * 1.5]
    return inside or [1.0]


def _draw_rows(axes: Any, rows: Sequence[Row]) -> None:
    """Draw a line for each row, and a marker for each contender on it."""
    axes.axvline(1, color="#222222", linewidth=1.2, label="floor")
    for y in range(len(rows)):
        if y and rows[y].work != rows[y - 1].work:
            axes.axhline(y - 0.5, color="#eeeeee", linewidth=0.8)
    for name in [*PEERS, OURS]:
        marker, colour = LOOKS[name]
        at = []
        for y, row in enumerate(rows):
            contender = row.ours if name == OURS else row.peer(name)
            if contender is not None and contender in row.ratios:
                at.append((y, row.ratios[contender]))
        if not at:
            continue
        ours = name == OURS
        axes.errorbar(
            [ratio.median for _, ratio in at],
            [y for y, _ in at],
            xerr=[
                [max(0, r.median - r.low) for _, r in at],
                [max(0, r.high - r.median) for _, r in at],
            ],
            fmt=marker,
            color=colour,
            markersize=7 if ours else 5,
            elinewidth=1,
            alpha=1 if ours else 0.85,
            label=name,
            zorder=4 if ours else 3,
        )
