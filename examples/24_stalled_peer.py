"""A peer that is slow may take its time, and one that has stopped is given up."""

from __future__ import annotations

import trio
from trio.testing import MockClock

import trio_send
from trio_send import Socket, SocketAsyncEventArgs
from trio_send.testing import Blocked, ScriptedPort

MESSAGE = bytes(2_000_000)

# What the two peers do. Each takes a part of the message, and then nothing for some
# seconds.
SLOW = (500_000, Blocked(20), 500_000, Blocked(20), 500_000, Blocked(20), 500_000)
STOPPED = (500_000, Blocked(20), 500_000, Blocked())


async def send(name: str, sender: Socket) -> None:
    """Send, and give up when 30 seconds have passed without one more byte accepted."""
    args = SocketAsyncEventArgs(MESSAGE)
    args.stall_timeout = 30
    start = trio.current_time()
    try:
        await sender.send(args)
        ended = "sent"
    except trio_send.SocketException as error:
        ended = error.socket_error_code.name
    seconds = trio.current_time() - start
    count = args.bytes_transferred
    print(f"{name}: {ended} after {seconds:.0f} s, {count} bytes accepted")


async def main() -> None:
    await send("slow peer", Socket.from_port(ScriptedPort(SLOW)))
    await send("stopped peer", Socket.from_port(ScriptedPort(STOPPED)))


if __name__ == "__main__":
    # The peers are scripted, and the clock jumps over the time in which nothing
    # happens.
    trio.run(main, clock=MockClock(autojump_threshold=0))
