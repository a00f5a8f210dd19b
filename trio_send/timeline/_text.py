"""A picture in plain text, for a terminal or a log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._layout import DONE, FAILED, PENDING, STOPPED, lay_out, seconds

if TYPE_CHECKING:
    from ._layout import Group, Lane
    from ._trace import Trace

#: The share of the bytes that was accepted, from none to all.
LEVELS = ".▁▂▃▄▅▆▇█"
ENDS = {DONE: "|", STOPPED: "x", FAILED: "!", PENDING: ">"}


def _column(place: float, width: int) -> int:
    return min(width - 1, int(place * width))


def _bar(lane: Lane, width: int) -> str:
    cells = [" "] * width
    first, last = _column(lane.start, width), _column(lane.end, width)
    cells[first : last + 1] = LEVELS[0] * (last + 1 - first)
    for share in lane.shares:
        level = int(share.share * (len(LEVELS) - 1))
        if level == 0 and share.share > 0:
            level = 1
        column = _column(share.place, width)
        cells[column : last + 1] = LEVELS[level] * (last + 1 - column)
    # Its own cell, so that what was filled in the last moment is seen.
    end = min(width, last + 1)
    text = "".join(cells)
    return text[:end] + ENDS[lane.state] + text[end:].ljust(max(0, width - end))


def to_text(trace: Trace, *, width: int = 60) -> str:
    """Draw a trace with characters, one line for each operation.

    A column is a moment. A dot says that an operation waits, a block what share of its bytes was accepted so far. A bar
    ends with ``|`` if all went well, ``x`` if it was stopped, ``!`` if it failed, and ``>`` if it was still pending.

    Args:
      trace: what happened.
      width: how many columns the bars may take.

    Raises:
      ValueError: ``width`` is less than 10, or the trace does not fit together.
    """
    if width < 10:
        raise ValueError(f"width is {width}, but must be 10 columns or more")
    layout = lay_out(trace)
    titles: list[tuple[str, str, str]] = []

    def add(group: Group, depth: int) -> None:
        indent = "  " * depth
        row = [" "] * (width + 1)
        if group.cancelled is not None:
            row[_column(group.cancelled, width)] = "x"
        note = "cancelled at x" if group.cancelled is not None else ""
        titles.append((f"{indent}{group.title}", "".join(row), note))
        for lane in group.lanes:
            one = lane.activation
            size = f" {one.size} B" if one.size else ""
            name = f"{indent}  {one.number} {one.kind}{size} on socket {one.socket}"
            titles.append((name, _bar(lane, width), lane.words))
        for inner in group.inner:
            add(inner, depth + 1)

    for group in layout.groups:
        add(group, 0)
    for kernel in layout.kernels:
        row = [" "] * (width + 1)
        for start, end in kernel.busy:
            first, last = _column(start, width), _column(end, width)
            row[first : last + 1] = "-" * (last + 1 - first)
        for place, _ in kernel.taken:
            row[_column(place, width)] = "+"
        if kernel.closed is not None:
            row[_column(kernel.closed, width)] = "c"
        total = sum(count for _, count in kernel.taken)
        words = f"+ took {total} bytes, - took none"
        if kernel.closed is not None:
            words += ", c closed"
        titles.append((f"kernel, socket {kernel.socket}", "".join(row), words))
    times = [" "] * (width + 16)
    end = -1
    for place, time in layout.ticks:
        column, words = _column(place, width), seconds(time)
        if column > end:
            times[column : column + len(words)] = words
            end = column + len(words) + 1
    titles.insert(0, ("", "".join(times), ""))
    left = max(len(title) for title, _, _ in titles)
    return "\n".join(f"{title:<{left}}  {bar}  {words}".rstrip() for title, bar, words in titles)
