"""A picture as SVG, for a page or a paper, in light and in dark."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING, Literal, final

from ._layout import lay_out, seconds

if TYPE_CHECKING:
    from ._layout import Group, Kernel, Lane
    from ._trace import Trace

#: Everything that has a colour, in light and in dark.
COLOURS = {
    "page": ("#ffffff", "#14191f"),
    "ink": ("#1b2733", "#e6edf3"),
    "soft": ("#54636f", "#9fb0bf"),
    "grid": ("#e4e9ee", "#27313b"),
    "box": ("#b9c8d8", "#3a4a5a"),
    "band0": ("#f2f6fb", "#1a222b"),
    "band1": ("#e6eef7", "#212c37"),
    "band2": ("#d9e5f2", "#293644"),
    "wait": ("#d5dde5", "#3b4854"),
    "done": ("#2a9d6f", "#3fbf8a"),
    "part": ("#7cc6a6", "#2f7f62"),
    "stopped": ("#d1495b", "#ef6f7f"),
    "failed": ("#b8741a", "#f0b35a"),
    "pending": ("#54636f", "#9fb0bf"),
    "busy": ("#f3d9b1", "#5a4522"),
}

#: A little more than the text of a page is wide, so that words stay readable where a picture is as wide as that.
WIDTH = 920
LEFT = 232
RIGHT = 176
TOP = 66

#: About how wide a character is, as a share of the size of the type; wider than most are.
CHARACTER = 0.6

#: How small words may become to fit where they stand.
SMALLEST = 9.0

#: Up to how many operations lanes are so high, and whether there is text in them.
HEIGHTS = ((40, 24.0, True), (90, 13.0, True), (400, 6.0, False), (10**9, 2.0, False))

LEGEND = 56


def _style(theme: str) -> str:
    def block(index: int) -> str:
        return "".join(f"--{name}:{pair[index]};" for name, pair in COLOURS.items())

    rules = [f"svg{{{block(1 if theme == 'dark' else 0)}}}"]
    if theme == "auto":
        rules.append(f"@media (prefers-color-scheme:dark){{svg{{{block(1)}}}}}")
    rules += [f".{name}{{fill:var(--{name})}}" for name in COLOURS]
    rules += [f".l-{name}{{stroke:var(--{name});fill:none}}" for name in COLOURS]
    return "".join(rules)


@final
class _Drawing:
    def __init__(self, row: float, has_text: bool) -> None:
        self.out: list[str] = []
        self.row = row
        self.has_text = has_text
        self.size = min(12.0, row * 0.75)
        self.y = float(TOP)

    def x(self, place: float) -> float:
        return LEFT + place * (WIDTH - LEFT - RIGHT)

    def rect(
        self, x: float, y: float, width: float, height: float, colour: str, more: str = ""
    ) -> None:
        self.out.append(
            f'<rect class="{colour}" x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.5):.1f}" '
            f'height="{height:.1f}"{more}/>'
        )

    def line(self, x1: float, y1: float, x2: float, y2: float, colour: str, more: str = "") -> None:
        self.out.append(
            f'<line class="l-{colour}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"{more}/>'
        )

    def text(
        self, x: float, y: float, words: str, colour: str = "ink", size: float = 12, more: str = ""
    ) -> None:
        self.out.append(
            f'<text class="{colour}" x="{x:.1f}" y="{y:.1f}" font-size="{size:g}"{more}>{escape(words)}</text>'
        )

    def fitted(
        self,
        x: float,
        y: float,
        words: str,
        room: float,
        colour: str = "ink",
        size: float = 12,
        more: str = "",
    ) -> None:
        """Draw words smaller where they would not fit, and cut them where that is not enough."""
        fits = math.floor(10 * room / (CHARACTER * max(1, len(words)))) / 10
        size = max(min(size, SMALLEST), min(size, fits))
        most = int(room / (CHARACTER * size) + 1e-9)
        if len(words) > most:
            words = f"{words[: max(1, most - 1)]}…"
        self.text(x, y, words, colour, size, more)

    # The parts of a picture -------------------------------------------------------------------------

    def group(self, group: Group, depth: int) -> None:
        """Draw an initiator, with all that is in it, from the current height on."""
        top = self.y
        at = len(self.out)
        indent = 8 + depth * 10
        size = max(self.size, 9.0)
        self.y += size + 8
        for lane in group.lanes:
            self.lane(lane, indent + 12)
        for inner in group.inner:
            self.group(inner, depth + 1)
        self.y += 4
        body = self.out[at:]
        del self.out[at:]
        band = f"band{min(depth, 2)}"
        x0, x1 = self.x(group.start) - 8 + 2 * depth, self.x(group.end) + 10 - 2 * depth
        self.rect(indent, top, LEFT - 16 - indent, self.y - top, band, ' rx="4"')
        self.rect(x0, top, x1 - x0, self.y - top, band, ' rx="4"')
        self.out.append(
            f'<rect class="l-box" x="{x0:.1f}" y="{top:.1f}" width="{x1 - x0:.1f}" '
            f'height="{self.y - top:.1f}" rx="4"/>'
        )
        room = LEFT - 28 - indent
        bold = ' font-weight="bold"'
        self.fitted(indent + 6, top + size + 2, group.title, room, size=size, more=bold)
        if group.cancelled is not None:
            x = self.x(group.cancelled)
            self.line(x, top, x, self.y, "stopped", ' stroke-width="2"')
            self.text(WIDTH - RIGHT + 18, top + size + 2, "cancelled", "stopped", size)
        self.out += body
        self.y += 6

    def lane(self, lane: Lane, indent: float) -> None:
        """Draw an operation."""
        one = lane.activation
        height = self.row * 0.58 if self.has_text else self.row * 0.8
        top = self.y + (self.row - height) / 2
        x0 = self.x(lane.start)
        x1 = max(self.x(lane.end), x0 + 3)
        size = f" {one.size} B" if one.size else ""
        name = f"{one.number} {one.kind}{size}, socket {one.socket}"
        self.out.append(f"<g><title>{escape(f'{name}: {lane.words}')}</title>")
        if self.has_text:
            middle = self.y + self.row / 2 + self.size * 0.36
            self.fitted(indent, middle, name, LEFT - 20 - indent, "soft", self.size)
            self.fitted(WIDTH - RIGHT + 18, middle, lane.words, RIGHT - 24, lane.state, self.size)
        self.rect(x0, top, x1 - x0, height, "wait")
        colour = "done" if lane.state == "done" else "part"
        free = x0 + 3
        for share in lane.shares:
            x = self.x(share.place)
            full = height * share.share
            self.rect(x, top + height - full, max(x1 - x, 2), full, colour)
        if self.has_text and self.row > 20:
            for share in lane.shares:
                x, words = self.x(share.place) + 2, f"+{share.count}"
                if share.count and x >= free:
                    self.text(x, top - 1, words, "soft", 8)
                    free = x + len(words) * 8 * CHARACTER + 3
        more = min(1.0, self.row / 6)  # ends of neighbours must not cover each other
        self.rect(x0 - 1, top - more, 2, height + 2 * more, "ink")
        self.rect(x1 - 1, top - more, 2.5, height + 2 * more, lane.state)
        if lane.told is not None and self.row > 4:
            radius = min(4.0, height / 2.4)
            x = max(self.x(lane.told), x1 + radius + 2)
            self.out.append(
                f'<circle class="l-ink" cx="{x:.1f}" cy="{top + height / 2:.1f}" r="{radius:.1f}"/>'
            )
        self.out.append("</g>")
        self.y += self.row

    def kernel(self, kernel: Kernel) -> None:
        """Draw what the kernel did with a socket."""
        middle = self.y + 9
        self.text(14, middle + 4, f"kernel, socket {kernel.socket}", more=' font-weight="bold"')
        total = sum(count for _, count in kernel.taken)
        words = f"{total} bytes accepted"
        self.fitted(WIDTH - RIGHT + 18, middle + 4, words, RIGHT - 24, "soft")
        self.line(LEFT, middle, WIDTH - RIGHT, middle, "grid")
        for start, end in kernel.busy:
            width = self.x(end) - self.x(start)
            self.rect(self.x(start), middle - 4, width, 8, "busy", ' rx="2"')
        if self.has_text:
            self.badges([(self.x(place), count) for place, count in kernel.taken], middle)
        else:
            for place, count in kernel.taken:
                self.out.append(
                    f"<g><title>{count} bytes</title>"
                    f'<circle class="done" cx="{self.x(place):.1f}" cy="{middle:.1f}" r="2"/></g>'
                )
        if kernel.closed is not None:
            x = self.x(kernel.closed)
            self.line(x, middle - 8, x, middle + 8, "ink", ' stroke-width="2"')
        self.y += 22

    def badges(self, taken: list[tuple[float, int]], middle: float) -> None:
        """Say how many bytes were taken where; what would stand on one another is taken together."""
        badges: list[tuple[float, list[int]]] = []
        free = 0.0
        for x, count in taken:
            if x - _badge_width(count) / 2 > free:
                badges.append((x, [count]))
            else:
                badges[-1][1].append(count)
            x, counts = badges[-1]
            free = x + _badge_width(sum(counts)) / 2 + 1
        for x, counts in badges:
            words = str(sum(counts))
            width = _badge_width(sum(counts))
            told = " and ".join(map(str, counts))
            self.out.append(f"<g><title>{told} bytes</title>")
            self.rect(x - width / 2, middle - 7, width, 14, "done", ' rx="7"')
            self.text(x, middle + 3.2, words, "page", 9, ' text-anchor="middle"')
            self.out.append("</g>")

    def legend(self) -> None:
        """Say what the shapes mean."""
        x, y = 14.0, self.y + 20
        for shape, words in (
            (("wait", 12.0), "waits"),
            (("part", 6.0), "share of its bytes accepted"),
            (("done", 12.0), "all accepted"),
            (("busy", 8.0), "kernel takes nothing"),
            (("stopped", 12.0), "stopped"),
            (("failed", 12.0), "failed"),
        ):
            colour, height = shape
            self.rect(x, y - height / 2, 14, height, colour)
            self.text(x + 20, y + 4, words, "soft", 11)
            x += 34 + len(words) * 11 * CHARACTER
        self.out.append(f'<circle class="l-ink" cx="{x + 6:.1f}" cy="{y:.1f}" r="4"/>')
        self.text(x + 18, y + 4, "told", "soft", 11)


def _badge_width(count: int) -> float:
    return len(str(count)) * 9 * CHARACTER + 6


def to_svg(
    trace: Trace, *, title: str = "", theme: Literal["auto", "light", "dark"] = "auto"
) -> str:
    """Draw a trace.

    From left to right go the rounds of the scheduler in which something happened, and a step is wider where time has
    passed. Each operation is a bar that fills with its bytes; its initiator is the box around it. Below, each socket's
    kernel shows what it took and when it took nothing. Who points at a bar is told more.

    Args:
      trace: what happened.
      title: what stands above.
      theme: the colours. With ``"auto"`` whoever shows the picture decides between light and dark.

    Returns:
      The SVG, the same for the same trace.

    Raises:
      ValueError: ``theme`` is something else, or the trace does not fit together.
    """
    if theme not in ("auto", "light", "dark"):
        raise ValueError(f"theme is {theme!r}, but must be 'auto', 'light' or 'dark'")
    layout = lay_out(trace)
    row, has_text = next((row, text) for most, row, text in HEIGHTS if layout.operations <= most)
    drawing = _Drawing(row, has_text)
    for group in layout.groups:
        drawing.group(group, 0)
    drawing.y += 6
    for kernel in layout.kernels:
        drawing.kernel(kernel)
    bottom = drawing.y
    drawing.legend()
    height = bottom + LEGEND
    head = _Drawing(row, has_text)
    free = 0.0
    for place, time in layout.ticks:
        x, words = head.x(place), seconds(time)
        half = len(words) * 11 * CHARACTER / 2
        if x - half >= free:
            head.line(x, TOP - 12, x, bottom, "grid")
            head.text(x, TOP - 18, words, "soft", 11, ' text-anchor="middle"')
            free = x + half + 6
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0f}" '
            f'viewBox="0 0 {WIDTH} {height:.0f}" font-family="Helvetica, Arial, sans-serif">',
            f"<title>{escape(title or 'What happened to the operations')}</title>",
            f"<style>{_style(theme)}</style>",
            '<rect class="page" width="100%" height="100%"/>',
            *(
                [
                    f'<text class="ink" x="14" y="26" font-size="16" font-weight="bold">{escape(title)}</text>'
                ]
                if title
                else []
            ),
            *head.out,
            *drawing.out,
            "</svg>",
            "",
        ]
    )
