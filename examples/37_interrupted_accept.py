"""What Ctrl-C does to the handler of an accept, and how to keep it away from there."""

from __future__ import annotations

import signal

import trio

import trio_send
from trio_send import Socket, SocketAsyncEventArgs


class Server:
    def __init__(self, listener: Socket) -> None:
        self.listener = listener
        self.clients: list[Socket] = []
        self.args = SocketAsyncEventArgs()
        self.args.completed += self.on_accepted

    def on_accepted(self, listener: Socket, args: SocketAsyncEventArgs) -> None:
        signal.raise_signal(signal.SIGINT)  # Ctrl-C, at this very moment
        assert args.accept_socket is not None
        self.clients.append(args.accept_socket)


async def accept_one(listener: Socket, server: Server) -> None:
    """Have one client accepted, and wait until the handler has seen it."""
    async with trio_send.open_initiator(), Socket() as client:
        listener.accept_async(server.args)
        await client.connect(listener.local_end_point)
        await server.args.wait()


async def as_it_is(listener: Socket) -> None:
    server = Server(listener)
    try:
        await accept_one(listener, server)
    except BaseException as error:  # a group of which one is KeyboardInterrupt
        print("the block was left with", type(error).__name__)
    print("clients that the server knows:", len(server.clients))
    print("a client that nobody serves:", server.args.accept_socket is not None)
    if server.args.accept_socket is not None:
        server.args.accept_socket.close()


async def with_a_signal_receiver(listener: Socket) -> None:
    server = Server(listener)
    with trio.open_signal_receiver(signal.SIGINT) as signals:
        await accept_one(listener, server)
        async for _ in signals:
            print("Ctrl-C has arrived, between two steps")
            break
    print("clients that the server knows:", len(server.clients))
    for client in server.clients:
        client.close()


async def main() -> None:
    async with Socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        await as_it_is(listener)
        await with_a_signal_receiver(listener)


if __name__ == "__main__":
    trio.run(main)
