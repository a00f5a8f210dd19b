"""Send datagrams: to a default remote host, to other addresses, and many at once."""

from __future__ import annotations

import socket as stdlib_socket

import trio

import trio_send
from trio_send import DatagramBatch, Socket, SocketAsyncEventArgs, SocketException


def datagram_socket() -> Socket:
    """Make a UDP socket at a port of its own on this machine."""
    sock = Socket(stdlib_socket.AF_INET, stdlib_socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    return sock


async def main() -> None:
    # Two receivers on this machine stand for two other hosts.
    async with (
        datagram_socket() as sender,
        datagram_socket() as one,
        datagram_socket() as two,
    ):
        # Each datagram can have an address of its own. No connection is needed.
        args = SocketAsyncEventArgs(b"to the first")
        async with trio_send.open_initiator():
            args.remote_end_point = one.local_end_point
            if sender.send_to_async(args):
                await args.wait()
            address = two.local_end_point
            result = sender.begin_send_to(b"to the second", remote_end_point=address)
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
            name, sent = error.socket_error_code.name, error.bytes_transferred
            print(f"100000 bytes: {name}, {sent} sent")

        # Many are one operation. A batch knows how far it came, whatever happened.
        batch = DatagramBatch([b"one", b"two", bytes(100_000), b"three"])
        try:
            await sender.send_datagrams(batch)
        except SocketException as error:
            name, sent = error.socket_error_code.name, batch.datagrams_transferred
            print(f"a batch: {name} after {sent}")
        # All but the one that is too long.
        await sender.send_datagrams(batch.remaining[1:])
        print("second:", [await two.receive() for _ in range(3)])


if __name__ == "__main__":
    trio.run(main)
