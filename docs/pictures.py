"""Draw the pictures of the documentation from runs of the library: ``python docs/pictures.py``.

The runs have a scripted kernel and a clock that jumps, so the same code draws the same pictures, byte for byte, and a
test holds the files to that.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio
from trio.testing import MockClock

from trio_send import Socket, SocketAsyncEventArgs, open_initiator
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
        async with open_initiator(name="given 1.5 s"):
            socket.send_async(message)
            socket.send_async(follower)
            await trio.sleep_forever()
    async with open_initiator(name="sends the rest"):
        socket.resume(message)
        await message.wait()
        await socket.send(b"behind it")


#: Each file's name, its title, and what is drawn.
PICTURES: Final[dict[str, tuple[str, Callable[[], Awaitable[None]]]]] = {
    "cut_and_resumed.svg": ("A message that is cut, and its rest", cut_and_resumed),
}


def draw(name: str) -> str:
    """Return a picture as SVG."""
    title, scenario = PICTURES[name]

    async def main() -> str:
        with Recorder() as recorder:
            await scenario()
        return to_svg(recorder.trace(), title=title)

    return trio.run(main, clock=MockClock(autojump_threshold=0))


def main() -> None:
    """Write all pictures beside this file."""
    for name in PICTURES:
        (HERE / "pictures" / name).write_text(draw(name), "utf-8")


if __name__ == "__main__":
    main()
