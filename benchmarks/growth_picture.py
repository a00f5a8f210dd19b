"""The picture of the growth: what one pending send costs, by how many are pending at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .picture import WIDTH, pyplot, save

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .records import Row

HEIGHT = 3.2

#: Marker and colour of each thing that is done with a send.
LOOKS = (("o", "#0b5fad"), ("s", "#66a182"), ("^", "#d1495b"), ("v", "#8d6a9f"))


def by_place(rows: Sequence[Row]) -> dict[str, list[tuple[int, Row]]]:
    """Return the rows of the growth with their numbers, by where the sends are pending."""
    found: dict[str, list[tuple[int, Row]]] = {}
    for row in rows:
        if row.work == "growth":
            count, _, place = row.case.partition(" ")
            found.setdefault(place, []).append((int(count.replace(",", "")), row))
    return found


def draw_growth(rows: Sequence[Row], path: Path) -> None:
    """Draw the rows of the growth, and write the picture in the format that the name of the file asks for.

    Raises:
      ModuleNotFoundError: matplotlib is not installed.
      ValueError: there are no such rows.
    """
    places = by_place(rows)
    if not places:
        raise ValueError("there is nothing to draw; the work growth was not measured")
    plt = pyplot()
    figure, panels = plt.subplots(
        1, len(places), figsize=(WIDTH, HEIGHT), layout="constrained", sharey=True, squeeze=False
    )
    for axes, (place, points) in zip(panels[0], places.items(), strict=True):
        _draw_place(axes, place, points)
    panels[0][0].set_ylabel("microseconds for each send", fontsize=9)
    handles, names = panels[0][0].get_legend_handles_labels()
    figure.legend(
        handles, names, loc="outside upper center", ncols=len(names), fontsize=9, frameon=False
    )
    save(figure, path)
    plt.close(figure)


def _draw_place(axes: Any, place: str, points: Sequence[tuple[int, Row]]) -> None:
    counts = [count for count, _ in points]
    for name, (marker, colour) in zip(points[0][1].values, LOOKS, strict=False):
        values = [row.values[name].median / 1000 for _, row in points]
        axes.plot(counts, values, marker=marker, color=colour, label=name, markersize=5)
    axes.set_title(place, fontsize=9, color="#222222")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(counts, [f"{count:,}" for count in counts], fontsize=9)
    ticks = (0.5, 1, 2, 5, 10, 20, 50)
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks], fontsize=9)
    axes.minorticks_off()
    axes.set_xlabel("pending at once", fontsize=9)
    axes.grid(color="#dddddd", linewidth=0.6)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
