"""Pictures that are no timelines: the states of an operation, the way of a send, and how full a queue is.

What they show is read from the code, or from a run of it. Only where things stand on the page is chosen here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
import trio
from drawing import Drawing, Point

from trio_send import (
    Socket,
    SocketAsyncEventArgs,
    SocketError,
    add_instrument,
    open_initiator,
)
from trio_send._operations.states import TRANSITIONS, State
from trio_send._operations.watermarks import OPERATION_WEIGHT
from trio_send.abc import Instrument
from trio_send.testing import Blocked, ScriptedPort

if TYPE_CHECKING:
    from trio_send import TracedOperation

# The states of an operation -------------------------------------------------------------------

#: Where the states stand in which an operation usually is.
PLACES: Final[dict[State, Point]] = {
    State.IDLE: (60, 150),
    State.TRYING: (190, 150),
    State.QUEUED: (330, 150),
    State.DONE: (475, 80),
    State.FAILED: (475, 150),
    State.ABORTED: (475, 220),
    State.CUT: (330, 260),
}

#: The usual ways from one to another: the line, the words beside it, and the middle of the words.
WAYS: Final[dict[tuple[State, State], tuple[list[Point], str, Point]]] = {
    (State.IDLE, State.TRYING): ([(98, 158), (148, 158)], "start", (123, 168)),
    (State.TRYING, State.IDLE): ([(190, 133), (190, 112), (75, 112), (75, 133)], "ended on the spot", (133, 103)),
    (State.TRYING, State.QUEUED): ([(232, 150), (288, 150)], "waits", (260, 141)),
    (State.QUEUED, State.DONE): ([(355, 133), (355, 80), (433, 80)], "all accepted", (393, 70)),
    (State.QUEUED, State.FAILED): ([(372, 150), (433, 150)], "an error", (403, 141)),
    (State.QUEUED, State.ABORTED): ([(355, 167), (355, 212), (433, 212)], "stopped", (396, 203)),
    (State.DONE, State.IDLE): ([(475, 63), (475, 40), (45, 40), (45, 133)], "told", (260, 31)),
    (State.FAILED, State.IDLE): ([(517, 150), (535, 150), (535, 40), (45, 40), (45, 133)], "", (0, 0)),
    (State.ABORTED, State.IDLE): ([(517, 215), (535, 215), (535, 40), (45, 40), (45, 133)], "", (0, 0)),
    (State.FAILED, State.CUT): ([(517, 158), (548, 158), (548, 272), (372, 272)], "", (0, 0)),
    (State.ABORTED, State.CUT): ([(475, 237), (475, 256), (372, 256)], "told, a part had gone out", (460, 284)),
    (State.CUT, State.TRYING): ([(288, 255), (200, 255), (200, 167)], "resumed", (243, 246)),
    (State.CUT, State.IDLE): ([(288, 270), (60, 270), (60, 167)], "given up", (150, 279)),
}  # fmt: skip


async def states() -> str:
    """Draw the usual ways, and below them the whole table of transitions."""
    drawing = Drawing(
        570, 395 + 25 * len(State), "The states of an operation, and which may follow which"
    )
    colours = {State.DONE: "part", State.FAILED: "busy", State.ABORTED: "busy", State.CUT: "busy"}
    drawing.text((14, 14), "The usual ways", size=13, anchor="start", bold=True)
    for (before, after), (points, words, middle) in WAYS.items():
        assert after in TRANSITIONS[before], (before, after)
        drawing.line(points, head=True)
        if words:
            drawing.text(middle, words, colour="soft", size=11)
    for state, place in PLACES.items():
        drawing.box(place, 84, 34, state.name, colour=colours.get(state, "band1"))

    drawing.text((14, 320), "All of them: from the row to the column", size=13, anchor="start", bold=True)  # fmt: skip
    left, end, top, high = 84.0, 562.0, 352.0, 25.0
    wide = (end - left) / len(State)
    for index, state in enumerate(State):
        x, y = left + (index + 0.5) * wide, top + (index + 1) * high
        drawing.text((x, top), state.name, size=9, bold=True)
        drawing.text((left - 10, y), state.name, size=9, anchor="end", bold=True)
        drawing.line([(14, y - high / 2), (end, y - high / 2)], colour="grid", width=1)
        for column, after in enumerate(State):
            if after in TRANSITIONS[state]:
                colour = "done" if (state, after) in WAYS else "box"
                drawing.dot((left + (column + 0.5) * wide, y), colour)
    y = top + (len(State) + 1) * high
    for x, colour, words in ((20, "done", "drawn above"), (130, "box", "less usual")):
        drawing.dot((x, y), colour)
        drawing.text((x + 10, y), words, size=11, anchor="start", colour="soft")
    return drawing.svg()


# The way of a send ----------------------------------------------------------------------------

#: Who takes part, and where.
LANES: Final[dict[str, float]] = {
    "your program": 75,
    "the queue": 225,
    "the initiator": 375,
    "the kernel": 505,
}


@attrs.define
class Course(Instrument):
    """What happened to sends, in order: who did it, to whom, and what; or a pause, with nobody."""

    steps: list[tuple[str, str, str]] = attrs.field(factory=list)
    last: float = attrs.field(factory=trio.current_time)

    def operation_started(self, operation: TracedOperation) -> None:
        self.steps.append(("your program", "the queue", f"send_async: {operation.size} bytes"))

    def bytes_accepted(self, operation: TracedOperation, count: int, total: int) -> None:
        seconds, self.last = trio.current_time() - self.last, trio.current_time()
        if seconds:
            self.steps.append(("", "", f"{seconds:g} s, in which other tasks run"))
            self.steps.append(("the kernel", "the initiator", "there is room"))
            self.steps.append(("the initiator", "the kernel", f"takes {count}, {total} in all"))
        else:
            self.steps.append(("the queue", "the kernel", f"takes {count} of {operation.size}"))

    def event_raised(self, operation: TracedOperation) -> None:
        self.steps.append(("the initiator", "your program", "Completed is raised"))


async def course_of_two_sends() -> list[tuple[str, str, str]]:
    """Have a send end on the spot, and another one wait."""
    socket = Socket.from_port(ScriptedPort([100, 100, Blocked(1), 200]))
    course = Course()
    with add_instrument(course):
        async with open_initiator():
            for size in (100, 300):
                args = SocketAsyncEventArgs(bytes(size))
                args.completed += lambda socket, args: None
                pending = socket.send_async(args)
                answer = "True: it is pending" if pending else "False: it is done"
                course.steps.append(("the queue", "your program", answer))
                if pending:
                    await args.wait()
                assert args.socket_error is SocketError.SUCCESS
    return course.steps


async def way_of_a_send() -> str:
    """Draw who does what, from top to bottom, for a send that is done at once and for one that has to wait."""
    steps = await course_of_two_sends()
    row = 34.0
    drawing = Drawing(570, 75 + row * len(steps), "A send that is done at once, and one that waits")
    for name, x in LANES.items():
        drawing.line([(x, 40), (x, 65 + row * len(steps))], colour="grid", width=2)
        drawing.box((x, 26), 110, 28, name)
    for number, (source, target, words) in enumerate(steps):
        y = 72 + row * number
        if not source:
            drawing.line([(20, y + 8), (550, y + 8)], colour="box", dashed=True)
            drawing.box((290, y + 8), 200, 20, colour="page")
            drawing.text((290, y + 8), words, colour="soft", size=11)
            continue
        x0, x1 = LANES[source], LANES[target]
        drawing.line([(x0, y + 14), (x1, y + 14)], colour="done", head=True)
        drawing.text(((x0 + x1) / 2, y + 4), words, size=11)
    return drawing.svg()


# How full a queue is --------------------------------------------------------------------------

PIECE: Final = 10_000
PIECES: Final = 50
HIGH: Final = 100_000
LOW: Final = 25_000


@attrs.define
class Weights(Instrument):
    """What a socket's queue weighs, whenever that changes: seconds, and bytes."""

    socket: Socket
    points: list[Point] = attrs.field(factory=lambda: [(0.0, 0.0)])

    def note(self) -> None:
        socket = self.socket
        weight = socket.queued_bytes + OPERATION_WEIGHT * socket.queued_operations
        time = trio.current_time()
        self.points += [(time, self.points[-1][1]), (time, weight)]

    def operation_queued(self, operation: TracedOperation, ahead: int) -> None:
        self.note()

    def bytes_accepted(self, operation: TracedOperation, count: int, total: int) -> None:
        self.note()


async def weights_of_a_producer() -> list[Point]:
    """Have a producer pause at the marks, for a peer that takes 30,000 bytes every second."""
    port = ScriptedPort([line for _ in range(PIECES) for line in (Blocked(1), 30_000)])
    socket = Socket.from_port(port)
    socket.high_water, socket.low_water = HIGH, LOW
    weights = Weights(socket)
    with add_instrument(weights):
        async with open_initiator():
            for _ in range(PIECES):
                result = socket.begin_send(bytes(PIECE))
                await socket.wait_below_low_water()
            await socket.end_send(result)
    return weights.points


async def watermarks() -> str:
    """Draw what a queue weighs over time."""
    points = await weights_of_a_producer()
    drawing = Drawing(
        570, 260, "What a queue weighs: it rises to the upper mark, and falls to the lower one"
    )
    left, right, bottom, top = 62.0, 492.0, 220.0, 24.0
    most, end = HIGH * 1.25, points[-1][0]

    def place(time: float, weight: float) -> Point:
        return left + time / end * (right - left), bottom - weight / most * (bottom - top)

    for mark, name in ((HIGH, "high_water"), (LOW, "low_water")):
        y = place(0, mark)[1]
        drawing.line([(left, y), (right, y)], colour="stopped", dashed=True)
        drawing.text((right + 6, y), name, colour="stopped", size=11, anchor="start")
        drawing.text((left - 6, y), f"{mark:,}", colour="soft", size=11, anchor="end")
    drawing.line([(left, top), (left, bottom), (right, bottom)], colour="box")
    drawing.text((left - 6, bottom), "0", colour="soft", size=11, anchor="end")
    drawing.text((left - 6, top - 6), "bytes", colour="soft", size=11, anchor="end")
    for second in range(0, int(end) + 1, 2):
        drawing.text((place(second, 0)[0], bottom + 14), f"{second} s", colour="soft", size=11)
    drawing.line([place(*point) for point in points], colour="done", width=2)
    return drawing.svg()
