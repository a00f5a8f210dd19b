"""A page to draw on, as SVG in light and in dark, for the pictures of the documentation."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

from trio_send.timeline._svg import _style

if TYPE_CHECKING:
    from collections.abc import Sequence

Point = tuple[float, float]

#: How long the head of an arrow is.
HEAD: Final = 7.0


class Drawing:
    """A page of a fixed size, in the colours of the timelines.

    Args:
      width: in units of which a character of text is about 6 wide. Pages are shown as wide as the text, or as a screen.
      height: in the same units.
      title: for those who cannot see the picture.
    """

    def __init__(self, width: float, height: float, title: str) -> None:
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
            f'viewBox="0 0 {width:g} {height:g}" font-family="Helvetica, Arial, sans-serif">',
            f"<title>{escape(title)}</title>",
            f"<style>{_style('auto')}</style>",
            '<rect class="page" width="100%" height="100%"/>',
        ]

    def svg(self) -> str:
        """Return the picture."""
        return "\n".join([*self.parts, "</svg>\n"])

    def text(
        self,
        at: Point,
        words: str,
        *,
        colour: str = "ink",
        size: float = 12,
        anchor: str = "middle",
        bold: bool = False,
    ) -> None:
        """Write words, the middle of whose line is at a point."""
        weight = ' font-weight="bold"' if bold else ""
        self.parts.append(
            f'<text class="{colour}" x="{at[0]:g}" y="{at[1] + size * 0.36:g}" font-size="{size:g}" '
            f'text-anchor="{anchor}"{weight}>{escape(words)}</text>'
        )

    def box(
        self,
        middle: Point,
        width: float,
        height: float,
        words: str = "",
        *,
        colour: str = "band1",
        size: float = 12,
    ) -> None:
        """Draw a box with words in it."""
        x, y = middle[0] - width / 2, middle[1] - height / 2
        shape = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="5"'
        self.parts.append(f'<rect class="{colour}" {shape}/>')
        self.parts.append(f'<rect class="l-box" {shape}/>')
        if words:
            self.text(middle, words, size=size, bold=True)

    def line(
        self,
        points: Sequence[Point],
        *,
        colour: str = "soft",
        width: float = 1.5,
        dashed: bool = False,
        head: bool = False,
    ) -> None:
        """Draw a line through points, with an arrow's head at its end."""
        path = "M" + " L".join(f"{x:g} {y:g}" for x, y in points)
        more = ' stroke-dasharray="4 3"' if dashed else ""
        self.parts.append(
            f'<path class="l-{colour}" d="{path}" stroke-width="{width:g}" stroke-linejoin="round"{more}/>'
        )
        if head:
            (x0, y0), (x1, y1) = points[-2:]
            length = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5
            dx, dy = (x1 - x0) / length * HEAD, (y1 - y0) / length * HEAD
            wings = " ".join(
                f"{x1 - dx + side * dy / 2:.1f},{y1 - dy - side * dx / 2:.1f}" for side in (1, -1)
            )
            self.parts.append(f'<polygon class="{colour}" points="{x1:g},{y1:g} {wings}"/>')

    def dot(self, at: Point, colour: str, radius: float = 5) -> None:
        """Draw a dot."""
        self.parts.append(
            f'<circle class="{colour}" cx="{at[0]:g}" cy="{at[1]:g}" r="{radius:g}"/>'
        )
