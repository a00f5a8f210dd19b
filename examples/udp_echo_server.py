"""A UDP echo server of .NET, ported line by line: args and a handler, and no task.

Each datagram goes back to where it came from. One args object receives it, knows the
sender then, and sends the answer.

    python examples/udp_echo_server.py [--port PORT]

It prints where each datagram came from. Ctrl-C ends it. Try it with ``nc -u 127.0.0.1
PORT``.
"""

import argparse
import signal
import socket as stdlib_socket
from typing import Any

import trio

from trio_send import (
    Socket,
    SocketAsyncEventArgs,
    SocketAsyncOperation,
    SocketError,
    open_initiator,
)

BUFFER_SIZE = 65536


class UdpEchoServer:
    """One socket, one args object, one handler."""

    def __init__(self, end_point: Any) -> None:
        self.socket = Socket(stdlib_socket.AF_INET, stdlib_socket.SOCK_DGRAM)
        self.socket.bind(end_point)
        self.args = SocketAsyncEventArgs()
        self.args.set_buffer(bytearray(BUFFER_SIZE), 0, BUFFER_SIZE)
        self.args.completed += self.on_completed

    def start(self) -> None:
        if not self.start_receive(self.args):
            self.on_completed(self.socket, self.args)

    def start_receive(self, e: SocketAsyncEventArgs) -> bool:
        """Receive into the whole buffer, of which the answer has taken a part."""
        e.set_range(0, BUFFER_SIZE)
        return self.socket.receive_from_async(e)

    def on_completed(self, sender: Socket, e: SocketAsyncEventArgs) -> None:
        """Go on until something is pending. What ends on the spot raises no event."""
        while not self.process(e):
            pass

    def process(self, e: SocketAsyncEventArgs) -> bool:
        if e.last_operation is SocketAsyncOperation.RECEIVE_FROM:
            return self.process_receive_from(e)
        if e.last_operation is SocketAsyncOperation.SEND_TO:
            return self.process_send_to(e)
        raise ValueError("the last operation was neither a receive nor a send")

    def process_receive_from(self, e: SocketAsyncEventArgs) -> bool:
        """Send back what was received; `remote_end_point` is the sender."""
        if e.socket_error is SocketError.OPERATION_ABORTED:
            return True
        if e.socket_error is not SocketError.SUCCESS:
            return self.start_receive(e)
        print(f"{e.bytes_transferred} bytes from {e.remote_end_point}", flush=True)
        e.set_range(0, e.bytes_transferred)
        return self.socket.send_to_async(e)

    def process_send_to(self, e: SocketAsyncEventArgs) -> bool:
        """Receive again, whether the answer went or not. The next one is another's."""
        if e.socket_error is SocketError.OPERATION_ABORTED:
            return True
        return self.start_receive(e)


async def main(port: int) -> None:
    # In .NET, the main thread waits for a key. Here, what was started belongs to the
    # initiator, and ends with it.
    async with open_initiator():
        server = UdpEchoServer(("127.0.0.1", port))
        server.start()
        host, port = server.socket.local_end_point
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            print(f"listening on {host}:{port}", flush=True)
            async for _ in signals:
                break
    server.socket.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description="Send datagrams back to where they came from."
    )
    parser.add_argument(
        "--port", type=int, default=0, help="where to listen; 0: any free port"
    )
    trio.run(main, parser.parse_args().port)
