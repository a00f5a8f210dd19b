"""What Twisted's protocols do, as tasks: receive lines, answer, produce and pause."""

from __future__ import annotations

from collections.abc import Iterable

import trio

import trio_send
from trio_send import Receiver, Socket, SocketListener


async def serve_lines(socket: Socket) -> None:
    """Be a LineReceiver: answer each line until the peer has finished."""
    receiver, most = Receiver(socket), 0  # connectionMade
    try:
        while True:
            line = await receiver.receive_until(b"\n", max_bytes=16384)
            if line == b"count":
                most = await produce(socket, range(100_000))
            else:
                await socket.send([line.upper(), b"\n"])  # lineReceived, sendLine
    except EOFError:
        print("connectionLost: the peer has finished")
        print("the queue stayed below its mark:", most <= socket.high_water)
    except trio_send.SocketException as error:
        print("connectionLost:", error)


async def produce(socket: Socket, numbers: Iterable[int]) -> int:
    """Be a push producer: write, and pause when too much waits. Return the most."""
    most = 0
    for number in numbers:
        socket.begin_send(b"%d\n" % number)  # transport.write
        most = max(most, socket.queued_bytes)
        await socket.wait_below_low_water()  # pauseProducing, resumeProducing
    return most


async def serve_one(listener: SocketListener) -> None:
    """Be a factory: accept a client, and run its protocol."""
    async with await listener.accept_socket() as socket:
        # What is started belongs to the initiator, which waits for it at the end.
        async with trio_send.open_initiator(trio_send.ExitPolicy.JOIN):
            await serve_lines(socket)  # at the end of both blocks: loseConnection


async def main() -> None:
    [listener] = await trio_send.open_tcp_listeners(0, host="127.0.0.1")
    async with listener, trio.open_nursery() as nursery:
        nursery.start_soon(serve_one, listener)
        host, port = listener.socket.local_end_point
        async with await trio_send.connect_tcp(host, port) as client:
            receiver = Receiver(client)
            for line in (b"hello", b"count"):
                await client.send(line + b"\n")
                print("answer:", await receiver.receive_until(b"\n", max_bytes=100))
            for _ in range(99_998):
                await receiver.receive_until(b"\n", max_bytes=100)
            print("last:", await receiver.receive_until(b"\n", max_bytes=100))


if __name__ == "__main__":
    trio.run(main)
