"""How do I send to many readers, of whom one is slow? A chat server that drops it.

Every line that a client sends goes to all of them. Nobody waits for a client that does
not read: once 64 KiB wait for it, besides what the kernel holds, its connection is
closed, and the others never notice.

    python examples/chat_server.py [PORT]

The first line tells the port. Talk to it with ``nc 127.0.0.1 PORT`` in several
terminals. It serves until Ctrl-C.
"""

import signal
import sys
from contextlib import suppress

import trio

import trio_send

LONGEST_LINE = 1000
MOST_TO_WAIT = 64 * 1024


class Room:
    """Those who are there.

    Attributes:
      members: their sockets.
    """

    def __init__(self) -> None:
        self.members: set[trio_send.Socket] = set()

    def say(self, line: bytes) -> None:
        """Start to send a line to everybody; whoever is too far behind is closed."""
        report = trio_send.broadcast(
            self.members,
            line + b"\n",
            max_queued_bytes=MOST_TO_WAIT,
            when_behind="close",
        )
        self.members.difference_update(report.behind, report.failed)

    async def serve(self, socket: trio_send.Socket) -> None:
        """Serve one client until it leaves, sends too long a line, or does not read."""
        name = b"%d" % socket.remote_end_point[1]
        receiver = trio_send.Receiver(socket)
        self.members.add(socket)
        try:
            self.say(name + b" is here")
            with suppress(EOFError, trio_send.SocketException):
                while True:
                    line = await receiver.receive_until(b"\n", LONGEST_LINE)
                    self.say(name + b": " + line.rstrip(b"\r"))
        finally:
            self.members.discard(socket)
            # For what waits for it; then it is closed at once.
            with trio.move_on_after(5):
                await socket.aclose()
        self.say(name + b" has left")


async def main(port: int = 0) -> None:
    (listener,) = await trio_send.open_tcp_listeners(port, host="127.0.0.1")
    listener.socket.send_buffer_size = MOST_TO_WAIT  # for all that are accepted
    print("port", listener.socket.local_end_point[1], flush=True)
    room = Room()
    # What has to wait for a slow reader belongs to the initiator, not to whoever said
    # it.
    async with (
        listener,
        trio_send.open_initiator() as initiator,
        trio.open_nursery() as nursery,
    ):

        async def stop_at_ctrl_c() -> None:
            with trio.open_signal_receiver(signal.SIGINT) as signals:
                await signals.__anext__()
                initiator.cancel_scope.cancel()

        nursery.start_soon(stop_at_ctrl_c)
        while True:
            # No descriptor is left, perhaps. Then the next one pauses.
            with suppress(trio_send.SocketException):
                nursery.start_soon(room.serve, await listener.accept_socket())


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]) if len(sys.argv) > 1 else 0)
