"""Where does a send spend its time? The trace of one that is blocked.

A message that is larger than the connection's buffers goes to a peer that reads nothing for a while, and a second
message waits behind it. The log shows when each started, how many bytes the kernel accepted and when, and how long each
stood in the queue. The last line of each operation that is logged is the one that raises its event.

Look for the pause of half a second between "has to wait" and the next bytes that were accepted: that is the peer's, not
ours. The last lines come from the counters and from the socket's statistics.
"""

import logging
import socket as stdlib_socket
import sys

import trio

from trio_send import (
    CountingInstrument,
    LoggingInstrument,
    Socket,
    SocketAsyncEventArgs,
    add_instrument,
    open_initiator,
)

FIRST = bytes(300_000)
SECOND = b"and then this"


async def read_late(peer: trio.SocketStream) -> int:
    """Read nothing for half a second, and then everything."""
    await trio.sleep(0.5)
    count = 0
    while count < len(FIRST) + len(SECOND):
        count += len(await peer.receive_some())
    return count


async def main() -> None:
    left, right = stdlib_socket.socketpair()
    left.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_SNDBUF, 32 * 1024)
    right.setblocking(False)
    peer = trio.SocketStream(trio.socket.from_stdlib_socket(right))
    counting = CountingInstrument()
    async with peer, Socket.from_stdlib(left) as socket:
        with add_instrument(LoggingInstrument()), add_instrument(counting):
            async with open_initiator():
                first, second = SocketAsyncEventArgs(FIRST), SocketAsyncEventArgs(SECOND)
                socket.send_async(first)
                socket.send_async(second)
                print(
                    "waiting:", socket.queued_bytes, "bytes of", socket.queued_operations, "sends"
                )
                await read_late(peer)
                await second.wait()
        statistics = socket.statistics()
    print("accepted:", counting.snapshot().bytes_sent)
    print("left in the queue:", statistics.queued_bytes)


if __name__ == "__main__":
    logging.basicConfig(
        level=logging.DEBUG,
        stream=sys.stdout,
        format="%(asctime)s.%(msecs)03d %(levelname)-5s %(message)s",
        datefmt="%H:%M:%S",
    )
    trio.run(main)
