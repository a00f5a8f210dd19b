"""The classic client with callbacks: connect, send, receive until the server is done.

Each phase is begun by one call and ended by another, in a callback; and each has an
event that the callback sets, so that the main task, which could do other things
meanwhile, knows when the phase is over.

    python examples/callback_client.py HOST PORT [MESSAGE]

It prints what each phase came to, and what the server sent. Its exit status is 1 if a
phase failed. Try it with ``pooled_echo_server.py``, or with any other server that
answers and then closes, or that closes when we have finished.
"""

import argparse
import sys

import trio

from trio_send import (
    AsyncResult,
    ManualResetEvent,
    Socket,
    SocketException,
    SocketShutdown,
    open_initiator,
)

BUFFER_SIZE = 4096


class ReceiveState:
    """What the callback of a receive has to know: the bytes, and where more come from."""

    def __init__(self, socket: Socket) -> None:
        self.socket = socket
        self.buffer = bytearray(BUFFER_SIZE)
        self.received = bytearray()


class CallbackClient:
    """One conversation: a message there, and everything that comes back."""

    def __init__(self) -> None:
        self.connect_done = ManualResetEvent()
        self.send_done = ManualResetEvent()
        self.receive_done = ManualResetEvent()
        self.failed = False

    async def talk(self, host: str, port: int, message: bytes) -> None:
        """Go through the phases."""
        # What is begun belongs to the initiator: it ends with this block.
        async with Socket() as socket, open_initiator():
            try:
                socket.begin_connect((host, port), self.on_connected, socket)
                await self.connect_done.wait_one()
                if self.failed:
                    return
                state = ReceiveState(socket)
                socket.begin_send(message, callback=self.on_sent, state=socket)
                # Before the send is done, because a server may answer while it reads.
                # If nobody read the answers, it would stop reading in the end, and so
                # the send would never be done.
                self.begin_receive(state)
                await self.send_done.wait_one()
                if self.failed:
                    return
                # A server that echoes goes on for as long as we might. This tells it
                # that we have finished.
                socket.shutdown(SocketShutdown.SEND)
                await self.receive_done.wait_one()
            except SocketException as error:
                # The begin methods raise what is known on the spot; their callbacks are
                # not called then.
                self.report("talk", error)
                return
        text = state.received.decode("utf-8", "replace")
        print(f"bytes received: {len(state.received)}; as text: {text}")

    def on_connected(self, ar: AsyncResult) -> None:
        """End the connect, which is over, so there is nothing to wait for."""
        socket = ar.async_state
        try:
            socket.end_connect_nowait(ar)
            host, port = socket.remote_end_point
            print(f"connected to {host}:{port}")
        except SocketException as error:
            self.report("connect", error)
        # In every case, or the main task would wait for ever.
        self.connect_done.set()

    def on_sent(self, ar: AsyncResult) -> None:
        """End the send. All bytes were accepted, or an exception tells how many."""
        try:
            print(f"bytes sent: {ar.async_state.end_send_nowait(ar)}")
        except SocketException as error:
            self.report("send", error)
        self.send_done.set()

    def begin_receive(self, state: ReceiveState) -> None:
        state.socket.begin_receive(state.buffer, callback=self.on_received, state=state)

    def on_received(self, ar: AsyncResult) -> None:
        """End a receive and begin the next, until there are 0 bytes.

        This may go on for ever, because a callback is never called from inside a begin
        method.
        """
        state = ar.async_state
        try:
            count = state.socket.end_receive_nowait(ar)
            if count:
                state.received += state.buffer[:count]
                self.begin_receive(state)
                return
        except SocketException as error:
            self.report("receive", error)
        self.receive_done.set()

    def report(self, phase: str, error: SocketException) -> None:
        """Print an exception. If a callback raised it, the whole initiator would end."""
        self.failed = True
        print(f"{phase} failed: {error}", file=sys.stderr)


async def main(host: str, port: int, message: str) -> int:
    client = CallbackClient()
    await client.talk(host, port, message.encode("utf-8"))
    return 1 if client.failed else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description="Send a message and print what comes back."
    )
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("message", nargs="?", default="Is anybody there?")
    chosen = parser.parse_args()
    sys.exit(trio.run(main, chosen.host, chosen.port, chosen.message))
