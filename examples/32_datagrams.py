"""Send datagrams: to a default remote host, to addresses of their own, and many at once."""

from __future__ import annotations

import socket as stdlib_socket

import trio

from trio_send import DatagramBatch, Socket, SocketAsyncEventArgs, SocketException, open_initiator


def datagram_socket() -> Socket:
    """Make a UDP socket at a port of its own on this machine."""
    sock = Socket(stdlib_socket.AF_INET, stdlib_socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    return sock


async def main() -> None:
    # Two receivers on this machine stand for two other hosts.
    async with datagram_socket() as sender, datagram_socket() as one, datagram_socket() as two:
        # Each datagram can have an address of its own. No connection is needed.
        args = SocketAsyncEventArgs(b"to the first")
        async with open_initiator():
            args.remote_end_point = one.local_end_point
            if sender.send_to_async(args):
                await args.wait()
            result = sender.begin_send_to(b"to the second", remote_end_point=two.local_end_point)
            await sender.end_send_to(result)
        await sender.send_to(b"to the first again", one.local_end_point)
        print("first: ", await one.receive(), await one.receive())
        print("second:", await two.receive())

        # A default remote host, which can be changed, is where the plain sends go.
        for receiver in (one, two):
            await sender.connect(receiver.local_end_point)
            await sender.send(b"by default")
        await sender.send_to(b"by address", one.local_end_point)
        print("first: ", await one.receive(), await one.receive())
        print("second:", await two.receive())

        # Whole or not at all.
        try:
            await sender.send(bytes(100_000))
        except SocketException as error:
            print(f"100000 bytes: {error.socket_error_code.name}, {error.bytes_transferred} sent")

        # Many are one operation. A batch knows how far it came, whatever happened.
        batch = DatagramBatch([b"one", b"two", bytes(100_000), b"three"])
        try:
            await sender.send_datagrams(batch)
        except SocketException as error:
            print(f"a batch: {error.socket_error_code.name} after {batch.datagrams_transferred}")
        await sender.send_datagrams(batch.remaining[1:])  # all but the one that is too long
        print("second:", [await two.receive() for _ in range(3)])


if __name__ == "__main__":
    trio.run(main)
