"""Draw the pictures of the documentation from runs of the library: ``python docs/pictures.py``.

The runs have a scripted kernel and a clock that jumps, so the same code draws the same pictures, byte for byte, and a
test holds the files to that.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import diagrams
import rooms
import trio
from trio.testing import MockClock

from trio_send import ExitPolicy, Socket, SocketAsyncEventArgs, open_initiator
from trio_send.testing import Blocked, ScriptedPort
from trio_send.timeline import Recorder, to_svg

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

HERE: Final = Path(__file__).resolve().parent

MESSAGE: Final = b"a message of 24 bytes..."


async def cut_and_resumed() -> None:
    """Have a message stopped in the middle, and what waits behind it refused; then send the rest."""
    port = ScriptedPort([6, Blocked(1), 6, Blocked(1), 12])
    socket = Socket.from_port(port)
    message, follower = SocketAsyncEventArgs(MESSAGE), SocketAsyncEventArgs(b"behind it")
    with trio.move_on_after(1.5):
        async with open_initiator(name="cut"):
            socket.send_async(message)
            socket.send_async(follower)
            await trio.sleep_forever()
    async with open_initiator(name="rest"):
        socket.resume(message)
        await message.wait()
        await socket.send(b"behind it")


async def blocked() -> None:
    """Have a large message wait for a peer that does not read, and a small one behind it."""
    port = ScriptedPort([10, 400, Blocked(1), 300, Blocked(1)])
    socket = Socket.from_port(port)
    async with open_initiator(ExitPolicy.JOIN):
        for size in (10, 1000, 10):
            socket.send_async(SocketAsyncEventArgs(bytes(size)))


async def leave(policy: ExitPolicy, grace: float | None) -> None:
    """Start two messages, and leave the initiator after half a second."""
    port = ScriptedPort([6, Blocked(1), 6, Blocked(1), 12, Blocked(1), 12, Blocked(1)])
    socket = Socket.from_port(port)
    async with open_initiator(policy, grace=grace):
        for _ in range(2):
            socket.send_async(SocketAsyncEventArgs(MESSAGE))
        await trio.sleep(0.5)


#: The policies beside each other, with the seconds that they may take.
POLICIES: Final = (
    (ExitPolicy.ABORT, None),
    (ExitPolicy.JOIN, None),
    (ExitPolicy.DRAIN, 2),
    (ExitPolicy.FINISH_STARTED, 5),
)


def stack(title: str, pictures: list[str]) -> str:
    """Put pictures of the same width below each other."""
    sizes = [re.match(r'<svg [^>]*width="(\d+)" height="(\d+)"', picture) for picture in pictures]
    widths = {int(size[1]) for size in sizes if size}
    heights = [int(size[2]) for size in sizes if size]
    (width,) = widths
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{sum(heights)}" '
        f'viewBox="0 0 {width} {sum(heights)}"><title>{title}</title>'
        '<rect class="page" width="100%" height="100%"/>'
    ]
    for number, picture in enumerate(pictures):
        out.append(picture.replace("<svg ", f'<svg y="{sum(heights[:number])}" ', 1))
    return "\n".join([*out, "</svg>\n"])


#: Timelines: each file's name, its title, and what is drawn.
TIMELINES: Final[dict[str, tuple[str, Callable[[], Awaitable[None]]]]] = {
    "blocked.svg": ("A message that has to wait, and one behind it", blocked),
    "cut_and_resumed.svg": ("A message that is cut, and its rest", cut_and_resumed),
}

#: Other pictures.
DIAGRAMS: Final[dict[str, Callable[[], Awaitable[str]]]] = {
    "rooms.svg": rooms.rooms,
    "states.svg": diagrams.states,
    "watermarks.svg": diagrams.watermarks,
    "way_of_a_send.svg": diagrams.way_of_a_send,
}

#: The one that is made of several runs.
COMPARISON: Final = "policies.svg"

NAMES: Final = (*TIMELINES, *DIAGRAMS, COMPARISON)


async def draw_timeline(title: str, scenario: Callable[[], Awaitable[None]]) -> str:
    """Return what happened in a scenario, as SVG."""
    with Recorder() as recorder:
        await scenario()
    return to_svg(recorder.trace(), title=title)


def run(function: Callable[..., Awaitable[str]], *args: object) -> str:
    """Run Trio with a clock that jumps."""
    return trio.run(function, *args, clock=MockClock(autojump_threshold=0))


def draw(name: str) -> str:
    """Return a picture as SVG."""
    if name in TIMELINES:
        return run(draw_timeline, *TIMELINES[name])
    if name in DIAGRAMS:
        return run(DIAGRAMS[name])
    pictures = []
    for policy, grace in POLICIES:
        title = f"{policy.name}, left after 0.5 s" + (f", grace {grace} s" if grace else "")
        pictures.append(run(draw_timeline, title, partial(leave, policy, grace)))
    return stack("What four policies do to the same two messages", pictures)


def main() -> None:
    """Write all pictures beside this file."""
    for name in NAMES:
        (HERE / "pictures" / name).write_text(draw(name), "utf-8")


if __name__ == "__main__":
    main()
