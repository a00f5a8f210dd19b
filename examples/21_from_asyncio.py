"""A send that is given up: asyncio sends it later, this library sends no more of it."""

import asyncio
import socket as stdlib_socket

import trio

import trio_send

MESSAGE = bytes(1_000_000)


async def with_asyncio() -> None:
    left, right = stdlib_socket.socketpair()
    right.setblocking(False)
    _, writer = await asyncio.open_connection(sock=left)
    writer.write(MESSAGE)
    try:
        await asyncio.wait_for(writer.drain(), 0.1)  # nobody reads yet
    except asyncio.TimeoutError:
        print("asyncio: given up")

    count = 0
    writer.close()
    while data := await asyncio.get_running_loop().sock_recv(right, 65536):
        count += len(data)
    right.close()
    print("asyncio: the peer has read the whole message:", count == len(MESSAGE))


async def with_trio_send() -> None:
    sender, peer = trio_send.socketpair()
    args = trio_send.SocketAsyncEventArgs(MESSAGE)
    with trio.move_on_after(0.1) as scope:
        await sender.send(args)  # nobody reads yet
    if scope.cancelled_caught:
        print("trio_send: given up")

    count = 0
    sender.close()
    async with peer:
        while data := await peer.receive():
            count += len(data)
    print("trio_send: the peer has read the whole message:", count == len(MESSAGE))
    print("trio_send: it has read what was counted:", count == args.bytes_transferred)


if __name__ == "__main__":
    asyncio.run(with_asyncio())
    trio.run(with_trio_send)
