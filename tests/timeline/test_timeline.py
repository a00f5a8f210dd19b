"""Timelines: what is recorded of a run, and what is drawn of it.

Modules: timeline._axis, timeline._chrome, timeline._html, timeline._layout, timeline._recorder, timeline._svg,
timeline._text, timeline._trace.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import random
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import trio_send
from trio_send import ExitPolicy, Socket, SocketAsyncEventArgs, open_initiator
from trio_send.testing import Blocked, ScriptedPort, compare
from trio_send.timeline import (
    Event,
    Recorder,
    Trace,
    TracedActivation,
    TracedInitiator,
    to_chrome,
    to_html,
    to_svg,
    to_text,
)
from trio_send.timeline._axis import Axis
from trio_send.timeline._layout import seconds

SVG = "{http://www.w3.org/2000/svg}"


def run(scenario: Callable[[], Awaitable[Trace]]) -> Trace:
    return trio.run(scenario, clock=MockClock(autojump_threshold=0))


def sends(size: int) -> SocketAsyncEventArgs:
    args = SocketAsyncEventArgs(bytes(size))
    args.completed += lambda socket, args: None
    return args


async def one() -> Trace:
    socket = Socket.from_port(ScriptedPort([4, Blocked(1), 8]))
    with Recorder() as recorder:
        async with open_initiator(ExitPolicy.JOIN):
            socket.send_async(sends(12))
    return recorder.trace()


async def ten() -> Trace:
    """Operations of two nested initiators and of tasks; some are stopped, one fails, one is pending in the end."""
    script = [5, Blocked(1), 7, 6, 4, 3, 5, Blocked(0.5), 2, Blocked(1), 3, 4, Blocked(3)]
    socket = Socket.from_port(ScriptedPort(script))
    broken = Socket.from_port(ScriptedPort([Blocked(0.5), "ECONNRESET"]))
    with Recorder() as recorder:
        async with open_initiator(name="outer") as outer, trio.open_nursery() as nursery:
            socket.send_async(sends(12))
            stopped = sends(6)
            socket.send_async(stopped)
            socket.begin_send(bytes(4), callback=lambda result: None)
            broken.send_async(sends(5))
            broken.send_async(sends(5))
            nursery.start_soon(socket.send, bytes(8))
            await trio.sleep(0.5)
            stopped.cancel()
            await trio.sleep(1)
            async with open_initiator(ExitPolicy.FINISH_STARTED, grace=2.5):
                socket.send_async(sends(10))
                socket.send_async(sends(3))
                await trio.sleep(0.75)
            socket.send_async(sends(9))
            await trio.sleep(0.5)
            outer.cancel_scope.cancel()
        socket.close()
        last = Socket.from_port(ScriptedPort([Blocked()]))
        async with open_initiator():
            last.send_async(sends(2))
            return recorder.trace()


async def crowd() -> Trace:
    chance = random.Random(5)
    script: list[int | str | Blocked] = []
    for _ in range(200):
        script += [chance.randint(1, 9), Blocked(chance.choice((0.125, 0.25)))]
    socket = Socket.from_port(ScriptedPort(script))
    policies = [ExitPolicy.ABORT, ExitPolicy.JOIN, ExitPolicy.DRAIN, ExitPolicy.FINISH_STARTED]
    with Recorder() as recorder:
        for policy in [*policies, *policies[:2]]:
            grace = 2.0 if policy in policies[2:] else None
            async with open_initiator(policy, grace=grace, name="a name that is far too long"):
                for _ in range(33):
                    socket.send_async(sends(3))
                await trio.sleep(1)
            socket.forget_torn()
    return recorder.trace()


# What is recorded -----------------------------------------------------------------------------


def test_a_run_is_recorded() -> None:
    trace = run(one)
    assert trace.initiators == (TracedInitiator(1, "", "JOIN"),)
    (activation,) = trace.activations
    assert (activation.kind, activation.size, activation.initiator) == ("send", 12, 1)
    assert [(event.what, event.time, event.count, event.error) for event in trace.events] == [
        ("started", 0.0, 0, ""),
        ("accepted", 0.0, 4, ""),
        ("queued", 0.0, 0, ""),
        ("accepted", 1.0, 8, ""),
        ("ended", 1.0, 12, "SUCCESS"),
        ("told", 1.0, 0, ""),
    ]
    batches = [event.batch for event in trace.events]
    assert batches == sorted(batches)
    assert batches[0] == batches[2] < batches[3] == batches[4] < batches[5]


def test_whose_an_operation_is() -> None:
    trace = run(ten)
    assert [(one.name, one.policy, one.parent) for one in trace.initiators] == [
        ("outer", "ABORT", None),
        ("", "FINISH_STARTED", 1),
        ("", "ABORT", None),
    ]
    owners = {one.number: one.initiator for one in trace.activations}
    # The sixth is awaited by a task.
    assert owners == {1: 1, 2: 1, 3: 1, 4: 1, 5: 1, 6: None, 7: 2, 8: 2, 9: 1, 10: 3}
    (cancelled,) = [event for event in trace.events if event.what == "cancelled"]
    assert cancelled.number == 1


def test_awaited_args_are_awaited() -> None:
    async def main() -> Trace:
        socket = Socket.from_port(ScriptedPort([Blocked(1)]))
        with Recorder() as recorder:
            async with open_initiator():
                await socket.send(sends(3))
        return recorder.trace()

    (activation,) = run(main).activations
    assert activation.initiator is None


def test_an_initiator_of_another_task_is_around() -> None:
    async def main() -> Trace:
        socket = Socket.from_port(ScriptedPort())

        async def child() -> None:
            async with trio.open_nursery(), open_initiator(name="inner"):
                socket.send_async(sends(1))

        with Recorder() as recorder:
            async with open_initiator(name="outer"), trio.open_nursery() as nursery:
                socket.send_async(sends(1))
                nursery.start_soon(child)
            async with open_initiator(name="beside"):
                socket.send_async(sends(1))
        return recorder.trace()

    assert [(one.name, one.parent) for one in run(main).initiators] == [
        ("outer", None),
        ("inner", 1),
        ("beside", None),
    ]


def test_a_thread_s_sends_are_recorded() -> None:
    async def main() -> Trace:
        socket = Socket.from_port(ScriptedPort())

        def work() -> None:
            trio_send.from_thread.end_send(trio_send.from_thread.begin_send(socket, b"abc"))

        with Recorder() as recorder:
            async with open_initiator(ExitPolicy.JOIN):
                await trio.to_thread.run_sync(work)
        return recorder.trace()

    trace = trio.run(main)
    (activation,) = trace.activations
    assert activation.size == 3
    assert "3 B" in to_text(trace)


def test_nothing_is_recorded_afterwards() -> None:
    async def main() -> Trace:
        socket = Socket.from_port(ScriptedPort())
        with Recorder() as recorder:
            await socket.send(b"a")
        before = len(recorder.trace().events)
        await socket.send(b"b")
        assert len(recorder.trace().events) == before > 0
        return recorder.trace()

    run(main)


# The axis -------------------------------------------------------------------------------------


def events_at(*moments: tuple[int, float]) -> list[Event]:
    return [Event(time, batch, "started", 1) for batch, time in moments]


def test_rounds_have_equal_steps_and_passed_time_a_wider_one() -> None:
    axis = Axis(events_at((0, 0.0), (1, 0.0), (5, 2.0), (6, 2.0)))
    first, second, third, fourth = axis.places
    assert second - first == pytest.approx(fourth - third)
    assert third - second == pytest.approx(1.6 * (second - first))
    assert axis.ticks == [(0.0, 0.0), (third, 2.0)]


def test_real_time_always_passes_a_little() -> None:
    axis = Axis(events_at((0, 0.0), (1, 0.002), (2, 0.004), (3, 0.9), (4, 0.902)))
    assert [time for _, time in axis.ticks] == [0.0, 0.9]


def test_steps_that_are_all_long_are_all_told() -> None:
    axis = Axis(events_at((0, 0.0), (1, 1.0), (2, 2.0)))
    assert [time for _, time in axis.ticks] == [0.0, 1.0, 2.0]


def test_what_happened_in_one_round_stands_side_by_side() -> None:
    axis = Axis(events_at((0, 0.0), (0, 0.0), (0, 0.0), (1, 0.0)))
    assert axis.places == sorted(set(axis.places))
    assert all(0 <= place < 1 for place in axis.places)
    assert Axis([]).places == []


# What is drawn --------------------------------------------------------------------------------


def words(trace: Trace) -> dict[str, str]:
    """The outcome of each operation, as the picture says it."""
    return {
        line.split()[0]: line.rpartition("  ")[2]
        for line in to_text(trace).splitlines()
        if " on socket " in line
    }


def test_the_outcome_is_said_in_words() -> None:
    assert words(run(ten)) == {
        "1": "done, 12 of 12",
        "2": "aborted, 0 of 6",
        "3": "done, 4 of 4",
        "4": "connection reset, 0 of 5",
        "5": "connection reset, 0 of 5",
        "6": "done, 8 of 8",
        "7": "done, 10 of 10",
        "8": "aborted, 0 of 3",
        "9": "aborted, 4 of 9",
        "10": "pending",
    }


#: As `one`, with the rounds in which a run may have it.
BY_HAND = Trace(
    (TracedInitiator(1, "mine", "JOIN"),),
    (TracedActivation(1, 1, "send", 12, initiator=1), TracedActivation(2, 1, "send", 3)),
    (
        Event(0.0, 0, "started", 1),
        Event(0.0, 0, "accepted", 1, 4),
        Event(0.0, 0, "queued", 1),
        Event(0.0, 1, "started", 2),
        Event(0.0, 1, "queued", 2, 1),
        Event(1.0, 4, "accepted", 1, 8),
        Event(1.0, 4, "ended", 1, 12, "SUCCESS"),
        Event(1.0, 5, "told", 1),
        Event(1.5, 8, "ended", 2, 0, "OPERATION_ABORTED"),
        Event(1.5, 9, "closed", 1),
    ),
)


def test_a_picture_in_text() -> None:
    assert to_text(BY_HAND, width=30).splitlines() == [
        "                           0 s       1 s        1.5 s",
        "initiator 1, JOIN, 'mine'",
        "  1 send 12 B on socket 1  .▂▂▂▂▂▂▂▂▂███|                   done, 12 of 12",
        "awaited by tasks",
        "  2 send 3 B on socket 1       ..................x          aborted, 0 of 3",
        "kernel, socket 1            +--------+-----------   c       + took 12 bytes, - took none, c closed",
    ]


def test_a_picture_is_the_same_in_every_process() -> None:
    digest = hashlib.sha256(to_svg(BY_HAND, title="By hand").encode()).hexdigest()
    assert digest == "41c83b930f717f04fbc6255a488610e4c23de5e195c9ac8f6e8c6c0f440fe5d7", (
        "look at the picture, then put its digest here"
    )


@pytest.mark.parametrize("scenario", [one, ten, crowd])
def test_no_text_meets_another(scenario: Callable[[], Awaitable[Trace]]) -> None:
    root = ET.fromstring(to_svg(run(scenario), title="A title"))
    width = float(root.attrib["width"])
    height = float(root.attrib["height"])
    boxes = list(text_boxes(root))
    assert boxes
    for words_, left, top, right, bottom in boxes:
        assert left >= 0 and right <= width, words_
        assert top >= 0 and bottom <= height, words_
    for a, b in itertools.combinations(boxes, 2):
        apart = a[3] <= b[1] or b[3] <= a[1] or a[4] <= b[2] or b[4] <= a[2]
        assert apart, (a, b)


def text_boxes(root: ET.Element) -> Iterator[tuple[str, float, float, float, float]]:
    """Each text of a picture, with about the room that it takes."""
    for text in root.iter(f"{SVG}text"):
        size = float(text.attrib["font-size"])
        x, y = float(text.attrib["x"]), float(text.attrib["y"])
        # Digits and most letters of Helvetica are 0.56 wide or less.
        width = len(text.text or "") * size * 0.56
        left = x - width / 2 if text.get("text-anchor") == "middle" else x
        yield text.text or "", left, y - 0.75 * size, left + width, y + 0.2 * size


def test_a_crowd_is_drawn_small_and_without_words() -> None:
    trace = run(crowd)
    assert len(trace.activations) == 198
    root = ET.fromstring(to_svg(trace))
    assert float(root.attrib["height"]) < 198 * 10
    assert not any((text.text or "").startswith("done") for text in root.iter(f"{SVG}text"))
    # But whoever points at a bar is told.
    titles = [title.text or "" for title in root.iter(f"{SVG}title")]
    assert sum(": done, 3 of 3" in title for title in titles) > 50


def test_thousands_are_drawn_as_shapes() -> None:
    count = 2000
    trace = Trace(
        (),
        tuple(TracedActivation(i, 1, "send", 1) for i in range(count)),
        tuple(
            event
            for i in range(count)
            for event in (
                Event(i / 10, i, "started", i),
                Event(i / 10, i, "ended", i, 1, "SUCCESS"),
            )
        ),
    )
    root = ET.fromstring(to_svg(trace))
    assert float(root.attrib["height"]) < count * 2 + 300


def test_times_are_short() -> None:
    assert [seconds(time) for time in (0, 1.0, 0.75, 1.2345678, 0.012, 0.0000012, 120)] == [
        "0 s",
        "1 s",
        "0.75 s",
        "1.235 s",
        "0.012 s",
        "0.000001 s",
        "120 s",
    ]


def test_a_lane_fills_with_its_bytes() -> None:
    root = ET.fromstring(to_svg(run(one)))
    (lane,) = [group for group in root.iter(f"{SVG}g") if "12 of 12" in str(group[0].text)]
    bars = {
        kind: [
            float(bar.attrib["height"])
            for bar in lane.iter(f"{SVG}rect")
            if bar.get("class") == kind
        ]
        for kind in ("wait", "done")
    }
    (whole,) = bars["wait"]
    third, full, _ = bars["done"]
    assert third == pytest.approx(whole / 3, abs=0.1)
    assert full == pytest.approx(whole)


def test_a_kernel_that_has_taken_all_is_not_busy() -> None:
    root = ET.fromstring(to_svg(run(one)))
    (busy, _legend) = [rect for rect in root.iter(f"{SVG}rect") if rect.get("class") == "busy"]
    taken = [rect for rect in root.iter(f"{SVG}rect") if rect.get("rx") == "7"]
    end = float(busy.attrib["x"]) + float(busy.attrib["width"])
    last = float(taken[-1].attrib["x"]) + float(taken[-1].attrib["width"]) / 2
    assert end == pytest.approx(last, abs=0.2)


def test_what_the_kernel_takes_in_one_place_is_told_as_one() -> None:
    trace = compare([0]).shapes
    taken = sum(event.count for event in trace.events if event.what == "accepted")
    badge = re.compile(
        r'<rect class="done" x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="14.0" rx="7"/>\s*'
        r'<text class="page"[^>]*>(\d+)</text>'
    )
    found = badge.findall(to_svg(trace))
    assert sum(int(count) for *_, count in found) == taken
    assert len(found) < sum(event.what == "accepted" for event in trace.events)
    for (x, y, width, _), (following, level, *_) in itertools.pairwise(found):
        assert y != level or float(x) + float(width) <= float(following)


def test_the_same_trace_gives_the_same_picture() -> None:
    trace = run(crowd)
    assert to_svg(trace) == to_svg(trace)
    assert to_text(trace) == to_text(trace)


def test_strange_names_are_harmless() -> None:
    async def main() -> Trace:
        socket = Socket.from_port(ScriptedPort())
        with Recorder() as recorder:
            async with open_initiator(name="</text><script>&"):
                socket.send_async(sends(1))
        return recorder.trace()

    picture = to_svg(run(main), title="<b>&")
    ET.fromstring(picture)
    assert "<script" not in picture and "<b>" not in picture


def test_themes() -> None:
    trace = run(one)
    light, dark, auto = (to_svg(trace, theme=theme) for theme in ("light", "dark", "auto"))
    assert "--page:#ffffff" in light and "--page:#14191f" not in light
    assert "--page:#14191f" in dark and "--page:#ffffff" not in dark
    assert "--page:#ffffff" in auto and "prefers-color-scheme:dark" in auto


def test_an_empty_trace_is_a_picture_too() -> None:
    ET.fromstring(to_svg(Trace((), (), ())))
    assert to_text(Trace((), (), ())) == ""


@pytest.mark.parametrize(
    ("call", "words_"),
    [
        (lambda trace: to_svg(trace, theme="pink"), "theme is 'pink', but must be 'auto', 'light'"),
        (lambda trace: to_text(trace, width=9), "width is 9, but must be 10 columns or more"),
        (
            lambda _: to_svg(Trace((), (), (Event(0.0, 0, "started", 7),))),
            "the trace tells of operation 7, but has none",
        ),
        (
            lambda _: to_chrome(Trace((), (), (Event(0.0, 0, "cancelled", 7),))),
            "the trace tells of initiator 7, but has none",
        ),
        (
            lambda _: to_text(Trace((), (TracedActivation(7, 1, "send", 3),), ())),
            "the trace has operation 7, but tells nothing of it",
        ),
    ],
)
def test_bad_input_is_refused(call: Callable[[Trace], object], words_: str) -> None:
    with pytest.raises(ValueError, match=words_):
        call(run(one))


async def test_a_run_over_real_sockets_is_drawn() -> None:
    here, there = trio_send.socketpair()
    async with here, there:
        with Recorder() as recorder:
            async with open_initiator(ExitPolicy.JOIN):
                here.send_async(sends(500_000))
                got = 0
                while got < 500_000:
                    got += len(await there.receive(100_000))
        trace = recorder.trace()
    assert "receive" in to_text(trace)
    assert words(trace)["1"] == "done, 500000 of 500000"
    ET.fromstring(to_svg(trace))


# Events for Chrome's viewers ------------------------------------------------------------------


def test_events_are_those_of_a_chrome_trace() -> None:
    """A trace that was kept gives what an instrument writes, but for what an instrument alone is told."""
    file = io.StringIO()

    async def main() -> Trace:
        with trio_send.ChromeTrace(file) as chrome, trio_send.add_instrument(chrome):
            return await ten()

    trace = run(main)

    def plain(text: str) -> list[dict[str, Any]]:
        events = json.loads(text)
        for event in events:
            for name in ("total", "initiator", "reset", "detail"):
                event["args"].pop(name, None)
        return [event for event in events if event["name"] != "cancelled"]

    ours, theirs = plain(to_chrome(trace)), plain(file.getvalue())
    assert len(ours) > 40
    assert ours[:-1] == theirs[: len(ours) - 1]  # then somebody stopped keeping a trace


def test_a_cancel_is_marked_on_the_sockets_of_its_initiator() -> None:
    events = json.loads(to_chrome(run(ten)))
    marks = [event for event in events if event["name"] == "cancelled"]
    assert [(mark["pid"], mark["args"]) for mark in marks] == [
        (1, {"initiator": 1, "policy": "ABORT"}),
        (2, {"initiator": 1, "policy": "ABORT"}),
    ]


def test_what_is_pending_has_its_end_in_chrome_too() -> None:
    events = json.loads(to_chrome(run(ten)))
    assert [event["args"] for event in events if event["ph"] == "e"][-1] == {"pending": True}
    assert json.loads(to_chrome(Trace((), (), ()))) == []


# A page ---------------------------------------------------------------------------------------


class Elements(HTMLParser):
    """What is in a page: how often each element is opened and closed, and the data of the steps."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: Counter[str] = Counter()
        self.closed: Counter[str] = Counter()
        self.steps: list[dict[str, Any]] = []
        self._in_steps = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[tag] += 1
        self._in_steps = ("id", "steps") in attrs

    def handle_endtag(self, tag: str) -> None:
        self.closed[tag] += 1
        self._in_steps = False

    def handle_data(self, data: str) -> None:
        if self._in_steps:
            self.steps = json.loads(data)


def test_a_page_goes_through_all_events() -> None:
    page = Elements(to_html(BY_HAND, title="By hand"))
    assert [step["words"] for step in page.steps][-4:] == [
        "7 of 10, 1 s: operation 1 ends with success, 12 bytes",
        "8 of 10, 1 s: whoever waits for operation 1 is told",
        "9 of 10, 1.5 s: operation 2 ends with operation aborted, 0 bytes",
        "10 of 10, 1.5 s: socket 1 is closed",
    ]
    places = [step["x"] for step in page.steps]
    assert places == sorted(places)
    assert page.open["svg"] == page.closed["svg"] == 1
    assert page.open["script"] == page.closed["script"] == 2


def test_a_page_needs_nothing_else() -> None:
    page = to_html(run(ten))
    assert "src=" not in page and "href=" not in page and "@import" not in page


def test_strange_names_do_no_harm_to_a_page() -> None:
    trace = Trace(
        (TracedInitiator(1, "</script><script>alert(1)", "ABORT"),),
        (TracedActivation(1, 1, "send", 1, initiator=1),),
        (Event(0.0, 0, "ended", 1, 0, "</script><b>"),),
    )
    page = Elements(to_html(trace, title="</title><script>"))
    assert page.open["script"] == 2
    assert page.open["b"] == 0
    assert page.steps[0]["words"] == "1 of 1, 0 s: operation 1 ends with </script><b>, 0 bytes"


def test_a_page_of_nothing() -> None:
    assert Elements(to_html(Trace((), (), ()))).steps[0]["words"] == "nothing happened"


BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")


needs_browser = pytest.mark.skipif(BROWSER is None, reason="needs a browser")


def shown(page: str, folder: Path, address: str = "") -> str:
    """What is in a page when a browser has shown it and its scripts have run."""
    file = folder / "page.html"
    file.write_text(page, "utf-8")
    done = subprocess.run(
        [
            str(BROWSER),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            f"--user-data-dir={folder / 'profile'}",
            "--dump-dom",
            f"{file.as_uri()}{address}",
        ],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=100,
    )
    if done.returncode:
        pytest.skip(f"the browser does not run here: {done.stderr[-200:]}")
    return done.stdout


#: Tells of each text where the browser has put it, and of the page which colour it has.
MEASURE = """
const boxes = [...document.querySelectorAll("svg text")].map((text) => {
  const box = text.getBoundingClientRect();
  return [text.textContent, box.left, box.top, box.right, box.bottom];
});
const picture = document.querySelector("svg").getBoundingClientRect();
const told = {
  boxes,
  picture: [picture.left, picture.top, picture.right, picture.bottom],
  page: getComputedStyle(document.querySelector("svg rect.page")).fill,
  ink: getComputedStyle(document.querySelector("svg text.ink")).fill,
};
const place = document.createElement("pre");
place.id = "told";
place.textContent = JSON.stringify(told);
document.body.append(place);
"""


def measured(picture: str, folder: Path) -> dict[str, Any]:
    page = f"<!DOCTYPE html><body>{picture}<script>{MEASURE}</script></body>"
    found = re.search('<pre id="told">(.*?)</pre>', shown(page, folder), re.DOTALL)
    assert found is not None
    told: dict[str, Any] = json.loads(unescape(found[1]))
    return told


def compared() -> Trace:
    """The picture of shapes: eight boxes, with more than words have room for."""
    return compare([0]).shapes


@needs_browser
@pytest.mark.parametrize("make", [one, ten, crowd, compared], ids=lambda make: make.__name__)
def test_no_text_meets_another_in_a_browser(make: Callable[[], Any], tmp_path: Path) -> None:
    trace = compared() if make is compared else run(make)
    told = measured(to_svg(trace, title="A title", theme="light"), tmp_path)
    left, top, right, bottom = told["picture"]
    assert len(told["boxes"]) > 8
    for words_, *box in told["boxes"]:
        assert left <= box[0] and top <= box[1] and box[2] <= right and box[3] <= bottom, words_
    for a, b in itertools.combinations(told["boxes"], 2):
        # Of the height of a line a part is for marks that no letter here has.
        room = 0.15 * min(a[4] - a[2], b[4] - b[2])
        apart = a[3] <= b[1] or b[3] <= a[1] or a[4] <= b[2] + 2 * room or b[4] <= a[2] + 2 * room
        assert apart, (a, b)


@needs_browser
@pytest.mark.parametrize(
    ("theme", "page", "ink"),
    [
        ("light", "rgb(255, 255, 255)", "rgb(27, 39, 51)"),
        ("dark", "rgb(20, 25, 31)", "rgb(230, 237, 243)"),
    ],
)
def test_themes_in_a_browser(theme: Any, page: str, ink: str, tmp_path: Path) -> None:
    told = measured(to_svg(BY_HAND, title="By hand", theme=theme), tmp_path)
    assert (told["page"], told["ink"]) == (page, ink)


@needs_browser
@pytest.mark.parametrize(
    ("address", "words"), [("", "10 of 10, 1.5 s"), ("#step=2", "3 of 10, 0 s: operation 1 has to")]
)
def test_a_page_in_a_browser(address: str, words: str, tmp_path: Path) -> None:
    page = shown(to_html(BY_HAND), tmp_path, address)
    assert f'<div id="step">{words}' in page
    # What has not happened yet is veiled.
    assert re.search(r'<rect class="page" opacity="0.85"[^>]* x="\d', page)


@needs_browser
def test_the_slider_goes_through_the_steps(tmp_path: Path) -> None:
    move = """
    const slider = document.querySelector("input");
    const told = [];
    for (const value of [0, 4, 9]) {
      slider.value = value;
      slider.dispatchEvent(new Event("input"));
      const veil = [...document.querySelectorAll("svg rect")].at(-1);
      told.push([document.getElementById("step").textContent, Number(veil.getAttribute("x")), location.hash]);
    }
    const place = document.createElement("pre");
    place.id = "told";
    place.textContent = JSON.stringify(told);
    document.body.append(place);
    """
    page = to_html(BY_HAND).replace("</body>", f"<script>{{{move}}}</script></body>")
    found = re.search('<pre id="told">(.*?)</pre>', shown(page, tmp_path), re.DOTALL)
    assert found is not None
    first, middle, last = json.loads(unescape(found[1]))
    assert first[0].startswith("1 of 10, 0 s: operation 1 is started")
    assert middle[0].startswith("5 of 10, 0 s: operation 2 has to wait")
    assert last[0].startswith("10 of 10, 1.5 s: socket 1 is closed")
    assert first[1] < middle[1] < last[1]
    assert [step[2] for step in (first, middle, last)] == ["#step=0", "#step=4", "#step=9"]
