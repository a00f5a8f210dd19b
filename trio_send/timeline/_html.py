"""A picture as a page of its own, with a slider through the steps."""

from __future__ import annotations

import json
from html import escape
from typing import TYPE_CHECKING

from ._axis import Axis
from ._layout import seconds
from ._svg import COLOURS, LEFT, LEGEND, RIGHT, TOP, WIDTH, to_svg
from ._trace import ACCEPTED, CANCELLED, CLOSED, ENDED, QUEUED, STARTED, TOLD

if TYPE_CHECKING:
    from ._trace import Event, Trace

_WORDS = {
    STARTED: "operation {number} is started",
    QUEUED: "operation {number} has to wait",
    ACCEPTED: "{count} bytes of operation {number} are accepted",
    ENDED: "operation {number} ends with {error}, {count} bytes",
    TOLD: "whoever waits for operation {number} is told",
    CLOSED: "socket {number} is closed",
    CANCELLED: "the scope of initiator {number} is cancelled",
}

#: The page finds the step in its address, so that one can send somebody to it.
_SCRIPT = """
const steps = JSON.parse(document.getElementById("steps").textContent);
const svg = document.querySelector("svg");
const slider = document.querySelector("input");
const veil = document.createElementNS("http://www.w3.org/2000/svg", "rect");
veil.setAttribute("class", "page");
veil.setAttribute("opacity", "0.85");
veil.setAttribute("pointer-events", "none");
veil.setAttribute("y", "VEIL_TOP");
veil.setAttribute("height", svg.viewBox.baseVal.height - LEGEND_HEIGHT - VEIL_TOP);
svg.append(veil);
function show() {
  const step = steps[slider.value];
  veil.setAttribute("x", step.x);
  veil.setAttribute("width", Math.max(0, RIGHT_EDGE - step.x));
  document.getElementById("step").textContent = step.words;
  history.replaceState(null, "", "#step=" + slider.value);
}
const asked = /^#step=(\\d+)$/.exec(location.hash);
slider.value = asked ? asked[1] : steps.length - 1;
slider.addEventListener("input", show);
show();
"""


def _style() -> str:
    light = "".join(f"--{name}:{pair[0]};" for name, pair in COLOURS.items())
    dark = "".join(f"--{name}:{pair[1]};" for name, pair in COLOURS.items())
    return (
        f":root{{color-scheme:light dark;{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}"
        "body{background:var(--page);color:var(--ink);font:14px Helvetica,Arial,sans-serif;margin:16px}"
        f"input{{margin-left:{LEFT - 8}px;width:{WIDTH - LEFT - RIGHT + 16}px}}"
        "#step{position:sticky;top:0;background:var(--page);padding:6px 14px;min-height:1.2em}"
    )


def _words(event: Event) -> str:
    return _WORDS[event.what].format(
        number=event.number, count=event.count, error=event.error.lower().replace("_", " ")
    )


def to_html(trace: Trace, *, title: str = "") -> str:
    """Draw a trace as a page that needs nothing else.

    A slider goes through what happened, one event after the other, in order: what comes later is veiled, and a sentence
    says what it is. Who points at a bar is told more. The address ``#step=N`` opens the page at an event, from 0 on.

    Args:
      trace: what happened.
      title: what stands above.

    Returns:
      The page, the same for the same trace.

    Raises:
      ValueError: the trace does not fit together.
    """
    picture = to_svg(trace, title=title)
    edge = WIDTH - RIGHT + 12
    # The words of the axis stay, for a veil would cut those that it begins in.
    figures = {"RIGHT_EDGE": edge, "LEGEND_HEIGHT": LEGEND, "VEIL_TOP": TOP - 12}
    script = _SCRIPT
    for name, figure in figures.items():
        script = script.replace(name, str(figure))
    places = Axis(trace.events).places
    steps = [
        {
            "x": round(LEFT + place * (WIDTH - LEFT - RIGHT) + 1.5, 1),
            "words": f"{number} of {len(places)}, {seconds(event.time)}: {_words(event)}",
        }
        for number, (place, event) in enumerate(zip(places, trace.events, strict=True), 1)
    ] or [{"x": edge, "words": "nothing happened"}]
    # A script ends at the first "</", wherever that stands.
    data = json.dumps(steps).replace("<", "\\u003c")
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f"<title>{escape(title or 'What happened to the operations')}</title>",
            f"<style>{_style()}</style></head><body>",
            f'<input type="range" min="0" max="{len(steps) - 1}" aria-label="step">',
            '<div id="step"></div>',
            picture,
            f'<script type="application/json" id="steps">{data}</script>',
            f"<script>{script}</script>",
            "</body></html>",
            "",
        ]
    )
