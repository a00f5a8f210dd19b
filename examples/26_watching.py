"""Where does a send spend its time? The log of one that waits, and of one behind it."""

from __future__ import annotations

import logging
import sys

import trio
from trio.testing import MockClock

import trio_send
from trio_send import Socket, SocketAsyncEventArgs
from trio_send.testing import Blocked, ScriptedPort

#: The peer takes 100,000 bytes, then nothing for half a second, and then everything.
PEER = (100_000, Blocked(0.5))


async def send_two(socket: Socket) -> None:
    """Send a message that has to wait, and another one behind it."""
    first = SocketAsyncEventArgs(bytes(300_000))
    second = SocketAsyncEventArgs(b"and then this")
    async with trio_send.open_initiator():
        socket.send_async(first)
        socket.send_async(second)
        waiting = socket.queued_operations
        print("waiting:", socket.queued_bytes, "bytes of", waiting, "sends")
        await second.wait()


async def main() -> None:
    layout = "%(levelname)s %(message)s"
    logging.basicConfig(level=logging.DEBUG, stream=sys.stdout, format=layout)
    logger = trio_send.LoggingInstrument()
    counting = trio_send.CountingInstrument()
    async with Socket.from_port(ScriptedPort(PEER)) as socket:
        with trio_send.add_instrument(logger), trio_send.add_instrument(counting):
            await send_two(socket)
        statistics = socket.statistics()

    print("counted while somebody watched:", counting.snapshot().bytes_sent, "bytes")
    accepted, offered = statistics.bytes_accepted, statistics.bytes_offered
    print("counted by the socket:", accepted, "bytes of", offered)


if __name__ == "__main__":
    # The peer is scripted, and the clock jumps over the time in which nothing happens.
    trio.run(main, clock=MockClock(autojump_threshold=0))
